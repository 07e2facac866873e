"""ContainerChanges: what the container made of its image (CHG1 to CHG5).

Only the overlay's upper directory is walked; what it stands on is looked up layer by layer. The engine's own files are
in the init layer below it and so are no change.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from wherry.api.models.containers import FilesystemChange
from wherry.engine import inroot
from wherry.engine.store.rootfs import RootfsPaths

MODIFIED, ADDED, DELETED = 0, 1, 2
_OPAQUE = ("trusted.overlay.opaque", "user.overlay.opaque")
_CAPABILITY = "security.capability"


def changes(paths: RootfsPaths, mount_points: Iterable[str] = ()) -> list[FilesystemChange] | None:
    """Every change, parents before children; None (null) for none. Walks the tree: call it in a thread.

    ``mount_points``: destinations of the container's mounts; what was made only to mount there is no change (CHG3).
    Works on a running container too; what it changes meanwhile may be in the answer or not.
    """
    whole = paths.upper is None
    found = _Comparison(paths.upper or paths.merged, paths.lower, mount_points, whole=whole).run()
    if not found:
        return None
    ordered = sorted(found.items(), key=lambda item: item[0].split(b"/"))
    return [FilesystemChange(path="/" + os.fsdecode(path), kind=kind) for path, kind in ordered]


@dataclass(slots=True)
class _Directory:
    """A directory of the upper tree, and those that it lies over, topmost first."""

    path: bytes
    lowers: list[bytes]
    whole: bool  # nothing of the lower ones shines through: what is not here is deleted


class _Comparison:
    def __init__(self, upper: Path, lowers: Iterable[Path], mount_points: Iterable[str], *, whole: bool) -> None:
        self.upper = upper
        self.lowers = [os.fsencode(lower) for lower in lowers]
        self.whole = whole
        self.found: dict[bytes, int] = {}
        self.mount_points = {inroot.clean(os.fsencode(point)) for point in mount_points} - {b""}
        self.on_the_way = {parent for point in self.mount_points for parent in _parents(point)}
        self.made: set[bytes] = set()  # directories that are new, but perhaps only on the way to a mount point

    def run(self) -> dict[bytes, int]:
        root = os.open(self.upper, inroot.PARENT | os.O_CLOEXEC)
        try:
            todo = [_Directory(b"", self.lowers, self.whole)]
            while todo:
                directory = todo.pop()
                try:
                    fd = inroot.open_in_root(root, directory.path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
                except OSError:
                    continue  # removed meanwhile, or too deep to have a path
                try:
                    todo += self.directory(fd, directory)
                finally:
                    os.close(fd)
        finally:
            os.close(root)
        return self.found

    def add(self, path: bytes, kind: int) -> None:
        """Note a change; the directories above it count as modified unless they are known to be more (CHG2)."""
        self.found[path] = kind
        for parent in _parents(path):
            if parent in self.found:
                break
            self.found[parent] = ADDED if parent in self.made else MODIFIED

    def directory(self, fd: int, here: _Directory) -> list[_Directory]:
        """Compare the entries of one directory; returns the directories in it that are to be looked into."""
        below: list[_Directory] = []
        names = {os.fsencode(name) for name in os.listdir(fd)}
        if here.whole:
            for name in _lower_names(here.lowers) - names:
                self.add(_join(here.path, name), DELETED)
        for name in sorted(names):
            try:
                new = os.stat(name, dir_fd=fd, follow_symlinks=False)
            except FileNotFoundError:
                continue
            path = _join(here.path, name)
            old, lowers = _look_up(here.lowers, name)
            if _is_whiteout(new):
                if old is not None:
                    self.add(path, DELETED)
                continue
            if old is None:
                if path in self.mount_points:
                    continue
                if path in self.on_the_way and stat.S_ISDIR(new.st_mode):
                    self.made.add(path)
                else:
                    self.add(path, ADDED)
            elif _differs(old, new) or _capability(lowers[0]) != _capability(b"/proc/self/fd/%d/" % fd + name):
                self.add(path, MODIFIED)
            if stat.S_ISDIR(new.st_mode):
                whole = here.whole or _is_opaque(b"/proc/self/fd/%d/" % fd + name)
                below.append(_Directory(path, lowers if old is not None and stat.S_ISDIR(old.st_mode) else [], whole))
        return below


def _parents(path: bytes) -> Iterator[bytes]:
    """The directories above a path, the nearest first, without the root."""
    while path := inroot.split(path)[0]:
        yield path


def _look_up(lowers: list[bytes], name: bytes) -> tuple[os.stat_result | None, list[bytes]]:
    """What a name is in the merged lower directories: its status, and for a directory all that make it up."""
    first: os.stat_result | None = None
    places: list[bytes] = []
    for lower in lowers:
        place = _join(lower, name)
        try:
            found = os.stat(place, follow_symlinks=False)
        except (FileNotFoundError, NotADirectoryError):
            continue
        if _is_whiteout(found):
            break
        if first is None:
            first = found
            places.append(place)
            if not stat.S_ISDIR(found.st_mode):
                break
        elif stat.S_ISDIR(found.st_mode):
            places.append(place)
        else:
            break
        if _is_opaque(place):
            break
    return first, places


def _lower_names(lowers: list[bytes]) -> set[bytes]:
    names: set[bytes] = set()
    hidden: set[bytes] = set()
    for lower in lowers:
        with os.scandir(lower) as entries:
            listed = list(entries)
        fresh_hidden = set()
        for entry in listed:
            if entry.name in hidden or entry.name in names:
                continue
            if _is_whiteout(entry.stat(follow_symlinks=False)):
                fresh_hidden.add(entry.name)
            else:
                names.add(entry.name)
        hidden |= fresh_hidden
    return names


def _differs(old: os.stat_result, new: os.stat_result) -> bool:
    """moby's comparison: a directory's size and times tell nothing."""
    if (old.st_mode, old.st_uid, old.st_gid, old.st_rdev) != (new.st_mode, new.st_uid, new.st_gid, new.st_rdev):
        return True
    return not stat.S_ISDIR(old.st_mode) and (old.st_mtime_ns, old.st_size) != (new.st_mtime_ns, new.st_size)


def _is_whiteout(found: os.stat_result) -> bool:
    return stat.S_ISCHR(found.st_mode) and found.st_rdev == 0


def _is_opaque(path: bytes) -> bool:
    for name in _OPAQUE:
        try:
            if os.getxattr(path, name, follow_symlinks=False) == b"y":
                return True
        except OSError:
            pass
    return False


def _capability(path: bytes) -> bytes:
    try:
        return os.getxattr(path, _CAPABILITY, follow_symlinks=False)
    except OSError:
        return b""


def _join(directory: bytes, name: bytes) -> bytes:
    return directory + b"/" + name if directory and name else directory or name
