"""POST kill."""

from __future__ import annotations

import time

import pytest

from tests.support.engines import Engine
from tests.support.http import eventually
from tests.support.scenes import DEAF, in_back_off, kill, reporting, say_ready


def test_KIL1c_kill_in_the_back_off(engine: Engine) -> None:
    container = in_back_off(engine)
    assert engine.http.post(f"/containers/{container}/kill").status == 204
    time.sleep(1)
    if not engine.is_dockerd:  # 20.10 answers, and goes on restarting
        assert engine.status(container) == "exited"


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


def test_KIL4a_another_signal_and_the_restart_policy(engine: Engine) -> None:
    script = "trap 'echo usr' USR1; echo ready; until rm /end 2>/dev/null; do sleep 0.05; done; exit 3"
    container = engine.run("sh", "-c", script, HostConfig={"RestartPolicy": {"Name": "always"}})
    eventually(lambda: engine.logs(container)[0] == b"ready\n")
    assert engine.http.post(f"/containers/{container}/kill?signal=USR1").status == 204
    eventually(lambda: engine.logs(container)[0] == b"ready\nusr\n")
    engine.exec(container, "touch", "/end")
    if engine.is_dockerd:  # to moby any signal is a manual stop
        eventually(lambda: engine.status(container) == "exited")
        assert engine.inspect(container)["RestartCount"] == 0
    else:  # to Wherry only the stop signal and SIGKILL are
        eventually(lambda: engine.logs(container)[0] == b"ready\nusr\nready\n")
        assert engine.inspect(container)["RestartCount"] == 1


def test_KIL4_kill_counts_as_a_manual_stop(engine: Engine) -> None:
    container = engine.run(*DEAF, HostConfig={"RestartPolicy": {"Name": "always"}})
    assert kill(engine, container)[0] == 204
    time.sleep(0.3)  # longer than the first delay of a restart
    details = engine.inspect(container)
    assert (details["State"]["Status"], details["RestartCount"]) == ("exited", 0)
