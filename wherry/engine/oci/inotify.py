"""inotify on the loop, through the C library.

All watches of a loop share one kernel instance: closing an instance waits for the kernel (an SRCU grace period, 14 to 24
ms with the whole loop standing still), while dropping one watch of it takes microseconds.
"""

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
IN_IGNORED = 0x8000

_libc = ctypes.CDLL(None, use_errno=True)
_HEADER = struct.Struct("iIII")


class Inotify:
    """Files that appear complete in one directory: renamed into it, or written and closed.

    ``callback(name)`` is called on the loop for each; ``callback(None)`` when events were lost and the directory must
    be read again. Raises ``OSError`` when the machine has no watches left.
    """

    def __init__(self, directory: Path, callback: Callable[[str | None], None]) -> None:
        self.callback = callback
        self._instance = _instance()
        self._watch = self._instance.add(directory, self)

    def close(self) -> None:
        if self._watch >= 0:
            self._instance.drop(self._watch, self)
            self._watch = -1


class _Instance:
    """One kernel instance, there as long as it has watches."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._watches: dict[int, list[Inotify]] = {}  # the kernel knows one watch a directory
        self._fd = _libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK)
        if self._fd < 0:
            raise _error("inotify_init1")
        loop.add_reader(self._fd, self._read)

    def add(self, directory: Path, watcher: Inotify) -> int:
        watch: int = _libc.inotify_add_watch(self._fd, os.fsencode(directory), IN_CLOSE_WRITE | IN_MOVED_TO)
        if watch < 0:
            error = _error(f"inotify_add_watch {directory}")
            self._close_unused()
            raise error
        self._watches.setdefault(watch, []).append(watcher)
        return watch

    def drop(self, watch: int, watcher: Inotify) -> None:
        watchers = self._watches.get(watch)
        if watchers is None:  # the directory itself has gone
            return
        watchers.remove(watcher)
        if not watchers:
            del self._watches[watch]
            _libc.inotify_rm_watch(self._fd, watch)
            self._close_unused()

    def _close_unused(self) -> None:
        if not self._watches and self._fd >= 0:
            _instances.pop(self._loop, None)
            self._loop.remove_reader(self._fd)
            os.close(self._fd)
            self._fd = -1

    def _read(self) -> None:
        try:
            data = os.read(self._fd, 65536)
        except BlockingIOError:
            return
        offset = 0
        while offset < len(data):
            watch, mask, _, length = _HEADER.unpack_from(data, offset)
            start = offset + _HEADER.size
            offset = start + length
            if mask & IN_IGNORED:
                self._watches.pop(watch, None)
                continue
            if mask & IN_Q_OVERFLOW:
                for watchers in list(self._watches.values()):
                    for watcher in list(watchers):
                        watcher.callback(None)
                continue
            name = os.fsdecode(data[start:offset].rstrip(b"\0"))
            for watcher in list(self._watches.get(watch, ())):
                if watcher in self._watches.get(watch, ()):  # no callback before it has closed it
                    watcher.callback(name)
        self._close_unused()


_instances: dict[asyncio.AbstractEventLoop, _Instance] = {}


def _instance() -> _Instance:
    loop = asyncio.get_running_loop()
    if loop not in _instances:
        _instances[loop] = _Instance(loop)
    return _instances[loop]


def _error(what: str) -> OSError:
    number = ctypes.get_errno()
    return OSError(number, f"{what}: {os.strerror(number)}")
