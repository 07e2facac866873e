"""kill -9 of the engine: containers run on, and the next engine takes them over (crash-only, AUT5)."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from datetime import UTC, datetime

import wherry
from tests.faults.machine import IDLE, NUMBERS, CrashEngine
from tests.support.http import eventually


def test_no_line_is_lost_or_doubled_through_ten_kills(crashable: CrashEngine) -> None:
    plain = crashable.run("sh", "-c", NUMBERS)
    rotated = crashable.run(
        "sh",
        "-c",
        NUMBERS,
        HostConfig={"LogConfig": {"Type": "json-file", "Config": {"max-size": "20k", "max-file": "99"}}},
    )
    started = crashable.state(plain)["StartedAt"]
    randomness = random.Random(7)
    for _ in range(10):
        time.sleep(randomness.uniform(0.05, 0.6))
        crashable.crash()
        time.sleep(randomness.uniform(0.02, 0.3))
        crashable.boot()
        assert crashable.state(plain)["StartedAt"] == started
    for container in (plain, rotated):
        assert crashable.http.post(f"/containers/{container}/stop", query={"t": 10}).status == 204
        numbers = crashable.lines(container)
        assert len(numbers) > 2000
        assert numbers == list(range(len(numbers)))
        assert crashable.state(container)["ExitCode"] == 0


def test_clients_of_a_killed_engine_get_a_clear_error(crashable: CrashEngine) -> None:
    container = crashable.run("sh", "-c", NUMBERS)
    outcome: dict[str, object] = {}

    def follow() -> None:
        with wherry.connect(crashable.address) as docker:
            try:
                for _ in docker.containers.logs(container, follow=True):
                    pass
                outcome["logs"] = "a clean end"
            except wherry.WherryError as error:
                outcome["logs"] = error

    def wait() -> None:
        with wherry.connect(crashable.address) as docker:
            try:
                outcome["wait"] = docker.containers.wait(container)
            except wherry.WherryError as error:
                outcome["wait"] = error

    threads = [threading.Thread(target=work) for work in (follow, wait)]
    for thread in threads:
        thread.start()
    time.sleep(0.4)
    assert not outcome
    crashable.crash()
    for thread in threads:
        thread.join(5)
    assert isinstance(outcome["logs"], wherry.TransportError), outcome
    assert isinstance(outcome["wait"], wherry.TransportError), outcome
    crashable.boot()
    assert crashable.status(container) == "running"


def test_wait_attach_exec_and_stdin_work_on_an_adopted_container(crashable: CrashEngine) -> None:
    script = "while read line; do [ $line = end ] && exit 5; echo got $line; echo err $line >&2; done"
    container = crashable.run("sh", "-c", script, OpenStdin=True)
    crashable.restart()
    with crashable.attach(container) as exchange:
        assert exchange.status == 101
        exchange.send(b"one\n")
        frames = exchange.frames()
        assert sorted([next(frames), next(frames)]) == [(1, b"got one\n"), (2, b"err one\n")]
        assert crashable.exec(container, "echo", "hello") == (0, b"hello\n", b"")
        waiter: list[int] = []
        thread = threading.Thread(target=lambda: waiter.append(crashable.wait(container)))
        thread.start()
        exchange.send(b"end\n")
        thread.join(10)
        assert waiter == [5]
        assert list(frames) == []
    assert crashable.logs(container) == (b"got one\n", b"err one\n")


def test_a_prompt_without_an_end_of_line_reaches_an_attach_to_an_adopted_terminal(crashable: CrashEngine) -> None:
    container = crashable.run("sh", "-c", "while read x; do printf 'you said %s> ' $x; done", OpenStdin=True, Tty=True)
    crashable.restart()
    with crashable.attach(container) as exchange:
        exchange.send(b"hi\n")
        exchange.read_until(b"you said hi> ")
        exchange.send(b"ho\n")
        exchange.read_until(b"you said ho> ")


def test_AUT5_exit_code_of_a_container_that_ended_meanwhile(crashable: CrashEngine) -> None:
    container = crashable.run("sh", "-c", "usleep 300000; echo last words; exit 42")
    unseen = crashable.run("sh", "-c", "trap '' TERM; echo $$; while :; do sleep 1; done")
    pid = crashable.state(unseen)["Pid"]
    crashable.crash()
    time.sleep(0.5)
    os.kill(pid, 9)
    before = datetime.now(UTC).isoformat()
    crashable.boot()
    state = crashable.state(container)
    assert (state["Status"], state["ExitCode"], state["Pid"]) == ("exited", 42, 0)
    assert state["StartedAt"] < state["FinishedAt"] < before, "when it ended, not when that was seen"
    assert crashable.logs(container)[0] == b"last words\n"
    assert crashable.wait(container) == 42
    assert crashable.state(unseen)["ExitCode"] == 137


def test_a_killed_monitor_is_told(crashable: CrashEngine) -> None:
    container = crashable.run("sleep", "1000")
    monitor = int((crashable.layout.bundle(container) / "conmon.pid").read_text())
    os.kill(monitor, signal.SIGKILL)
    eventually(lambda: f"the monitor of {container[:12]} is gone" in crashable.log, within=5)
    assert crashable.status(container) == "running"


def test_AUT5_restart_policies_at_the_start_of_an_engine(crashable: CrashEngine) -> None:
    def create(policy: str, *command: str, **host: object) -> str:
        return crashable.create(*(command or IDLE), HostConfig={"RestartPolicy": {"Name": policy}, **host})

    never = create("always")
    ends = ("sh", "-c", "usleep 400000; exit 3")
    once = create("no", *ends)
    always, unless, failing = create("always", *ends), create("unless-stopped", *ends), create("on-failure", *ends)
    stopped_always, stopped_unless = create("always"), create("unless-stopped")
    stopped_failing = create("on-failure", "sh", "-c", "while :; do sleep 1; done")
    removing = crashable.create(*ends, HostConfig={"AutoRemove": True})
    for container in (once, always, unless, failing, stopped_always, stopped_unless, stopped_failing, removing):
        crashable.start(container)
    for container in (stopped_always, stopped_unless, stopped_failing):
        assert crashable.http.post(f"/containers/{container}/stop", query={"t": 0}).status == 204
    crashable.crash()
    time.sleep(0.6)
    crashable.boot()
    eventually(lambda: removing not in crashable.containers(), what="AutoRemove")
    wanted = (always, unless, failing, stopped_always, stopped_failing)
    eventually(lambda: {crashable.status(c) for c in wanted} <= {"running", "restarting"}, what="the wanted are up")
    assert [crashable.status(c) for c in (never, once, stopped_unless)] == ["created", "exited", "exited"]
    assert crashable.state(once)["ExitCode"] == 3


def test_a_paused_container_stays_paused(crashable: CrashEngine) -> None:
    container = crashable.run(*IDLE)
    assert crashable.http.post(f"/containers/{container}/pause").status == 204
    crashable.restart()
    assert crashable.status(container) == "paused"
    assert crashable.http.post(f"/containers/{container}/unpause").status == 204
    assert crashable.http.post(f"/containers/{container}/stop", query={"t": 5}).status == 204
    assert crashable.state(container)["ExitCode"] == 0


def test_published_ports_and_addresses_survive(crashable: CrashEngine) -> None:
    container = crashable.run(
        "nc", "-l", "-p", "80", "-e", "echo", "served",
        ExposedPorts={"80/tcp": {}}, HostConfig={"PortBindings": {"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": ""}]}},
    )  # fmt: skip
    before = crashable.inspect(container)["NetworkSettings"]
    crashable.restart()
    after = crashable.inspect(container)["NetworkSettings"]
    assert after["Ports"] == before["Ports"]
    assert after["IPAddress"] == before["IPAddress"]
    port = int(after["Ports"]["80/tcp"][0]["HostPort"])
    with crashable.connect_tcp("127.0.0.1", port) as connection:
        assert connection.recv(100) == b"served\n"
    assert crashable.wait(container) == 0
