"""A scripted engine for the client's tests, and a way to run one test with both colours of the client."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anyio.from_thread

import wherry
from wherry.wire.frames import encode_frame
from wherry.wire.http1 import Data, End, HttpError, Request, RequestParser

Handler = Callable[["Peer", "Received"], None]
INSPECT = {"Id": "abc", "Name": "/web", "State": {"Status": "running"}, "Config": {"Tty": False}, "NewField": 1}
MULTIPLEXED = "application/vnd.docker.multiplexed-stream"
RAW = "application/vnd.docker.raw-stream"
PING = {"Api-Version": "1.43", "Server": "Docker/24.0.9 (linux)", "Ostype": "linux"}


class Received:
    """A request as the engine got it."""

    def __init__(self, head: Request) -> None:
        self.head = head
        self.method = head.method
        self.path, _, self.query = head.target.partition("?")
        self.body = b""

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Peer:
    """The engine's side of one connection."""

    def __init__(self, connection: socket.socket, parser: RequestParser) -> None:
        self.socket = connection
        self.parser = parser
        self.hijacked = False

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def reply(self, status: int = 200, body: Any = b"", headers: dict[str, str] | None = None) -> None:
        """An answer with a Content-Length; anything but bytes as JSON."""
        fields = {"Api-Version": "1.43", **(headers or {})}
        if not isinstance(body, bytes):
            body = json.dumps(body).encode() + b"\n"
            fields.setdefault("Content-Type", "application/json")
        head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        self.send(f"HTTP/1.1 {status} X\r\n{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)

    def chunked(self, headers: dict[str, str] | None = None, status: int = 200) -> None:
        """The head of a chunked answer."""
        head = "".join(f"{name}: {value}\r\n" for name, value in (headers or {}).items())
        self.send(f"HTTP/1.1 {status} OK\r\n{head}Transfer-Encoding: chunked\r\n\r\n".encode())

    def chunk(self, data: bytes) -> None:
        """A chunk; the last one if empty."""
        self.send(b"%x\r\n%b\r\n" % (len(data), data))

    def hijack(self, content_type: str, early: bytes = b"") -> None:
        """Turn the connection into a stream."""
        self.hijacked = True
        fields = f"Content-Type: {content_type}\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n"
        self.send(f"HTTP/1.1 101 UPGRADED\r\n{fields}".encode() + early)

    def read(self) -> bytes:
        """Bytes of the hijacked stream; ``b""`` at the client's end of file."""
        return self.parser.release() or self.socket.recv(65536)

    def read_all(self) -> bytes:
        data = b""
        while piece := self.read():
            data += piece
        return data


class FakeEngine:
    """Serves ``routes`` ("GET /containers/x/json" without the version) on a unix socket, each connection in a thread.

    A route is a handler, or (status, body) for a plain answer. A handler that raises ``ConnectionAbortedError`` cuts
    the connection.
    """

    def __init__(self, path: Path) -> None:
        self.routes: dict[str, Handler | tuple[int, Any]] = {}
        self.received: list[Received] = []
        self.connections = 0
        self.versions: list[str] = []
        self.ping: dict[str, str] = dict(PING)
        self.path = path
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen(64)
        self._open: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        return f"unix://{self.path}"

    def last(self) -> Received:
        return self.received[-1]

    def close(self) -> None:
        for each in (self._listener, *self._open):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def serve(self, connection: socket.socket) -> None:
        """Answer the requests of one connection until it ends."""
        parser = RequestParser()
        peer = Peer(connection, parser)
        with contextlib.suppress(OSError, HttpError):
            while (request := self._read(connection, parser)) is not None:
                self._answer(peer, request)
                if peer.hijacked:
                    break
        with contextlib.suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)
        connection.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            self._open.append(connection)
            threading.Thread(target=self.serve, args=(connection,), daemon=True).start()

    def _read(self, connection: socket.socket, parser: RequestParser) -> Received | None:
        request: Received | None = None
        events = parser.next()
        while True:
            for event in events:
                if isinstance(event, Request):
                    request = Received(event)
                elif isinstance(event, Data):
                    assert request is not None
                    request.body += event.data
                elif isinstance(event, End):
                    return request
            data = connection.recv(65536)
            if not data:
                return None
            events = parser.feed(data)

    def _answer(self, peer: Peer, request: Received) -> None:
        path = request.path
        if path.startswith("/v1."):
            version, _, rest = path[2:].partition("/")
            self.versions.append(version)
            path = "/" + rest
        if request.path == "/_ping" and "HEAD /_ping" not in self.routes:
            body = b"" if request.method == "HEAD" else b"OK"
            head = "".join(f"{name}: {value}\r\n" for name, value in self.ping.items())
            peer.send(f"HTTP/1.1 200 OK\r\n{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
            return
        self.received.append(request)
        route = self.routes.get(f"{request.method} {path}")
        if route is None:
            peer.reply(404, {"message": "page not found"})
        elif isinstance(route, tuple):
            peer.reply(*route)
        else:
            route(peer, request)


class Blocking:
    """Anything of the async client as if it were the sync client's: calls run on a loop in another thread."""

    def __init__(self, target: Any, portal: anyio.from_thread.BlockingPortal) -> None:
        self._target = target
        self._portal = portal

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._target, name)
        if callable(value):
            return lambda *args, **kwargs: self._call(value, *args, **kwargs)
        return self._wrap(value)

    def __iter__(self) -> Blocking:
        return self

    def __next__(self) -> Any:
        try:
            return self._call(self._target.__anext__)
        except StopAsyncIteration:
            raise StopIteration from None

    def __enter__(self) -> Blocking:
        return self

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        self._call(self._target.__aexit__, kind, error, trace)

    def _call(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        async def run() -> Any:
            result = function(*args, **kwargs)
            return await result if hasattr(result, "__await__") else result

        return self._wrap(self._portal.call(run))

    def _wrap(self, value: Any) -> Any:
        module = type(value).__module__
        return Blocking(value, self._portal) if module.startswith("wherry.client._async") else value


@contextlib.contextmanager
def client_of(colour: str, address: str, **options: Any) -> Iterator[Any]:
    """A client of a colour, used as a sync one."""
    if colour == "sync":
        with wherry.connect(address, **options) as client:
            yield client
        return
    with (
        anyio.from_thread.start_blocking_portal() as portal,
        Blocking(wherry.connect_async(address, **options), portal) as client,
    ):
        yield client


FRAMES = encode_frame(1, b"one\n") + encode_frame(2, b"err\n") + encode_frame(1, b"two\n")


def chunks(content_type: str | None, *pieces: bytes) -> Any:
    """A route that answers with these chunks."""

    def handler(peer: Peer, request: Received) -> None:
        peer.chunked({"Content-Type": content_type} if content_type else None)
        for piece in pieces:
            peer.chunk(piece)
        peer.chunk(b"")

    return handler
