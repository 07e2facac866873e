"""An engine that may not open another file: what it begins it undoes, what ends it hears of, and what runs it lets be."""

from __future__ import annotations

import os
import resource
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.client import HTTPConnection
from typing import Any

import pytest

from tests.faults.machine import IDLE, CrashEngine
from tests.support.engines import REPOSITORY, wherry_command
from tests.support.http import eventually
from tests.support.machine import holdings

ENOUGH = 20_000


class Connected(HTTPConnection):
    """One connection for many calls: the engine can take no other."""

    def __init__(self, engine: CrashEngine) -> None:
        super().__init__("engine", timeout=30)
        self._address = engine.socket_path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(self._address)

    def call(self, method: str, path: str) -> tuple[int, str]:
        self.request(method, f"/v1.43{path}")
        answer = self.getresponse()
        return answer.status, answer.read().decode()


@contextmanager
def no_more_than(engine: CrashEngine, more: int) -> Iterator[None]:
    """The engine can open so many files more, and no others."""
    used = {int(name) for name in engine.descriptors()}
    limit = free = 0
    while limit in used or free < more:
        free += limit not in used
        limit += 1
    before = resource.prlimit(engine.pid, resource.RLIMIT_NOFILE, (limit, ENOUGH))
    try:
        yield
    finally:
        resource.prlimit(engine.pid, resource.RLIMIT_NOFILE, before)


@pytest.mark.parametrize("more", range(10))
def test_STA4_KIL3_a_start_and_an_end(crashable: CrashEngine, more: int) -> None:
    container = crashable.run(*IDLE)
    crashable.http.post(f"/containers/{container}/kill")

    def quiet() -> Any:
        seen = holdings(crashable.root, crashable.pid)
        return None if seen.processes else seen

    with closing(Connected(crashable)) as connection:
        assert connection.call("GET", "/_ping") == (200, "OK")
        before = eventually(quiet)
        with no_more_than(crashable, more):
            started, message = connection.call("POST", f"/containers/{container}/start")
        assert started == 204 or (started == 500 and "too many open files" in message.lower()), message
        assert "Errno" not in message
        assert crashable.state(container)["Running"] is (started == 204)
        if started == 500:
            crashable.start(container)
        process = crashable.state(container)["Pid"]
        with no_more_than(crashable, more):
            os.kill(process, signal.SIGKILL)
            time.sleep(0.3)  # in which the engine hears of it
        assert crashable.wait(container) == 137
        eventually(quiet)
        eventually(lambda: not crashable_more(crashable, before), within=10, what="nothing is left of it")
    crashable.start(container)


def crashable_more(engine: CrashEngine, before: Any) -> dict[str, list[str]]:
    return holdings(engine.root, engine.pid).more_than(before)


def test_an_engine_that_cannot_take_over_what_runs_lets_it_be(crashable: CrashEngine) -> None:
    containers = [crashable.run(*IDLE, HostConfig={"NetworkMode": "none"}) for _ in range(20)]
    processes = [crashable.state(container)["Pid"] for container in containers]
    crashable.crash()
    command = ["prlimit", "--nofile=40:40", *wherry_command(crashable.root)]
    refused = subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY, timeout=60, check=False)
    assert refused.returncode == 1
    assert "cannot be taken over: Too many open files" in refused.stderr, refused.stderr
    crashable.boot()
    assert [crashable.state(container)["Pid"] for container in containers] == processes
    assert {crashable.status(container) for container in containers} == {"running"}


def test_a_low_soft_limit_is_raised_but_not_for_containers(crashable: CrashEngine) -> None:
    crashable.crash()
    crashable.boot(under=("prlimit", "--nofile=100:3000"))
    assert resource.prlimit(crashable.pid, resource.RLIMIT_NOFILE) == (3000, 3000)
    limits_of = "ulimit -Sn; ulimit -Hn"
    container = crashable.run("sh", "-c", f"{limits_of}; exec sleep 60")
    assert crashable.exec(container, "sh", "-c", limits_of)[1] == b"100\n3000\n"
    assert crashable.logs(container)[0] == b"100\n3000\n"
    wanted = [{"Name": "nofile", "Soft": 200, "Hard": 300}]
    assert crashable.run_to_end("sh", "-c", limits_of, HostConfig={"Ulimits": wanted})[1] == b"200\n300\n"
    crashable.restart()
