"""Where a container's mounts go: what is missing there is made with the modes that images and archives shall show.

crun would make it as well, but directories as 01755 and files as 0700.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress

from wherry.engine.containers.container import MountPoint
from wherry.engine.inroot import clean, make_directories, split

_KERNELS = (b"dev", b"proc", b"sys")
"""The runtime's own mounts lie over these."""


def make_places(root_fd: int, points: Sequence[MountPoint]) -> None:
    """Directories and files to mount on, 0755; below another bind or volume, in what is mounted there.

    What cannot be made is left to the runtime, which has its own words for what is in the way.
    """
    for point in points:
        path = _path(point)
        if path.split(b"/", 1)[0] in _KERNELS:
            continue
        is_file = point.type == "bind" and not os.path.isdir(point.source)
        around = _around(path, points)
        with suppress(OSError):
            if around is None:
                _make_place(root_fd, path, is_file)
            elif around.type != "tmpfs" and around.rw:
                source_fd = os.open(around.source, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
                try:
                    _make_place(source_fd, path[len(_path(around)) + 1 :], is_file)
                finally:
                    os.close(source_fd)


def _path(point: MountPoint) -> bytes:
    return clean(os.fsencode(point.destination))


def _around(path: bytes, points: Sequence[MountPoint]) -> MountPoint | None:
    """The mount that a path is below, the nearest one."""
    return max(
        (point for point in points if path.startswith(_path(point) + b"/")), key=lambda at: len(_path(at)), default=None
    )


def _make_place(root_fd: int, path: bytes, is_file: bool) -> None:
    parent, name = split(path) if is_file else (path, b"")
    fd = make_directories(root_fd, parent)
    try:
        if is_file:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            file = os.open(name, flags, 0o755, dir_fd=fd)
            try:
                os.fchmod(file, 0o755)
            finally:
                os.close(file)
    finally:
        os.close(fd)
