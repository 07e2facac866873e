"""The two roots as this engine's alone: taken with a lock in each, and given back without leaving a new one behind.

The exec root's lock file says "made" where an engine made that directory, so that a later engine may take it away.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

from wherry.engine.store.layout import Layout
from wherry.engine.store.overlay import mounts_below
from wherry.engine.store.removal import remove_path

_MADE = b"made\n"


class RootInUse(Exception):
    """Another engine holds one of the roots; the text says which, and what to do."""


class Roots:
    """The hold on the roots of one engine: what it does not know in them it takes away."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._locks: list[int] = []
        self._made: list[Path] = []  # directories that were not there, parents first

    @property
    def taken(self) -> bool:
        return bool(self._locks)

    def take(self) -> None:
        """Lock both roots and make what is missing. Raises ``RootInUse`` and ``OSError``, and leaves nothing behind."""
        layout = self._layout
        try:
            for path, root, option in (
                (layout.lock, layout.data_root, "--data-root"),
                (layout.exec_lock, layout.exec_root, "--exec-root"),
            ):
                made = self._make(root)
                fd = self._lock(path)
                if fd is None:
                    raise RootInUse(
                        f"another engine uses {root}: stop it, or give this one an {option} of its own (and the other root too)"
                    )
                self._locks.append(fd)
                if made:
                    os.pwrite(fd, _MADE, 0)
            layout.make()
        except BaseException:
            self.release(undo=True)
            raise

    def release(self, *, remove: bool = False, undo: bool = False) -> None:
        """Give the roots back. ``remove``: the exec root goes where an engine made it; ``undo``: both, where this one did."""
        layout = self._layout
        if len(self._locks) == 2:
            if undo and layout.exec_root in self._made:
                self._clear(layout.exec_root)
            elif remove and os.pread(self._locks[1], len(_MADE), 0) == _MADE:
                self._clear(layout.exec_root, layout.exec_entries)
        if self._locks and undo and layout.data_root in self._made:
            self._clear(layout.data_root)
        while self._locks:
            os.close(self._locks.pop())
        if undo:
            for path in reversed(self._made):
                with suppress(OSError):
                    path.rmdir()  # parents too, where nobody else has put anything
        self._made.clear()

    def _make(self, root: Path) -> bool:
        missing = [path for path in (root, *root.parents) if not path.exists()]
        for path in reversed(missing):
            path.mkdir(mode=0o711 if path == root else 0o755, exist_ok=True)
            self._made.append(path)
        return bool(missing)

    def _lock(self, path: Path) -> int | None:
        while True:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.stat(path).st_ino == os.fstat(fd).st_ino:
                    return fd
            except BlockingIOError:
                os.close(fd)
                return None
            except FileNotFoundError:
                pass  # its engine removed it meanwhile: once more
            except BaseException:
                os.close(fd)
                raise
            os.close(fd)

    def _clear(self, root: Path, entries: Collection[str] | None = None) -> None:
        """Remove a root that nothing lives in any more; one with mounts below it, or more than ``entries``, stays."""
        if mounts_below(root):
            return
        with suppress(OSError):
            if entries is None or set(os.listdir(root)) <= set(entries):
                remove_path(root)
