"""Propagation of bind mounts: what the mount below a source must be, for mounts made later to travel."""

from __future__ import annotations

import os

from wherry.api.errors import ServerError

_NEEDED = {
    "shared": (("shared:",), "a shared mount"),
    "rshared": (("shared:",), "a shared mount"),
    "slave": (("shared:", "master:"), "a shared or slave mount"),
    "rslave": (("shared:", "master:"), "a shared or slave mount"),
}


def check_propagation(source: str, propagation: str) -> None:
    """Raises ``ServerError`` when mounts below ``source`` cannot travel as ``propagation`` says."""
    if propagation not in _NEEDED:
        return
    wanted, word = _NEEDED[propagation]
    place, tags = _mount_of(os.path.realpath(source))
    if not any(tag.startswith(wanted) for tag in tags):
        raise ServerError(f"path {source} is mounted on {place} but it is not {word}")


def within(path: str, directory: str) -> bool:
    """Whether ``path`` is ``directory`` or below it; both are clean."""
    return path == directory or path.startswith(directory.rstrip("/") + "/")


def _mount_of(path: str) -> tuple[str, list[str]]:
    """The mount point that ``path`` is on, and the kernel's tags of it (``shared:1`` …)."""
    best, tags = "", []
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as lines:
        for line in lines:
            fields = line.partition(" - ")[0].split(" ")
            place = fields[4].encode("utf-8", "surrogateescape").decode("unicode_escape").encode("latin-1")
            point = os.fsdecode(place)
            if within(path, point) and len(point) >= len(best):  # of several at one place the last is seen
                best, tags = point, fields[6:]
    return best, tags
