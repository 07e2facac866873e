"""Who a process is to be: users and groups by name or number, looked up in the container's own files (ARC8, STA3)."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from wherry.engine.inroot import read_small

LIMIT = 4 << 20  # bytes read of passwd and group
_MAX_ID = (1 << 31) - 1


class UnknownUser(ValueError):
    """A user or group that the container does not have; the message is moby's."""


@dataclass(frozen=True, slots=True)
class User:
    """``groups`` are all groups, the primary one first. ``home`` is ``/`` for a user without an entry."""

    uid: int
    gid: int
    groups: list[int] = field(default_factory=list)
    home: str = "/"
    name: str = ""


def resolve_user(root: int | Path, text: str, group_add: Sequence[str] = ()) -> User:
    """The user of ``"user[:group]"``, each a name or a number, empty for root, with the groups of ``group_add``.

    ``root`` is the container's root directory, a path or a descriptor. Reads two small files of it, executes nothing.
    Raises ``UnknownUser``.
    """
    root_fd = root if isinstance(root, int) else os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return _resolve(root_fd, text, group_add)
    finally:
        if root_fd is not root:
            os.close(root_fd)


def _resolve(root_fd: int, text: str, group_add: Sequence[str]) -> User:
    wanted, _, wanted_group = text.partition(":")
    number = _number(wanted)
    uid, gid, home, name = 0, 0, "/", ""
    for entry in _entries(root_fd, "etc/passwd", 6):
        if entry[0] == wanted if wanted else entry[2] == "0":
            break
        if number is not None and _number(entry[2]) == number:
            break
    else:
        entry = []
    if entry:
        name, home = entry[0], entry[5] or "/"
        uid, gid = _id(entry[2]), _id(entry[3])
    elif wanted:
        if number is None:
            raise UnknownUser(f"unable to find user {wanted}: no matching entries in passwd file")
        uid = _in_range(number)

    groups: list[int] = []
    if wanted_group or name or group_add:
        known = [(entry[0], _number(entry[2]), entry[3]) for entry in _entries(root_fd, "etc/group", 4)]
        if wanted_group:
            gid = _group(known, wanted_group, f"unable to find group {wanted_group}: no matching entries in group file")
        elif name:
            groups = [group for _, group, members in known if group is not None and name in members.split(",")]
        groups += [_group(known, added, f"Unable to find group {added}") for added in group_add]
    return User(uid, gid, list(dict.fromkeys([gid, *groups])), home, name)


def _group(known: list[tuple[str, int | None, str]], wanted: str, unknown: str) -> int:
    number = _number(wanted)
    for name, group, _ in known:
        if group is not None and (name == wanted or group == number):
            return group
    if number is None:
        raise UnknownUser(unknown)
    return _in_range(number)


def _entries(root_fd: int, path: str, fields: int) -> Iterator[list[str]]:
    """The lines of a colon-separated file, padded to ``fields``; lines cut short or empty are left out."""
    for line in read_small(root_fd, path, LIMIT).decode("utf-8", "surrogateescape").splitlines():
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        entry = line.split(":")
        entry += [""] * (fields - len(entry))
        if _number(entry[2]) is not None:
            yield entry


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 19 else None


def _id(text: str) -> int:
    number = _number(text)
    return 0 if number is None or number > _MAX_ID else number


def _in_range(number: int) -> int:
    if number > _MAX_ID:
        raise UnknownUser(f"uids and gids must be in range 0-{_MAX_ID}")
    return number
