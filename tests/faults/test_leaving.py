"""SIGTERM to an engine in the middle of a call: what has begun is brought to its end."""

from __future__ import annotations

import shutil
import threading
from contextlib import suppress
from pathlib import Path

from tests.faults.machine import IDLE, CrashEngine
from tests.support.engines import end_process
from tests.support.http import eventually

MIB = 1 << 20
SLOW = """#!/bin/sh
for word; do
    [ "$word" = update ] && { %(crun)s "$@"; code=$?; touch %(updated)s; sleep 1; exit $code; }
done
exec %(crun)s "$@"
"""


def test_UPD3_an_update_is_written_down_where_it_was_made(crashable: CrashEngine) -> None:
    crashable.crash()
    updated = crashable.root / "updated"
    runtime = crashable.root / "crun"
    runtime.write_text(SLOW % {"crun": shutil.which("crun"), "updated": updated})
    runtime.chmod(0o755)
    crashable.boot("--runtime", str(runtime))
    container = crashable.run(*IDLE, HostConfig={"Memory": 64 * MIB, "MemorySwap": 64 * MIB})

    def update() -> None:
        with suppress(OSError):  # the engine leaves without an answer
            crashable.http.post(f"/containers/{container}/update", json={"Memory": 32 * MIB})

    call = threading.Thread(target=update)
    call.start()
    eventually(updated.exists)
    end_process(crashable.process)
    call.join()
    crashable.boot()
    assert _limit(crashable, container) == 32 * MIB
    assert crashable.inspect(container)["HostConfig"]["Memory"] == 32 * MIB


def _limit(engine: CrashEngine, container: str) -> int:
    """What the kernel has."""
    name = f"wherry-{engine.layout.tag}/{container}"
    files = (
        Path("/sys/fs/cgroup", "memory", name, "memory.limit_in_bytes"),
        Path("/sys/fs/cgroup", name, "memory.max"),
    )
    return int(next(file for file in files if file.exists()).read_text())
