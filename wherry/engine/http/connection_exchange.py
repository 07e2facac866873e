"""One request and its answer, below the API: what the router and the calls are made from."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable
from typing import TYPE_CHECKING

from wherry.api.errors import BadRequest, Unavailable
from wherry.engine.http import respond
from wherry.engine.http.server_limits import FREE_BODY
from wherry.wire.http1 import LAST_CHUNK, Request, encode_chunk

if TYPE_CHECKING:
    from wherry.engine.http.connection import Connection
    from wherry.engine.http.connection_body import RequestBody
    from wherry.engine.http.duplex import HijackedDuplex

YIELD_EVERY = 1 << 20
"""A writer whose client keeps up lets the rest of the engine run after this many bytes."""


class Exchange:
    """A request as it arrived, and the ways to answer it: ``send``, ``start`` or ``hijack``, once."""

    def __init__(self, connection: Connection, request: Request, body: RequestBody) -> None:
        self._connection = connection
        self.request = request
        self.body = body
        self.answered = False
        self.complete = False
        """The answer is written to its end."""
        self.awaits_continue = request.expects_continue and not body.complete
        self.keep_alive = request.keep_alive

    @property
    def local(self) -> bool:
        return self._connection.local

    @property
    def secure(self) -> bool:
        return self._connection.secure

    @property
    def client_gone(self) -> bool:
        return self._connection.closed

    async def wait_gone(self) -> None:
        """Wait until the client has left."""
        await self._connection.wait_gone()

    async def read(self, limit: int) -> bytes:
        """The whole body.

        Raises ``BadRequest`` when it is longer than ``limit`` bytes (413) or comes too slowly (408), ``Unavailable``
        where too many large bodies are being read.
        """
        if self.body.complete and not self.body.received:
            return b""
        if self.body.length is not None and self.body.length > limit:
            raise _too_long(limit)
        if self.body.complete:
            return await self._collect(limit)
        seconds = self._connection.server.limits.body
        try:
            async with asyncio.timeout(seconds):
                return await self._collect(limit)
        except TimeoutError:
            raise BadRequest(f"the request's body did not arrive within {seconds:g} s", status=408) from None

    async def _collect(self, limit: int) -> bytes:
        pieces: list[bytes] = []
        size = taken = 0
        budget = self._connection.server.bodies
        try:
            async for piece in self.body:
                size += len(piece)
                if size > limit:
                    raise _too_long(limit)
                wanted = size - FREE_BODY - taken
                if wanted > 0:
                    if not budget.take(wanted):
                        raise Unavailable("the engine is reading too many large requests at once: try again")
                    taken += wanted
                pieces.append(piece)
            return pieces[0] if len(pieces) == 1 else b"".join(pieces)
        finally:
            budget.give(taken)

    def send(self, status: int, fields: bytes, body: bytes) -> None:
        """Answer at once. ``fields`` are encoded header lines, each with its line end."""
        self._begin()
        line, connection = respond.status_line(status), self._connection_field()
        bodiless = status in (204, 304)
        length = b"" if bodiless else b"Content-Length: %d\r\n" % len(body)
        if bodiless or self.request.method == "HEAD":
            body = b""
        self._connection.write(b"".join((line, fields, connection, length, respond.date(), b"\r\n", body)))
        self.complete = True

    def start(self, status: int, fields: bytes) -> BodyWriter:
        """Send the head now and the body as it comes."""
        self._begin()
        if self.request.http10:
            self.keep_alive = False
            coding = b""
        else:
            coding = b"Transfer-Encoding: chunked\r\n"
        head = (respond.status_line(status), fields, self._connection_field(), coding, respond.date(), b"\r\n")
        self._connection.write(b"".join(head))
        return BodyWriter(self, self._connection)

    def hijack(self, head: bytes) -> HijackedDuplex:
        """Send ``head`` as it is, and have the connection as a byte stream."""
        if self.answered:
            raise RuntimeError("this request is answered already")
        self.answered = self.complete = True
        self.keep_alive = False
        return self._connection.hijack(head)

    def cut(self) -> None:
        """Give the answer up: the client sees the connection break."""
        if self.complete:
            self._connection.abort()  # hijacked, or answered: nothing is left to end properly
        else:
            self.answered = True

    def _begin(self) -> None:
        if self.answered:
            raise RuntimeError("this request is answered already")
        self.answered = True
        body = self.body
        if not body.complete and (
            self.awaits_continue or body.broken or body.length is None or body.length - body.received > 262144
        ):
            self.keep_alive = False  # more is to come than we would read off (E4)

    def _connection_field(self) -> bytes:
        if self.keep_alive:
            return b"Connection: keep-alive\r\n" if self.request.http10 else b""
        return b"Connection: close\r\n"


def _too_long(limit: int) -> BadRequest:
    return BadRequest(f"the request's body is longer than {limit} bytes", status=413)


class BodyWriter:
    """The body of an answer that has begun."""

    def __init__(self, exchange: Exchange, connection: Connection) -> None:
        self._exchange = exchange
        self._connection = connection
        self._chunked = not exchange.request.http10
        self._silent = exchange.request.method == "HEAD"
        self._since_yield = 0

    @property
    def pending(self) -> int:
        """Bytes written and not yet taken by the kernel."""
        return self._connection.pending

    async def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send bytes; waits while the client is behind. Raises ``ConnectionError`` when it is gone."""
        self._put(data)
        await self._drain()

    async def copy(self, pieces: AsyncIterable[bytes]) -> None:
        """Send a stream's pieces. While the client is behind none is kept but what is queued. Raises as ``write``."""
        async for piece in pieces:
            self._put(piece)
            del piece
            await self._drain()

    def _put(self, data: bytes | bytearray | memoryview) -> None:
        connection = self._connection
        if connection.closed:
            raise connection.lost or BrokenPipeError("the client closed the connection")
        if data and not self._silent and not self._exchange.complete:
            connection.write(encode_chunk(data) if self._chunked else bytes(data))
            self._since_yield += len(data)

    async def _drain(self) -> None:
        if self._connection.writing_paused:
            self._since_yield = 0
            await self._connection.drain()
        elif self._since_yield >= YIELD_EVERY:
            self._since_yield = 0
            await asyncio.sleep(0)

    def finish(self) -> None:
        """End the body; the router does it for handlers that return."""
        if not self._exchange.complete:
            self._exchange.complete = True
            if self._chunked and not self._silent:
                self._connection.write(LAST_CHUNK)
