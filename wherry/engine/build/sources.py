"""What a COPY or ADD names in a tree: found, with wildcards, and hashed for the cache.

A tree is the build's context or an image's files; every path in it is resolved with its root as the root.
"""

from __future__ import annotations

import hashlib
import os
import stat
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from wherry.api.errors import BadRequest
from wherry.engine import inroot
from wherry.engine.images.layers import Cancelled
from wherry.wire.patterns import BadPattern, match_expression

_CHUNK = 1 << 20
_WILDCARDS = "*?["


class SourceError(BadRequest):
    """A source that is not there, or not allowed."""


@dataclass(frozen=True, slots=True)
class Source:
    """``path`` is relative to the tree. ``digest`` stands for all that is copied: ``file:…`` or ``dir:…``.

    ``fetched``: it came by URL, and is no archive whatever it holds.
    """

    tree: Tree
    path: str
    digest: str
    fetched: bool = False


class Tree:
    """The files that sources are taken from.

    ``owners``: who owns a file is part of what is copied. ``context``: it is the client's, which errors say.
    ``fetched``: its one file came by URL.
    """

    def __init__(
        self, root: Path, *, owners: bool, context: bool, cancelled: threading.Event, fetched: bool = False
    ) -> None:
        self.fd = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        self._owners = owners
        self._context = context
        self._cancelled = cancelled
        self._fetched = fetched
        self._digests: dict[tuple[str, bool], str] = {}  # of a path: as a link, or as what it leads to

    def close(self) -> None:
        os.close(self.fd)

    def find(self, wanted: str) -> list[Source]:
        """The sources that one word names. Blocks. Raises ``SourceError``, ``OSError``."""
        path = wanted.removeprefix("/").removeprefix("./")
        if _has_wildcards(path):
            try:
                pattern = match_expression(path)
            except BadPattern:
                return []
            return [self.source(found) for found in self._walk("") if pattern.fullmatch(found)]
        return [self.source(path)]

    def source(self, path: str) -> Source:
        """The source at exactly this path. Blocks. Raises ``SourceError``, ``OSError``."""
        if inroot.clean(os.fsencode(path)).split(b"/", 1)[0] == b"..":
            raise SourceError(f"forbidden path outside the build context: {path} ()")
        try:
            fd = inroot.open_in_root(self.fd, path, os.O_PATH)
        except (FileNotFoundError, NotADirectoryError):
            what = f"stat {path}: file does not exist"
            if self._context:
                what = f"file not found in build context or excluded by .dockerignore: {what}"
            raise SourceError(what) from None
        try:
            found = os.fstat(fd)
            if not stat.S_ISDIR(found.st_mode):
                return Source(self, path, f"file:{self._digest(fd, path, found)}", self._fetched)
        finally:
            os.close(fd)
        below = sorted(self._digest_at(inner) for inner in self._walk(path))
        return Source(self, path, _digest_of("dir", below))

    def _walk(self, top: str) -> Iterator[str]:
        """Every path below ``top``, a directory before what is in it."""
        todo = [top]
        while todo:
            path = todo.pop()
            fd = inroot.open_in_root(self.fd, path, os.O_RDONLY | os.O_DIRECTORY)
            try:
                with os.scandir(fd) as entries:
                    names = sorted((entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries)
            finally:
                os.close(fd)
            prefix = f"{path.rstrip('/')}/" if path.strip("./") else ""
            below = []
            for name, is_directory in names:
                yield prefix + name
                if is_directory:
                    below.append(prefix + name)
            todo += reversed(below)

    def _digest_at(self, path: str) -> str:
        parent, name = inroot.split(os.fsencode(path))
        directory = inroot.open_in_root(self.fd, parent, inroot.PARENT)
        try:
            fd = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
        finally:
            os.close(directory)
        try:
            return self._digest(fd, path, os.fstat(fd))
        finally:
            os.close(fd)

    def _digest(self, fd: int, path: str, found: os.stat_result) -> str:
        """Of a file as it is: name, type, mode and content; no times, so that a new checkout is no change."""
        key = path, stat.S_ISLNK(found.st_mode)
        known = self._digests.get(key)
        if known is not None:
            return known
        if self._cancelled.is_set():
            raise Cancelled
        header: list[object] = [path, found.st_mode]
        if self._owners:
            header += [found.st_uid, found.st_gid]
        digest = hashlib.sha256()
        if stat.S_ISLNK(found.st_mode):
            header.append(os.readlink("", dir_fd=fd))
        elif stat.S_ISCHR(found.st_mode) or stat.S_ISBLK(found.st_mode):
            header.append(found.st_rdev)
        elif stat.S_ISREG(found.st_mode):
            header.append(found.st_size)
            header.append(capability(fd).hex())
        digest.update(repr(header).encode("utf-8", "surrogateescape"))
        if stat.S_ISREG(found.st_mode):
            with open(f"/proc/self/fd/{fd}", "rb", buffering=0) as file:
                while data := file.read(_CHUNK):
                    if self._cancelled.is_set():
                        raise Cancelled
                    digest.update(data)
        self._digests[key] = digest.hexdigest()
        return self._digests[key]


def capability(fd: int) -> bytes:
    """The file capabilities of an ``O_PATH`` descriptor's file."""
    try:
        return os.getxattr(f"/proc/self/fd/{fd}", "security.capability")
    except OSError:
        return b""


def combined(sources: list[Source]) -> str:
    """One digest for all."""
    return sources[0].digest if len(sources) == 1 else _digest_of("multi", [source.digest for source in sources])


def _digest_of(kind: str, digests: list[str]) -> str:
    return f"{kind}:{hashlib.sha256(','.join(digests).encode()).hexdigest()}"


def _has_wildcards(path: str) -> bool:
    at = 0
    while at < len(path):
        if path[at] == "\\":
            at += 1
        elif path[at] in _WILDCARDS:
            return True
        at += 1
    return False
