# Made from _async/answer.py by scripts/generate_sync.py: change that, and run it.
"""One connection and the answer on it."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING, Any

from wherry.api.errors import ProtocolError, Timeout
from wherry.client.request import Request
from wherry.wire.http1 import Data, End, Headers, HttpError, Response, ResponseParser

if TYPE_CHECKING:
    from wherry.client._sync import io


class Connection:
    """A stream with the parser of its answers.

    ``used``: it has carried an answer before. ``sent``: all of the present request went out. ``limit``: seconds until
    the head of its answer must be there, None for no limit.
    """

    __slots__ = ("limit", "parser", "sent", "stream", "used")

    def __init__(self, stream: io.Stream) -> None:
        self.stream = stream
        self.limit: float | None = None
        self.parser = ResponseParser()
        self.used = self.sent = False

    def read_head(self, request: Request, release: Callable[[Connection, Response], None]) -> Answer:
        """Wait for the head of the answer."""
        began = monotonic()
        while True:
            for index, event in enumerate(events := self.read_events(request, 65536)):
                if type(event) is Response:
                    answer = Answer(self, request, event, release)
                    answer.take(events[index + 1 :])
                    return answer
            self._check_limit(request, began)

    def _check_limit(self, request: Request, began: float) -> None:
        """A head that comes piece by piece, or after interim answers, has no more time than one that comes at once."""
        if self.limit is not None and monotonic() - began >= self.limit:
            raise request.timeout(f"the head of the engine's answer was not there within {self.limit:g} s")

    def read_answer(self, request: Request, idle: float | None) -> tuple[Response, bytes]:
        """The whole of an answer that is no stream. Kept flat: most calls are of this kind."""
        began = monotonic()
        stream, parser = self.stream, self.parser
        head: Response | None = None
        pieces: list[bytes] = []
        while True:
            try:
                data = stream.receive()
            except Timeout as error:
                raise request.timeout(error) from None
            try:
                events = parser.feed(data) if data else parser.feed_eof()
            except HttpError as error:
                raise ProtocolError(f"{request.operation.method} {request.path}: {error}") from error
            for event in events:
                kind = type(event)
                if kind is Data:
                    pieces.append(event.data)  # type: ignore[union-attr]
                elif kind is Response:
                    head = event  # type: ignore[assignment]
                elif kind is End and head is not None:
                    return head, pieces[0] if len(pieces) == 1 else b"".join(pieces)
            if not data:
                raise ProtocolError(f"{request.operation.method} {request.path}: the answer has no end")
            if head is None:
                self._check_limit(request, began)
            elif idle is not None:
                stream.set_timeout(idle)

    def read_events(self, request: Request, limit: int) -> list[Any]:
        """What the next bytes mean. Raises ``ProtocolError`` where they mean nothing, or end too early."""
        try:
            data = self.stream.receive(limit)
        except Timeout as error:
            raise request.timeout(error) from None
        try:
            events = self.parser.feed(data) if data else self.parser.feed_eof()
        except HttpError as error:
            raise ProtocolError(f"{request.operation.method} {request.path}: {error}") from error
        if not data and not events:
            raise ProtocolError(f"{request.operation.method} {request.path}: the answer has no end")
        return events


class Answer:
    """An answer whose head is in. ``read`` gives the body piece by piece; at its end the connection goes back."""

    __slots__ = ("_connection", "_pieces", "_release", "complete", "head", "request")

    def __init__(
        self,
        connection: Connection,
        request: Request,
        head: Response,
        release: Callable[[Connection, Response], None],
    ) -> None:
        self._connection: Connection | None = connection
        self._release = release
        self._pieces: list[bytes] = []
        self.request = request
        self.head = head
        self.complete = False

    @property
    def headers(self) -> Headers:
        """The answer's header fields."""
        return self.head.headers

    def read(self, limit: int = 65536) -> bytes:
        """The next bytes of the body, ``b""`` at its end."""
        while not self._pieces:
            if self.complete:
                return b""
            connection = self._connection
            if connection is None:
                raise ProtocolError("the answer was closed before its end")
            try:
                self.take(connection.read_events(self.request, limit))
            except Exception:
                self.close()  # a read that was merely cancelled may be repeated
                raise
        pieces = self._pieces
        data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        self._pieces = []
        return data

    def read_all(self, limit: int | None = None) -> bytes:
        """The whole body; no more than about ``limit`` bytes if one is given. Broken off, it closes the answer."""
        try:
            data = self.read()
            if self.complete and not self._pieces:
                return data
            pieces = [data]
            size = len(data)
            while limit is None or size < limit:
                data = self.read()
                if not data:
                    break
                pieces.append(data)
                size += len(data)
        finally:
            self.close()
        return b"".join(pieces)

    def take_stream(self) -> tuple[io.Stream, bytes]:
        """The raw connection of a hijacked answer, with the bytes that came right behind the head."""
        connection = self._connection
        if connection is None or not self.head.hijacked:
            self.close()
            raise ProtocolError(f"{self.request.path} did not become a stream: the engine answered {self.head.status}")
        self._connection = None
        self.complete = True
        return connection.stream, connection.parser.release()

    def close(self) -> None:
        """Let go of the connection; an answer that is not read to its end takes the connection with it."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.stream.close()

    def abort(self) -> None:
        """End the connection under whoever reads from it."""
        connection = self._connection
        if connection is not None:
            connection.stream.abort()

    def take(self, events: list[Any]) -> None:
        """Note what the parser found."""
        for event in events:
            if type(event) is Data:
                self._pieces.append(event.data)
            elif type(event) is End:
                self.complete = True
                connection, self._connection = self._connection, None
                if connection is not None:
                    self._release(connection, self.head)
