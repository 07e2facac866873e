"""``docker run … | less`` left standing: nothing is lost, and the engine does not grow."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import pytest

from tests.cli.conftest import Docker
from tests.support.http import eventually

LINES = 1_000_000  # of 100 bytes
STANDING = 60.0


def memory(pid: int) -> int:
    """The process's share of memory in bytes."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("no Pss")


@pytest.mark.timeout(240)
def test_docker_run_into_less(wherry_docker: Docker) -> None:
    engine = wherry_docker.engine
    before = memory(engine.pid)
    command = f'BEGIN {{ for (i = 0; i < {LINES}; i++) printf "%099d\\n", i }}'
    reader = wherry_docker.start("run", "--name", "long", "busybox", "awk", command, stdout=subprocess.PIPE)
    started = time.monotonic()
    assert reader.stdout is not None
    expected = iter(range(LINES))
    assert int(reader.stdout.readline()) == next(expected)
    # The container is not held up by who does not read.
    eventually(lambda: engine.status("long") == "exited", within=50)
    most = 0
    while time.monotonic() - started < STANDING:
        most = max(most, memory(engine.pid) - before)
        time.sleep(0.5)
    assert most < 32 << 20, f"the engine grew by {most >> 20} MiB"
    for line in reader.stdout:
        assert int(line) == next(expected)
    assert next(expected, None) is None, "lines were lost"
    assert reader.wait(20) == 0
