"""Notices that a peer is gone altogether while nothing is read from it.

A half-closed connection and a closed one look alike to a reader: both give end-of-file. The kernel tells them apart by
EPOLLHUP, which needs no reading and which asyncio does not pass on. So the connections in question sit in an epoll set
of their own, which asks for nothing else, and asyncio watches that set (ATT10).
"""

from __future__ import annotations

import asyncio
import logging
import select
from collections.abc import Callable

log = logging.getLogger(__name__)


class HangupWatch:
    """One per server. A watch ends by itself once it has fired."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._epoll: select.epoll | None = None
        self._callbacks: dict[int, Callable[[], None]] = {}

    def add(self, fd: int, callback: Callable[[], None]) -> None:
        """Call ``callback()`` once both directions of the socket ``fd`` are down."""
        if self._epoll is None:
            self._epoll = select.epoll()
            self._loop.add_reader(self._epoll.fileno(), self._ready)
        try:
            self._epoll.register(fd, 0)
        except OSError as error:
            log.debug("cannot watch fd %d: %s", fd, error)
            return
        self._callbacks[fd] = callback

    def remove(self, fd: int) -> None:
        """To be called before ``fd`` is closed; harmless for an fd that is not watched."""
        if self._callbacks.pop(fd, None) is not None and self._epoll is not None:
            try:
                self._epoll.unregister(fd)
            except OSError:
                pass

    def close(self) -> None:
        if self._epoll is not None:
            self._loop.remove_reader(self._epoll.fileno())
            self._epoll.close()
            self._epoll = None
        self._callbacks.clear()

    def _ready(self) -> None:
        if self._epoll is None:
            return
        for fd, _ in self._epoll.poll(0):
            callback = self._callbacks.get(fd)
            self.remove(fd)
            if callback is not None:
                callback()
