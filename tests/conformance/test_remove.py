"""DELETE."""

from __future__ import annotations

import threading
from pathlib import Path

from tests.support.engines import Engine
from tests.support.http import eventually
from tests.support.scenes import happened, in_back_off


def delete(engine: Engine, container: str, query: str = "") -> int:
    return engine.http.delete(f"/containers/{container}{query}").status


def test_DEL1c_a_restarting_one_needs_force(engine: Engine) -> None:
    container = in_back_off(engine)
    answer = engine.http.delete(f"/containers/{container}")
    assert answer.status == 409
    assert answer.message.startswith(f"You cannot remove a restarting container {container}. Stop the container before")


def test_DEL1_running_needs_force(engine: Engine) -> None:
    container = engine.run_idle(name="alive")
    answer = engine.http.delete("/containers/alive")
    assert (answer.status, answer.message) == (
        409,
        f"You cannot remove a running container {container}. "
        "Stop the container before attempting removal or force remove",
    )
    assert engine.status(container) == "running"


def test_DEL2_second_delete(engine: Engine) -> None:
    container = engine.create("true")
    assert delete(engine, container) == 204
    answer = engine.http.delete(f"/containers/{container}")
    assert (answer.status, answer.message) == (404, f"No such container: {container}")


def test_DEL2_concurrent_deletes(engine: Engine) -> None:
    container = engine.run_idle()
    statuses: list[int] = []
    threads = [
        threading.Thread(target=lambda: statuses.append(delete(engine, container, "?force=1"))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert statuses.count(204) >= 1
    assert set(statuses) <= {204, 404, 409}
    assert engine.containers() == []


def test_DEL3a_events_of_a_forced_removal(engine: Engine) -> None:
    container = engine.run("sleep", "1000")
    assert engine.http.delete(f"/containers/{container}?force=1").status == 204
    seen = happened(engine, container, "destroy")
    actions = [action for action, _ in seen]
    tail = ["kill", "network disconnect", "die", "destroy"]
    if engine.is_dockerd:  # 20.10 tells the end of the network after the death
        tail = ["kill", "die", "network disconnect", "destroy"]
    assert actions == ["create", "network connect", "start", *tail]
    assert seen[3][1]["signal"] == "9"
    assert dict(seen)["die"]["exitCode"] == "137"


def test_DEL3_force(engine: Engine) -> None:
    container = engine.run_idle(name="doomed")
    assert delete(engine, container, "?force=1") == 204
    assert engine.http.get(f"/containers/{container}/json").status == 404
    engine.create("true", name="doomed")
    assert delete(engine, "nope", "?force=1") == 404


def test_DEL4b_named_volumes_stay(engine: Engine) -> None:
    host = {"Binds": ["kept-volume:/named"]}
    container = engine.create("true", Volumes={"/anonymous": {}}, HostConfig=host)
    sources = {m["Destination"]: Path(m["Source"]) for m in engine.inspect(container)["Mounts"]}
    assert engine.http.delete(f"/containers/{container}?v=1").status == 204
    eventually(lambda: not sources["/anonymous"].exists())
    assert sources["/named"].is_dir()
    assert engine.http.get("/volumes/kept-volume").status == 200
    assert engine.http.delete("/volumes/kept-volume").status == 204


def test_DEL4_anonymous_volumes(engine: Engine) -> None:
    kept = engine.create("true", Volumes={"/data": {}})
    dropped = engine.create("true", Volumes={"/data": {}})
    kept_at, dropped_at = (Path(engine.inspect(c)["Mounts"][0]["Source"]) for c in (kept, dropped))
    assert kept_at.is_dir()
    assert dropped_at.is_dir()
    assert delete(engine, kept) == delete(engine, dropped, "?v=1") == 204
    assert kept_at.is_dir()
    eventually(lambda: not dropped_at.exists())


def test_DEL4_auto_remove_takes_anonymous_volumes(engine: Engine) -> None:
    container = engine.create("true", Volumes={"/data": {}}, HostConfig={"AutoRemove": True})
    source = Path(engine.inspect(container)["Mounts"][0]["Source"])
    with engine.http.open("POST", f"/containers/{container}/wait?condition=removed") as waiting:
        engine.start(container)
        assert next(waiting.json_values())["StatusCode"] == 0
    eventually(lambda: not source.exists())


def test_DEL5_links(engine: Engine) -> None:
    container = engine.create("true", name="linked")
    answer = engine.http.delete(f"/containers/{container}?link=1")
    assert (answer.status, "annot remove the default" in answer.message) == (500, True), answer
    assert engine.inspect("linked")["Id"] == container


def test_DEL7_gone_when_answered(engine: Engine) -> None:
    for _ in range(3):
        container = engine.run("true", name="again")
        engine.wait(container)
        assert delete(engine, container) == 204
        assert engine.containers() == []
