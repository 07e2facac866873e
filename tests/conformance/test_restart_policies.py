"""Automatic removal and restart."""

from __future__ import annotations

import io
import tarfile
import time
from typing import Any

import pytest

from tests.support.engines import Engine
from tests.support.http import eventually
from tests.support.scenes import actions, in_back_off


def always(**more: Any) -> dict[str, Any]:
    return {"RestartPolicy": {"Name": "always"}, **more}


def policy(name: str, count: int = 0) -> dict[str, Any]:
    return {"RestartPolicy": {"Name": name, "MaximumRetryCount": count}}


def test_AUT1_events_of_a_short_life(engine: Engine) -> None:
    container = engine.create("true", HostConfig={"AutoRemove": True})
    with engine.attach(container, stdin=0) as attached:
        engine.start(container)
        attached.at_end()
    life = actions(engine, container, "destroy")
    expected = ["create", "attach", "network connect", "start", "network disconnect", "die", "destroy"]
    if engine.is_dockerd:  # 20.10 tells the end of the network after the death
        assert sorted(life) == sorted(expected)
    else:
        assert life == expected


def test_AUT1_exit_code_of_the_death(engine: Engine) -> None:
    container = engine.run("sh", "-c", "exit 3")
    filters = {"container": [container], "event": ["die"]}
    with engine.http.open("GET", "/events", query={"since": 1, "filters": filters}) as events:
        attributes = next(events.json_values())["Actor"]["Attributes"]
    assert attributes["exitCode"] == "3"
    if not engine.is_dockerd:  # newer than 20.10
        assert attributes["execDuration"] == "0"


def test_AUT2a_the_pause_doubles(engine: Engine) -> None:
    container = engine.run("true", HostConfig=always())
    eventually(lambda: engine.inspect(container)["RestartCount"] >= 4)
    assert engine.http.delete(f"/containers/{container}?force=1").status == 204
    filters = {"container": [container], "event": ["die", "start"]}
    until = f"{time.time():.9f}"
    with engine.http.open("GET", "/events", query={"since": 1, "until": until, "filters": filters}) as events:
        seen = [(event["Action"], event["timeNano"] / 1e9) for event in events.json_values()]
    assert [action for action, _ in seen[:8]] == ["start", "die"] * 4
    pauses = [seen[i + 1][1] - seen[i][1] for i in (1, 3, 5)]
    for pause, delay in zip(pauses, (0.1, 0.2, 0.4), strict=True):
        assert delay * 0.95 <= pause < delay + 1.0, pauses


def test_AUT2_on_failure_counts(engine: Engine) -> None:
    container = engine.run("sh", "-c", "echo run; exit 2", HostConfig=policy("on-failure", 2))
    eventually(lambda: engine.status(container) == "exited" and engine.inspect(container)["RestartCount"] == 2)
    assert engine.state(container)["ExitCode"] == 2
    assert engine.logs(container)[0] == b"run\n" * 3


def test_AUT2_on_failure_leaves_success_alone(engine: Engine) -> None:
    container = engine.run("true", HostConfig=policy("on-failure"))
    assert engine.wait(container) == 0
    details = engine.inspect(container)
    assert (details["State"]["Status"], details["RestartCount"]) == ("exited", 0)


@pytest.mark.parametrize("name", ["always", "unless-stopped"])
def test_AUT2_restarts_after_success_too(engine: Engine, name: str) -> None:
    container = engine.run("true", HostConfig=policy(name))
    eventually(lambda: engine.inspect(container)["RestartCount"] >= 2)


def test_AUT3d_top_and_pause_in_the_back_off(engine: Engine) -> None:
    container = in_back_off(engine)
    words = f"Container {container} is restarting, wait until the container is running"
    top = engine.http.get(f"/containers/{container}/top")
    pause = engine.http.post(f"/containers/{container}/pause")
    assert (top.status, top.message) == (409, words)
    assert (pause.status, pause.message) == (409, words)


def test_AUT3_while_restarting(engine: Engine) -> None:
    container = engine.run("sh", "-c", "exit 3", HostConfig=policy("always"))
    # From the fourth on the pause before an attempt is 0.8 s and more: time enough to look.
    eventually(lambda: engine.inspect(container)["RestartCount"] >= 3)
    state = eventually(lambda: (s := engine.state(container))["Status"] == "restarting" and s)
    answer = engine.http.post(f"/containers/{container}/exec", json={"Cmd": ["true"]})
    started = engine.http.post(f"/containers/{container}/start")
    with engine.attach(container) as attached:
        refused = (attached.status, attached.read().decode())
    listed = engine.http.get("/containers/json").json
    assert (state["Running"], state["Restarting"], state["Pid"], state["ExitCode"]) == (True, True, 0, 3)
    words = f"Container {container} is restarting, wait until the container is running"
    assert (answer.status, answer.message) == (409, words)
    assert (refused[0], words.lower() in refused[1].lower()) == (409, True)
    assert started.status == 304
    assert [(c["Id"], c["State"]) for c in listed] == [(container, "restarting")]


def test_TOP4b_AUT3e_stats_in_the_back_off(engine: Engine) -> None:
    container = in_back_off(engine)
    top = engine.http.get(f"/containers/{container}/top")
    seen = engine.http.get(f"/containers/{container}/stats", query={"stream": 0}).json
    assert top.status == 409
    assert (seen["read"], seen["memory_stats"], seen["pids_stats"]) == ("0001-01-01T00:00:00Z", {}, {})


def test_AUT4a_a_failing_automatic_start_is_the_last(engine: Engine) -> None:
    container = engine.create("/once", HostConfig=always())
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as tar:
        script = b"#!/bin/sh\nrm /once\nexit 4\n"
        entry = tarfile.TarInfo("once")
        entry.mode, entry.size = 0o755, len(script)
        tar.addfile(entry, io.BytesIO(script))
    assert engine.http.put(f"/containers/{container}/archive?path=/", body=made.getvalue()).status == 200
    engine.start(container)
    eventually(lambda: engine.status(container) == "exited", what="the end of the attempts")
    time.sleep(0.5)
    state = engine.state(container)
    assert (state["Status"], state["Running"], state["Restarting"]) == ("exited", False, False)
    assert "/once" in state["Error"] or engine.is_dockerd


def test_AUT5c_one_never_started_stays_so(engine: Engine) -> None:
    container = engine.create("true", HostConfig=always())
    time.sleep(0.3)
    assert engine.status(container) == "created"


def test_AUT6a_an_update_counts_at_the_next_exit(engine: Engine) -> None:
    container = engine.run("sh", "-c", "read line; exit 3", OpenStdin=True, HostConfig=always())
    answer = engine.http.post(f"/containers/{container}/update", json={"RestartPolicy": {"Name": "no"}})
    assert answer.status == 200
    with engine.attach(container) as attached:
        attached.send(b"go\n")
    assert engine.wait(container) == 3
    time.sleep(0.3)  # longer than the first delay of a restart
    details = engine.inspect(container)
    assert (details["State"]["Status"], details["RestartCount"]) == ("exited", 0)


def test_AUT6b_an_update_during_the_back_off_ends_it(engine: Engine) -> None:
    container = in_back_off(engine)
    answer = engine.http.post(f"/containers/{container}/update", json={"RestartPolicy": {"Name": "no"}})
    assert answer.status == 200
    # moby makes the attempt it waits for, and no other; to end the pause at once is as good.
    eventually(lambda: engine.status(container) == "exited", within=5)
    count = engine.inspect(container)["RestartCount"]
    time.sleep(1.0)
    details = engine.inspect(container)
    assert (details["State"]["Status"], details["RestartCount"]) == ("exited", count)


def test_CRE27a_the_engine_removes(engine: Engine) -> None:
    container = engine.run("true", HostConfig={"AutoRemove": True})
    eventually(lambda: engine.http.get(f"/containers/{container}/json").status == 404)


def test_AUT_delete_of_a_restarting_container(engine: Engine) -> None:
    container = engine.run("sh", "-c", "exit 3", HostConfig=policy("always"))
    eventually(lambda: engine.inspect(container)["RestartCount"] >= 2)
    assert engine.http.delete(f"/containers/{container}?force=1").status == 204
    assert engine.containers() == []
