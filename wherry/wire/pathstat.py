"""The ``X-Docker-Container-Path-Stat`` header (ARC2), and Go's file modes in it."""

from __future__ import annotations

import base64
import binascii
import json
import stat
from dataclasses import dataclass

HEADER = "X-Docker-Container-Path-Stat"

_DIR, _SYMLINK, _DEVICE, _PIPE, _SOCKET = 1 << 31, 1 << 27, 1 << 26, 1 << 25, 1 << 24
_SETUID, _SETGID, _CHAR, _STICKY = 1 << 23, 1 << 22, 1 << 21, 1 << 20

_TYPES = {
    stat.S_IFREG: 0,
    stat.S_IFDIR: _DIR,
    stat.S_IFLNK: _SYMLINK,
    stat.S_IFBLK: _DEVICE,
    stat.S_IFCHR: _DEVICE | _CHAR,
    stat.S_IFIFO: _PIPE,
    stat.S_IFSOCK: _SOCKET,
}
_UNIX_TYPES = {go: unix for unix, go in _TYPES.items()}
_TYPE_MASK = _DIR | _SYMLINK | _DEVICE | _PIPE | _SOCKET | _CHAR
_BITS = ((stat.S_ISUID, _SETUID), (stat.S_ISGID, _SETGID), (stat.S_ISVTX, _STICKY))


@dataclass(frozen=True, slots=True)
class PathStat:
    """A path in a container. ``mode`` is Go's (see ``go_mode``), ``mtime`` an RFC 3339 time, ``size`` in bytes."""

    name: str
    size: int
    mode: int
    mtime: str
    link_target: str = ""


def go_mode(st_mode: int) -> int:
    """Go's os.FileMode of a Unix mode."""
    mode = stat.S_IMODE(st_mode) & 0o777 | _TYPES.get(stat.S_IFMT(st_mode), 0)
    for unix, go in _BITS:
        if st_mode & unix:
            mode |= go
    return mode


def unix_mode(mode: int) -> int:
    """The Unix mode (type and permission) of Go's os.FileMode."""
    result = mode & 0o777 | _UNIX_TYPES.get(mode & _TYPE_MASK, stat.S_IFREG)
    for unix, go in _BITS:
        if mode & go:
            result |= unix
    return result


def encode(path: PathStat) -> str:
    fields = {
        "name": path.name,
        "size": path.size,
        "mode": path.mode,
        "mtime": path.mtime,
        "linkTarget": path.link_target,
    }
    text = json.dumps(fields, ensure_ascii=False, separators=(",", ":"))
    return base64.b64encode(text.encode("utf-8", "replace")).decode()


def decode(text: str) -> PathStat:
    """Raises ``ValueError`` for a header that is none."""
    try:
        fields = json.loads(base64.b64decode(text, validate=True))
    except (binascii.Error, UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"malformed {HEADER} header: {error}") from error
    if not isinstance(fields, dict):
        raise ValueError(f"malformed {HEADER} header: no object")
    name, size, mode = fields.get("name", ""), fields.get("size", 0), fields.get("mode", 0)
    mtime, link_target = fields.get("mtime", ""), fields.get("linkTarget") or ""
    texts_right = isinstance(name, str) and isinstance(mtime, str) and isinstance(link_target, str)
    if not (texts_right and isinstance(size, int) and isinstance(mode, int)):
        raise ValueError(f"malformed {HEADER} header: wrong types")
    return PathStat(name, size, mode, mtime, link_target)
