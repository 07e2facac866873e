"""The context of a build: a directory as a tar archive, without what its ``.dockerignore`` names.

Both colours use it. The archive is made as it is sent, in constant memory; owners are root's, as with the docker command.
"""

from __future__ import annotations

import os
import secrets
import stat
import tarfile
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from wherry.wire.patterns import BadPattern, IgnorePatterns, read_ignore_file

IGNORE_FILE = ".dockerignore"
_PIECE = 1 << 18
_BLOCK = 512
BUILD_OPTIONS = frozenset(
    "t dockerfile extrahosts remote q nocache cachefrom pull rm forcerm memory memswap cpushares cpusetcpus cpusetmems "
    "cpuperiod cpuquota cgroupparent ulimits securityopt buildargs shmsize squash labels networkmode platform target "
    "outputs version auth".split()
)


def as_list(value: str | Iterable[str] | None) -> list[str] | None:
    """Several texts; one alone is a list of it."""
    return None if value is None else [value] if isinstance(value, str) else list(value)


def as_json(value: Any) -> str | None:
    return None if value is None else msgspec.json.encode(value).decode()


def open_context(context: Any, dockerfile: str | None, *, remote: bool = False) -> tuple[Any, str | None]:
    """(what to send, the Dockerfile's path in it). Raises ``ValueError`` for what is no context."""
    if context is None:
        if not remote:
            raise ValueError("a build needs a context: a directory, or a tar archive")
        return b"", dockerfile
    if isinstance(context, (str, os.PathLike)):
        return pack(os.fspath(context), dockerfile)
    return context, dockerfile


def pack(
    directory: str, dockerfile: str | None = None, *, text: bytes | None = None
) -> tuple[Iterator[bytes], str | None]:
    """A directory as an archive, and the Dockerfile's path in it.

    ``dockerfile`` is a path below the directory, or any other, from the present one on; ``text`` is a Dockerfile itself
    and goes before it. Raises ``ValueError`` for a directory, a Dockerfile or a ``.dockerignore`` that cannot be used.
    """
    if not os.path.isdir(directory):
        raise ValueError(f"{directory} is no directory: for an archive, give the open file or its bytes")
    inside, usual = dockerfile, "Dockerfile"
    if text is None and dockerfile is not None:
        inside = _inside(directory, dockerfile)
        if inside is None:
            try:
                with open(dockerfile, "rb") as file:
                    text = file.read()
            except OSError as error:
                raise ValueError(f"the Dockerfile cannot be read: {error}") from None
    elif text is None and not os.path.exists(os.path.join(directory, "Dockerfile")):
        usual = "dockerfile"
        if not os.path.exists(os.path.join(directory, usual)):
            raise ValueError(f"{os.path.join(directory, 'Dockerfile')}: there is no Dockerfile")
    if text is not None:
        inside = f".dockerfile.{secrets.token_hex(10)}"
    patterns = _patterns(directory)
    kept = {IGNORE_FILE, inside or usual}
    return _archive(directory, patterns, kept, inside if text is not None else None, text), inside


def _inside(directory: str, dockerfile: str) -> str | None:
    """The path of a Dockerfile below the directory; None for one that is elsewhere."""
    below = os.path.join(directory, dockerfile)
    for path in (below, dockerfile):
        if os.path.exists(path):
            relative = os.path.relpath(os.path.realpath(path), os.path.realpath(directory))
            return None if relative.split(os.sep)[0] == os.pardir else relative
    raise ValueError(f"the Dockerfile {below} is not there")


def _patterns(directory: str) -> IgnorePatterns:
    try:
        with open(os.path.join(directory, IGNORE_FILE), "rb") as file:
            return IgnorePatterns(read_ignore_file(file.read()))
    except FileNotFoundError:
        return IgnorePatterns(())
    except (OSError, BadPattern) as error:
        raise ValueError(f"{os.path.join(directory, IGNORE_FILE)}: {error}") from None


def _archive(
    directory: str, patterns: IgnorePatterns, kept: set[str], name: str | None, text: bytes | None
) -> Iterator[bytes]:
    if name is not None and text is not None:
        info = tarfile.TarInfo(name)
        info.size, info.mode = len(text), 0o600
        yield _header(info) + text + b"\0" * (-len(text) % _BLOCK)
    links: dict[tuple[int, int], str] = {}
    for path in _walk(directory, "", patterns, kept):
        yield from _entry(directory, path, links)
    yield b"\0" * (2 * _BLOCK)


def _walk(directory: str, below: str, patterns: IgnorePatterns, kept: set[str]) -> Iterator[str]:
    with os.scandir(os.path.join(directory, below)) as entries:
        found = sorted((entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries)
    for name, is_directory in found:
        path = f"{below}/{name}" if below else name
        ignored = bool(patterns) and path not in kept and patterns.matches(path)
        if not ignored:
            yield path
        if is_directory and (not ignored or patterns.may_hold(path) or any(k.startswith(f"{path}/") for k in kept)):
            yield from _walk(directory, path, patterns, kept)


def _entry(directory: str, path: str, links: dict[tuple[int, int], str]) -> Iterator[bytes]:
    full = os.path.join(directory, path)
    try:
        found = os.lstat(full)
    except FileNotFoundError:
        return  # it went meanwhile
    info = tarfile.TarInfo(path)
    info.mode = stat.S_IMODE(found.st_mode)
    info.mtime = int(found.st_mtime)
    kind = stat.S_IFMT(found.st_mode)
    if kind == stat.S_IFDIR:
        info.type = tarfile.DIRTYPE
    elif kind == stat.S_IFLNK:
        info.type, info.linkname = tarfile.SYMTYPE, os.readlink(full)
    elif kind == stat.S_IFIFO:
        info.type = tarfile.FIFOTYPE
    elif kind in (stat.S_IFCHR, stat.S_IFBLK):
        info.type = tarfile.CHRTYPE if kind == stat.S_IFCHR else tarfile.BLKTYPE
        info.devmajor, info.devminor = os.major(found.st_rdev), os.minor(found.st_rdev)
    elif kind == stat.S_IFREG:
        first = links.setdefault((found.st_dev, found.st_ino), path) if found.st_nlink > 1 else path
        if first == path:
            yield from _file(full, info)
            return
        info.type, info.linkname = tarfile.LNKTYPE, first
    else:
        return  # a socket
    yield _header(info)


def _file(full: str, info: tarfile.TarInfo) -> Iterator[bytes]:
    """A regular file; one that changes meanwhile keeps the size that it had."""
    try:
        opened = open(full, "rb", buffering=0)  # noqa: SIM115
    except FileNotFoundError:
        return  # it went meanwhile
    with opened as file:
        info.size = left = os.fstat(file.fileno()).st_size
        yield _header(info)
        while left:
            data = file.read(min(left, _PIECE)) or bytes(min(left, _PIECE))
            yield data
            left -= len(data)
    yield b"\0" * (-info.size % _BLOCK)


def _header(info: tarfile.TarInfo) -> bytes:
    return info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")
