"""Files below a container's root, opened so that no link of the container's leads out of it."""

from __future__ import annotations

import ctypes
import os
import stat
import struct

_OPENAT2 = 437  # the same on every machine
_RESOLVE_IN_ROOT = 0x10
_libc = ctypes.CDLL(None, use_errno=True)


def open_in_root(root_fd: int, path: str | bytes, flags: int = os.O_RDONLY) -> int:
    """A descriptor (close-on-exec) of ``path`` with ``root_fd`` as the root of every link and ``..`` on the way.

    Raises ``OSError``.
    """
    how = struct.pack("QQQ", flags | os.O_CLOEXEC, 0, _RESOLVE_IN_ROOT)
    name = os.fsencode(path)
    fd: int = _libc.syscall(_OPENAT2, root_fd, name, how, len(how))
    if fd < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), os.fsdecode(name))
    return fd


def read_small(root_fd: int, path: str, limit: int) -> bytes:
    """The content of a regular file, ``limit`` bytes at most; empty when it is missing or something else.

    Never waits on a FIFO or a device.
    """
    try:
        fd = open_in_root(root_fd, path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError:
        return b""
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            return b""
        data = bytearray()
        while len(data) < limit and (piece := os.read(fd, min(65536, limit - len(data)))):
            data += piece
        return bytes(data)
    except OSError:
        return b""
    finally:
        os.close(fd)
