# Made from _async/transport.py by scripts/generate_sync.py: change that, and run it.
"""The way to one engine: connections kept for reuse and given out one call each, and the API version agreed on."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from wherry.api.errors import ApiError, BadRequest, ConnectError, ProtocolError, Timeout
from wherry.api.operation import Reply
from wherry.api.version import format_version, parse_version
from wherry.client import negotiate
from wherry.client._sync import io
from wherry.client._sync.answer import Answer, Connection
from wherry.client.address import Address
from wherry.client.dial import Dialer, embedded_dialer
from wherry.client.request import Request, read_error, read_value
from wherry.client.timeouts import Timeouts
from wherry.wire.http1 import LAST_CHUNK, Response, encode_chunk, encode_request_head

if TYPE_CHECKING:
    import ssl

_KEPT = 64  # idle connections
_PIECE = 262144  # of an uploaded file, in bytes
_ERROR_LIMIT = 1 << 20
_REPEATABLE = ("GET", "HEAD")


class Transport:
    """Connections to one engine. Safe to share between threads or threads."""

    def __init__(self, address: Address, *, version: str | None = None) -> None:
        self.address = address
        self._version: tuple[int, int] | None = None
        self._prefix = ""
        if version is not None:
            try:
                self._set_version(parse_version(version))
            except ValueError:
                raise ConnectError(f"{version!r} is no API version; it should look like 1.43") from None
        self._idle: list[Connection] = []
        self._pid = os.getpid()
        self._context: ssl.SSLContext | None = None
        self._embedded: Dialer | None = None
        self._prepared = False
        self._closed = False
        self._preparing = io.Lock()
        self._agreeing = io.Lock()
        host = "docker"
        if address.kind == "tcp":
            host = f"[{address.host}]" if ":" in address.host else address.host
            host = f"{host}:{address.port}"
        self._headers = (("Host", host), ("User-Agent", "wherry"))
        self._plain = f"Host: {host}\r\nUser-Agent: wherry\r\n\r\n"

    def version(self, timeouts: Timeouts) -> tuple[int, int]:
        """The API version that calls use, agreed on with the engine at the first call."""
        if self._version is None:
            self._negotiate(timeouts)
        assert self._version is not None
        return self._version

    def call(self, request: Request, timeouts: Timeouts) -> Any:
        """Make a call that returns a JSON value, or None where the operation returns nothing."""
        if self._version is None:
            self._negotiate(timeouts)
        operation = request.operation
        if request.body is not None:
            answer = self.request(request, timeouts)
            body = answer.read_all()
            return read_value(request, body, answer.head.status)
        while True:
            connection = self._acquire(timeouts)
            try:
                self._send_head(connection, request, timeouts, True)
                head, body = connection.read_answer(request, timeouts.idle)
                break
            except ProtocolError as error:
                self._failed(connection, request, error)
            except BaseException:
                connection.stream.close()
                raise
        self._release(connection, head)
        if head.status not in operation.success:
            raise read_error(request, head.status, body)
        return read_value(request, body, head.status)

    def request(self, request: Request, timeouts: Timeouts, *, versioned: bool = True) -> Answer:
        """Send a request and wait for the head of its answer.

        Raises the ``ApiError`` that the answer is, if its status is none of the operation's successes.
        """
        if versioned and self._version is None:
            self._negotiate(timeouts)
        while True:
            connection = self._acquire(timeouts)
            try:
                answer = self._exchange(connection, request, timeouts, versioned)
                break
            except ProtocolError as error:
                self._failed(connection, request, error)
            except BaseException:
                connection.stream.close()
                raise
        return self._checked(answer)

    def begin(self, request: Request, timeouts: Timeouts) -> Connection:
        """Send the head of a request whose chunked body the caller sends."""
        if self._version is None:
            self._negotiate(timeouts)
        connection = self._acquire(timeouts)
        try:
            self._send_head(connection, request, timeouts, True)
        except BaseException:
            connection.stream.close()
            raise
        return connection

    def finish(self, connection: Connection, request: Request) -> Answer:
        """Wait for the answer to what ``begin`` began."""
        try:
            answer = connection.read_head(request, self._release)
        except BaseException:
            connection.stream.close()
            raise
        return self._checked(answer)

    def close(self) -> None:
        """Close the idle connections and end the use of the client; streams under way end with their own ``close``."""
        self._closed = True
        while self._idle:
            self._idle.pop().stream.close()
        embedded, self._embedded = self._embedded, None
        close = getattr(embedded, "close", None)
        if close is not None:
            io.in_worker(close)

    def _checked(self, answer: Answer) -> Answer:
        status = answer.head.status
        if status in answer.request.operation.success or status == 101:
            return answer
        try:
            body = answer.read_all(_ERROR_LIMIT)
        except (ProtocolError, Timeout):
            body = b""  # the status is worth more than the way the text of it was cut off
        raise read_error(answer.request, status, body)

    def _acquire(self, timeouts: Timeouts) -> Connection:
        if self._closed:
            raise ConnectError("the client is closed")
        if self._pid != os.getpid():
            # After a fork the connections are the parent's.
            self._pid = os.getpid()
            while self._idle:
                self._idle.pop().stream.abandon()
        while True:
            try:
                connection = self._idle.pop()
            except IndexError:
                break
            if not connection.stream.is_stale():
                return connection
            connection.stream.close()
        if not self._prepared:
            self._prepare()
        return Connection(io.open_stream(self.address, timeouts.connect, self._context, self._embedded))

    def _release(self, connection: Connection, head: Response) -> None:
        if head.keep_alive and not connection.parser.excess and not self._closed and len(self._idle) < _KEPT:
            connection.used = True
            self._idle.append(connection)
        else:
            connection.stream.close()

    def _prepare(self) -> None:
        """What must be there before the first connection: an SSL context, or an engine in this process."""
        with self._preparing:
            if self._prepared:
                return
            if self.address.tls is not None:
                from wherry.client.tls import make_context

                self._context = make_context(self.address.tls)
            if self.address.kind == "embedded":
                self._embedded = io.in_worker(embedded_dialer, self.address)
            self._prepared = True

    def _exchange(self, connection: Connection, request: Request, timeouts: Timeouts, versioned: bool) -> Answer:
        failure: ProtocolError | None = None
        try:
            self._send_head(connection, request, timeouts, versioned)
            if request.stream is not None:
                _send_body(connection.stream, request.stream)
        except ProtocolError as error:
            failure = error  # an engine that refuses a body answers first, and closes before it has read all
        try:
            answer = connection.read_head(request, self._release)
        except ProtocolError as error:
            raise failure or error from None
        if failure is not None and answer.head.status < 400:
            answer.close()
            raise failure
        if request.long or timeouts.idle is not None:
            connection.stream.set_timeout(timeouts.idle)
        return answer

    def _send_head(self, connection: Connection, request: Request, timeouts: Timeouts, versioned: bool) -> None:
        operation = request.operation
        hijack = operation.reply is Reply.HIJACK
        connection.sent = False
        connection.parser.expect(operation.method, hijack=hijack)
        connection.limit = timeouts.long_head if request.long else timeouts.head
        connection.stream.set_timeout(connection.limit)
        target = self._prefix + request.path if versioned else request.path
        if operation.method == "GET" and not request.headers:
            connection.stream.send(f"GET {target} HTTP/1.1\r\n{self._plain}".encode())
            connection.sent = True
            return
        headers = [*self._headers, *request.headers]
        if hijack:
            headers += [("Connection", "Upgrade"), ("Upgrade", "tcp")]
        if request.stream is not None:
            headers.append(("Transfer-Encoding", "chunked"))
        elif request.body is not None:
            headers.append(("Content-Length", str(len(request.body))))
        elif operation.method in ("POST", "PUT"):
            headers.append(("Content-Length", "0"))
        head = encode_request_head(operation.method, target, headers)
        connection.stream.send(head if request.body is None else head + request.body)
        connection.sent = True

    def _failed(self, connection: Connection, request: Request, error: ProtocolError) -> None:
        """Close a broken connection and raise the error, unless the call may be made again on a new one.

        It may be where a kept connection had ended just now, and the engine cannot have acted on the request.
        """
        harmless = request.operation.method in _REPEATABLE or not connection.sent
        again = connection.used and harmless and request.stream is None
        complaint = "" if again else io.in_worker(connection.stream.complaint)
        connection.stream.close()
        if complaint:  # the way to the engine (ssh) has its own words
            raise ConnectError(f"cannot connect to {self.address}: {complaint}") from error
        if not again:
            raise error
        while self._idle:
            self._idle.pop().stream.close()  # the others have likely ended too

    def _negotiate(self, timeouts: Timeouts) -> None:
        with self._agreeing:
            if self._version is not None:
                return
            try:
                answer = self.request(negotiate.ping_request("HEAD"), timeouts, versioned=False)
            except ApiError:
                answer = self.request(negotiate.ping_request("GET"), timeouts, versioned=False)
            answer.read_all(_ERROR_LIMIT)
            theirs = negotiate.announced_version(answer.headers, str(self.address))
            version = negotiate.choose_version(theirs, str(self.address))
            if negotiate.may_refuse(theirs):
                try:
                    answer = self.request(negotiate.versioned_ping(), timeouts, versioned=False)
                    answer.read_all(_ERROR_LIMIT)
                except BadRequest as error:
                    version = negotiate.minimum_version(error.message) or version
            self._set_version(version)

    def _set_version(self, version: tuple[int, int]) -> None:
        self._version = version
        self._prefix = f"/v{format_version(version)}"


def _send_body(stream: io.Stream, body: Any) -> None:
    """Send a body of unknown length: a binary file, or an iterable of bytes."""
    if hasattr(body, "read"):
        while piece := io.read_from(body, _PIECE):
            stream.send(encode_chunk(piece))
    else:
        for piece in io.iterate(body):
            if piece:
                stream.send(encode_chunk(piece))
    stream.send(LAST_CHUNK)
