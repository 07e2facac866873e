"""POST stop and restart."""

from __future__ import annotations

import threading
import time
from typing import Any

from tests.support.engines import Engine
from tests.support.http import PATIENCE, eventually
from tests.support.scenes import DEAF, happened, kill, reporting, say_ready


def stop(engine: Engine, container: str, **query: Any) -> int:
    return engine.http.post(f"/containers/{container}/stop", query=query).status


def test_STP1_not_running_is_not_modified(engine: Engine) -> None:
    container = engine.create("true")
    assert stop(engine, container) == 304
    engine.start(container)
    engine.wait(container)
    assert stop(engine, container) == 304


def test_STP2_signals(engine: Engine) -> None:
    container = engine.run(*reporting())
    say_ready(engine, container)
    assert stop(engine, container, t=10) == 204
    assert engine.state(container)["ExitCode"] == 55
    container = engine.run(*reporting(), StopSignal="USR1")
    say_ready(engine, container)
    assert stop(engine, container, t=10) == 204
    assert engine.state(container)["ExitCode"] == 50
    if not engine.is_dockerd:  # since API 1.42
        container = engine.run(*reporting())
        say_ready(engine, container)
        assert stop(engine, container, t=10, signal="SIGINT") == 204
        assert engine.state(container)["ExitCode"] == 42


def test_STP2_zero_seconds_kill_at_once(engine: Engine) -> None:
    container = engine.run(*DEAF)
    say_ready(engine, container)
    started = time.monotonic()
    assert stop(engine, container, t=0) == 204
    assert time.monotonic() - started < 3 * PATIENCE
    assert engine.state(container)["ExitCode"] == 137


def test_STP2_stop_timeout_of_the_container(engine: Engine) -> None:
    container = engine.run(*DEAF, StopTimeout=1)
    say_ready(engine, container)
    started = time.monotonic()
    assert stop(engine, container) == 204
    assert 0.9 < time.monotonic() - started < 5 * PATIENCE
    assert engine.state(container)["ExitCode"] == 137


def test_STP2_minus_one_waits_for_the_container(engine: Engine) -> None:
    container = engine.run(
        "sh", "-c", "trap 'sleep 1; exit 11' TERM; echo ready; while :; do sleep 3600 & wait $!; done"
    )
    say_ready(engine, container)
    assert stop(engine, container, t=-1) == 204
    assert engine.state(container)["ExitCode"] == 11


def test_STP4_a_lost_client_does_not_cancel_a_stop(engine: Engine) -> None:
    container = engine.run(*DEAF)
    say_ready(engine, container)
    with engine.http.connect() as sock:
        sock.sendall(f"POST /v{engine.version}/containers/{container}/stop?t=1 HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    eventually(lambda: engine.status(container) == "exited", within=10)


def test_STP5_a_stopped_container_is_not_restarted(engine: Engine) -> None:
    for name in ("always", "unless-stopped"):
        container = engine.run(*reporting(), HostConfig={"RestartPolicy": {"Name": name}})
        say_ready(engine, container)
        assert stop(engine, container) == 204
        state = engine.state(container)
        assert (state["Status"], state["ExitCode"]) == ("exited", 55)
    time.sleep(0.3)  # longer than the first delay of a restart
    assert {engine.status(c) for c in engine.containers()} == {"exited"}


def test_STP6_stop_of_a_restarting_container(engine: Engine) -> None:
    container = engine.run("sh", "-c", "exit 3", HostConfig={"RestartPolicy": {"Name": "always"}})
    eventually(lambda: engine.inspect(container)["RestartCount"] >= 3)
    eventually(lambda: engine.status(container) == "restarting")
    assert stop(engine, container) == 204
    state = engine.state(container)
    assert (state["Status"], state["Running"], state["Restarting"]) == ("exited", False, False)


def test_STP8_events_of_a_stop(engine: Engine) -> None:
    since = engine.http.get("/info").json["SystemTime"]
    container = engine.run(*DEAF)
    say_ready(engine, container)
    assert stop(engine, container, t=1) == 204
    with engine.http.open("GET", "/events", query={"since": 1, "filters": {"container": [container]}}) as events:
        seen: list[tuple[str, str | None]] = []
        for event in events.json_values():
            seen.append((event["Action"], event["Actor"]["Attributes"].get("signal")))
            if {"die", "stop"} <= {action for action, _ in seen}:
                break
    assert since
    assert [e for e in seen if e[0] == "kill"] == [("kill", "15"), ("kill", "9")]
    if not engine.is_dockerd:  # moby's order of the last two is a race
        assert [action for action, _ in seen][-2:] == ["die", "stop"]


def test_STP9e_events_of_a_restart(engine: Engine) -> None:
    container = engine.run("sleep", "1000")
    assert engine.http.post(f"/containers/{container}/restart?t=0").status == 204
    actions = [action for action, _ in happened(engine, container, "restart")]
    assert {"kill", "die", "stop"} <= set(actions)  # the order of the last two is a race in moby
    assert actions[-2:] == ["start", "restart"]


def test_STP9_restart(engine: Engine) -> None:
    container = engine.run(*reporting())
    say_ready(engine, container)
    first = engine.state(container)
    answer = engine.http.post(f"/containers/{container}/restart", query={"t": 5})
    assert (answer.status, answer.body) == (204, b"")
    second = engine.state(container)
    assert (second["Status"], second["StartedAt"] > first["StartedAt"]) == ("running", True)
    assert second["Pid"] != first["Pid"]


def test_STP9_restart_of_a_stopped_one_and_with_auto_remove(engine: Engine) -> None:
    container = engine.create(*reporting())
    assert engine.http.post(f"/containers/{container}/restart").status == 204
    assert engine.status(container) == "running"
    container = engine.run(*reporting(), HostConfig={"AutoRemove": True})
    say_ready(engine, container)
    assert engine.http.post(f"/containers/{container}/restart").status == 204
    assert engine.status(container) == "running"


def test_STP9_restart_errors_are_wrapped(engine: Engine) -> None:
    container = engine.create("nosuchcommand")
    answer = engine.http.post(f"/containers/{container}/restart")
    assert answer.status in (400, 500)
    assert answer.message.startswith(f"Cannot restart container {container}: ")


def test_STP10a_stop_of_one_that_is_removed_at_its_end(engine: Engine) -> None:
    container = engine.run_idle(name="brief", HostConfig={"AutoRemove": True})
    assert engine.http.post(f"/containers/{container}/stop").status == 204
    eventually(lambda: engine.http.get(f"/containers/{container}/json").status == 404)
    eventually(lambda: engine.try_create("true", name="brief").status == 201)


def test_STP_kill_ends_a_patient_stop(engine: Engine) -> None:
    container = engine.run(*DEAF)
    say_ready(engine, container)
    statuses: list[int] = []
    patient = threading.Thread(target=lambda: statuses.append(stop(engine, container, t=60)))
    patient.start()
    filters = {"event": ["kill"], "container": [container]}  # says that the stop has sent its signal
    with engine.http.open("GET", "/events", query={"since": 1, "filters": filters}) as events:
        assert next(events.json_values())["id"] == container
    started = time.monotonic()
    assert kill(engine, container)[0] == 204
    assert time.monotonic() - started < 1 * PATIENCE
    assert engine.state(container)["ExitCode"] == 137
    patient.join(5)
    assert statuses == [204]


def test_STP_a_stop_does_not_block_the_others(engine: Engine) -> None:
    if engine.is_dockerd:
        return  # 20.10 holds the container's lock in places
    container = engine.run(*DEAF, name="patient")
    say_ready(engine, container)
    patient = threading.Thread(target=lambda: stop(engine, container, t=60))
    patient.start()
    started = time.monotonic()
    assert engine.status(container) == "running"
    assert len(engine.containers()) == 1
    assert engine.exec(container, "echo", "here")[:2] == (0, b"here\n")
    assert time.monotonic() - started < 3 * PATIENCE
    assert engine.http.delete(f"/containers/{container}?force=1").status == 204
    patient.join(5)
    assert not patient.is_alive()
