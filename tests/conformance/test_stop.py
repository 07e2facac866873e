"""POST stop, restart and kill: semantics sections 5 and 6."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from tests.support.engines import Engine
from tests.support.http import eventually

DEAF = ("sh", "-c", "trap '' TERM; echo ready; while :; do sleep 3600 & wait $!; done")


def say_ready(engine: Engine, container: str) -> None:
    """Wait until the container's traps are set."""
    eventually(lambda: b"ready" in engine.logs(container)[0], what="ready")


def reporting(signals: str = "TERM INT USR1 HUP QUIT") -> tuple[str, ...]:
    """A command that names the signal that ended it in its exit code: 40 + its number."""
    traps = "".join(f"trap 'exit $((40 + {number}))' {number}; " for number in (15, 2, 10, 1, 3))
    return ("sh", "-c", f"{traps} echo ready; while :; do sleep 3600 & wait $!; done")


def stop(engine: Engine, container: str, **query: Any) -> int:
    return engine.http.post(f"/containers/{container}/stop", query=query).status


def kill(engine: Engine, container: str, **query: Any) -> tuple[int, str]:
    answer = engine.http.post(f"/containers/{container}/kill", query=query)
    return answer.status, answer.message if answer.body else ""


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
    assert time.monotonic() - started < 3
    assert engine.state(container)["ExitCode"] == 137


def test_STP2_stop_timeout_of_the_container(engine: Engine) -> None:
    container = engine.run(*DEAF, StopTimeout=1)
    say_ready(engine, container)
    started = time.monotonic()
    assert stop(engine, container) == 204
    assert 0.9 < time.monotonic() - started < 5
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
    assert time.monotonic() - started < 1
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
    assert time.monotonic() - started < 3
    assert engine.http.delete(f"/containers/{container}?force=1").status == 204
    patient.join(5)
    assert not patient.is_alive()


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


def test_KIL1_not_running_and_not_found(engine: Engine) -> None:
    container = engine.create("true", name="still")
    subject = "Container" if engine.is_dockerd else "container"
    expected = f"Cannot kill container: still: {subject} {container} is not running"
    assert kill(engine, "still") == (409, expected)
    assert kill(engine, "nope") == (404, "Cannot kill container: nope: No such container: nope")


@pytest.mark.parametrize("signal", ["USR1", "SIGUSR1", "usr1", "10"])
def test_KIL2_signals(engine: Engine, signal: str) -> None:
    container = engine.run(*reporting())
    say_ready(engine, container)
    assert kill(engine, container, signal=signal)[0] == 204
    assert engine.wait(container) == 50


@pytest.mark.parametrize("signal", ["FOO", "0", "99", "-1"])
def test_KIL2_bad_signals(engine: Engine, signal: str) -> None:
    container = engine.run_idle(name="victim")
    status, message = kill(engine, "victim", signal=signal)
    assert "ignal" in message
    if engine.is_dockerd:
        assert status == (400 if signal in ("FOO", "0") else 500)
    else:
        out_of_range = f"the linux daemon does not support signal {signal}"
        words = out_of_range if signal in ("99", "-1") else f"invalid signal: {signal}"
        assert (status, message) == (400, f"Cannot kill container: victim: {words}")
    assert engine.status(container) == "running"
    # KIL2: the signal is looked at before the container; a number out of range only after.
    if signal == "FOO":
        assert kill(engine, "nope", signal=signal)[0] == 400


def test_KIL3_kill_waits_for_the_end(engine: Engine) -> None:
    container = engine.run(*DEAF)
    assert kill(engine, container)[0] == 204
    state = engine.state(container)
    assert (state["Status"], state["ExitCode"], state["Pid"]) == ("exited", 137, 0)


def test_KIL4_kill_counts_as_a_manual_stop(engine: Engine) -> None:
    container = engine.run(*DEAF, HostConfig={"RestartPolicy": {"Name": "always"}})
    assert kill(engine, container)[0] == 204
    time.sleep(0.3)  # longer than the first delay of a restart
    details = engine.inspect(container)
    assert (details["State"]["Status"], details["RestartCount"]) == ("exited", 0)
