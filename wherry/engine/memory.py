"""Memory that the C library keeps for later, where the engine would rather be small."""

from __future__ import annotations

import ctypes
import threading
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


def release_memory_soon() -> None:
    """The same in a second, once for all that ask meanwhile: what is given back at once has to be taken anew."""
    global _pending
    with _lock:
        if not _pending:
            _pending = True
            timer = threading.Timer(1.0, _release)
            timer.daemon = True
            timer.start()


def _release() -> None:
    global _pending
    with _lock:
        _pending = False
    release_memory()


_pending = False
_lock = threading.Lock()


def share_memory() -> None:
    """Have all threads of this process share one pool of memory: each one's own would keep what it once needed.

    For a process that is an engine and nothing else, before it starts threads.
    """
    if (libc := _libc()) is not None:
        libc.mallopt(_ARENA_MAX, 1)
