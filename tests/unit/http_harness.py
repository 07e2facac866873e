"""A server on a unix socket with handlers of the test's own, and a client that shows every byte."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

from wherry.api.operation import Body, Operation, Reply
from wherry.engine.http.call import Call
from wherry.engine.http.router import Router
from wherry.engine.http.server import HttpServer
from wherry.engine.http.server_limits import Limits
from wherry.wire.http1 import Data, End, Response, ResponseParser

Get = Operation(id="Get", method="GET", path="/get/{id}", tag="Test", reply=Reply.JSON)
Head = Operation(id="Head", method="HEAD", path="/get/{id}", tag="Test")
Post = Operation(id="Post", method="POST", path="/post/{id}", tag="Test", success=(204, 304))
Put = Operation(id="Put", method="PUT", path="/put/{id}", tag="Test", body=Body.STREAM)
Send = Operation(
    id="Send", method="POST", path="/send", tag="Test", body=Body.JSON, body_type=dict[str, Any], success=(201,)
)
Attach = Operation(id="ContainerAttach", method="POST", path="/containers/{id}/attach", tag="Test", reply=Reply.HIJACK)
Exec = Operation(
    id="ExecStart",
    method="POST",
    path="/exec/{id}/start",
    tag="Test",
    body=Body.JSON,
    body_type=dict[str, Any],
    body_required=True,
    reply=Reply.HIJACK,
)
Socket = Operation(id="Socket", method="GET", path="/containers/{id}/attach/ws", tag="Test", reply=Reply.WEBSOCKET)

Handler = Callable[[Call], Awaitable[object]]


class Client:
    """A raw connection."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self._loop = asyncio.get_running_loop()
        self._rest = b""

    async def send(self, data: bytes) -> None:
        await self._loop.sock_sendall(self.sock, data)

    async def recv(self, size: int = 65536) -> bytes:
        if self._rest:
            data, self._rest = self._rest, b""
            return data
        return await asyncio.wait_for(self._loop.sock_recv(self.sock, size), 10)

    async def until_eof(self) -> bytes:
        data = b""
        while piece := await self.recv():
            data += piece
        return data

    async def exactly(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            piece = await self.recv()
            assert piece, data
            data += piece
        self._rest, data = data[size:], data[:size]
        return data

    async def head(self) -> bytes:
        """Up to the blank line, and with it."""
        data = b""
        while b"\r\n\r\n" not in data:
            piece = await self.recv()
            assert piece, data
            data += piece
        head, _, self._rest = data.partition(b"\r\n\r\n")
        return head + b"\r\n\r\n"

    async def response(self, method: str = "GET") -> tuple[Response, bytes]:
        """One answer with its body; what follows it stays for the next."""
        head = await self.head()
        parser = ResponseParser(method)
        events = parser.feed(head)
        response = events[0]
        assert isinstance(response, Response), events
        body = b""
        while not any(isinstance(event, End) for event in events):
            if response.content_length is not None:
                events = parser.feed(await self.exactly(response.content_length))
            else:
                data = await self.recv()
                events = parser.feed(data) if data else parser.feed_eof()
            body += b"".join(event.data for event in events if isinstance(event, Data))
        return response, body

    def half_close(self) -> None:
        self.sock.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        self.sock.close()


class Served:
    def __init__(self, server: HttpServer, path: Path) -> None:
        self.server = server
        self.path = path
        self._clients: list[Client] = []

    async def connect(self) -> Client:
        sock = socket.socket(socket.AF_UNIX)
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, str(self.path))
        client = Client(sock)
        self._clients.append(client)
        return client

    def close_clients(self) -> None:
        for client in self._clients:
            client.close()

    async def quiet(self) -> None:
        """Wait until the server has no connection left."""
        await asyncio.sleep(0.02)  # for connections that are still to be accepted
        async with asyncio.timeout(5):
            while self.server.connections:
                await asyncio.sleep(0.005)


@contextlib.asynccontextmanager
async def serving(handlers: dict[Operation | str, Handler], limits: Limits | None = None) -> AsyncIterator[Served]:
    with tempfile.TemporaryDirectory() as directory:
        server = HttpServer(Router(handlers).handle, limits=limits)
        served = Served(server, Path(directory) / "s.sock")
        await server.listen_unix(served.path)
        try:
            yield served
        finally:
            served.close_clients()
            await server.close()
            assert server.connections == 0


def run(test: Callable[[], Awaitable[None]]) -> None:
    async def timed() -> None:
        async with asyncio.timeout(30):
            await test()

    asyncio.run(timed())


def get(target: str, *fields: str, method: str = "GET", version: str = "1.1") -> bytes:
    lines = [f"{method} {target} HTTP/{version}", "Host: d", *fields, "", ""]
    return "\r\n".join(lines).encode()
