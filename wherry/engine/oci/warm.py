"""Paying the kernel's first price for moving a process between control groups ahead of time.

A process enters a control group under a lock that has two modes. After some 15 ms without a move, the next one waits for
the lock to change its mode (an RCU grace period, 8 to 17 ms); moves that follow at once take 0.1 ms. The runtime's create
and exec make such a move in the middle of every start. A thread that writes its own number into the group that it is in
already moves nothing, but has the lock change its mode, while the engine mounts, connects and writes specifications.

Once for each start, and no more: every such write also holds up all forks of the machine until those under way are done.
Writing it every 10 ms, so that the lock stays ready, made a busy machine's forks six times as slow.
"""

from __future__ import annotations

import threading
import time
from functools import cache
from pathlib import Path

from wherry.engine.blocking import in_thread

_FRESH = 0.008  # seconds that the lock surely stays in its fast mode

_until = 0.0


async def warm_cgroups() -> None:
    """Have the next move be fast. Waits up to 20 ms; meant to run beside other work."""
    global _until
    now = time.monotonic()
    if now < _until:
        return
    _until = now + 0.05  # one at a time
    await in_thread(_move_nowhere)
    _until = time.monotonic() + _FRESH


def _move_nowhere() -> None:
    path = _own_group()
    if path is None:
        return
    try:
        # this thread's entry alone: should somebody have moved the engine elsewhere, then only the thread goes back
        path.write_text(str(threading.get_native_id()))
    except OSError:
        pass  # it is no more than a chance


@cache
def _own_group() -> Path | None:
    """The list of threads of a group that the engine is in; any hierarchy will do."""
    mounts: dict[str, str] = {}
    for line in Path("/proc/self/mountinfo").read_text(errors="replace").splitlines():
        left, _, right = line.partition(" - ")
        kind, options = right.split(" ", 1)[0], right.rsplit(" ", 1)[-1]
        if kind == "cgroup2":
            mounts[""] = left.split()[4]
        elif kind == "cgroup" and "freezer" in options.split(","):
            mounts["freezer"] = left.split()[4]
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, group = line.split(":", 2)
        if controllers in mounts:
            path = Path(f"{mounts[controllers]}{group}") / ("tasks" if controllers else "cgroup.threads")
            if path.exists():
                return path
    return None
