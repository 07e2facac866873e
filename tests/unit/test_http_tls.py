"""TLS: the same connections, half-close included."""

from __future__ import annotations

import asyncio
import socket
import ssl
import subprocess

import pytest
from http_harness import Attach, Get, Put, get, run

from wherry.api.errors import NotFound
from wherry.engine.http.call import Call
from wherry.engine.http.router import Router
from wherry.engine.http.server import HttpServer
from wherry.engine.http.server_limits import Limits


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """(server's context, client's), each of which demands the other's certificate."""
    directory = tmp_path_factory.mktemp("tls")
    cert, key = directory / "cert.pem", directory / "key.pem"
    command = (
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 "
        "-subj /CN=localhost -addext subjectAltName=DNS:localhost"
    )
    subprocess.run([*command.split(), "-keyout", str(key), "-out", str(cert)], check=True, capture_output=True)
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=cert)
    server.verify_mode = ssl.CERT_REQUIRED
    server.load_cert_chain(cert, key)
    client = ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cafile=cert)
    client.load_cert_chain(cert, key)
    return server, client


class TlsClient:
    """A blocking client that can close its half, for use in a thread."""

    def __init__(self, port: int, context: ssl.SSLContext) -> None:
        self.sock = socket.create_connection(("127.0.0.1", port), timeout=10)
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_hostname="localhost")
        while True:
            try:
                self.tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                self._turn()
        self._flush()

    def _flush(self) -> None:
        self.sock.sendall(self.outgoing.read())

    def _turn(self) -> None:
        self._flush()
        data = self.sock.recv(65536)
        if data:
            self.incoming.write(data)
        else:
            self.incoming.write_eof()

    def send(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[self.tls.write(view[:16384]) :]
            self._flush()

    def half_close(self) -> None:
        try:
            self.tls.unwrap()
        except ssl.SSLError:
            pass
        self._flush()

    def until_eof(self) -> bytes:
        data = b""
        while True:
            try:
                piece = self.tls.read(65536)
            except ssl.SSLWantReadError:
                self._turn()
                continue
            except ssl.SSLZeroReturnError:
                return data
            if not piece:
                return data
            data += piece


async def echo_at_the_end(call: Call) -> None:
    duplex = await call.hijack()
    data = b""
    while piece := await duplex.read():
        data += piece
    await asyncio.sleep(0.02)
    duplex.write(data[::-1])


async def name(call: Call) -> object:
    return {"id": call.params["id"]}


async def refuse(call: Call) -> object:
    raise NotFound("nope")


async def flood(call: Call) -> None:
    writer = await call.start(200, None)
    for _ in range(100):
        await writer.write(b"f" * 65536)


def test_half_close_leaves_the_other_half_open(certificates: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    data = bytes(range(256)) * 2000

    def client(port: int) -> bytes:
        tls = TlsClient(port, certificates[1])
        tls.send(get("/containers/x/attach", method="POST") + data)
        tls.half_close()
        return tls.until_eof()

    async def test() -> None:
        server = HttpServer(Router({Attach: echo_at_the_end}).handle)
        [(_, port)] = await server.listen_tcp("127.0.0.1", 0, certificates[0])
        answer = await asyncio.to_thread(client, port)
        head, _, body = answer.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 OK")
        assert body == data[::-1]
        await server.close()

    run(test)


def test_requests_bodies_and_streams(certificates: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    def client(port: int) -> list[bytes]:
        answers = []
        for request in (
            get("/get/1") + get("/get/2", "Connection: close"),
            get("/put/1", "Content-Length: 3000000", method="PUT") + b"x" * 3_000_000,
            get("/containers/x/attach", "Connection: close", method="POST"),
        ):
            tls = TlsClient(port, certificates[1])
            tls.send(request)
            answers.append(tls.until_eof())
            tls.sock.close()
        return answers

    async def test() -> None:
        server = HttpServer(Router({Get: name, Put: refuse, Attach: flood}).handle)
        [(_, port)] = await server.listen_tcp("127.0.0.1", 0, certificates[0])
        first, second, third = await asyncio.to_thread(client, port)
        assert first.count(b"HTTP/1.1 200 OK") == 2
        assert b'{"id":"2"}\n' in first
        assert b'{"message":"nope"}\n' in second
        assert third.count(b"f" * 65536) == 100
        await server.close()
        assert server.connections == 0

    run(test)


def test_without_a_certificate_there_is_no_way_in(certificates: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    def strangers(port: int) -> list[bytes]:
        anonymous = ssl.create_default_context()
        anonymous.check_hostname = False
        anonymous.verify_mode = ssl.CERT_NONE
        answers = []
        try:
            tls = TlsClient(port, anonymous)
            tls.send(get("/get/1"))
            answers.append(tls.until_eof())
        except OSError:
            answers.append(b"")
        with socket.create_connection(("127.0.0.1", port), timeout=10) as plain:
            plain.sendall(get("/get/1"))
            try:
                answers.append(plain.recv(1000))
            except OSError:
                answers.append(b"")
        return answers

    async def test() -> None:
        server = HttpServer(Router({Get: name}).handle)
        [(_, port)] = await server.listen_tcp("127.0.0.1", 0, certificates[0])
        assert all(b"HTTP/1.1" not in answer for answer in await asyncio.to_thread(strangers, port))
        await server.close()

    run(test)


def test_handshakes_that_come_to_nothing_are_few(certificates: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    async def test() -> None:
        server = HttpServer(Router({Get: name}).handle, limits=Limits(connections=16))
        [(host, port)] = await server.listen_tcp("127.0.0.1", 0, ssl=certificates[0])
        idle = [await asyncio.open_connection(host, port) for _ in range(40)]
        ended = [asyncio.ensure_future(reader.read()) for reader, _ in idle]
        try:
            async with asyncio.timeout(5):
                await asyncio.gather(*ended[:36])
            assert [task.done() for task in ended[36:]] == [False] * 4
            client = await asyncio.to_thread(TlsClient, port, certificates[1])  # an honest one has its turn
            await asyncio.to_thread(client.send, get("/get/1"))
            await asyncio.to_thread(client.half_close)
            assert b'"1"' in await asyncio.to_thread(client.until_eof)
            client.sock.close()
            await server.close()
            async with asyncio.timeout(5):
                await asyncio.gather(*ended)
        finally:
            await server.close()
            for _, writer in idle:
                writer.close()

    run(test)
