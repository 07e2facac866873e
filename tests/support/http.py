"""A small HTTP client for the tests: it shows the wire as it is, where Wherry's own client would hide it."""

from __future__ import annotations

import json as jsonlib
import os
import socket
import struct
import time
from collections.abc import Callable, Iterator, Mapping
from types import TracebackType
from typing import Any
from urllib.parse import quote, urlencode

PATIENCE = float(os.environ.get("WHERRY_TEST_PATIENCE", "1"))
"""What deadlines are multiplied by: more than 1 on machines that are many times slower than usual."""

TIMEOUT = 30.0 * PATIENCE
NOTHING: Any = object()


Headers = dict[str, str]
"""Header fields by lower-case name; the last of several wins."""


class Exchange:
    """One request sent and the head of its answer read; the body is still to come.

    ``status``, ``reason``, ``version`` (``HTTP/1.1``), ``headers``. Read with ``read``, ``lines``, ``json_values``, or, after a
    hijack, with ``frames``, ``recv`` and ``send``.
    """

    def __init__(self, sock: socket.socket, method: str = "GET") -> None:
        self.sock = sock
        self._file = sock.makefile("rb")
        line = self._file.readline().decode("latin-1")
        if not line:
            raise ConnectionError("the engine closed the connection without an answer")
        self.version, status, self.reason = [*line.rstrip("\r\n").split(" ", 2), ""][:3]
        self.status = int(status)
        self.headers: Headers = {}
        while (line := self._file.readline().decode("latin-1")) not in ("\r\n", "\n", ""):
            name, _, value = line.partition(":")
            self.headers[name.strip().lower()] = value.strip()
        self._bodiless = method == "HEAD" or self.status in (204, 304)

    @property
    def chunked(self) -> bool:
        return "chunked" in self.headers.get("transfer-encoding", "")

    def chunks(self) -> Iterator[bytes]:
        """The body piece by piece: by chunk, by what arrives, or at once when its length is known."""
        if self._bodiless:
            return
        if self.chunked:
            while size := int(self._file.readline() or b"0", 16):
                yield self._file.read(size)
                self._file.readline()
            self._file.readline()
        elif (length := self.headers.get("content-length")) is not None:
            yield self._file.read(int(length))
        else:
            while data := self.recv():
                yield data

    def read(self) -> bytes:
        """The rest of the body."""
        return b"".join(self.chunks())

    def lines(self) -> Iterator[bytes]:
        pending = b""
        for chunk in self.chunks():
            *whole, pending = (pending + chunk).split(b"\n")
            yield from whole
        if pending:
            yield pending

    def json_values(self) -> Iterator[Any]:
        return (jsonlib.loads(line) for line in self.lines() if line.strip())

    def frames(self, chunked: bool | None = None) -> Iterator[tuple[int, bytes]]:
        """The stdout/stderr frames of a stream, whole."""
        source = self.chunks()
        pending = b""
        while True:
            while len(pending) < 8 or len(pending) < 8 + struct.unpack(">I", pending[4:8])[0]:
                piece = next(source, b"")
                if not piece:
                    assert not pending, f"a torn frame at the end: {pending[:40]!r}"
                    return
                pending += piece
            size = struct.unpack(">I", pending[4:8])[0]
            assert pending[1:4] == b"\0\0\0", f"not a frame: {pending[:40]!r}"
            yield pending[0], pending[8 : 8 + size]
            pending = pending[8 + size :]

    def recv(self) -> bytes:
        """What has arrived, at least one byte; empty at the end."""
        return self._file.read1(1 << 16)

    def read_until(self, wanted: bytes) -> bytes:
        """Raw bytes up to and with ``wanted``; fails when the stream ends first."""
        seen = b""
        while wanted not in seen:
            piece = self.recv()
            assert piece, f"the stream ended before {wanted!r}: {seen!r}"
            seen += piece
        return seen

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def send_eof(self) -> None:
        self.sock.shutdown(socket.SHUT_WR)

    def at_end(self, within: float = TIMEOUT) -> bool:
        """Whether the peer ends the stream in this time; data before the end is dropped."""
        self.sock.settimeout(within)
        try:
            while self.recv():
                pass
        except TimeoutError:
            return False
        except ConnectionError:
            return True
        finally:
            self.sock.settimeout(TIMEOUT)
        return True

    def close(self) -> None:
        self._file.close()
        self.sock.close()

    def __enter__(self) -> Exchange:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


class Answer:
    """A whole answer: ``status``, ``headers``, ``body``; ``json`` decodes, ``message`` is the error's text."""

    def __init__(self, exchange: Exchange) -> None:
        self.status, self.reason, self.headers = exchange.status, exchange.reason, exchange.headers
        self.body = exchange.read()

    @property
    def json(self) -> Any:
        return jsonlib.loads(self.body)

    @property
    def message(self) -> str:
        decoded = self.json
        assert list(decoded) == ["message"], f"E1: an error body has the key message alone: {decoded}"
        return str(decoded["message"])

    def __repr__(self) -> str:
        return f"<{self.status} {self.body[:300]!r}>"


class Http:
    """Calls to the engine at a unix socket, a connection each. ``prefix`` is the version put before every target."""

    def __init__(self, path: str, prefix: str = "") -> None:
        self.path = path
        self.prefix = prefix

    def connect(self, timeout: float = TIMEOUT) -> socket.socket:
        sock = socket.socket(socket.AF_UNIX)
        sock.settimeout(timeout)
        sock.connect(self.path)
        return sock

    def open(
        self,
        method: str,
        target: str,
        *,
        query: Mapping[str, Any] | None = None,
        json: Any = NOTHING,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        upgrade: bool = False,
        timeout: float = TIMEOUT,
        prefix: str | None = None,
    ) -> Exchange:
        """Send the request and read the head of the answer."""
        fields = {"Host": "docker"}
        if json is not NOTHING:
            body = jsonlib.dumps(json).encode()
            fields["Content-Type"] = "application/json"
        if body is not None:
            fields["Content-Length"] = str(len(body))
        if upgrade:
            fields |= {"Connection": "Upgrade", "Upgrade": "tcp"}
        fields |= dict(headers or {})
        if query:
            target += "?" + urlencode({k: jsonlib.dumps(v) if isinstance(v, dict) else v for k, v in query.items()})
        head = f"{method} {self.prefix if prefix is None else prefix}{target} HTTP/1.1\r\n"
        head += "".join(f"{name}: {value}\r\n" for name, value in fields.items()) + "\r\n"
        sock = self.connect(timeout)
        try:
            sock.sendall(head.encode("latin-1"))
            try:
                sock.sendall(body or b"")
            except (BrokenPipeError, ConnectionResetError):
                pass  # an answer may have come before the body was read
            return Exchange(sock, method)
        except BaseException:
            sock.close()
            raise

    def call(self, method: str, target: str, **options: Any) -> Answer:
        """Send the request and read the whole answer."""
        with self.open(method, target, **options) as exchange:
            return Answer(exchange)

    def get(self, target: str, **options: Any) -> Answer:
        return self.call("GET", target, **options)

    def post(self, target: str, **options: Any) -> Answer:
        return self.call("POST", target, **options)

    def put(self, target: str, **options: Any) -> Answer:
        return self.call("PUT", target, **options)

    def delete(self, target: str, **options: Any) -> Answer:
        return self.call("DELETE", target, **options)

    def head(self, target: str, **options: Any) -> Answer:
        return self.call("HEAD", target, **options)

    def raw(self, request: bytes, *, half_close: bool = False, timeout: float = TIMEOUT) -> bytes:
        """Send these bytes, and read until the engine closes."""
        with self.connect(timeout) as sock:
            sock.sendall(request)
            if half_close:
                sock.shutdown(socket.SHUT_WR)
            answer = b""
            while data := sock.recv(1 << 16):
                answer += data
            return answer


def segment(text: str) -> str:
    """A path segment, quoted."""
    return quote(text, safe="")


def eventually(check: Callable[[], Any], *, within: float = 20.0, what: str | Callable[[], object] = "") -> Any:
    """The first true value of ``check``, asked again and again until the deadline."""
    deadline = time.monotonic() + within * PATIENCE
    pause = 0.005
    while True:
        value = check()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {within} s: {what() if callable(what) else what or check}")
        time.sleep(pause)
        pause = min(pause * 1.5, 0.1)
