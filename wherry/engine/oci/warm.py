"""Paying the kernel's first price for moving a process between control groups ahead of time, and not again and again.

A process enters a control group under a lock that has two modes. After some 15 ms without a move, the next one waits for
the lock to change its mode (an RCU grace period, 8 to 17 ms); moves that follow at once take 0.1 ms. The runtime's create
and exec make such a move in the middle of every start. A thread that writes its own number into the group that it is in
already moves nothing, but has the lock change its mode, beside the engine's other work; and while clients start
containers and commands one after another, writing it every 10 ms keeps the mode: 0.05 ms of processor time each.
"""

from __future__ import annotations

import os
import threading
import time
from functools import cache
from pathlib import Path

KEPT = 1.0  # seconds that the next start has to come within to find the lock ready
_PERIOD = 0.01

_guard = threading.Lock()
_until = 0.0
_running = False


def warm_cgroups() -> None:
    """Have the next moves be fast, from some 10 ms on until ``KEPT`` has passed. Returns at once."""
    global _until, _running
    with _guard:
        _until = time.monotonic() + KEPT
        if _running:
            return
        _running = True
    threading.Thread(target=_keep, name="wherry-warm", daemon=True).start()


def _keep() -> None:
    global _running
    fd = -1
    try:
        # one thread's own entry: should somebody have moved the engine elsewhere, then only this thread goes back
        number = str(threading.get_native_id()).encode()
        path = _own_group()
        if path is None:
            return
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        while time.monotonic() < _until:
            os.write(fd, number)
            time.sleep(_PERIOD)
    except OSError:
        pass  # it is no more than a chance
    finally:
        with _guard:
            _running = False
        if fd >= 0:
            os.close(fd)


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
