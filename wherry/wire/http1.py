"""HTTP/1.1 as both ends of the API need it: bytes in, events out, no I/O.

The head of a message is collected here and then given to llhttp (httptools), whole and in its strict mode; the body
is framed here. Three things that llhttp cannot do come out of that: it stops at an ``Upgrade`` before a body that
Docker's exec start does have; it does not say at which byte a message ended, which is where a hijacked stream begins;
and it does not know that the answer to HEAD has no body. Chunked answers, the one case with much to parse, go through
llhttp to the end.

A parser stops after each message. What follows stays in it until ``next`` asks for the next message or ``release``
hands the bytes over raw.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

import httptools

from wherry.wire.chunked import LAST_CHUNK, ChunkDecoder, ChunkError, encode_chunk
from wherry.wire.headers import Headers

__all__ = [
    "LAST_CHUNK",
    "MAX_HEAD",
    "Data",
    "End",
    "Event",
    "Headers",
    "HttpError",
    "Informational",
    "Request",
    "RequestParser",
    "Response",
    "ResponseParser",
    "encode_chunk",
    "encode_request_head",
    "encode_response_head",
]

MAX_HEAD = 65536
"""Longest accepted head of a message, in bytes."""

_BARE_LF = re.compile(rb"(?<!\r)\n")
_BAD_TARGET = re.compile(r"[\x00-\x20\x7f]")


class HttpError(ValueError):
    """The peer's bytes are not acceptable HTTP/1.1. ``status`` is what a server answers to them."""

    def __init__(self, status: int, message: str) -> None:
        self.status = status
        super().__init__(message)


class Request:
    """The head of a request.

    ``target`` is as sent (path and query). ``content_length`` is the number of body bytes, None for a chunked body.
    ``upgrade`` is the Upgrade field, lower-cased, "" where there is none.
    """

    __slots__ = ("chunked", "content_length", "expects_continue", "headers", "http10", "keep_alive", "method", "target")

    def __init__(self, method: str, target: str, headers: Headers, *, http10: bool) -> None:
        self.method = method
        self.target = target
        self.headers = headers
        self.http10 = http10
        self.keep_alive = _keep_alive(headers, http10)
        self.chunked, self.content_length = _body_framing(headers)
        if not self.chunked:
            self.content_length = self.content_length or 0
        self.expects_continue = not http10 and headers.get("expect").lower() == "100-continue"

    @property
    def upgrade(self) -> str:
        return self.headers.get("upgrade").lower()

    @property
    def has_body(self) -> bool:
        return self.content_length != 0

    def __repr__(self) -> str:
        return f"Request({self.method} {self.target})"


class Response:
    """The head of an answer.

    ``hijacked``: the connection is a byte stream from here on, fetch its first bytes with ``ResponseParser.release``.
    ``keep_alive``: another request may follow on the connection once the answer has ended.
    """

    __slots__ = ("chunked", "content_length", "headers", "hijacked", "http10", "keep_alive", "reason", "status")

    def __init__(self, status: int, reason: str, headers: Headers, *, http10: bool, method: str, hijack: bool) -> None:
        self.status = status
        self.reason = reason
        self.headers = headers
        self.http10 = http10
        self.chunked, self.content_length = _body_framing(headers)
        if method == "HEAD" or status in (204, 304):
            self.chunked, self.content_length = False, 0
        unframed = not self.chunked and self.content_length is None
        self.hijacked = status == 101 or (hijack and status == 200 and unframed)
        self.keep_alive = not unframed and not self.hijacked and _keep_alive(headers, http10)

    def __repr__(self) -> str:
        return f"Response({self.status} {self.reason})"


class Informational:
    """An interim answer, such as 100 Continue; the answer itself is still to come."""

    __slots__ = ("headers", "status")

    def __init__(self, status: int, headers: Headers) -> None:
        self.status = status
        self.headers = headers


class Data:
    """Bytes of the body. Chunk bounds are not kept."""

    __slots__ = ("data",)

    def __init__(self, data: bytes) -> None:
        self.data = data


class End:
    """The message is complete."""

    __slots__ = ()


Event = Request | Response | Informational | Data | End

_END = End()


def _keep_alive(headers: Headers, http10: bool) -> bool:
    tokens = headers.tokens("connection")
    return "keep-alive" in tokens if http10 else "close" not in tokens


def _body_framing(headers: Headers) -> tuple[bool, int | None]:
    """(chunked, Content-Length or None). llhttp has refused both at once, doubled and malformed lengths."""
    coding = headers.get("transfer-encoding")
    if coding:
        if coding.lower() != "chunked":
            raise HttpError(501, f"unsupported transfer encoding {coding!r}")
        return True, None
    length = headers.get("content-length")
    return False, int(length) if length else None


class _Head:
    """What llhttp reports of one head, and the body of a chunked answer."""

    __slots__ = ("again", "complete", "fields", "headers_complete", "on_body", "parts", "reason", "url")

    def __init__(self) -> None:
        self.url = b""
        self.reason = b""
        self.fields: list[tuple[bytes, bytes]] = []
        self.parts: list[bytes] = []
        self.on_body = self.parts.append  # called from C for each chunk: no frame of ours in between
        self.headers_complete = False
        self.complete = False
        self.again = False

    def on_message_begin(self) -> None:
        self.again = self.complete

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_status(self, reason: bytes) -> None:
        self.reason += reason

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self.headers_complete:  # else it is a trailer's
            self.fields.append((name, value))

    def on_headers_complete(self) -> None:
        self.headers_complete = True

    def on_message_complete(self) -> None:
        self.complete = True


def _split_head(buffer: bytearray, seen: int = 0) -> bytes | None:
    """Cut the head off the buffer, with its blank line; None while it is incomplete.

    The first ``seen`` bytes were there when it was last found incomplete: a head in small pieces is looked through once.
    """
    if buffer.startswith((b"\r", b"\n")):
        del buffer[: len(buffer) - len(buffer.lstrip(b"\r\n"))]
        seen = 0
    end = buffer.find(b"\r\n\r\n", max(0, seen - 3))
    if end < 0:
        if len(buffer) > MAX_HEAD:
            raise HttpError(431, f"the head of the message is longer than {MAX_HEAD} bytes")
        # said now: what is waited for may never come
        if buffer and not 0x20 < buffer[0] < 0x7F:
            raise HttpError(400, "malformed HTTP message: this is no HTTP (is it TLS?)")
        if _BARE_LF.search(buffer, seen):
            raise HttpError(400, "malformed HTTP message: a line ends without CR")
        return None
    if end + 4 > MAX_HEAD:
        raise HttpError(431, f"the head of the message is longer than {MAX_HEAD} bytes")
    head = bytes(buffer[: end + 4])
    del buffer[: end + 4]
    return head


def _parse_head(parser: httptools.HttpRequestParser | httptools.HttpResponseParser, found: _Head, head: bytes) -> bool:
    """Let llhttp read a head; True for HTTP/1.0."""
    try:
        parser.feed_data(head)
    except httptools.HttpParserUpgrade:
        pass
    except httptools.HttpParserError as error:
        _raise_from_within(error)
        # a 101 without "Connection: upgrade" is refused only after its head
        if not (found.headers_complete and isinstance(parser, httptools.HttpResponseParser)):
            raise HttpError(400, f"malformed HTTP message: {str(error) or type(error).__name__}") from error
    version = parser.get_http_version()
    if not found.headers_complete:
        raise HttpError(400, "malformed HTTP message: incomplete head")
    if version not in ("1.1", "1.0"):
        raise HttpError(505, f"unsupported HTTP version {version}")
    return version == "1.0"


def _raise_from_within(error: Exception) -> None:
    """What came up in a callback is no fault of the message: a signal's handler may run there, and raise KeyboardInterrupt."""
    if isinstance(error, httptools.HttpParserCallbackError) and error.__context__ is not None:
        raise error.__context__


def _check_request(method: str, found: _Head, head: bytes, *, http10: bool) -> None:
    """What llhttp lets pass and two servers in a row might read differently."""
    if not head.startswith(b"%b %b HTTP/" % (method.encode(), found.url)):
        raise HttpError(400, "malformed HTTP message: malformed request line")
    names = [name.lower() for name, _ in found.fields]
    if names.count(b"host") > 1:
        raise HttpError(400, "malformed HTTP message: more than one Host")
    if http10 and b"transfer-encoding" in names:
        raise HttpError(400, "malformed HTTP message: HTTP/1.0 has no transfer encodings")


class RequestParser:
    """Reads requests, one at a time.

    ``feed`` gives the events of the present message up to its ``End``; then the parser holds whatever follows until
    ``next`` or ``release``. Errors are ``HttpError``, after which the parser is of no further use.
    """

    def __init__(self) -> None:
        self._buffer = bytearray()  # unparsed bytes; empty inside a body
        self._seen = 0  # of them, those that no head ends in
        self._left = 0
        self._chunks: ChunkDecoder | None = None
        self._in_body = False
        self._holding = False

    @property
    def buffered(self) -> int:
        """Bytes held and not yet parsed."""
        return len(self._buffer)

    @property
    def idle(self) -> bool:
        """True between messages, with no byte of a next one there."""
        return not self._in_body and not self._buffer

    def feed(self, data: bytes) -> list[Event]:
        if self._holding:
            self._buffer += data
            return []
        if self._in_body:
            return self._body(data)
        self._buffer += data
        return self._head()

    def next(self) -> list[Event]:
        """Go on to the next message, after an ``End``: its events so far."""
        self._holding = False
        return self._head() if self._buffer else []

    def release(self) -> bytes:
        """Give up parsing, after an ``End``: the bytes that came behind the message."""
        rest = bytes(self._buffer)
        self._buffer.clear()
        self._holding = True
        return rest

    def _head(self) -> list[Event]:
        head = _split_head(self._buffer, self._seen)
        self._seen = len(self._buffer) if head is None else 0
        if head is None:
            return []
        found = _Head()
        parser = httptools.HttpRequestParser(found)
        http10 = _parse_head(parser, found, head)
        method = parser.get_method().decode("latin-1")
        _check_request(method, found, head, http10=http10)
        request = Request(method, found.url.decode("latin-1"), Headers.from_raw(found.fields), http10=http10)
        events: list[Event] = [request]
        if not request.has_body:
            self._holding = True
            events.append(_END)
            return events
        self._in_body = True
        if request.chunked:
            self._chunks = ChunkDecoder()
        else:
            self._left = request.content_length or 0
        if self._buffer:
            rest = bytes(self._buffer)
            self._buffer.clear()
            events += self._body(rest)
        return events

    def _body(self, data: bytes) -> list[Event]:
        if self._chunks is None:
            piece, rest = (data, b"") if len(data) <= self._left else (data[: self._left], data[self._left :])
            self._left -= len(piece)
            done = self._left == 0
        else:
            try:
                pieces = self._chunks.feed(data)
            except ChunkError as error:
                raise HttpError(400, f"malformed chunked body: {error}") from error
            piece = pieces[0] if len(pieces) == 1 else b"".join(pieces)
            rest, done = self._chunks.rest, self._chunks.done
        events: list[Event] = [Data(piece)] if piece else []
        if done:
            self._chunks = None
            self._in_body = False
            self._holding = True
            self._buffer += rest
            events.append(_END)
        return events


class ResponseParser:
    """Reads answers, one at a time.

    Call ``expect`` before each request is sent. ``feed`` gives the events of the answer up to its ``End``; bytes behind
    it set ``excess`` (the server answered what nobody asked: the connection must not be used again). Where the head
    says ``hijacked`` there is no ``Data`` and no ``End``: ``release`` gives the first bytes of the stream and the
    connection is the caller's. At the end of the connection call ``feed_eof``.
    """

    def __init__(self, method: str = "GET", *, hijack: bool = False) -> None:
        self.excess = False
        self.expect(method, hijack=hijack)

    def expect(self, method: str, *, hijack: bool = False) -> None:
        """Get ready for the answer to a request. ``hijack``: a 200 without any length turns into a byte stream."""
        self._method = method
        self._hijack = hijack
        self._buffer = bytearray()
        self._response: Response | None = None
        self._left: int | None = 0
        self._chunks: httptools.HttpResponseParser | None = None
        self._found: _Head | None = None
        self._ended = False

    def feed(self, data: bytes) -> list[Event]:
        if self._response is None:
            self._buffer += data
            return self._heads()
        if self._response.hijacked:
            self._buffer += data
            return []
        return self._body(data)

    def feed_eof(self) -> list[Event]:
        """The server closed its half. Raises ``HttpError`` where the answer is incomplete."""
        response = self._response
        if self._ended or (response is not None and response.hijacked):
            return []
        if response is None:
            what = "in the middle of the answer's head" if self._buffer else "before it answered"
            raise HttpError(400, f"the server closed the connection {what}")
        if response.chunked or response.content_length is not None:
            raise HttpError(400, "the server closed the connection in the middle of the answer")
        self._ended = True
        return [_END]

    def release(self) -> bytes:
        """The bytes behind a hijacked head."""
        rest = bytes(self._buffer)
        self._buffer.clear()
        return rest

    def _heads(self) -> list[Event]:
        events: list[Event] = []
        while (head := _split_head(self._buffer)) is not None:
            found = _Head()
            parser = httptools.HttpResponseParser(found)
            http10 = _parse_head(parser, found, head)
            status = parser.get_status_code()
            headers = Headers.from_raw(found.fields)
            if 100 <= status < 200 and status != 101:
                events.append(Informational(status, headers))
                continue
            reason = found.reason.decode("latin-1")
            response = Response(status, reason, headers, http10=http10, method=self._method, hijack=self._hijack)
            self._response = response
            events.append(response)
            if response.hijacked:
                return events
            if response.chunked:
                self._chunks, self._found = parser, found
            self._left = response.content_length
            rest = bytes(self._buffer)
            self._buffer.clear()
            events += self._body(rest)
            return events
        return events

    def _body(self, data: bytes) -> list[Event]:
        if self._ended:
            self.excess = self.excess or bool(data.strip(b"\r\n"))
            return []
        if self._chunks is not None:
            return self._chunked(data)
        if self._left is None:
            return [Data(data)] if data else []
        piece = data[: self._left]
        self._left -= len(piece)
        events: list[Event] = [Data(piece)] if piece else []
        if self._left == 0:
            self._ended = True
            events.append(_END)
            self.excess = self.excess or bool(data[len(piece) :].strip(b"\r\n"))
        return events

    def _chunked(self, data: bytes) -> list[Event]:
        assert self._chunks is not None
        assert self._found is not None
        found = self._found
        try:
            self._chunks.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            _raise_from_within(error)
            if not found.complete:
                raise HttpError(400, f"malformed chunked answer: {error}") from error
            found.again = True
        parts = found.parts
        events: list[Event] = []
        if parts:
            events.append(Data(parts[0] if len(parts) == 1 else b"".join(parts)))
            parts.clear()
        if found.complete:
            self._ended = True
            self.excess = self.excess or found.again
            self._chunks = self._found = None
            events.append(_END)
        return events


def encode_request_head(method: str, target: str, headers: Iterable[tuple[str, str]]) -> bytes:
    """The head of a request. Raises ``ValueError`` for text that would break out of its place."""
    if not method.isalpha() or _BAD_TARGET.search(target):
        raise ValueError(f"invalid request line: {method!r} {target!r}")
    return _encode_head(f"{method} {target} HTTP/1.1\r\n", headers)


def encode_response_head(status: int, reason: str, headers: Iterable[tuple[str, str]]) -> bytes:
    """The head of an answer. Raises ``ValueError`` for text that would break out of its place."""
    return _encode_head(f"HTTP/1.1 {status} {reason}\r\n", headers)


def _encode_head(first: str, headers: Iterable[tuple[str, str]]) -> bytes:
    lines = [f"{name}: {value}\r\n" for name, value in headers]
    text = f"{first}{''.join(lines)}\r\n"
    expected = len(lines) + 2
    if text.count("\n") != expected or text.count("\r") != expected or "\0" in text:
        raise ValueError("a header field must not contain CR, LF or NUL")
    return text.encode("latin-1")
