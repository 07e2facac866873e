"""inotify on the loop, through the C library."""

from __future__ import annotations

import asyncio
import ctypes
import os
import struct
from collections.abc import Callable
from pathlib import Path

IN_CLOSE_WRITE = 0x8
IN_MOVED_TO = 0x80
IN_Q_OVERFLOW = 0x4000

_libc = ctypes.CDLL(None, use_errno=True)
_HEADER = struct.Struct("iIII")


class Inotify:
    """Files that appear complete in one directory: renamed into it, or written and closed.

    ``callback(name)`` is called on the loop for each; ``callback(None)`` when events were lost and the directory must
    be read again. Raises ``OSError`` when the machine has no watches left.
    """

    def __init__(self, directory: Path, callback: Callable[[str | None], None]) -> None:
        self._fd = _libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK)
        if self._fd < 0:
            raise _error("inotify_init1")
        if _libc.inotify_add_watch(self._fd, os.fsencode(directory), IN_CLOSE_WRITE | IN_MOVED_TO) < 0:
            error = _error(f"inotify_add_watch {directory}")
            os.close(self._fd)
            raise error
        self._callback = callback
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._fd, self._read)

    def _read(self) -> None:
        try:
            data = os.read(self._fd, 65536)
        except BlockingIOError:
            return
        offset = 0
        while offset < len(data):
            _, mask, _, length = _HEADER.unpack_from(data, offset)
            start = offset + _HEADER.size
            offset = start + length
            name = None if mask & IN_Q_OVERFLOW else os.fsdecode(data[start:offset].rstrip(b"\0"))
            self._callback(name)
            if self._fd < 0:  # the callback closed us
                return

    def close(self) -> None:
        if self._fd >= 0:
            self._loop.remove_reader(self._fd)
            os.close(self._fd)
            self._fd = -1


def _error(what: str) -> OSError:
    number = ctypes.get_errno()
    return OSError(number, f"{what}: {os.strerror(number)}")
