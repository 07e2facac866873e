"""Automatic removal and restart: semantics section 10."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.engines import Engine
from tests.support.http import eventually


def actions(engine: Engine, container: str, until: str) -> list[str]:
    """What happened to the container and its networks, as the events tell it, up to an action."""
    seen: list[str] = []
    with engine.http.open(
        "GET", "/events", query={"since": 1, "filters": {"type": ["container", "network"]}}
    ) as events:
        for event in events.json_values():
            attributes = event["Actor"]["Attributes"]
            if event["Type"] == "network" and attributes.get("container") == container:
                seen.append(f"network {event['Action']}")
            elif event["Type"] == "container" and event["Actor"]["ID"] == container:
                seen.append(event["Action"])
                if event["Action"] == until:
                    return seen
    raise AssertionError(f"{until} did not come: {seen}")


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


def test_AUT_delete_of_a_restarting_container(engine: Engine) -> None:
    container = engine.run("sh", "-c", "exit 3", HostConfig=policy("always"))
    eventually(lambda: engine.inspect(container)["RestartCount"] >= 2)
    assert engine.http.delete(f"/containers/{container}?force=1").status == 204
    assert engine.containers() == []
