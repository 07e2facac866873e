"""Reading ahead in a thread: what a layer costs to decompress and hash goes beside what its files cost to write."""

from __future__ import annotations

import threading
from collections import deque
from types import TracebackType

from wherry.engine.store.tarread import Source

_PIECE = 1 << 20
_PIECES = 4


class ReadAhead:
    """Gives what ``source`` gives, a few MiB of which are read ahead by a thread; an error of it is raised in its place.

    The source is the thread's alone until ``read`` has given the end or an error, or ``close`` has returned. As a
    context manager it is closed at the end; a thread that waits in the source's ``read`` is waited for.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self._changed = threading.Condition()
        self._pieces: deque[bytes] = deque()
        self._ended = self._closed = False
        self._error: Exception | None = None
        self._piece = b""  # the reader's own, read up to _at
        self._at = 0
        self._thread = threading.Thread(target=self._work, name="wherry-ahead", daemon=True)
        self._thread.start()

    def _work(self) -> None:
        error: Exception | None = None
        try:
            while data := self._source.read(_PIECE):
                with self._changed:
                    while len(self._pieces) >= _PIECES and not self._closed:
                        self._changed.wait()
                    if self._closed:
                        return
                    self._pieces.append(data)
                    self._changed.notify()
        except Exception as caught:
            error = caught
        finally:
            with self._changed:
                self._error = error
                self._ended = True
                self._changed.notify()

    def read(self, size: int = -1, /) -> bytes:
        """Up to ``size`` bytes, empty at the end; what there is at once, where that is less."""
        if self._at >= len(self._piece):
            self._piece, self._at = self._next(), 0
        at = self._at
        if at == 0 and (size < 0 or size >= len(self._piece)):
            self._at = len(self._piece)
            return self._piece
        data = self._piece[at : at + size] if size >= 0 else self._piece[at:]
        self._at += len(data)
        return data

    def _next(self) -> bytes:
        with self._changed:
            while not self._pieces and not self._ended:
                self._changed.wait()
            if self._pieces:
                self._changed.notify()
                return self._pieces.popleft()
            if self._error is not None:
                raise self._error
            return b""

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()
        self._pieces.clear()

    def __enter__(self) -> ReadAhead:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
