"""One call of an operation, decoded: what a handler gets, and the ways it can answer beyond returning a value."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from typing import TYPE_CHECKING, Any

from wherry.api.errors import BadRequest
from wherry.api.operation import Operation
from wherry.engine.http.connection_exchange import BodyWriter, Exchange
from wherry.engine.http.duplex import HijackedDuplex
from wherry.engine.http.respond import RAW_STREAM, encode_fields
from wherry.wire.http1 import Headers

if TYPE_CHECKING:
    from wherry.engine.http.duplex_websocket import WebSocketDuplex


class Call:
    """A handler returns

    - None: the operation's success status with nothing in it;
    - a struct, list or dict: JSON with the success status; bytes: as they are;
    - an ``Answer``: status, body and headers of its choice (304 among them);
    - anything, after ``start``, ``hijack`` or ``websocket``: the body or stream is ended for it.

    It raises an ``ApiError`` for an error answer. Raised after ``start`` or ``hijack``, every exception breaks the
    connection off, so that the client can tell the answer from a complete one.
    """

    def __init__(
        self,
        exchange: Exchange,
        operation: Operation,
        version: tuple[int, int],
        params: dict[str, str],
        common: bytes,
    ) -> None:
        self.operation = operation
        self.version = version
        """The API version of the path, the newest where it has none."""
        self.params = params
        """The path's parameters, decoded."""
        self.query: Any = None
        """The operation's query struct."""
        self.body: Any = None
        """The operation's body type, decoded; None where there was no body, and for bodies that are streams."""
        self.writer: BodyWriter | None = None
        self._exchange = exchange
        self._common = common

    @property
    def headers(self) -> Headers:
        """The request's header fields; ``get`` ignores case."""
        return self._exchange.request.headers

    @property
    def content_length(self) -> int | None:
        """Bytes of the request's body; None for a chunked one."""
        return self._exchange.request.content_length

    @property
    def upgrade(self) -> str:
        """The Upgrade field, lower-cased; "" where there is none."""
        return self._exchange.request.upgrade

    @property
    def gone(self) -> bool:
        """True once nothing can be sent to the client any more."""
        return self._exchange.client_gone

    async def disconnected(self) -> None:
        """Wait until the client has left.

        A client that only closes its sending half has left too, as in moby; it still gets what is written. For a
        hijacked connection both ways must have ended.
        """
        await self._exchange.wait_gone()

    def stream(self) -> AsyncIterator[bytes]:
        """The raw body as it arrives; at most 64 KiB are read ahead.

        Iteration raises ``ConnectionError`` when the client leaves before its end.
        """
        return self._exchange.body

    async def start(
        self, status: int = 200, content_type: str | None = None, headers: Iterable[tuple[str, str]] = ()
    ) -> BodyWriter:
        """Send status and headers now; the body goes through the writer, in chunks."""
        fields = [("Content-Type", content_type)] if content_type is not None else []
        self.writer = self._exchange.start(status, self._common + encode_fields([*fields, *headers]))
        return self.writer

    async def hijack(
        self, content_type: str | None = None, *, headers: Iterable[tuple[str, str]] = ()
    ) -> HijackedDuplex:
        """Turn the connection into a byte stream: 101 where the client asked for an upgrade, else 200 (ATT1).

        ``content_type`` counts with an upgrade from API 1.42 on; everything else is told ``raw-stream``. The common
        headers follow for all operations but attach (EXE2).
        """
        if self.upgrade:
            if content_type is None or self.version < (1, 42):
                content_type = RAW_STREAM
            head = b"HTTP/1.1 101 UPGRADED\r\nContent-Type: %b\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n"
        else:
            content_type = RAW_STREAM
            head = b"HTTP/1.1 200 OK\r\nContent-Type: %b\r\n"
        common = b"" if self.operation.id == "ContainerAttach" else self._common
        return self._exchange.hijack(head % content_type.encode() + common + encode_fields(headers) + b"\r\n")

    async def websocket(self) -> WebSocketDuplex:
        """Accept the client's websocket handshake (WS1). Raises ``BadRequest`` where the request is none."""
        from wherry.engine.http.duplex_websocket import WebSocketDuplex
        from wherry.wire.websocket import WebSocketError, accept_handshake

        request = self._exchange.request
        try:
            fields = accept_handshake(request.method, request.headers)
        except WebSocketError as error:
            raise BadRequest(str(error)) from None
        head = b"HTTP/1.1 101 Switching Protocols\r\n" + encode_fields(fields) + b"\r\n"
        return WebSocketDuplex(self._exchange.hijack(head))
