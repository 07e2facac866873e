"""Deleting trees that may hold anything: links, mount points, deeper nesting than Python or the descriptors allow."""

from __future__ import annotations

import errno
import os
import stat
import uuid
from pathlib import Path

from wherry.engine.inroot import open_unmounted

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# A descriptor a level; what lies deeper is moved up to the tree's top, where it is met again later.
_DEEPEST = 100

_Level = tuple[str | bytes, int, list[bytes]]
"""Name, descriptor, and the directories still to enter."""


def remove_path(path: Path) -> None:
    """``remove_tree`` by path; nothing happens when it is not there."""
    try:
        parent = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        remove_tree(parent, path.name)
    except FileNotFoundError:
        return
    finally:
        os.close(parent)


def remove_tree(parent_fd: int, name: str | bytes) -> None:
    """Delete a file or a tree, whatever it holds; symbolic links are not followed and mount points not entered.

    Raises ``FileNotFoundError`` when there is no such name, else the first ``OSError`` (EBUSY for a mount point) after
    everything else is gone.
    """
    try:
        os.unlink(name, dir_fd=parent_fd)
        return
    except (IsADirectoryError, PermissionError):
        if not stat.S_ISDIR(os.stat(name, dir_fd=parent_fd, follow_symlinks=False).st_mode):
            raise
    first: OSError | None = None
    stack: list[_Level] = []

    def enter(directory: str | bytes, dir_fd: int) -> None:
        nonlocal first
        try:
            fd = open_unmounted(dir_fd, directory, _DIRECTORY)
        except OSError as error:
            if error.errno == errno.EXDEV:
                error = OSError(errno.EBUSY, "something is mounted here", os.fsdecode(directory))
            first = first or error
            return
        below: list[bytes] = []
        stack.append((directory, fd, below))
        try:
            with os.scandir(fd) as found:
                entries = list(found)
        except OSError as error:
            first = first or error
            return
        for entry in entries:
            try:
                if entry.is_dir(follow_symlinks=False):
                    below.append(os.fsencode(entry.name))
                else:
                    os.unlink(entry.name, dir_fd=fd)
            except OSError as error:
                first = first or error

    enter(name, parent_fd)
    while stack:
        directory, fd, below = stack[-1]
        if below:
            child = below.pop()
            if len(stack) > _DEEPEST:
                flat = b"." + uuid.uuid4().hex.encode()
                try:
                    os.rename(child, flat, src_dir_fd=fd, dst_dir_fd=stack[0][1])
                    stack[0][2].append(flat)
                except OSError as error:
                    first = first or error
            else:
                enter(child, fd)
            continue
        stack.pop()
        os.close(fd)
        try:
            os.rmdir(directory, dir_fd=stack[-1][1] if stack else parent_fd)
        except OSError as error:
            first = first or error
    if first is not None:
        raise first
