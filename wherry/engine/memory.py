"""Memory that the C library keeps for later, where the engine would rather be small."""

from __future__ import annotations

import ctypes
from functools import cache
from typing import Any

_ARENA_MAX = -8  # mallopt's M_ARENA_MAX


@cache
def _libc() -> Any:
    library = ctypes.CDLL(None)
    return library if hasattr(library, "malloc_trim") and hasattr(library, "mallopt") else None


def release_memory() -> None:
    """Give freed memory back to the system, where the C library can. Blocks for some 0.1 ms, more after large frees."""
    if (libc := _libc()) is not None:
        libc.malloc_trim(0)


def share_memory() -> None:
    """Have all threads of this process share one pool of memory: each one's own would keep what it once needed.

    For a process that is an engine and nothing else, before it starts threads.
    """
    if (libc := _libc()) is not None:
        libc.mallopt(_ARENA_MAX, 1)
