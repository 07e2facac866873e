"""Limits of a process, within what the engine itself may give: raising a hard limit takes CAP_SYS_RESOURCE."""

from __future__ import annotations

import resource
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from wherry.engine.oci.capabilities import effective_set

if TYPE_CHECKING:
    from wherry.api.models.containers import Ulimit

_RLIMITS = {
    "core": resource.RLIMIT_CORE,
    "cpu": resource.RLIMIT_CPU,
    "data": resource.RLIMIT_DATA,
    "fsize": resource.RLIMIT_FSIZE,
    "memlock": resource.RLIMIT_MEMLOCK,
    "msgqueue": resource.RLIMIT_MSGQUEUE,
    "nice": resource.RLIMIT_NICE,
    "nofile": resource.RLIMIT_NOFILE,
    "nproc": resource.RLIMIT_NPROC,
    "rss": resource.RLIMIT_RSS,
    "rtprio": resource.RLIMIT_RTPRIO,
    "rttime": resource.RLIMIT_RTTIME,
    "sigpending": resource.RLIMIT_SIGPENDING,
    "stack": resource.RLIMIT_STACK,
    "as": resource.RLIMIT_AS,
}
NAMES = frozenset((*_RLIMITS, "locks"))
"""What a ulimit may be called, whatever its case."""

_UNLIMITED = (1 << 64) - 1

_inherited: tuple[int, int] | None = None  # the limit of open files that was this process's before it raised it


def raise_open_files() -> None:
    """Let this process open as many files as it may: a container takes some four. For one that is the engine's alone.

    Containers keep the limit that was there before, as dockerd's do.
    """
    global _inherited
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        _inherited = soft, hard


def rlimits(ulimits: Sequence[Ulimit], warnings: list[str]) -> list[dict[str, Any]]:
    """``process.rlimits``; -1 is unlimited. A limit above the engine's own is lowered to it, with a warning."""
    result = []
    for given in ulimits:
        name = given.name.lower()
        soft, hard = (_UNLIMITED if value < 0 else value for value in (given.soft, given.hard))
        ceiling = _ceiling(name)
        if hard > ceiling:
            warnings.append(
                f"ulimit {name}: hard limit lowered to {ceiling}, the engine's own; raising it needs CAP_SYS_RESOURCE"
            )
            hard = ceiling
        result.append({"type": "RLIMIT_" + name.upper(), "soft": min(soft, hard), "hard": hard})
    if _inherited is not None and all(given.name.lower() != "nofile" for given in ulimits):
        result.append({"type": "RLIMIT_NOFILE", "soft": _inherited[0], "hard": _inherited[1]})
    return result


def _ceiling(name: str) -> int:
    if "CAP_SYS_RESOURCE" in effective_set() or name not in _RLIMITS:
        return _UNLIMITED
    hard = resource.getrlimit(_RLIMITS[name])[1]
    return _UNLIMITED if hard == resource.RLIM_INFINITY else hard


def oom_score_adj(value: int, warnings: list[str]) -> int:
    """``process.oomScoreAdj``, not below the engine's own where it must not lower it."""
    if "CAP_SYS_RESOURCE" in effective_set():
        return value
    try:
        with open("/proc/self/oom_score_adj", encoding="ascii") as file:
            own = int(file.read())
    except (OSError, ValueError):
        own = 0
    if value >= own:
        return value
    if value:
        warnings.append(f"OomScoreAdj {value} raised to {own}, the engine's own; lowering it needs CAP_SYS_RESOURCE")
    return own
