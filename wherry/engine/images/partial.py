"""Blobs that have not come whole: kept on the data root, so that a later pull takes them up where this one left them.

A file is named by its digest and proves nothing until all of it is hashed. The engine may die at any moment; what it had
received is there for its successor. What is kept is bounded in number, bytes and age.
"""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path

from wherry.engine.store.layout import Layout
from wherry.engine.store.trash import Trash

MOST = 100
"""Files."""
LARGEST = 16 << 30
"""Bytes of all of them."""
OLDEST = 7 * 24 * 3600
"""Seconds since something was last added."""
_SMALLEST = 1 << 16  # what is quicker to ask for again


class Partials:
    """The files of ``DATA/partial``. Each belongs to one download at a time; all calls are on the engine's loop."""

    def __init__(self, layout: Layout, trash: Trash) -> None:
        self._directory = layout.partial
        self._trash = trash
        self._claimed: set[str] = set()

    def claim(self, digest: str) -> Path | None:
        """Where to write a blob to, perhaps behind what is there already; None while another download is at it."""
        if digest in self._claimed:
            return None
        self.clean()
        self._claimed.add(digest)
        return self._directory / digest.replace(":", "-")

    def release(self, digest: str, *, keep: bool) -> None:
        """The download is over. ``keep`` what there is of it, if it is worth it."""
        self._claimed.discard(digest)
        path = self._directory / digest.replace(":", "-")
        with suppress(FileNotFoundError):
            if not keep or path.stat().st_size < _SMALLEST:
                self._trash.discard(path)
        if keep:
            self.clean()

    def put(self, digest: str, path: Path) -> None:
        """Take in a whole blob of a pull that failed, if it is worth it and no download is at it."""
        if digest not in self._claimed and path.stat().st_size >= _SMALLEST:
            path.rename(self._directory / digest.replace(":", "-"))
            self.clean()

    def clean(self, *, most: int = MOST, largest: int = LARGEST, oldest: float = OLDEST) -> int:
        """Remove what is over the bounds, the oldest first; returns the bytes."""
        found = []
        for path in self._directory.iterdir():
            if path.name.replace("-", ":") not in self._claimed:
                status = path.lstat()
                found.append((status.st_mtime, status.st_size, path))
        found.sort(reverse=True)
        total = freed = 0
        for number, (modified, size, path) in enumerate(found, 1):
            total += size
            if number > most or total > largest or time.time() - modified > oldest:
                self._trash.discard(path)
                freed += size
        return freed

    def clear(self) -> int:
        """Remove all that no download is at; returns the bytes."""
        return self.clean(most=0)
