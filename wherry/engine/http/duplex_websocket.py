"""A websocket's messages as a byte stream (WS1); see ``wherry.engine.streams.Duplex``."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from wherry.engine.http.duplex import HijackedDuplex
from wherry.wire.websocket import WebSocket

CLOSE_SECONDS = 2.0
"""How long a client may take to answer our close."""


class WebSocketDuplex:
    """Each write is a binary message; the client's messages of any kind are bytes to read.

    Pings and closes of the client are answered as they are read: keep reading, even where input is not wanted.
    The client's close ends the stream both ways.
    """

    def __init__(self, stream: HijackedDuplex) -> None:
        self._stream = stream
        self._socket = WebSocket(client=False)
        self._closed = asyncio.Event()
        self._on_writable: list[Callable[[], object]] = []

    async def read(self) -> bytes:
        while not self._socket.peer_closed:
            data = await self._stream.read()
            if data:
                messages = self._socket.feed(data)
            else:
                self._socket.feed_eof()
                messages = []
            self._send()
            if self._socket.peer_closed:
                self._end()
            if messages:
                return messages[0] if len(messages) == 1 else b"".join(messages)
        return b""

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if data and not self.closed:
            self._socket.send(data)
            self._send()

    @property
    def pending(self) -> int:
        return self._stream.pending

    async def drain(self) -> None:
        await self._stream.drain()

    def on_writable(self, callback: Callable[[], object]) -> None:
        self._on_writable.append(callback)
        self._stream.on_writable(callback)

    @property
    def closed(self) -> bool:
        return self._closed.is_set() or self._stream.closed

    async def wait_closed(self) -> None:
        waits = [asyncio.ensure_future(self._closed.wait()), asyncio.ensure_future(self._stream.wait_closed())]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()

    async def close(self) -> None:
        """Say goodbye (1000), give the client a moment to answer, and close the connection."""
        if not self._socket.closing:
            self._socket.close()
            self._send()
            try:
                async with asyncio.timeout(CLOSE_SECONDS):
                    while not self._socket.peer_closed:
                        await self.read()
            except (TimeoutError, ConnectionError):
                pass
        await self._stream.close()

    def _send(self) -> None:
        outgoing = self._socket.outgoing()
        if outgoing:
            self._stream.write(outgoing)

    def _end(self) -> None:
        if not self._closed.is_set():
            self._closed.set()
            for callback in self._on_writable:
                callback()
