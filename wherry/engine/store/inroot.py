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

_SYS_OPENAT2 = 437  # the same number on every architecture
_RESOLVE_NO_MAGICLINKS = 0x02
_RESOLVE_IN_ROOT = 0x10
_HOW = struct.Struct("QQQ")
_RETRIES = 64
_syscall = ctypes.CDLL(None, use_errno=True).syscall
_syscall.restype = ctypes.c_long

PARENT = os.O_PATH | os.O_DIRECTORY
# A tree deeper than this is flattened while it is removed, so that no depth costs more descriptors.
_REMOVE_DEPTH = 128

Path = str | bytes


def open_in_root(root_fd: int, path: Path, flags: int, mode: int = 0) -> int:
    """Open ``path`` below ``root_fd``; returns a close-on-exec descriptor.

    ``flags`` and ``mode`` are those of open(2). Raises ``OSError`` (``filename`` is ``path``), and ``ValueError`` for a
    path with a NUL byte.
    """
    raw = os.fsencode(path)
    if b"\0" in raw:
        raise ValueError("embedded null byte")
    how = _HOW.pack(flags | os.O_CLOEXEC, mode, _RESOLVE_IN_ROOT | _RESOLVE_NO_MAGICLINKS)
    for _ in range(_RETRIES):
        fd = _syscall(_SYS_OPENAT2, root_fd, raw or b".", how, len(how))
        if fd >= 0:
            return int(fd)
        code = ctypes.get_errno()
        # EAGAIN: something was renamed or mounted during a ".." step; the kernel asks for another try.
        if code not in (errno.EAGAIN, errno.EINTR):
            break
    raise OSError(code, os.strerror(code), os.fsdecode(raw))


def split(path: bytes) -> tuple[bytes, bytes]:
    """(parent, last element) of a cleaned relative path; the parent is empty for a path of one element."""
    parent, _, name = path.rpartition(b"/")
    return parent, name


def clean(path: bytes) -> bytes:
    """The path without empty elements, ``.``, and ``..`` where an element precedes it; relative, ``b""`` for the root.

    A path that leads above its start begins with ``..``.
    """
    if b"//" not in path and b"." not in path:
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


def make_directories(root_fd: int, path: bytes, mode: int = 0o755) -> int:
    """``mkdir -p`` of a cleaned path below the root; returns an ``O_PATH`` descriptor of the last directory.

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


def remove_tree(parent_fd: int, name: Path) -> None:
    """Remove a file or a whole directory; never follows a link, and needs few descriptors however deep the tree is.

    Raises ``OSError``, such as EBUSY for a mount point; ``FileNotFoundError`` when there is no such name.
    """
    name = os.fsencode(name)
    try:
        os.unlink(name, dir_fd=parent_fd)
        return
    except (IsADirectoryError, PermissionError):
        if not stat.S_ISDIR(os.stat(name, dir_fd=parent_fd, follow_symlinks=False).st_mode):
            raise
    top_fd = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent_fd)
    try:
        _empty(top_fd)
    finally:
        os.close(top_fd)
    os.rmdir(name, dir_fd=parent_fd)


def _empty(top_fd: int) -> None:
    stack: list[tuple[int, bytes, list[bytes]]] = [(top_fd, b"", _remove_files(top_fd))]
    moved = 0
    try:
        while stack:
            fd, name, directories = stack[-1]
            if directories:
                child = directories.pop()
                if len(stack) > _REMOVE_DEPTH:
                    flat = b".wherry-remove-%d" % moved
                    moved += 1
                    os.rename(child, flat, src_dir_fd=fd, dst_dir_fd=top_fd)
                    stack[0][2].append(flat)
                    continue
                child_fd = os.open(child, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=fd)
                stack.append((child_fd, child, []))
                stack[-1] = (child_fd, child, _remove_files(child_fd))
            else:
                stack.pop()
                if stack:
                    os.close(fd)
                    os.rmdir(name, dir_fd=stack[-1][0])
    finally:
        for fd, _, _ in stack[1:]:
            os.close(fd)


def _remove_files(fd: int) -> list[bytes]:
    """Unlink all but directories; returns the names of these."""
    directories: list[bytes] = []
    with os.scandir(fd) as entries:
        listed = [(os.fsencode(entry.name), entry.is_dir(follow_symlinks=False)) for entry in entries]
    for name, is_directory in listed:
        if is_directory:
            directories.append(name)
        else:
            os.unlink(name, dir_fd=fd)
    return directories
