"""Verbs at the same time on one container: whatever the order, the answers and the state agree, and nothing hangs."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.faults.machine import CrashEngine
from tests.support.engines import Engine
from tests.support.http import PATIENCE, eventually
from wherry.engine.oci.process import start_time

DEAF = ("sh", "-c", "trap '' TERM; echo ready; while :; do sleep 3600 & wait $!; done")
ALWAYS = {"HostConfig": {"RestartPolicy": {"Name": "always"}}}
AUTO_REMOVE = {"HostConfig": {"AutoRemove": True}}


def together(*calls: tuple[Any, ...]) -> list[int]:
    """The results of these calls (a function and its arguments); all are made at once."""
    gate = threading.Barrier(len(calls))

    def one(call: tuple[Any, ...]) -> int:
        gate.wait()
        return int(call[0](*call[1:]))

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(one, calls))


def post(engine: Engine, container: str, verb: str) -> int:
    return engine.http.post(f"/containers/{container}/{verb}").status


def remove(engine: Engine, container: str, force: int = 0) -> int:
    return engine.http.delete(f"/containers/{container}?force={force}").status


def gone(engine: Engine, container: str) -> bool:
    return engine.http.get(f"/containers/{container}/json").status == 404


def test_STA7_many_starts(verbs: CrashEngine) -> None:
    container = verbs.create("sleep", "60")
    statuses = together(*[(post, verbs, container, "start")] * 8)
    assert sorted(statuses) == [204] + [304] * 7
    assert verbs.status(container) == "running"


def test_start_and_delete(verbs: CrashEngine) -> None:
    for _ in range(6):
        container = verbs.create("sleep", "60")
        started, removed = together((post, verbs, container, "start"), (remove, verbs, container))
        assert (started, removed) in {(204, 409), (409, 204), (404, 204)}
        assert gone(verbs, container) == (removed == 204)
        if removed == 409:
            assert verbs.status(container) == "running"


def test_start_and_forced_delete(verbs: CrashEngine) -> None:
    for _ in range(6):
        container = verbs.create("sleep", "60")
        started, removed = together((post, verbs, container, "start"), (remove, verbs, container, 1))
        assert removed == 204
        assert started in (204, 404, 409)
        assert gone(verbs, container)


def test_DEL2_two_forced_deletes(verbs: CrashEngine) -> None:
    for _ in range(4):
        container = verbs.run("sleep", "60")
        statuses = together(*[(remove, verbs, container, 1)] * 3)
        assert statuses.count(204) == 1
        assert set(statuses) <= {204, 404, 409}


@pytest.mark.parametrize("verb", ["kill", "stop"])
def test_end_during_a_start(verbs: CrashEngine, verb: str) -> None:
    """It comes before the start, and finds nothing to end, or after it, and ends the container."""
    for _ in range(5):
        container = verbs.create("sleep", "60")
        started, ended = together((post, verbs, container, "start"), (post, verbs, container, f"{verb}?t=0"))
        assert started == 204
        if ended == 204:
            assert (verbs.status(container), verbs.state(container)["ExitCode"]) == ("exited", 137)
        else:
            assert ended == (304 if verb == "stop" else 409)
            assert verbs.status(container) == "running"


@pytest.mark.parametrize("other", ["kill", "stop?t=0", "restart?t=0", "delete"])
def test_a_patient_stop_hinders_nobody(verbs: CrashEngine, other: str) -> None:
    container = verbs.run(*DEAF)
    eventually(lambda: verbs.logs(container)[0])
    with ThreadPoolExecutor(1) as pool:
        patient = pool.submit(post, verbs, container, "stop?t=600")
        time.sleep(0.05)
        started = time.monotonic()
        assert (remove(verbs, container, 1) if other == "delete" else post(verbs, container, other)) == 204
        assert patient.result(5) == 204
        assert time.monotonic() - started < 2 * PATIENCE


@pytest.mark.parametrize("verb", ["kill", "stop", "restart"])
def test_pause_and_end(verbs: CrashEngine, verb: str) -> None:
    for _ in range(5):
        container = verbs.run(*DEAF)
        started = time.monotonic()
        paused, ended = together((post, verbs, container, "pause"), (post, verbs, container, f"{verb}?t=0"))
        assert (paused in (204, 409), ended) == (True, 204)
        assert time.monotonic() - started < 3 * PATIENCE
        state = verbs.state(container)
        assert state["Status"] == "exited" if verb != "restart" else state["Status"] in ("running", "paused")
        assert remove(verbs, container, 1) == 204


def test_restart_and_exit(verbs: CrashEngine) -> None:
    container = verbs.run("sleep", "0.05")
    for _ in range(10):
        assert post(verbs, container, "restart?t=1") == 204
    assert eventually(lambda: verbs.status(container) == "exited")
    assert verbs.inspect(container)["RestartCount"] == 0


def test_STP9_two_restarts_keep_a_container_that_removes_itself(verbs: CrashEngine) -> None:
    container = verbs.run("sleep", "60", **AUTO_REMOVE)
    for _ in range(3):
        assert together(*[(post, verbs, container, "restart?t=0")] * 3) == [204] * 3
    assert verbs.status(container) == "running"
    assert post(verbs, container, "stop?t=0") == 204
    eventually(lambda: gone(verbs, container))


def test_stop_wins_over_the_policy(verbs: CrashEngine) -> None:
    """At any moment between an exit and the next: it stays stopped."""
    containers = [verbs.run("sh", "-c", f"sleep 0.0{n}; exit 1", **ALWAYS) for n in range(6)]
    time.sleep(0.3)
    statuses = together(*[(post, verbs, c, "stop?t=0") for c in containers])
    assert set(statuses) == {204}
    counts = [(verbs.status(c), verbs.inspect(c)["RestartCount"]) for c in containers]
    assert {status for status, _ in counts} == {"exited"}
    time.sleep(1)
    assert [(verbs.status(c), verbs.inspect(c)["RestartCount"]) for c in containers] == counts


def test_delete_wins_over_the_policy(verbs: CrashEngine) -> None:
    containers = [verbs.run("sh", "-c", f"sleep 0.0{n}; exit 1", **ALWAYS) for n in range(6)]
    time.sleep(0.25)
    assert set(together(*[(remove, verbs, c, 1) for c in containers])) == {204}
    assert verbs.containers() == []


def test_AUT_removal_by_itself_and_by_hand(verbs: CrashEngine) -> None:
    for n in range(6):
        container = verbs.create("sleep", f"0.0{n}", **AUTO_REMOVE)
        with verbs.http.open("POST", f"/containers/{container}/wait?condition=removed") as removed:
            verbs.start(container)
            assert remove(verbs, container, 1) in (204, 404, 409)
            assert b'{"StatusCode":' in removed.read()
        assert gone(verbs, container)


def test_WAI4_every_condition_through_a_life_of_a_millisecond(verbs: CrashEngine) -> None:
    for number in range(10):
        container = verbs.create("sh", "-c", f"exit {number}", **AUTO_REMOVE)
        with (
            verbs.http.open("POST", f"/containers/{container}/wait?condition=next-exit") as exited,
            verbs.http.open("POST", f"/containers/{container}/wait?condition=removed") as removed,
        ):
            verbs.start(container)
            late = verbs.http.post(f"/containers/{container}/wait")
            assert exited.read() == removed.read() == b'{"StatusCode":%d}\n' % number
            assert late.status == 404 or late.json == {"StatusCode": number}


def test_exec_and_exit(verbs: CrashEngine) -> None:
    """A command that begins while its container ends: the stream ends, and the exit code is there."""
    container = verbs.create("sleep", "0.1")

    def command(number: int) -> str:
        time.sleep(number * 0.015)
        created = verbs.http.post(
            f"/containers/{container}/exec", json={"Cmd": ["sh", "-c", "echo x; sleep 5"], "AttachStdout": True}
        )
        if created.status != 201:
            assert created.status == 409
            return ""
        exec_id = created.json["Id"]
        with verbs.http.open("POST", f"/exec/{exec_id}/start", json={}, timeout=4) as running:
            assert running.status in (200, 409)
            running.read()
            return str(exec_id) if running.status == 200 else ""

    for _ in range(2):
        verbs.start(container)
        with ThreadPoolExecutor(8) as pool:
            started = [exec_id for exec_id in pool.map(command, range(8)) if exec_id]
        assert verbs.wait(container) == 0
        for exec_id in started:
            state = verbs.http.get(f"/exec/{exec_id}/json").json
            assert (state["Running"], isinstance(state["ExitCode"], int)) == (False, True)
    assert verbs.inspect(container)["ExecIDs"] is None


def test_EXE1_a_command_for_a_process_that_has_ended_unheard(verbs: CrashEngine) -> None:
    """The monitor has not told of the end yet, so that the container counts as running."""
    container = verbs.run("sleep", "60")
    target = f"/containers/{container}/exec"
    detached, attached = (
        verbs.http.post(target, json={"Cmd": ["true"], "AttachStdout": True}).json["Id"] for _ in range(2)
    )
    monitor = int((verbs.layout.bundle(container) / "conmon.pid").read_text())
    os.kill(monitor, signal.SIGSTOP)
    try:
        process = verbs.state(container)["Pid"]
        os.kill(process, signal.SIGKILL)
        eventually(lambda: not start_time(process))
        refused = verbs.http.post(f"/exec/{detached}/start", json={"Detach": True})
        assert (refused.status, refused.message) == (409, f"Container {container} is not running")
        with verbs.http.open("POST", f"/exec/{attached}/start", json={}) as told:
            assert list(told.frames()) == [(1, f"Container {container} is not running\r\n".encode())]
        assert verbs.status(container) == "running"
    finally:
        os.kill(monitor, signal.SIGCONT)
    assert verbs.wait(container) == 137
    assert [verbs.http.get(f"/exec/{each}/json").json["ExitCode"] for each in (detached, attached)] == [126, 126]


LOST: dict[str, tuple[str, Callable[[Engine, str], bool]]] = {
    "start": ("POST /containers/{}/start", lambda engine, c: engine.status(c) == "running"),
    "stop": ("POST /containers/{}/stop?t=0", lambda engine, c: engine.status(c) == "exited"),
    "kill": ("POST /containers/{}/kill", lambda engine, c: engine.status(c) == "exited"),
    "restart": ("POST /containers/{}/restart?t=0", lambda engine, c: engine.status(c) == "running"),
    "pause": ("POST /containers/{}/pause", lambda engine, c: engine.status(c) == "paused"),
    "delete": ("DELETE /containers/{}?force=1", gone),
    "wait": ("POST /containers/{}/wait", lambda engine, c: engine.status(c) == "running"),
    "attach": ("POST /containers/{}/attach?stream=1&stdout=1", lambda engine, c: engine.status(c) == "running"),
    "logs": ("GET /containers/{}/logs?stdout=1&follow=1", lambda engine, c: engine.status(c) == "running"),
    "stats": ("GET /containers/{}/stats", lambda engine, c: engine.status(c) == "running"),
    "archive": ("GET /containers/{}/archive?path=/", lambda engine, c: engine.status(c) == "running"),
    "export": ("GET /containers/{}/export", lambda engine, c: engine.status(c) == "running"),
}


@pytest.mark.parametrize("verb", LOST)
def test_STP4_WAI6_a_client_that_leaves_at_once(verbs: CrashEngine, verb: str) -> None:
    """What it asked for happens all the same, and nobody else notices."""
    line, done = LOST[verb]
    container = verbs.create(*DEAF) if verb == "start" else verbs.run(*DEAF)
    request = f"{line.format(container)} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
    for delay in (0.0, 0.01):
        with verbs.http.connect() as sock:
            sock.sendall(request)
            time.sleep(delay)
    eventually(lambda: done(verbs, container), within=5, what=verb)
    assert verbs.http.get("/_ping").status == 200
