"""Paths inside a tree that is not trusted: resolved by the kernel with the tree's directory as the root.

``openat2(RESOLVE_IN_ROOT)`` treats absolute paths, ``..`` and symbolic links as a process chrooted there would, also
while somebody inside moves directories about. ``root_fd`` may be an ``O_PATH`` descriptor: a mounted root filesystem,
or ``/proc/<pid>/root`` of a running container.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
import struct
from collections.abc import Callable

_SYS_OPENAT2 = 437  # the same number on every architecture
_RESOLVE_NO_XDEV = 0x01
_RESOLVE_NO_MAGICLINKS = 0x02
_RESOLVE_NO_SYMLINKS = 0x04
_RESOLVE_IN_ROOT = 0x10
_HOW = struct.Struct("QQQ")
_RETRIES = 64
_syscall = ctypes.CDLL(None, use_errno=True).syscall
_syscall.restype = ctypes.c_long

PARENT = os.O_PATH | os.O_DIRECTORY

Path = str | bytes


def open_in_root(root_fd: int, path: Path, flags: int = os.O_RDONLY, mode: int = 0) -> int:
    """Open ``path`` below ``root_fd``; returns a close-on-exec descriptor.

    ``flags`` and ``mode`` are those of open(2). Raises ``OSError`` (``filename`` is ``path``), and ``ValueError`` for a
    path with a NUL byte.
    """
    raw = os.fsencode(path)
    if b"\0" in raw:
        raise ValueError("embedded null byte")
    return _open(root_fd, raw, flags, mode, _RESOLVE_IN_ROOT | _RESOLVE_NO_MAGICLINKS)


def open_unmounted(directory_fd: int, name: Path, flags: int) -> int:
    """Open an entry of a directory, unless it is a symbolic link (ELOOP) or something is mounted on it (EXDEV).

    A bind mount is told too, which has the device number of its surroundings. Raises ``OSError``.
    """
    return _open(directory_fd, os.fsencode(name), flags, 0, _RESOLVE_NO_XDEV | _RESOLVE_NO_SYMLINKS)


def _open(directory_fd: int, raw: bytes, flags: int, mode: int, resolve: int) -> int:
    how = _HOW.pack(flags | os.O_CLOEXEC, mode, resolve)
    for _ in range(_RETRIES):
        fd = _syscall(_SYS_OPENAT2, directory_fd, raw or b".", how, len(how))
        if fd >= 0:
            return int(fd)
        code = ctypes.get_errno()
        # EAGAIN: something was renamed or mounted during a ".." step; the kernel asks for another try.
        if code not in (errno.EAGAIN, errno.EINTR):
            break
    raise OSError(code, os.strerror(code), os.fsdecode(raw))


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


def split(path: bytes) -> tuple[bytes, bytes]:
    """(parent, last element) of a cleaned relative path; the parent is empty for a path of one element."""
    parent, _, name = path.rpartition(b"/")
    return parent, name


def clean(path: bytes) -> bytes:
    """The path without empty elements, ``.``, and ``..`` where an element precedes it; relative, ``b""`` for the root.

    A path that leads above its start begins with ``..``.
    """
    if b"//" not in path and b"/." not in path and path[:1] != b".":
        return path.strip(b"/")
    absolute = path.startswith(b"/")
    out: list[bytes] = []
    for part in path.split(b"/"):
        if part in (b"", b"."):
            continue
        if part == b".." and out and out[-1] != b"..":
            out.pop()
        elif part != b".." or not absolute:
            out.append(part)
    return b"/".join(out)


def make_directories(
    root_fd: int, path: bytes, mode: int = 0o755, *, making: Callable[[int], object] = lambda count: None
) -> int:
    """``mkdir -p`` of a cleaned path below the root; returns an ``O_PATH`` descriptor of the last directory.

    ``making`` is told how many directories are missing, before any of them is made; what it raises passes through.

    Symbolic links on the way are followed inside the root. Raises ``OSError``: ENOTDIR where a file is in the way,
    ENOENT where a dangling link is.
    """
    missing: list[bytes] = []
    while True:
        try:
            fd = open_in_root(root_fd, path, PARENT)
            break
        except FileNotFoundError:
            if not path:
                raise
            missing.append(path)
            path = split(path)[0]
    if missing:
        try:
            making(len(missing))
        except BaseException:
            os.close(fd)
            raise
    for step in reversed(missing):
        try:
            name = split(step)[1]
            try:
                os.mkdir(name, mode, dir_fd=fd)
                os.chmod(name, mode, dir_fd=fd)
            except FileExistsError:
                pass
        finally:
            os.close(fd)
        fd = open_in_root(root_fd, step, PARENT)
    return fd
