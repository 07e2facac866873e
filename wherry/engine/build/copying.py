"""COPY and ADD: files out of one tree into another, with moby's rules of what goes where and who owns it.

Both trees are at rest and neither is trusted: every path is resolved with its tree's root as the root, and nothing in
them is followed on the way down.
"""

from __future__ import annotations

import errno
import os
import posixpath
import stat
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from wherry.api.errors import BadRequest, ServerError
from wherry.engine import inroot
from wherry.engine.build.sources import Source, capability
from wherry.engine.build.stoppable import Stoppable
from wherry.engine.images.layers import Cancelled
from wherry.engine.oci.users import UnknownUser, resolve_user
from wherry.engine.store import removal
from wherry.engine.store.compression import CompressionError, decompressed
from wherry.engine.store.tarread import TarError, TarReader
from wherry.engine.store.untar import UntarError, UntarOptions, extract

_PIECE = 1 << 24
_MOST_LINKS = 40
Owner = tuple[int, int]


class CopyError(ServerError):
    """Something that cannot be copied to where it should go."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyPlan:
    """``target`` is absolute and keeps its last slash. ``owner`` of everything; None keeps the sources' own.

    ``unpack``: archives among the sources are unpacked.
    """

    sources: Sequence[Source]
    target: str
    owner: Owner | None
    unpack: bool = False
    max_bytes: int


def target_path(working_dir: str, target: str) -> str:
    """Where a COPY goes, from the image's working directory; a last slash stays."""
    if target.startswith("/"):
        return target
    joined = posixpath.normpath(posixpath.join("/", working_dir, target))
    joined = "/" + joined.lstrip("/")
    return joined + "/" if target.endswith("/") and joined != "/" else joined


def parse_owner(root: Path, text: str) -> Owner:
    """``user[:group]`` of ``--chown``, by the image's own files; without a group the user's number is the group's, too.

    Raises ``BadRequest``.
    """
    what = "unable to convert uid/gid chown string to host mapping: "
    parts = text.split(":")
    if len(parts) > 2:
        raise BadRequest(f"{what}invalid chown string format: {text}")
    user, group = parts[0], parts[1] if len(parts) == 2 else parts[0]
    try:
        if not user:
            raise UnknownUser
        uid = int(user) if user.isascii() and user.isdigit() else resolve_user(root, user).uid
    except UnknownUser:
        raise BadRequest(f"{what}can't find uid for user {user}: no such user: {user}") from None
    try:
        gid = int(group) if group.isascii() and group.isdigit() else resolve_user(root, f"0:{group}").gid
    except UnknownUser:
        raise BadRequest(f"{what}can't find gid for group {group}: no such group: {group}") from None
    if max(uid, gid) >= 1 << 31:
        raise BadRequest(f"{what}uids and gids must be in range 0-2147483647")
    return uid, gid


def copy(root: Path, plan: CopyPlan, cancelled: threading.Event) -> None:
    """Copy every source of the plan below ``root``. Blocks. Raises ``CopyError``."""
    fd = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        copier = _Copier(fd, plan, cancelled)
        for source in plan.sources:
            copier.source(source)
    except (OSError, UntarError, TarError, CompressionError) as error:
        raise CopyError(f"failed to copy files: {_words(error)}") from error
    finally:
        os.close(fd)


def _words(error: Exception) -> str:
    if isinstance(error, OSError) and error.filename:
        path = os.fsdecode(error.filename)
        return f"/{path.lstrip('/')}: {(error.strerror or '').lower()}"
    return str(error)


def _link_at(fd: int, name: bytes) -> bytes | None:
    try:
        return os.readlink(name, dir_fd=fd)
    except OSError:  # nothing there, or no link
        return None


class _Copier:
    def __init__(self, root: int, plan: CopyPlan, cancelled: threading.Event) -> None:
        self.root = root
        self.plan = plan
        self.cancelled = cancelled
        self.links: dict[tuple[int, int], bytes] = {}

    def source(self, source: Source) -> None:
        target = inroot.clean(os.fsencode(self.plan.target))
        self.links.clear()  # an earlier source's files may be replaced by this one's
        found = inroot.open_in_root(source.tree.fd, source.path, os.O_PATH)
        try:
            status = os.fstat(found)
            if stat.S_ISDIR(status.st_mode):
                self.directory(found, target)
            elif self.plan.unpack and not source.fetched and self.unpacked(found, status, target):
                pass
            else:
                name = inroot.clean(os.fsencode(source.path)).rpartition(b"/")[2]
                self.file(found, status, target, name)
        finally:
            os.close(found)

    # where

    def make_directories(self, path: bytes, owner: Owner | None) -> bool:
        """``mkdir -p``; what is made belongs to ``owner``, None for root. Whether the last directory is new."""
        missing: list[bytes] = []
        at = path
        while at:
            try:
                os.close(inroot.open_in_root(self.root, at, inroot.PARENT))
                break
            except FileNotFoundError:
                missing.append(at)
                at = inroot.split(at)[0]
        for step in reversed(missing):
            parent = inroot.open_in_root(self.root, inroot.split(step)[0], inroot.PARENT)
            try:
                name = inroot.split(step)[1]
                os.mkdir(name, 0o755, dir_fd=parent)
                os.chmod(name, 0o755, dir_fd=parent)
                if owner is not None:
                    os.chown(name, *owner, dir_fd=parent, follow_symlinks=False)
            finally:
                os.close(parent)
        return bool(missing)

    def is_directory(self, path: bytes) -> bool:
        try:
            os.close(inroot.open_in_root(self.root, path, inroot.PARENT))
        except OSError:
            return False
        return True

    @contextmanager
    def parent_of(self, path: bytes) -> Iterator[tuple[int, bytes]]:
        """(descriptor, last element), with a link at the path itself followed as far as it leads."""
        for _ in range(_MOST_LINKS):
            parent, name = inroot.split(path)
            fd = inroot.open_in_root(self.root, parent, inroot.PARENT)
            try:
                link = _link_at(fd, name)
                if link is None:
                    yield fd, name
                    return
                path = inroot.clean(b"/" + (link if link.startswith(b"/") else self.place_of(fd) + b"/" + link))
            finally:
                os.close(fd)
            self.make_directories(inroot.split(path)[0], self.plan.owner)
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), os.fsdecode(path))

    def place_of(self, fd: int) -> bytes:
        """Where an open directory lies below the root."""
        root, path = (os.readlink(b"/proc/self/fd/%d" % descriptor) for descriptor in (self.root, fd))
        return path[len(root) :]

    # what

    def file(self, found: int, status: os.stat_result, target: bytes, name: bytes) -> None:
        if self.plan.target.endswith("/") or self.is_directory(target):
            self.make_directories(target, self.plan.owner)
            target = target + b"/" + name if target else name
        else:
            self.make_directories(inroot.split(target)[0], self.plan.owner)
        with self.parent_of(target) as (parent, last):
            self.entry(found, status, parent, last, target)

    def unpacked(self, found: int, status: os.stat_result, target: bytes) -> bool:
        """Unpack an archive; False for a file that is none."""
        if not stat.S_ISREG(status.st_mode):
            return False
        with open(f"/proc/self/fd/{found}", "rb") as file:
            try:
                first = next(iter(TarReader(decompressed(file))), None)
            except (TarError, CompressionError):
                return False
            if first is None:
                return False
            file.seek(0)
            if not self.is_directory(target):
                self.make_directories(target, None)
            options = UntarOptions(base=target, max_bytes=self.plan.max_bytes, max_entries=5_000_000)
            extract(Stoppable(decompressed(file), self.cancelled), self.root, options=options)
        return True

    def directory(self, found: int, target: bytes) -> None:
        """Everything in a directory, laid over the target."""
        if self.make_directories(target, None) and self.plan.owner is not None:
            with self.parent_of(target) as (holder, last):
                os.chown(last, *self.plan.owner, dir_fd=holder, follow_symlinks=False)
        todo: list[bytes] = [b""]
        base = os.open(f"/proc/self/fd/{found}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        times: list[tuple[bytes, os.stat_result]] = []
        try:
            while todo:
                todo += reversed(self.level(base, todo.pop(), target, times))
        finally:
            os.close(base)
        for path, status in reversed(times):
            parent, name = inroot.split(path)
            fd = inroot.open_in_root(self.root, parent, inroot.PARENT)
            try:
                os.utime(name, ns=(status.st_atime_ns, status.st_mtime_ns), dir_fd=fd, follow_symlinks=False)
            finally:
                os.close(fd)

    def level(
        self, base: int, relative: bytes, target: bytes, times: list[tuple[bytes, os.stat_result]]
    ) -> list[bytes]:
        """One directory's entries; returns the directories among them, relative to the source."""
        here = inroot.open_in_root(base, relative, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        path = target + b"/" + relative if target and relative else target or relative
        there = inroot.open_in_root(self.root, path, inroot.PARENT)
        below = []
        try:
            for name in sorted(os.fsencode(name) for name in os.listdir(here)):
                fd = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=here)
                try:
                    status = os.fstat(fd)
                    inner = path + b"/" + name if path else name
                    if stat.S_ISDIR(status.st_mode):
                        self.make_directory(there, name, status)
                        times.append((inner, status))
                        below.append(relative + b"/" + name if relative else name)
                    else:
                        self.entry(fd, status, there, name, inner)
                finally:
                    os.close(fd)
        finally:
            os.close(here)
            os.close(there)
        return below

    def make_directory(self, parent: int, name: bytes, status: os.stat_result) -> None:
        try:
            os.mkdir(name, 0o700, dir_fd=parent)
        except FileExistsError:
            if not stat.S_ISDIR(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode):
                os.unlink(name, dir_fd=parent)
                os.mkdir(name, 0o700, dir_fd=parent)
        os.chown(name, *self.owner(status), dir_fd=parent, follow_symlinks=False)
        os.chmod(name, stat.S_IMODE(status.st_mode), dir_fd=parent)

    def owner(self, status: os.stat_result) -> Owner:
        return self.plan.owner if self.plan.owner is not None else (status.st_uid, status.st_gid)

    def entry(self, found: int, status: os.stat_result, parent: int, name: bytes, path: bytes) -> None:
        """Anything but a directory, in the place of whatever is there."""
        if self.cancelled.is_set():
            raise Cancelled
        kind = stat.S_IFMT(status.st_mode)
        if kind == stat.S_IFSOCK:
            return
        try:
            removal.remove_tree(parent, name)
        except FileNotFoundError:
            pass
        if status.st_nlink > 1:
            first = self.links.setdefault((status.st_dev, status.st_ino), path)
            if first != path and self.linked(first, parent, name):
                return
        if kind == stat.S_IFLNK:
            os.symlink(os.readlink(b"", dir_fd=found), name, dir_fd=parent)
        elif kind == stat.S_IFREG:
            self.content(found, status, parent, name)
            return
        else:
            os.mknod(name, kind | 0o600, status.st_rdev if kind != stat.S_IFIFO else 0, dir_fd=parent)
        os.chown(name, *self.owner(status), dir_fd=parent, follow_symlinks=False)
        if kind != stat.S_IFLNK:
            os.chmod(name, stat.S_IMODE(status.st_mode), dir_fd=parent)
        os.utime(name, ns=(status.st_atime_ns, status.st_mtime_ns), dir_fd=parent, follow_symlinks=False)

    def linked(self, first: bytes, parent: int, name: bytes) -> bool:
        directory, last = inroot.split(first)
        fd = inroot.open_in_root(self.root, directory, inroot.PARENT)
        try:
            os.link(last, name, src_dir_fd=fd, dst_dir_fd=parent, follow_symlinks=False)
        except OSError:
            return False
        finally:
            os.close(fd)
        return True

    def content(self, found: int, status: os.stat_result, parent: int, name: bytes) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        out = os.open(name, flags, 0o600, dir_fd=parent)
        try:
            with open(f"/proc/self/fd/{found}", "rb", buffering=0) as file:
                while os.sendfile(out, file.fileno(), None, _PIECE):
                    if self.cancelled.is_set():
                        raise Cancelled
            os.fchown(out, *self.owner(status))
            if allowed := capability(found):
                os.setxattr(out, "security.capability", allowed)
            os.fchmod(out, stat.S_IMODE(status.st_mode))
            os.utime(out, ns=(status.st_atime_ns, status.st_mtime_ns))
        finally:
            os.close(out)
