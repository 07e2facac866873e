"""What test_stop and test_remove_rename_resize leave open of semantics sections 5, 6 and 9."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from tests.support.engines import Engine
from tests.support.http import eventually


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
                    break
    return seen


def in_back_off(engine: Engine) -> str:
    """A container that waits for its next automatic start, for 0.8 s and more."""
    container = engine.run("sh", "-c", "exit 3", HostConfig={"RestartPolicy": {"Name": "always"}})
    eventually(lambda: engine.inspect(container)["RestartCount"] >= 3)
    eventually(lambda: engine.status(container) == "restarting")
    return container


def test_STP9e_events_of_a_restart(engine: Engine) -> None:
    container = engine.run("sleep", "1000")
    assert engine.http.post(f"/containers/{container}/restart?t=0").status == 204
    actions = [action for action, _ in happened(engine, container, "restart")]
    assert {"kill", "die", "stop"} <= set(actions)  # the order of the last two is a race in moby
    assert actions[-2:] == ["start", "restart"]


def test_STP10a_stop_of_one_that_is_removed_at_its_end(engine: Engine) -> None:
    container = engine.run_idle(name="brief", HostConfig={"AutoRemove": True})
    assert engine.http.post(f"/containers/{container}/stop").status == 204
    eventually(lambda: engine.http.get(f"/containers/{container}/json").status == 404)
    eventually(lambda: engine.try_create("true", name="brief").status == 201)


def test_KIL1c_kill_in_the_back_off(engine: Engine) -> None:
    container = in_back_off(engine)
    assert engine.http.post(f"/containers/{container}/kill").status == 204
    time.sleep(1)
    if not engine.is_dockerd:  # 20.10 answers, and goes on restarting
        assert engine.status(container) == "exited"


def test_KIL4a_another_signal_and_the_restart_policy(engine: Engine) -> None:
    script = "trap 'echo usr' USR1; echo ready; read line; exit 3"
    container = engine.run("sh", "-c", script, OpenStdin=True, HostConfig={"RestartPolicy": {"Name": "always"}})
    eventually(lambda: engine.logs(container)[0] == b"ready\n")
    assert engine.http.post(f"/containers/{container}/kill?signal=USR1").status == 204
    eventually(lambda: b"usr" in engine.logs(container)[0] or engine.status(container) == "exited")
    if engine.status(container) == "running":
        with engine.attach(container) as attached:
            attached.send(b"go\n")
            attached.at_end(within=2)
    if engine.is_dockerd:  # to moby any signal is a manual stop
        eventually(lambda: engine.status(container) == "exited")
        assert engine.inspect(container)["RestartCount"] == 0
    else:  # to Wherry only the stop signal and SIGKILL are
        eventually(lambda: engine.inspect(container)["RestartCount"] == 1)


def test_DEL1c_a_restarting_one_needs_force(engine: Engine) -> None:
    container = in_back_off(engine)
    answer = engine.http.delete(f"/containers/{container}")
    assert answer.status == 409
    assert answer.message.startswith(f"You cannot remove a restarting container {container}. Stop the container before")


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


def test_DEL4b_named_volumes_stay(engine: Engine) -> None:
    host = {"Binds": ["kept-volume:/named"]}
    container = engine.create("true", Volumes={"/anonymous": {}}, HostConfig=host)
    sources = {m["Destination"]: Path(m["Source"]) for m in engine.inspect(container)["Mounts"]}
    assert engine.http.delete(f"/containers/{container}?v=1").status == 204
    eventually(lambda: not sources["/anonymous"].exists())
    assert sources["/named"].is_dir()
    assert engine.http.get("/volumes/kept-volume").status == 200
    assert engine.http.delete("/volumes/kept-volume").status == 204


@pytest.mark.parametrize("verb", ["stop", "restart", "kill"])
def test_E3a_unknown_containers_by_verb(engine: Engine, verb: str) -> None:
    answer = engine.http.post(f"/containers/nope/{verb}")
    assert (answer.status, "No such container: nope" in answer.message) == (404, True)
    assert json.loads(answer.body) == {"message": answer.message}
