"""What a container changed, as the archive of an image's layer: the changed files, and ``.wh.`` files for what is gone.

Where the root filesystem is an overlay, all of its upper directory goes in, compared with nothing: a file that was changed
and given its old time and size back is a change too.
"""

from __future__ import annotations

import os
import stat
import tarfile
from collections.abc import Callable, Iterable

from wherry.engine import inroot
from wherry.engine.containers import changes as comparison
from wherry.engine.images.layers import Writable
from wherry.engine.store.rootfs import RootfsPaths

_WHITEOUT = b".wh."
_OPAQUE = b".wh..wh..opq"
_OPAQUE_ATTRIBUTES = ("trusted.overlay.opaque", "user.overlay.opaque")
_CAPABILITY = "security.capability"
_COPY = 1 << 20
_BLOCK = 512


class DiffError(Exception):
    """Something of the container has no place in a layer; the text says what."""


def write_diff(
    paths: RootfsPaths,
    mount_points: Iterable[str],
    out: Writable,
    *,
    check: Callable[[], None] = lambda: None,
) -> int:
    """Write the archive to ``out``; returns the number of its entries. Blocks.

    ``check`` is called now and then, and may raise to stop it. Raises ``DiffError`` and ``OSError``.
    """
    root = os.open(paths.upper or paths.merged, inroot.PARENT | os.O_CLOEXEC)
    try:
        writer = _Writer(root, out, check)
        if paths.upper is not None:
            _write_upper(writer, paths)
        else:
            for change in comparison.changes(paths, mount_points) or ():
                writer.change(os.fsencode(change.path).lstrip(b"/"), deleted=change.kind == comparison.DELETED)
        out.write(b"\0" * (2 * _BLOCK))
        return writer.count
    finally:
        os.close(root)


def _write_upper(writer: _Writer, paths: RootfsPaths) -> None:
    assert paths.upper is not None
    ours, below = paths.upper.stat(), paths.lower[0].stat()
    if (ours.st_mode, ours.st_uid, ours.st_gid) != (below.st_mode, below.st_uid, below.st_gid):
        writer.directory_itself(b"", ours)
    todo = [b""]
    while todo:
        todo += reversed(writer.directory(todo.pop()))


class _Writer:
    def __init__(self, root: int, out: Writable, check: Callable[[], None]) -> None:
        self.count = 0
        self._root = root
        self._out = out
        self._check = check
        self._links: dict[tuple[int, int], bytes] = {}

    def directory(self, path: bytes) -> list[bytes]:
        """Everything in a directory; returns the directories in it."""
        below = []
        fd = self._open_directory(path)
        try:
            if path and _is_opaque(fd):
                self._empty(_join(path, _OPAQUE))
            for name in sorted(os.fsencode(name) for name in os.listdir(fd)):
                found = os.stat(name, dir_fd=fd, follow_symlinks=False)
                if stat.S_ISCHR(found.st_mode) and found.st_rdev == 0:
                    self._empty(_join(path, _WHITEOUT + name))
                elif stat.S_ISDIR(found.st_mode):
                    self.directory_itself(_join(path, name), found)
                    below.append(_join(path, name))
                else:
                    self._entry(fd, path, name, found)
        finally:
            os.close(fd)
        return below

    def change(self, path: bytes, *, deleted: bool) -> None:
        """One path of a comparison."""
        parent, name = inroot.split(path)
        if deleted:
            self._empty(_join(parent, _WHITEOUT + name))
            return
        fd = self._open_directory(parent)
        try:
            found = os.stat(name, dir_fd=fd, follow_symlinks=False)
            if stat.S_ISDIR(found.st_mode):
                self.directory_itself(path, found)
            else:
                self._entry(fd, parent, name, found)
        finally:
            os.close(fd)

    def directory_itself(self, path: bytes, found: os.stat_result) -> None:
        info = _info(path + b"/" if path else b"./", found)
        info.type = tarfile.DIRTYPE
        self._write(info)

    def _open_directory(self, path: bytes) -> int:
        try:
            return inroot.open_in_root(self._root, path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        except OSError as error:
            raise DiffError(f"{_shown(path)} cannot be read: {error.strerror}") from error

    def _entry(self, fd: int, parent: bytes, name: bytes, found: os.stat_result) -> None:
        path = _join(parent, name)
        if name.startswith(_WHITEOUT):
            raise DiffError(
                f"the file {_shown(path)} cannot be part of an image: names with .wh. stand for removed files"
            )
        if stat.S_ISSOCK(found.st_mode):
            return
        info = _info(path, found)
        if found.st_nlink > 1:
            first = self._links.setdefault((found.st_dev, found.st_ino), path)
            if first != path:
                info.type, info.linkname = tarfile.LNKTYPE, _text(first)
                self._write(info)
                return
        if stat.S_ISLNK(found.st_mode):
            info.type, info.linkname = tarfile.SYMTYPE, _text(os.readlink(name, dir_fd=fd))
        elif stat.S_ISCHR(found.st_mode) or stat.S_ISBLK(found.st_mode):
            info.type = tarfile.CHRTYPE if stat.S_ISCHR(found.st_mode) else tarfile.BLKTYPE
            info.devmajor, info.devminor = os.major(found.st_rdev), os.minor(found.st_rdev)
        elif stat.S_ISFIFO(found.st_mode):
            info.type = tarfile.FIFOTYPE
        else:
            self._file(fd, name, info)
            return
        self._write(info)

    def _file(self, directory: int, name: bytes, info: tarfile.TarInfo) -> None:
        """A regular file; one that changes meanwhile keeps the size that it had."""
        fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory)
        try:
            found = os.fstat(fd)
            if not stat.S_ISREG(found.st_mode):
                raise DiffError(f"{info.name} changed while it was read")
            info.size = left = found.st_size
            try:
                capability = os.getxattr(fd, _CAPABILITY)
            except OSError:
                capability = b""
            if capability:
                info.pax_headers = {f"SCHILY.xattr.{_CAPABILITY}": _text(capability)}
            self._write(info)
            while left:
                data = os.read(fd, min(left, _COPY)) or bytes(min(left, _COPY))
                self._out.write(data)
                left -= len(data)
                self._check()
            self._out.write(b"\0" * (-info.size % _BLOCK))
        finally:
            os.close(fd)

    def _empty(self, path: bytes) -> None:
        info = tarfile.TarInfo(_text(path))
        info.mode = 0o600
        self._write(info)

    def _write(self, info: tarfile.TarInfo) -> None:
        self._out.write(info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape"))
        self.count += 1
        if self.count % 64 == 0:
            self._check()


def _info(path: bytes, found: os.stat_result) -> tarfile.TarInfo:
    info = tarfile.TarInfo(_text(path))
    info.mode = stat.S_IMODE(found.st_mode)
    info.uid, info.gid = found.st_uid, found.st_gid
    info.mtime = int(found.st_mtime)
    return info


def _join(directory: bytes, name: bytes) -> bytes:
    return directory + b"/" + name if directory else name


def _is_opaque(fd: int) -> bool:
    for name in _OPAQUE_ATTRIBUTES:
        try:
            if os.getxattr(fd, name) == b"y":
                return True
        except OSError:
            pass
    return False


def _text(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")


def _shown(path: bytes) -> str:
    return "/" + path[:200].decode("utf-8", "replace")
