"""Reading that ends with the build that it is for."""

from __future__ import annotations

import threading

from wherry.engine.images.layers import Cancelled
from wherry.engine.store.tarread import Source


class Stoppable:
    """Passes on what it reads; raises ``Cancelled`` once the build is given up."""

    def __init__(self, source: Source, cancelled: threading.Event) -> None:
        self._source = source
        self._cancelled = cancelled

    def read(self, size: int = -1, /) -> bytes:
        if self._cancelled.is_set():
            raise Cancelled
        return self._source.read(size)
