"""DELETE, rename and resize: semantics sections 9, 18 and 20."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from tests.support.engines import Engine
from tests.support.http import eventually


def delete(engine: Engine, container: str, query: str = "") -> int:
    return engine.http.delete(f"/containers/{container}{query}").status


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


def test_DEL3_force(engine: Engine) -> None:
    container = engine.run_idle(name="doomed")
    assert delete(engine, container, "?force=1") == 204
    assert engine.http.get(f"/containers/{container}/json").status == 404
    engine.create("true", name="doomed")
    assert delete(engine, "nope", "?force=1") == 404


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
    assert answer.status == 500
    assert engine.inspect("linked")["Id"] == container


def test_DEL7_gone_when_answered(engine: Engine) -> None:
    for _ in range(3):
        container = engine.run("true", name="again")
        engine.wait(container)
        assert delete(engine, container) == 204
        assert engine.containers() == []


@pytest.mark.parametrize(
    ("name", "status", "message"),
    [
        ("", 400, "Neither old nor new names may be empty"),
        ("first", 400, "Renaming a container with the same name as its current name"),
        ("b d", 400, "Error when allocating new name: Invalid container name (/b d), only [a-zA-Z0-9][a-zA-Z0-9_.-]"),
        ("taken", 409, 'Error when allocating new name: Conflict. The container name "/taken" is already in use by'),
    ],
)
def test_REN1_refusals(engine: Engine, name: str, status: int, message: str) -> None:
    container = engine.create("true", name="first")
    engine.create("true", name="taken")
    answer = engine.http.post("/containers/first/rename", query={"name": name})
    assert (answer.status, message in answer.message) == (status, True), answer
    assert engine.inspect(container)["Name"] == "/first"


def test_REN2_in_any_state(engine: Engine) -> None:
    container = engine.create("sh", "-c", "sleep 1000 & wait", name="one")
    assert engine.http.post("/containers/one/rename?name=two").status == 204
    engine.start("two")
    assert engine.http.post("/containers/two/rename?name=three").status == 204
    assert engine.inspect("three")["Id"] == container
    assert engine.http.get("/containers/one/json").status == 404
    engine.create("true", name="one")


def test_REN1_blanks_are_trimmed(engine: Engine) -> None:
    engine.create("true", name="blank")
    answer = engine.http.post("/containers/blank/rename", query={"name": " tidy "})
    if engine.is_dockerd:  # 20.10 takes them as part of the name
        assert answer.status == 400
    else:
        assert answer.status == 204
        assert engine.inspect("tidy")["Name"] == "/tidy"


def test_RES1_bad_sizes_and_not_running(engine: Engine) -> None:
    container = engine.create("sh", Tty=True, OpenStdin=True)
    for query in ("", "?h=abc&w=1", "?h=1"):
        answer = engine.http.post(f"/containers/{container}/resize{query}")
        assert (answer.status, "strconv.Atoi: parsing" in answer.message) == (400, True)
    answer = engine.http.post(f"/containers/{container}/resize?h=10&w=20")
    assert (answer.status, answer.message.lower()) == (409, f"container {container} is not running")


def test_RES1_resize(engine: Engine) -> None:
    command = "trap 'stty size; exit 0' WINCH; echo ready; while :; do sleep 0.05; done"
    container = engine.run("sh", "-c", command, Tty=True, OpenStdin=True)
    with engine.open_logs(container, follow=1) as logs:
        logs.read_until(b"ready")
        assert engine.http.post(f"/containers/{container}/resize?h=33&w=77").status == 200
        logs.read_until(b"33 77")


def test_RES1_without_a_terminal(engine: Engine) -> None:
    container = engine.run_idle()
    assert engine.http.post(f"/containers/{container}/resize?h=10&w=20").status == 200
    assert engine.status(container) == "running"
