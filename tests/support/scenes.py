"""What several rooms of the conformance suite set up or look at in the same way."""

from __future__ import annotations

import time
from typing import Any

from tests.support.engines import Engine
from tests.support.http import eventually

# A command that ignores SIGTERM.
DEAF = ("sh", "-c", "trap '' TERM; echo ready; while :; do sleep 3600 & wait $!; done")


def reporting(signals: str = "TERM INT USR1 HUP QUIT") -> tuple[str, ...]:
    """A command that names the signal that ended it in its exit code: 40 + its number."""
    traps = "".join(f"trap 'exit $((40 + {number}))' {number}; " for number in (15, 2, 10, 1, 3))
    return ("sh", "-c", f"{traps} echo ready; while :; do sleep 3600 & wait $!; done")


def say_ready(engine: Engine, container: str) -> None:
    """Wait until the container's traps are set."""
    eventually(lambda: b"ready" in engine.logs(container)[0], what="ready")


def kill(engine: Engine, container: str, **query: Any) -> tuple[int, str]:
    """Status and message of POST kill."""
    answer = engine.http.post(f"/containers/{container}/kill", query=query)
    return answer.status, answer.message if answer.body else ""


def finished(engine: Engine, script: str, **options: Any) -> str:
    """A container whose script has ended well."""
    container = engine.run("sh", "-c", script, **options)
    assert engine.wait(container) == 0, engine.logs(container)
    return container


def in_back_off(engine: Engine) -> str:
    """A container that waits for its next automatic start, for 0.8 s and more."""
    container = engine.run("sh", "-c", "exit 3", HostConfig={"RestartPolicy": {"Name": "always"}})
    eventually(lambda: engine.inspect(container)["RestartCount"] >= 3)
    eventually(lambda: engine.status(container) == "restarting")
    return container


def refused(engine: Engine, status: int, message: str, **body: Any) -> None:
    """The create is refused with these words, and nothing is left behind."""
    answer = engine.try_create("true", name="refused", **body)
    assert (answer.status, message in answer.message) == (status, True), answer
    assert engine.containers() == []
    retried = engine.try_create("true", name="refused")
    assert retried.status == 201, "the name was not released"
    engine.http.delete("/containers/refused")


def happened(engine: Engine, container: str, until: str) -> list[tuple[str, dict[str, str]]]:
    """A container's events and those of its networks, as (action, attributes), up to an action."""
    seen: list[tuple[str, dict[str, str]]] = []
    filters = {"type": ["container", "network"]}
    with engine.http.open("GET", "/events", query={"since": 1, "filters": filters}) as events:
        for event in events.json_values():
            attributes = event["Actor"]["Attributes"]
            if event["Type"] == "network" and attributes.get("container") == container:
                seen.append((f"network {event['Action']}", attributes))
            elif event["Type"] == "container" and event["Actor"]["ID"] == container:
                seen.append((event["Action"], attributes))
                if event["Action"] == until:
                    return seen
    raise AssertionError(f"{until} did not come: {seen}")


def actions(engine: Engine, container: str, until: str) -> list[str]:
    """What happened to the container and its networks, as the events tell it, up to an action."""
    return [action for action, _ in happened(engine, container, until)]


def actions_so_far(engine: Engine, container: str) -> list[str]:
    """What has happened to the container, as the events tell it."""
    query = {"since": 1, "until": f"{time.time():.9f}", "filters": {"container": [container]}}
    with engine.http.open("GET", "/events", query=query) as events:
        return [event["Action"] for event in events.json_values()]


def last_event(engine: Engine, action: str, **filters: list[str]) -> Any:
    """The newest event with this action."""
    query = {"since": 1, "until": f"{time.time():.9f}", "filters": {"event": [action], **filters}}
    with engine.http.open("GET", "/events", query=query) as events:
        return list(events.json_values())[-1]
