"""One client's connection: bytes in, requests handed to the server one after the other, bytes out.

States, in order: HTTP (parsing; requests are served strictly one at a time, pipelined ones wait in the parser), then
perhaps hijacked (every byte goes to a ``Duplex``), then lingering (what still comes is discarded so that the client
gets our last bytes and not a reset, E4).

The end comes in three kinds. *End-of-file*: the client will send no more; an answer can still be written (G6), but a
handler that only waits is told through ``gone``. *Hang-up*: the client has closed both ways; seen for hijacked
connections (``connection_hangup``). *Lost*: asyncio has dropped the connection.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, cast

from wherry.api.errors import BadRequest
from wherry.engine.http import respond
from wherry.engine.http.connection_body import RequestBody
from wherry.engine.http.connection_exchange import Exchange
from wherry.engine.http.duplex import HijackedDuplex
from wherry.wire.http1 import Data, End, Event, HttpError, Request, RequestParser

if TYPE_CHECKING:
    from wherry.engine.http.server import HttpServer

log = logging.getLogger(__name__)

READ_AHEAD = 65536
"""Most bytes taken from a client ahead of what its handler reads, in each buffer."""

HIGH_WATER, LOW_WATER = 65536, 16384
"""Queued bytes above which ``drain`` waits, and below which it returns."""

KEPT_BODY = 262144
"""An unread body of up to this many bytes is read off so that the connection can be kept (E4)."""

LINGER_SECONDS = 5.0
LINGER_BYTES = 64 << 20
"""How long, and for how many bytes, a client that has our last answer may go on sending before it is cut off (E4)."""


class Connection(asyncio.BufferedProtocol):
    """The protocol of one connection; ``HttpServer`` makes them.

    ``local`` is true for unix sockets and socket pairs, where a client's Host and Origin mean nothing.
    """

    def __init__(self, server: HttpServer, *, local: bool, secure: bool) -> None:
        self.server = server
        self.local = local
        self.secure = secure
        self.closed = False  # nothing can be written any more
        self.eof = False
        self.lost: ConnectionError | None = None
        self.was_behind = False  # much has been queued for the client at some time
        self._transport: asyncio.Transport
        self._fd = -1
        self._parser = RequestParser()
        self._body: RequestBody | None = None
        self._request: Request | None = None
        self._failure: HttpError | None = None
        self._exchange: Exchange | None = None
        self._duplex: HijackedDuplex | None = None
        self._sink: Callable[[bytes], None] | None = None
        self._task: asyncio.Task[None] | None = None
        self._reading = True
        self._writing_paused = False
        self._finished = False  # our sending half is closed, or about to be
        self._discarding = False
        self._lingered = 0
        self._linger_timer: asyncio.TimerHandle | None = None
        self._waiting_since: float | None = server.loop.time()  # for a request; None while one is served
        self._in_head = False  # the first bytes of a request are there, its head is not complete
        self._expired = False
        self._changed: asyncio.Future[None] | None = None  # something the request loop waits for has happened
        self._drained: asyncio.Future[None] | None = None
        self._gone: asyncio.Future[None] = server.loop.create_future()

    # -- what asyncio calls ------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=HIGH_WATER, low=LOW_WATER)
        sock = transport.get_extra_info("socket")
        self._fd = -1 if sock is None else sock.fileno()
        if not self.server.enter(self):
            self.abort()
            return
        self._task = self.server.loop.create_task(self._run())

    def get_buffer(self, sizehint: int) -> memoryview:
        if self._duplex is not None and not self._discarding:
            return self.server.read_buffer[: max(1, min(READ_AHEAD, self._duplex.room))]
        return self.server.read_buffer

    def buffer_updated(self, nbytes: int) -> None:
        data = bytes(self.server.read_buffer[:nbytes])
        if self._sink is not None:
            self._sink(data)
        else:
            self._parse(data)

    def eof_received(self) -> bool:
        self.eof = True
        if self._duplex is not None:
            self._duplex.feed_eof()
        elif self._body is not None and not self._body.complete:
            self._body.fail(ConnectionResetError("the client closed the connection within the request's body"))
        self._signal_gone(hijacked=False)
        self._notify()
        if self._linger_timer is not None:
            self._end_linger()
        return True

    def pause_writing(self) -> None:
        self._writing_paused = self.was_behind = True

    def resume_writing(self) -> None:
        self._writing_paused = False
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)
        if self._duplex is not None:
            self._duplex.writable()

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = self.eof = True
        self.lost = ConnectionResetError("the connection to the client is gone")
        if self._fd >= 0:
            self.server.hangups.remove(self._fd)
        if self._linger_timer is not None:
            self._linger_timer.cancel()
        if self._body is not None:
            self._body.fail(self.lost)
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)
        self._signal_gone(hijacked=True)
        self._notify()
        if self._duplex is not None:
            self._duplex.lose(self.lost)
        self.server.leave(self)

    # -- bytes in ----------------------------------------------------------------------------------------------------

    def _parse(self, data: bytes) -> None:
        try:
            events = self._parser.feed(data)
        except HttpError as error:
            self._fail(error)
        else:
            self._take(events)
            if not events and not self._in_head and self._waiting_since is not None:
                self._await_head()
        self.update_reading()

    def _take(self, events: list[Event]) -> None:
        for event in events:
            if isinstance(event, Data):
                assert self._body is not None
                self._body.put(event.data)
            elif isinstance(event, Request):
                self._request = event
                self._waiting_since, self._in_head = None, False
                self._body = RequestBody(
                    length=event.content_length, on_wanted=self._send_continue, on_room=self.update_reading
                )
                self._notify()
            elif isinstance(event, End):
                assert self._body is not None
                self._body.finish()

    def _fail(self, error: HttpError) -> None:
        self._failure = error
        self._start_discarding()
        if self._body is not None:
            self._body.fail(BadRequest(str(error), status=error.status))
        self._notify()

    def _await_head(self) -> None:
        """Waiting for a request, or for the rest of its head, begins now."""
        self._waiting_since, self._in_head = self.server.loop.time(), self._parser.buffered > 0

    # -- limits ------------------------------------------------------------------------------------------------------

    @property
    def idle_since(self) -> float | None:
        """When this connection began to wait for a request, of which no byte is there yet; None if it does not."""
        waits = not self._in_head and not self._expired and self._failure is None and not self._finished
        return self._waiting_since if waits else None

    def check_time(self, now: float) -> None:
        """End a connection whose request does not come (in time)."""
        if self._waiting_since is None or self._expired or self._failure is not None or self._finished:
            return
        waited = now - self._waiting_since
        if self._in_head:
            if waited > self.server.limits.head:
                self.refuse(408, f"the head of the request did not arrive within {self.server.limits.head:g} s")
        elif waited > self.server.limits.idle:
            self.expire()

    def expire(self) -> None:
        """End an idle connection."""
        self._expired = True
        self._notify()

    def refuse(self, status: int, message: str) -> None:
        """Serve no request (more): answer this, and close."""
        self._fail(HttpError(status, message))

    def _start_discarding(self) -> None:
        self._sink = self._discard
        self._discarding = True

    def _discard(self, data: bytes) -> None:
        self._lingered += len(data)
        if self._linger_timer is not None and self._lingered > LINGER_BYTES:
            self._end_linger()

    def update_reading(self) -> None:
        """Read from the client exactly while there is room for what comes."""
        if self._discarding:
            wanted = True
        elif self._duplex is not None:
            wanted = self._duplex.room > 0
        else:
            # without a body no request is being served: what is buffered then is part of a head, which has its own limit
            wanted = self._body is None or (self._parser.buffered < READ_AHEAD and not self._body.full)
        if wanted != self._reading and not self.eof:
            self._reading = wanted
            if wanted:
                self._transport.resume_reading()
            else:
                self._transport.pause_reading()

    def _send_continue(self) -> None:
        """The handler wants the body of a client that asked first (``Expect: 100-continue``)."""
        exchange = self._exchange
        if exchange is not None and exchange.awaits_continue:
            exchange.awaits_continue = False
            if not exchange.answered:
                self.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    # -- bytes out ---------------------------------------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        """Queue bytes; dropped once the connection is gone or our half of it closed."""
        if not (self.closed or self._finished or self._transport.is_closing()):
            self._transport.write(data)

    @property
    def pending(self) -> int:
        return 0 if self.closed else self._transport.get_write_buffer_size()

    @property
    def writing_paused(self) -> bool:
        return self._writing_paused

    async def drain(self) -> None:
        """Wait until the queue is short enough. Raises ``ConnectionError`` when the client is gone."""
        while self._writing_paused and not self.closed:
            if self._drained is None or self._drained.done():
                self._drained = self.server.loop.create_future()
            await asyncio.shield(self._drained)
        if self.closed:
            raise self.lost or BrokenPipeError("the client closed the connection")

    async def flush(self) -> None:
        """Wait until the kernel has everything. Raises ``ConnectionError`` when the client is gone."""
        if not self.closed:
            self._transport.set_write_buffer_limits(high=0)
            self._writing_paused = self.pending > 0
        try:
            await self.drain()
        finally:
            if not self.closed:
                self._transport.set_write_buffer_limits(high=HIGH_WATER, low=LOW_WATER)

    # -- the request loop --------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        try:
            while (request := await self._next_request()) is not None:
                assert self._body is not None
                self._exchange = Exchange(self, request, self._body)
                await self.server.serve(self._exchange)
                if not await self._conclude(self._exchange):
                    break
                self._exchange = self._body = None
                self._await_head()
                try:
                    self._take(self._parser.next())
                except HttpError as error:
                    self._fail(error)
                self.update_reading()
            if self._failure is not None and (self._exchange is None or not self._exchange.answered):
                self.write(respond.protocol_error(self._failure.status, str(self._failure)))
            await self.finish()
        except ConnectionError:
            self.abort()
        except asyncio.CancelledError:
            self.abort()
            raise
        except Exception:
            log.exception("serving a connection failed")
            self.abort()

    async def _next_request(self) -> Request | None:
        while self._request is None:
            if self._failure is not None or self._expired or self.eof or self.server.closing:
                return None
            self._changed = self.server.loop.create_future()
            await self._changed
        request, self._request = self._request, None
        return request

    async def _conclude(self, exchange: Exchange) -> bool:
        """Bring an exchange to its end; True when another request may follow."""
        if self._duplex is not None:
            await self._duplex.close()
            return False
        body = exchange.body
        if not exchange.answered or not exchange.complete:
            await self._cut()
            return False
        if self._writing_paused:
            try:
                async with asyncio.timeout(self.server.limits.answer):
                    await self.drain()
            except TimeoutError:
                self.abort()
                return False
        if not exchange.keep_alive or self.server.closing:
            return False
        if not body.complete:
            body.discard()
            try:
                async with asyncio.timeout(LINGER_SECONDS):
                    await body.wait_complete()
            except TimeoutError:
                return False
        return body.complete

    async def _cut(self) -> None:
        """The answer broke off: let what is written out, then end without the last chunk."""
        try:
            await self.flush()
        finally:
            self.abort()

    def _notify(self) -> None:
        if self._changed is not None and not self._changed.done():
            self._changed.set_result(None)

    # -- hijacking, and the end --------------------------------------------------------------------------------------

    def hijack(self, head: bytes) -> HijackedDuplex:
        """Answer with ``head`` and turn the connection into a byte stream; it begins behind the request's body."""
        self.write(head)
        duplex = self._duplex = HijackedDuplex(self)
        if self._body is None or self._body.complete:
            self._start_stream()
        else:
            self._sink = self._skip_body
        if self.eof:
            duplex.feed_eof()
        if self.closed:
            duplex.lose(self.lost or BrokenPipeError("the client closed the connection"))
        elif self._fd >= 0:
            self.server.hangups.add(self._fd, self._hang_up)
        self.update_reading()
        return duplex

    def _start_stream(self) -> None:
        assert self._duplex is not None
        self._sink = self._duplex.feed
        early = self._parser.release()
        if early:
            self._duplex.feed(early)

    def _skip_body(self, data: bytes) -> None:
        try:
            events = self._parser.feed(data)
        except HttpError:
            self.abort()
            return
        if any(isinstance(event, End) for event in events):
            self._start_stream()
            self.update_reading()

    def _hang_up(self) -> None:
        """Both directions are down. What the client sent before may still be read."""
        self.closed = True
        self._signal_gone(hijacked=True)
        if self._duplex is not None:
            self._duplex.hang_up()
        if self.eof or self._finished:
            self.abort()

    def _signal_gone(self, *, hijacked: bool) -> None:
        if (hijacked or self._duplex is None) and not self._gone.done():
            self._gone.set_result(None)

    async def wait_gone(self) -> None:
        """Wait until the client has left: end-of-file for a plain request, the end of both ways for a hijacked one."""
        await asyncio.shield(self._gone)

    async def finish(self) -> None:
        """Send what is queued, close our half and, in the background, wait for the client to close its own."""
        if self._finished:
            return
        if self.closed:
            self.abort()
            return
        try:
            await self.flush()
        except ConnectionError:
            self.abort()
            return
        if self._finished:
            return
        self._finished = True
        unread = self._parser.buffered or not (self._body is None or self._body.complete)
        clean = self._duplex is None and self._failure is None and not unread
        if self.eof or clean:
            self.closed = True
            self._transport.close()
            return
        try:
            self._transport.write_eof()
        except OSError:  # the client was faster
            self.abort()
            return
        self._start_discarding()
        self._linger_timer = self.server.loop.call_later(LINGER_SECONDS, self._end_linger)
        self.update_reading()

    def _end_linger(self) -> None:
        self.closed = True
        self._transport.close()

    def abort(self) -> None:
        """Drop the connection at once, with whatever is queued."""
        self.closed = self._finished = True
        self._transport.abort()

    def shut(self) -> None:
        """The server is closing: an idle connection ends now, one that is being served loses its handler."""
        if self._task is not None and not self._task.done():
            if self._exchange is None:
                self._notify()
            else:
                self._task.cancel()
        else:
            self.abort()

    async def wait_done(self) -> None:
        if self._task is not None:
            await asyncio.wait([self._task])
