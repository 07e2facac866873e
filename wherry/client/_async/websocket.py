"""attach/ws: a websocket that carries a process's streams (WS1)."""

from __future__ import annotations

from collections import deque

from wherry.api.errors import ProtocolError
from wherry.client._async import io
from wherry.wire.websocket import WebSocket


class AsyncWebSocketStream:
    """A websocket as a byte stream: messages have no bounds here."""

    def __init__(self, stream: io.Stream, early: bytes) -> None:
        self._stream = stream
        self._socket = WebSocket(client=True)
        self._sending = io.Lock()
        self._waiting: deque[bytes] = deque(self._socket.feed(early) if early else ())

    async def receive(self, limit: int = 65536) -> bytes:
        """The next bytes, ``b""`` once the engine has closed."""
        while not self._waiting:
            if self._socket.peer_closed:
                if failure := self._socket.failure:
                    raise ProtocolError(failure)
                return b""
            data = await self._stream.receive(limit)
            if data:
                self._waiting.extend(self._socket.feed(data))
            else:
                self._socket.feed_eof()
            try:
                await self._flush()  # answers to pings, and to the closing
            except ProtocolError:
                if not self._socket.peer_closed:
                    raise  # else it has left already, as dockerd does, and needs no answer
        return self._waiting.popleft()

    async def send(self, data: bytes | bytearray | memoryview) -> None:
        if self._socket.closing:
            raise ProtocolError("the connection was closed")
        self._socket.send(data)
        await self._flush()

    async def send_eof(self) -> None:
        """A websocket has no half-close: this begins its closing, after which the engine sends what it has left."""
        self._socket.close()
        await self._flush()

    def set_timeout(self, seconds: float | None) -> None:
        self._stream.set_timeout(seconds)

    def abort(self) -> None:
        self._stream.abort()

    def close(self) -> None:
        self._stream.close()

    async def _flush(self) -> None:
        async with self._sending:
            data = self._socket.outgoing()
            if data:
                await self._stream.send(data)
