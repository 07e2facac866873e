"""Extraction of tar archives into a tree that nobody has to trust: image layers, and archives put into containers.

    extract(fileobj, dir_fd, options=UntarOptions(whiteouts=True)) -> Extracted(size, count)

``fileobj.read(n)`` gives the *uncompressed* archive (``store.compression.decompressed`` unpacks by magic number), and
``dir_fd`` is the root of the tree: every path is resolved with it as the root, so neither ``..`` nor a link, whether in
the archive or in the tree, leads out. Links are followed inside the tree as moby does (ARC7). All of it is synchronous:
run it in a thread. Not all of what follows the archive's end has been read from ``fileobj``.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from wherry.engine import inroot
from wherry.engine.store import removal, tarread
from wherry.engine.store.tarread import Entry, Source, TarError, TarReader

WHITEOUT = b".wh."
_OPAQUE = b".wh..wh..opq"
_METADATA = b".wh..wh."
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_WHITEOUT_DEVICE = os.makedev(0, 0)
_AHEAD = 1 << 18
_TRIES = 100
_LATEST = (1 << 63) - 1  # nanoseconds that a time may have

_T = TypeVar("_T")


class UntarError(Exception):
    """The archive asks for what must not be, or cannot be done; the text is for the API's caller."""


class LimitExceeded(UntarError):
    """The archive is larger than the options allow."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UntarOptions:
    """How to extract.

    ``base``: the directory below the root that names are relative to; it must exist.
    ``whiteouts``: the archive is an image layer for overlayfs: ``.wh.x`` becomes a 0:0 character device, and
    ``.wh..wh..opq`` the attribute ``opaque_xattr`` of its directory (``user.overlay.opaque`` for rootless mounts).
    ``root_attributes``: an entry for the root itself sets owner and mode of the directory ``dir_fd``, open for reading.
    ``no_overwrite_dir_non_dir``: neither a directory nor a file is replaced by the other.
    ``chown``: owner of everything extracted, instead of the archive's.
    ``max_bytes`` of content and ``max_entries`` bound the archive; None for no bound.
    """

    base: str | bytes = b""
    whiteouts: bool = False
    opaque_xattr: str = "trusted.overlay.opaque"
    root_attributes: bool = False
    no_overwrite_dir_non_dir: bool = False
    chown: tuple[int, int] | None = None
    max_bytes: int | None = None
    max_entries: int | None = None


@dataclass(frozen=True, slots=True)
class Extracted:
    """What was extracted: bytes of file content, and entries."""

    size: int
    count: int


def extract(fileobj: Source, dir_fd: int, *, options: UntarOptions = UntarOptions()) -> Extracted:
    """Extract the archive below ``dir_fd``. What was extracted before an error stays.

    Raises ``UntarError``, also for every ``OSError`` of the tree's file system (with the path and the system's words;
    the ``OSError`` is its cause). Errors of ``fileobj.read`` pass through.
    """
    extraction = _Extraction(fileobj, dir_fd, options)
    try:
        return extraction.run()
    except TarError as error:
        raise UntarError(str(error)) from error
    finally:
        extraction.close()


class _Extraction:
    def __init__(self, fileobj: Source, root_fd: int, options: UntarOptions) -> None:
        self.source = _Guarded(fileobj)
        self.reader = TarReader(self.source, ahead=_AHEAD)
        self.root_fd = root_fd
        self.options = options
        self.base = inroot.clean(os.fsencode(options.base))
        self.size = 0
        self.count = 0
        self.implied = 0
        self.directories: dict[bytes, tuple[int, int]] = {}  # path → times, set at the end
        self.parent_path: bytes | None = None
        self.parent_fd = -1
        self.born: dict[int, tuple[int, int]] = {}  # mode → owner of files made in the parent
        self.beyond_umask = _umask() | 0o7000

    def close(self) -> None:
        self.forget_parent()

    def run(self) -> Extracted:
        for entry in self.reader:
            self.count += 1
            self.check_count(0)
            self.size += entry.size if entry.type == tarread.REGULAR else 0
            if self.options.max_bytes is not None and self.size > self.options.max_bytes:
                raise LimitExceeded(f"the archive unpacks to more than {self.options.max_bytes} bytes")
            name = inroot.clean(entry.name)
            if name[:2] == b".." and name[2:3] in (b"", b"/"):
                raise UntarError(f"{quote(name)} is outside of {self.shown(b'')}")
            if not name:  # the target itself
                if entry.type != tarread.DIRECTORY:
                    raise UntarError(f"cannot replace the directory {self.shown(b'')} by a file")
                if self.options.root_attributes:
                    self.in_tree(lambda entry, _: self.set_attributes(self.root_fd, entry), entry, name)
                    self.born.clear()
                continue
            self.in_tree(self.entry, entry, name)
        for path, times in reversed(self.directories.items()):
            self.set_directory_times(path, times)
        return Extracted(self.size, self.count)

    def check_count(self, more: int) -> None:
        """Directories that no entry names, and that are only on the way to one, count as entries."""
        self.implied += more
        if self.options.max_entries is not None and self.count + self.implied > self.options.max_entries:
            raise LimitExceeded(f"the archive has more than {self.options.max_entries} entries")

    def in_tree(self, step: Callable[[Entry, bytes], None], entry: Entry, name: bytes) -> None:
        """Run a step, with the names of what failed in its error."""
        try:
            step(entry, name)
        except (OSError, OverflowError) as error:
            if error is self.source.failure:
                raise
            words = (error.strerror or str(error)).lower() if isinstance(error, OSError) else str(error)
            raise UntarError(f"{self.path_of(name)}: {words}") from error

    def path_of(self, name: bytes) -> str:
        return "/" + os.fsdecode(b"/".join(part for part in (self.base, name) if part))

    def shown(self, name: bytes) -> str:
        return quote(os.fsencode(self.path_of(name)))

    # where

    def parent_of(self, name: bytes) -> tuple[int, bytes]:
        """(descriptor of the parent, last element); missing parents are made (ARC9)."""
        parent, last = inroot.split(name)
        if len(last) > 255:
            raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))
        if parent != self.parent_path:
            self.forget_parent()
            path = self.base + b"/" + parent if self.base else parent
            self.parent_fd = inroot.make_directories(self.root_fd, path, making=self.check_count)
            self.parent_path = parent
            self.born.clear()
        return self.parent_fd, last

    def forget_parent(self) -> None:
        """To be called when a directory or link may have taken the place of another."""
        if self.parent_path is not None:
            os.close(self.parent_fd)
            self.parent_path = None

    # what

    def entry(self, entry: Entry, name: bytes) -> None:
        parent_fd, last = self.parent_of(name)
        if self.options.whiteouts and last.startswith(WHITEOUT):
            self.whiteout(entry, parent_fd, last)
            return
        kind = entry.type
        if kind == tarread.REGULAR:
            self.file(entry, name, parent_fd, last)
        elif kind == tarread.DIRECTORY:
            self.directory(entry, name, parent_fd, last)
        elif kind == tarread.SYMLINK:
            self.make(name, parent_fd, last, lambda: os.symlink(entry.link, last, dir_fd=parent_fd))
            self.set_link_attributes(entry, parent_fd, last)
        elif kind == tarread.LINK:
            self.link(entry, name, parent_fd, last)
        elif kind in (tarread.CHARACTER, tarread.BLOCK_DEVICE, tarread.FIFO):
            self.node(entry, name, parent_fd, last)
        else:
            raise UntarError(f"unhandled tar header type {kind[0]} of {self.shown(name)}")

    def make(self, name: bytes, parent_fd: int, last: bytes, create: Callable[[], _T]) -> _T:
        """Create something that is not a directory, in the place of whatever is there.

        Others may be putting something there at the same time, the container itself or another upload.
        """
        for _ in range(_TRIES):
            try:
                return create()
            except FileExistsError:
                with contextlib.suppress(FileNotFoundError):
                    self.make_room(name, parent_fd, last)
        return create()

    def make_room(self, name: bytes, parent_fd: int, last: bytes) -> None:
        """Remove what a non-directory is to replace (ARC7)."""
        if stat.S_ISDIR(os.stat(last, dir_fd=parent_fd, follow_symlinks=False).st_mode):
            if self.options.no_overwrite_dir_non_dir:
                raise UntarError(f"cannot overwrite directory {self.shown(name)} with non-directory {self.shown(b'')}")
            below = name + b"/"
            for path in [path for path in self.directories if path == name or path.startswith(below)]:
                del self.directories[path]
        removal.remove_tree(parent_fd, last)

    def file(self, entry: Entry, name: bytes, parent_fd: int, last: bytes) -> None:
        # Of a mode that the umask leaves alone the file can be from its beginning: each call saved tells in a layer.
        plain = not entry.mode & self.beyond_umask and not entry.xattrs
        mode = entry.mode if plain else 0o600
        try:
            fd = os.open(last, _CREATE, mode, dir_fd=parent_fd)
        except FileExistsError:
            fd = self.make(name, parent_fd, last, lambda: os.open(last, _CREATE, mode, dir_fd=parent_fd))
        try:
            if entry.sparse is None:
                if entry.size:
                    self.reader.copy(_Writer(fd).write, entry.size)
            else:
                for offset, length in entry.sparse:
                    os.lseek(fd, offset, os.SEEK_SET)
                    self.reader.copy(_Writer(fd).write, length)
                os.ftruncate(fd, entry.size)
            if not (plain and self.born_right(fd, entry)):
                self.set_attributes(fd, entry)
            os.utime(fd, ns=_times(entry))
        finally:
            os.close(fd)

    def born_right(self, fd: int, entry: Entry) -> bool:
        """True when the new file has the entry's owner and mode already.

        What it has depends on the directory too (set-group-id, a default ACL, mount options), so one file of each
        directory and mode is looked at.
        """
        owner = self.options.chown or (entry.uid, entry.gid)
        born = self.born.get(entry.mode)
        if born is None:
            found = os.fstat(fd)
            right = stat.S_IMODE(found.st_mode) == entry.mode
            born = self.born[entry.mode] = (found.st_uid, found.st_gid) if right else (-1, -1)
        return born == owner

    def directory(self, entry: Entry, name: bytes, parent_fd: int, last: bytes) -> None:
        opaque = False
        try:
            os.mkdir(last, 0o700, dir_fd=parent_fd)
        except FileExistsError:
            present = os.stat(last, dir_fd=parent_fd, follow_symlinks=False)
            if not stat.S_ISDIR(present.st_mode):
                if self.options.no_overwrite_dir_non_dir:
                    shown, base = self.shown(name), self.shown(b"")
                    raise UntarError(f"cannot overwrite non-directory {shown} with directory {base}") from None
                opaque = self.options.whiteouts and _is_whiteout(present)
                with contextlib.suppress(FileNotFoundError, FileExistsError):  # another upload's doing
                    os.unlink(last, dir_fd=parent_fd)
                    os.mkdir(last, 0o700, dir_fd=parent_fd)
        fd = os.open(last, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent_fd)
        try:
            self.set_attributes(fd, entry)
            if opaque:
                os.setxattr(fd, self.options.opaque_xattr, b"y")
        finally:
            os.close(fd)
        self.directories[name] = _times(entry)

    def link(self, entry: Entry, name: bytes, parent_fd: int, last: bytes) -> None:
        target = inroot.clean(entry.link.lstrip(b"/"))
        if not target or target.split(b"/", 1)[0] == b"..":
            path = b"/" + inroot.clean(b"/" + self.base + b"/" + entry.link)
            raise UntarError(f"invalid hardlink {quote(path)} -> {quote(entry.link)}")
        if target == name:
            return
        target_parent, target_last = inroot.split(target)
        path = self.base + b"/" + target_parent if self.base else target_parent
        target_fd = inroot.open_in_root(self.root_fd, path, inroot.PARENT)
        try:
            self.make(
                name,
                parent_fd,
                last,
                lambda: os.link(target_last, last, src_dir_fd=target_fd, dst_dir_fd=parent_fd, follow_symlinks=False),
            )
        finally:
            os.close(target_fd)

    def node(self, entry: Entry, name: bytes, parent_fd: int, last: bytes) -> None:
        kind = {tarread.CHARACTER: stat.S_IFCHR, tarread.BLOCK_DEVICE: stat.S_IFBLK}.get(entry.type, stat.S_IFIFO)
        device = 0 if kind == stat.S_IFIFO else os.makedev(entry.major, entry.minor)
        self.make(name, parent_fd, last, lambda: os.mknod(last, kind | 0o600, device, dir_fd=parent_fd))
        # Nothing of this is opened: a FIFO would wait and a device might act.
        os.chown(last, *self.owner(entry), dir_fd=parent_fd, follow_symlinks=False)
        fd = os.open(last, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent_fd)
        try:
            if stat.S_IFMT(os.fstat(fd).st_mode) == kind:
                os.chmod(f"/proc/self/fd/{fd}", entry.mode)
        finally:
            os.close(fd)
        os.utime(last, ns=_times(entry), dir_fd=parent_fd, follow_symlinks=False)

    def whiteout(self, entry: Entry, parent_fd: int, last: bytes) -> None:
        if last == _OPAQUE:
            self.set_opaque(parent_fd, b".")
            return
        if last.startswith(_METADATA):  # of another union file system; nothing that overlayfs needs
            return
        hidden = last[len(WHITEOUT) :]
        if hidden in (b"", b".", b".."):
            raise UntarError(f"invalid whiteout {quote(entry.name)}")
        try:
            os.mknod(hidden, stat.S_IFCHR, _WHITEOUT_DEVICE, dir_fd=parent_fd)
        except FileExistsError:
            # The layer itself has this name as well: its own stays, and what is below must not shine through.
            if stat.S_ISDIR(os.stat(hidden, dir_fd=parent_fd, follow_symlinks=False).st_mode):
                self.set_opaque(parent_fd, hidden)

    def set_opaque(self, parent_fd: int, name: bytes) -> None:
        fd = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent_fd)
        try:
            os.setxattr(fd, self.options.opaque_xattr, b"y")
        finally:
            os.close(fd)

    # attributes

    def owner(self, entry: Entry) -> tuple[int, int]:
        return self.options.chown or (entry.uid, entry.gid)

    def set_attributes(self, fd: int, entry: Entry) -> None:
        """Owner, extended attributes and mode, in the order in which none undoes another."""
        os.fchown(fd, *self.owner(entry))
        for key, value in entry.xattrs.items():
            if not _allowed_xattr(key):
                continue
            try:
                os.setxattr(fd, key, value)
            except OSError as error:
                if error.errno not in (errno.ENOTSUP, errno.EPERM):
                    raise
        os.fchmod(fd, entry.mode)

    def set_link_attributes(self, entry: Entry, parent_fd: int, last: bytes) -> None:
        os.chown(last, *self.owner(entry), dir_fd=parent_fd, follow_symlinks=False)
        os.utime(last, ns=_times(entry), dir_fd=parent_fd, follow_symlinks=False)

    def set_directory_times(self, path: bytes, times: tuple[int, int]) -> None:
        parent, last = inroot.split(path)
        try:
            fd = inroot.open_in_root(self.root_fd, self.base + b"/" + parent if self.base else parent, inroot.PARENT)
        except OSError:
            return  # somebody in the container removed it meanwhile
        try:
            os.utime(last, ns=times, dir_fd=fd, follow_symlinks=False)
        except OSError:
            pass
        finally:
            os.close(fd)


class _Guarded:
    """Tells the source's own errors from those of the tree."""

    def __init__(self, source: Source) -> None:
        self._read = source.read
        self.failure: Exception | None = None

    def read(self, size: int = -1, /) -> bytes:
        try:
            return self._read(size)
        except Exception as error:
            self.failure = error
            raise


class _Writer:
    """Writes all of what it is given."""

    __slots__ = ("fd",)

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def write(self, data: bytes | memoryview) -> None:
        written = os.write(self.fd, data)
        while written < len(data):
            written += os.write(self.fd, memoryview(data)[written:])


def _umask() -> int:
    """The process's, which can be read without being set; all bits where it cannot."""
    try:
        with open("/proc/self/status", "rb") as file:
            return next((int(line[6:], 8) for line in file if line.startswith(b"Umask:")), 0o777)
    except OSError:
        return 0o777


def quote(path: bytes) -> str:
    """The path in double quotes, as Go's ``%q`` writes it."""
    out = ['"']
    for char in path.decode("utf-8", "surrogateescape"):
        code = ord(char)
        if char in '"\\':
            out.append("\\" + char)
        elif 0xDC80 <= code <= 0xDCFF:
            out.append(f"\\x{code - 0xDC00:02x}")
        elif char in "\a\b\f\n\r\t\v":
            out.append("\\" + "abfnrtv"["\a\b\f\n\r\t\v".index(char)])
        elif code < 0x20 or code == 0x7F:
            out.append(f"\\x{code:02x}")
        else:
            out.append(char)
    out.append('"')
    return "".join(out)


def _times(entry: Entry) -> tuple[int, int]:
    modified, accessed = entry.mtime, entry.atime
    if not -_LATEST <= modified <= _LATEST:
        modified = max(-_LATEST, min(modified, _LATEST))
    if accessed <= modified:
        return modified, modified
    return min(accessed, _LATEST), modified


def _is_whiteout(present: os.stat_result) -> bool:
    return stat.S_ISCHR(present.st_mode) and present.st_rdev == _WHITEOUT_DEVICE


def _allowed_xattr(key: bytes) -> bool:
    """overlayfs's own attributes would let an archive rewrite what lies below it."""
    return not key.startswith((b"trusted.", b"user.overlay.")) and b"\0" not in key
