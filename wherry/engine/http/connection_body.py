"""A request's body, as it arrives."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

HIGH_WATER = 65536
"""Unread bytes at which reading from the client stops."""


class RequestBody:
    """Iterated once, by the handler; filled by the connection.

    Iteration raises ``ConnectionError`` when the client leaves before the end, ``BadRequest`` for malformed chunks.
    """

    def __init__(self, *, length: int | None, on_wanted: Callable[[], None], on_room: Callable[[], None]) -> None:
        self.length = length
        """Content-Length; None for a chunked body."""
        self.received = 0
        self.complete = length == 0
        self._pieces: deque[bytes] = deque()
        self._unread = 0
        self._discarding = False
        self._error: Exception | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._on_wanted = on_wanted
        self._on_room = on_room

    @property
    def full(self) -> bool:
        return self._unread >= HIGH_WATER

    @property
    def broken(self) -> bool:
        return self._error is not None

    def __aiter__(self) -> RequestBody:
        return self

    async def __anext__(self) -> bytes:
        while not self._pieces:
            if self._error is not None:
                raise self._error
            if self.complete or self._discarding:
                raise StopAsyncIteration
            self._on_wanted()
            await self._changed()
        was_full = self.full
        piece = self._pieces.popleft()
        self._unread -= len(piece)
        if was_full and not self.full:
            self._on_room()
        return piece

    async def wait_complete(self) -> None:
        """Wait for the body's end, or for the news that it will not come."""
        while not self.complete and self._error is None:
            await self._changed()

    def discard(self) -> None:
        """Throw away what is there and what still comes."""
        self._discarding = True
        self._pieces.clear()
        self._unread = 0
        self._wake()
        self._on_room()

    def put(self, data: bytes) -> None:
        self.received += len(data)
        if not self._discarding:
            self._pieces.append(data)
            self._unread += len(data)
            self._wake()

    def finish(self) -> None:
        self.complete = True
        self._wake()

    def fail(self, error: Exception) -> None:
        if not self.complete and self._error is None:
            self._error = error
            self._wake()

    async def _changed(self) -> None:
        if self._waiter is None or self._waiter.done():
            self._waiter = asyncio.get_running_loop().create_future()
        await asyncio.shield(self._waiter)

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
