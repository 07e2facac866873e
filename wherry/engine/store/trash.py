"""What nobody owns any more: renamed away at once, deleted by a thread of its own, emptied when the engine starts.

Deletion never crosses into another filesystem: a mount that is still held somewhere below is left alone, and with it
whatever it shows.
"""

from __future__ import annotations

import logging
import os
import queue
import threading
import uuid
from pathlib import Path

from wherry.engine.store.layout import Layout
from wherry.engine.store.overlay import mounts_below, umount_lazily
from wherry.engine.store.removal import remove_path

log = logging.getLogger(__name__)


class Trash:
    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._queue: queue.SimpleQueue[Path | int | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._pending = 0
        self._idle = threading.Condition(self._lock)

    def discard(self, path: Path) -> bool:
        """Take ``path`` (a file or a tree of the data root) away now and delete it soon; False when it is not there."""
        name = self._layout.trash / f"{path.name[:32]}-{uuid.uuid4().hex[:12]}"
        try:
            os.rename(path, name)
        except FileNotFoundError:
            if os.path.lexists(path):
                raise
            return False
        self._delete_soon(name)
        return True

    def recover(self) -> None:
        """At the engine's start, before anything works in ``tmp``: empty ``tmp`` and ``trash``, in the background."""
        for root in (self._layout.tmp, self._layout.trash):
            for point in mounts_below(root):
                umount_lazily(point)
        for entry in list(os.scandir(self._layout.trash)):
            self._delete_soon(Path(entry.path))
        for entry in list(os.scandir(self._layout.tmp)):
            self.discard(Path(entry.path))

    def set_aside(self, path: Path) -> Path:
        """Move a directory that no row owns to ``lost+found`` and report it; returns where it went."""
        self._layout.lost_and_found.mkdir(mode=0o700, exist_ok=True)
        place = self._layout.lost_and_found / f"{path.parent.name}-{path.name}-{uuid.uuid4().hex[:8]}"
        os.rename(path, place)
        log.warning("%s belongs to nothing that is known: moved to %s", path, place)
        return place

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until nothing is left to delete; False when ``timeout`` seconds pass first."""
        with self._idle:
            return self._idle.wait_for(lambda: self._pending == 0, timeout)

    def close_soon(self, fd: int) -> None:
        """Close a descriptor whose end takes the kernel a while: the last one into a detached mount."""
        self._later(fd)

    def _delete_soon(self, path: Path) -> None:
        self._later(path)

    def _later(self, work: Path | int) -> None:
        with self._lock:
            self._pending += 1
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="wherry-trash", daemon=True)
                self._thread.start()
        self._queue.put(work)

    def close(self, timeout: float = 5.0) -> None:
        """Stop the thread once its work is done, or after ``timeout`` seconds; the next start empties the rest."""
        thread = self._thread
        if thread is not None:
            self._queue.put(None)
            thread.join(timeout)

    def _run(self) -> None:
        while True:
            work = self._queue.get()
            if work is None:
                with self._lock:
                    self._thread = None
                return
            try:
                if isinstance(work, int):
                    os.close(work)
                else:
                    remove_path(work)
            except OSError as error:
                log.warning("could not delete %s: %s", work, error)
            with self._idle:
                self._pending -= 1
                if not self._pending:
                    self._idle.notify_all()
