"""A hijacked connection as a byte stream; see ``wherry.engine.streams.Duplex`` for what each method promises."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wherry.engine.http.connection import Connection

READ_AHEAD = 65536


class HijackedDuplex:
    """What the client sent before it hung up can still be read then; what is written goes nowhere."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._pieces: list[bytes] = []
        self._unread = 0
        self._wanted = False  # somebody has begun to read
        self._eof = False
        self._hung_up = False
        self._lost: ConnectionError | None = None
        self._arrived: asyncio.Future[None] | None = None
        self._on_writable: list[Callable[[], object]] = []
        self._closed = asyncio.Event()
        self._closing: asyncio.Task[None] | None = None

    # -- for the engine ----------------------------------------------------------------------------------------------

    async def read(self) -> bytes:
        if not self._wanted:
            self._wanted = True
            self._connection.update_reading()
        while not self._pieces:
            if self._eof:
                return b""
            if self._lost is not None:
                raise self._lost
            if self._arrived is None or self._arrived.done():
                self._arrived = asyncio.get_running_loop().create_future()
            await asyncio.shield(self._arrived)
        data = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
        self._pieces.clear()
        was_full = self._unread >= READ_AHEAD
        self._unread = 0
        if was_full:
            self._connection.update_reading()
        return data

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if not self.closed:
            self._connection.write(data if type(data) is bytes else bytes(data))

    @property
    def pending(self) -> int:
        return self._connection.pending

    async def drain(self) -> None:
        await self._connection.drain()

    def on_writable(self, callback: Callable[[], object]) -> None:
        self._on_writable.append(callback)

    @property
    def closed(self) -> bool:
        return self._closed.is_set() or self._connection.closed

    async def wait_closed(self) -> None:
        await self._closed.wait()

    async def close(self) -> None:
        await self._connection.finish()

    # -- for the connection ------------------------------------------------------------------------------------------

    @property
    def room(self) -> int:
        """How many bytes may be taken from the client now."""
        return max(0, READ_AHEAD - self._unread) if self._wanted else 0

    def feed(self, data: bytes) -> None:
        self._pieces.append(data)
        self._unread += len(data)
        self._wake()
        if self._unread >= READ_AHEAD:
            self._connection.update_reading()

    def feed_eof(self) -> None:
        self._eof = True
        self._wake()
        if self._hung_up:
            self._connection.abort()

    def writable(self) -> None:
        for callback in self._on_writable:
            callback()

    def hang_up(self) -> None:
        self._hung_up = True
        self._end()

    def lose(self, error: ConnectionError) -> None:
        self._lost = error
        self._wake()
        self._end()

    def _end(self) -> None:
        if not self._closed.is_set():
            self._closed.set()
            self.writable()

    def _wake(self) -> None:
        if self._arrived is not None and not self._arrived.done():
            self._arrived.set_result(None)
