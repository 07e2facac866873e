"""Tests of a whole machine with systemd and cgroup v2, which they change: they run where ``make vm-test`` says so."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from scripts.make_images import busybox_archive
from tests.support.engines import Engine
from tests.support.http import PATIENCE, Http, eventually

ON_A_MACHINE_OF_ITS_OWN = os.environ.get("WHERRY_VM") == "1"
SOCKET = "/run/wherry/wherry.sock"
GROUPS = Path("/sys/fs/cgroup")


def pytest_ignore_collect() -> bool | None:
    return None if ON_A_MACHINE_OF_ITS_OWN else True


def systemctl(*arguments: str, check: bool = True) -> str:
    done = subprocess.run(["systemctl", *arguments], capture_output=True, text=True, check=False, timeout=90 * PATIENCE)
    assert not check or done.returncode == 0, (done, journal())
    return done.stdout.strip()


def journal() -> str:
    """The end of what the unit said."""
    command = ["journalctl", "--unit=wherry", "--lines=30", "--no-pager", "--output=cat"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


class UnitEngine(Engine):
    """The engine that the shipped unit runs, on the default roots and socket."""

    def __init__(self) -> None:
        self.name, self.root, self.netns, self.version = "wherry", Path("/run/wherry"), "", "1.43"
        self.socket_path = SOCKET
        self.address = f"unix://{SOCKET}"
        self.http = Http(SOCKET, "/v1.43")

    @property
    def pid(self) -> int:
        return int(systemctl("show", "--property=MainPID", "--value", "wherry"))

    @property
    def log(self) -> str:
        return journal()

    def start_unit(self) -> None:
        """Returns when the engine answers: the unit counts as started only then."""
        systemctl("start", "wherry")

    def group(self, container: str) -> Path:
        """The container's control group."""
        line = Path(f"/proc/{self.state(container)['Pid']}/cgroup").read_text().strip()
        return GROUPS / line.removeprefix("0::/")

    def monitors(self) -> dict[int, str]:
        """The conmon processes, and the control group that each is in."""
        found = {}
        for process in Path("/proc").glob("[0-9]*"):
            try:
                if (process / "comm").read_text().strip() == "conmon":
                    found[int(process.name)] = (process / "cgroup").read_text().strip().removeprefix("0::")
            except OSError:
                continue
        return found

    def stats(self, container: str) -> Any:
        return self.http.get(f"/containers/{container}/stats?stream=0&one-shot=1").json

    def update(self, container: str, **limits: Any) -> Any:
        answer = self.http.post(f"/containers/{container}/update", json=limits)
        assert answer.status == 200, answer
        return answer.json


@pytest.fixture(scope="session")
def unit_session() -> Iterator[UnitEngine]:
    engine = UnitEngine()
    engine.start_unit()
    engine.load(busybox_archive())
    yield engine
    engine.remove_all()
    systemctl("stop", "wherry")


@pytest.fixture
def unit(unit_session: UnitEngine) -> Iterator[UnitEngine]:
    """The running unit, without containers before and after."""
    yield unit_session
    if systemctl("is-active", "wherry", check=False) != "active":
        unit_session.start_unit()
    unit_session.remove_all()
    eventually(lambda: not unit_session.monitors(), what="the monitors have ended")
