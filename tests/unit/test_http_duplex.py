"""Hijacked connections: where the stream begins, how it ends, and what a slow client costs."""

from __future__ import annotations

import asyncio
import contextlib
import socket

import pytest
from http_harness import Attach, Client, Exec, Served, Socket, get, run, serving

from wherry.engine.http.call import Call
from wherry.engine.http.duplex import HijackedDuplex
from wherry.wire.http1 import encode_chunk
from wherry.wire.websocket import ClientHandshake, WebSocket

UPGRADE = ("Connection: Upgrade", "Upgrade: tcp")


async def echo(call: Call) -> None:
    """Everything back, and at the end how much it was."""
    duplex = await call.hijack("application/vnd.docker.multiplexed-stream")
    size = 0
    while data := await duplex.read():
        size += len(data)
        duplex.write(data)
        await duplex.drain()
    duplex.write(b"|%d" % size)


class Held:
    """A handler that hands its duplex to the test and waits."""

    def __init__(self) -> None:
        self.duplex: asyncio.Future[HijackedDuplex] = asyncio.get_running_loop().create_future()
        self.leave = asyncio.Event()

    async def __call__(self, call: Call) -> None:
        self.duplex.set_result(await call.hijack())
        await self.leave.wait()


async def attach(served: Served, *fields: str, early: bytes = b"") -> Client:
    client = await served.connect()
    await client.send(get("/containers/x/attach", *fields, method="POST") + early)
    return client


# -- the head


def test_ATT1_head_with_upgrade() -> None:
    async def test() -> None:
        async with serving({Attach: echo}) as served:
            client = await attach(served, *UPGRADE)
            assert await client.head() == (
                b"HTTP/1.1 101 UPGRADED\r\nContent-Type: application/vnd.docker.multiplexed-stream\r\n"
                b"Connection: Upgrade\r\nUpgrade: tcp\r\n\r\n"
            )
            client.half_close()
            assert await client.until_eof() == b"|0"

    run(test)


def test_ATT1_head_without_upgrade_and_before_1_42() -> None:
    async def test() -> None:
        async with serving({Attach: echo}) as served:
            client = await attach(served)
            raw = b"Content-Type: application/vnd.docker.raw-stream\r\n"
            assert await client.head() == b"HTTP/1.1 200 OK\r\n" + raw + b"\r\n"
            client = await served.connect()
            await client.send(get("/v1.41/containers/x/attach", *UPGRADE, method="POST"))
            assert raw in await client.head()

    run(test)


def test_EXE2_common_headers_follow_for_exec() -> None:
    async def test() -> None:
        async with serving({Exec: echo}) as served:
            client = await served.connect()
            await client.send(
                get("/exec/x/start", *UPGRADE, "Content-Type: application/json", "Content-Length: 2", method="POST")
                + b"{}"
            )
            head = await client.head()
            assert head.startswith(b"HTTP/1.1 101 UPGRADED\r\nContent-Type: ")
            assert b"\r\nUpgrade: tcp\r\nApi-Version: 1.44\r\n" in head

    run(test)


def test_ATT3_errors_before_the_hijack_are_plain_text() -> None:
    async def refuse(call: Call) -> None:
        from wherry.api.errors import NotFound

        raise NotFound("No such container: x")

    async def test() -> None:
        async with serving({Attach: refuse, Exec: refuse}) as served:
            client = await attach(served, *UPGRADE)
            response, body = await client.response("POST")
            assert (response.status, body) == (404, b"No such container: x\r\n")
            assert response.headers.get("content-type") == "application/vnd.docker.raw-stream"
            assert await client.recv() == b""

    run(test)


# -- where the stream begins


@pytest.mark.parametrize("fields", [(), UPGRADE])
@pytest.mark.parametrize("size", [1, 5, 65536, 300_000])
def test_early_bytes_are_not_lost(fields: tuple[str, ...], size: int) -> None:
    early = b"GET /" + bytes(range(256)) * (size // 256 + 1)

    async def test() -> None:
        async with serving({Attach: echo}) as served:
            client = await served.connect()
            head = get("/containers/x/attach", *fields, method="POST")
            sending = asyncio.create_task(client.send(head + early[:size]))
            await client.head()
            assert await client.exactly(size) == early[:size]
            await sending
            client.half_close()
            assert await client.until_eof() == b"|%d" % size

    run(test)


@pytest.mark.parametrize("fields", [(), UPGRADE])
@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("step", [1, 7, 10_000])
def test_early_bytes_behind_a_body_in_any_split(fields: tuple[str, ...], chunked: bool, step: int) -> None:
    body = b'{"Detach":false}'
    length = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {len(body)}"
    sent_body = encode_chunk(body[:5]) + encode_chunk(body[5:]) + b"0\r\n\r\n" if chunked else body
    head = get("/exec/x/start", *fields, "Content-Type: application/json", length, method="POST")
    data = head + sent_body + b"early"

    async def test() -> None:
        async with serving({Exec: echo}) as served:
            client = await served.connect()
            for i in range(0, len(data), step):
                await client.send(data[i : i + step])
                await asyncio.sleep(0)
            client.half_close()
            await client.head()
            assert await client.until_eof() == b"early|5"

    run(test)


def test_request_input_and_end_of_file_in_one_segment() -> None:
    async def test() -> None:
        async with serving({Attach: echo}) as served:
            client = await attach(served, *UPGRADE, early=b"all of it")
            client.half_close()
            await client.head()
            assert await client.until_eof() == b"all of it|9"

    run(test)


def test_body_that_no_one_read_is_not_stream() -> None:
    async def test() -> None:
        async with serving({Attach: echo}) as served:
            client = await attach(served, "Content-Length: 6", early=b"bod")
            await client.head()
            await client.send(b"y. stream")
            client.half_close()
            assert await client.until_eof() == b"stream|6"

    run(test)


# -- how it ends


def test_half_close_of_the_client_leaves_the_other_half_open() -> None:
    async def test() -> None:
        async with serving({Attach: (held := Held())}) as served:
            client = await attach(served, early=b"in")
            await client.head()
            duplex = await held.duplex
            client.half_close()
            assert await duplex.read() == b"in"
            assert await duplex.read() == b""
            assert await duplex.read() == b""
            assert not duplex.closed
            for i in range(3):
                duplex.write(b"out %d," % i)
                await duplex.drain()
                assert await client.recv() == b"out %d," % i
            await duplex.close()
            assert await client.recv() == b""
            held.leave.set()
            await served.quiet()

    run(test)


def test_our_close_delivers_everything_first_and_gives_no_reset() -> None:
    """The client has sent input that nobody read: closing must not turn into a reset that eats our output (E4)."""

    async def test() -> None:
        async with serving({Attach: (held := Held())}) as served:
            client = await attach(served, early=b"x" * 100_000)
            await client.head()
            duplex = await held.duplex
            duplex.write(b"y" * 3_000_000)
            closing = asyncio.create_task(duplex.close())
            await asyncio.sleep(0.05)
            assert not closing.done()
            await client.send(b"and more input")
            assert await client.until_eof() == b"y" * 3_000_000
            await closing
            client.close()
            await asyncio.wait_for(duplex.wait_closed(), 1)
            held.leave.set()
            await served.quiet()

    run(test)


def test_handler_that_returns_closes_the_stream() -> None:
    async def hello(call: Call) -> None:
        (await call.hijack()).write(b"bye")

    async def test() -> None:
        async with serving({Attach: hello}) as served:
            client = await attach(served)
            await client.head()
            assert await client.until_eof() == b"bye"
            client.close()
            await served.quiet()

    run(test)


def test_ATT10_client_that_went_away_is_noticed_without_reading_or_writing() -> None:
    async def test() -> None:
        async with serving({Attach: (held := Held())}) as served:
            client = await attach(served)
            await client.head()
            duplex = await held.duplex
            called: list[bool] = []
            duplex.on_writable(lambda: called.append(duplex.closed))
            client.close()
            await asyncio.wait_for(duplex.wait_closed(), 2)
            assert duplex.closed
            assert called == [True]
            duplex.write(b"into the void" * 100_000)
            assert duplex.pending == 0
            with pytest.raises(ConnectionError):
                await duplex.drain()
            await duplex.close()
            held.leave.set()
            await served.quiet()

    run(test)


def test_ATT10_half_closed_client_that_went_away_later() -> None:
    async def test() -> None:
        async with serving({Attach: (held := Held())}) as served:
            client = await attach(served)
            await client.head()
            duplex = await held.duplex
            client.half_close()
            assert await duplex.read() == b""
            await asyncio.sleep(0.05)
            assert not duplex.closed
            client.close()
            await asyncio.wait_for(duplex.wait_closed(), 2)
            assert await duplex.read() == b""
            held.leave.set()
            await served.quiet()

    run(test)


def test_input_sent_before_the_client_went_away_is_read() -> None:
    async def test() -> None:
        async with serving({Attach: (held := Held())}) as served:
            client = await attach(served)
            await client.head()
            duplex = await held.duplex
            data = bytes(range(256)) * 600  # more than one read
            await client.send(data)
            client.close()
            await asyncio.wait_for(duplex.wait_closed(), 2)
            got = b""
            while piece := await duplex.read():
                got += piece
            assert got == data
            held.leave.set()
            await served.quiet()

    run(test)


def test_abrupt_close_raises_or_ends() -> None:
    """Closed with our output unread, which the kernel reports as a reset."""

    async def test() -> None:
        async with serving({Attach: (held := Held())}) as served:
            client = await attach(served)
            await client.head()
            duplex = await held.duplex
            duplex.write(b"unread")
            client.close()
            with contextlib.suppress(ConnectionError):
                assert await duplex.read() == b""
            await asyncio.wait_for(duplex.wait_closed(), 2)
            held.leave.set()
            await served.quiet()

    run(test)


def test_exception_after_the_hijack_breaks_the_connection() -> None:
    async def fail(call: Call) -> None:
        (await call.hijack()).write(b"x" * 10)
        raise RuntimeError("boom")

    async def test() -> None:
        async with serving({Attach: fail}) as served:
            client = await attach(served)
            with contextlib.suppress(ConnectionError):
                await client.until_eof()
            await served.quiet()

    run(test)


# -- bounds


def test_nothing_is_read_before_it_is_wanted_and_64_KiB_ahead_at_most() -> None:
    async def test() -> None:
        async with serving({Attach: (held := Held())}) as served:
            client = await attach(served)
            await client.head()
            duplex = await held.duplex
            client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
            sending = asyncio.create_task(client.send(b"z" * 2_000_000))
            await asyncio.sleep(0.05)
            assert duplex._unread == 0
            total = 0
            while total < 2_000_000:
                data = await duplex.read()
                assert 0 < len(data) <= 65536
                total += len(data)
                await asyncio.sleep(0)
                assert duplex._unread <= 65536
            await sending
            held.leave.set()

    run(test)


def test_client_that_never_reads() -> None:
    async def test() -> None:
        async with serving({Attach: (held := Held())}) as served:
            client = await attach(served)
            await client.head()
            duplex = await held.duplex
            writable: list[int] = []
            duplex.on_writable(lambda: writable.append(duplex.pending))
            written = 0
            while duplex.pending < 1 << 20:  # write() queues, pending says how much
                duplex.write(b"w" * 65536)
                written += 65536
            draining = asyncio.create_task(duplex.drain())
            await asyncio.sleep(0.05)
            assert not draining.done()
            assert writable == []
            got = 0
            while not draining.done():
                got += len(await client.recv())
            await draining
            assert writable
            assert max(writable) <= 65536
            held.leave.set()
            got += len(await client.until_eof())
            assert got == written

    run(test)


def test_client_that_never_reads_goes_away_while_we_close() -> None:
    async def test() -> None:
        async with serving({Attach: (held := Held())}) as served:
            client = await attach(served)
            await client.head()
            duplex = await held.duplex
            duplex.write(b"w" * 5_000_000)
            held.leave.set()  # the handler returns, the connection waits to flush
            await asyncio.sleep(0.05)
            assert served.server.connections == 1
            client.close()
            await served.quiet()

    run(test)


# -- websockets


def test_WS1_messages_and_close() -> None:
    async def test() -> None:
        async def handler(call: Call) -> None:
            duplex = await call.websocket()
            data = await duplex.read()
            duplex.write(b"got " + data)
            await duplex.close()

        async with serving({Socket: handler}) as served:
            client = await served.connect()
            handshake = ClientHandshake()
            await client.send(
                get("/containers/x/attach/ws", *(f"{name}: {value}" for name, value in handshake.headers))
            )
            head = await client.head()
            assert head.startswith(b"HTTP/1.1 101 ")
            ws = WebSocket(client=True)
            ws.send(b"hello")
            await client.send(ws.outgoing())
            messages: list[bytes] = []
            while not ws.peer_closed:
                messages += ws.feed(await client.recv())
            assert messages == [b"got hello"]
            assert ws.close_code == 1000
            await client.send(ws.outgoing())
            assert await client.until_eof() == b""

    run(test)


def test_WS1_client_closes() -> None:
    async def test() -> None:
        ended = asyncio.Event()

        async def handler(call: Call) -> None:
            duplex = await call.websocket()
            assert await duplex.read() == b""
            await duplex.wait_closed()
            assert duplex.closed
            ended.set()

        async with serving({Socket: handler}) as served:
            client = await served.connect()
            fields = [f"{name}: {value}" for name, value in ClientHandshake().headers]
            ws = WebSocket(client=True)
            ws.close()
            await client.send(get("/containers/x/attach/ws", *fields) + ws.outgoing())
            await client.head()
            assert await client.until_eof() == b"\x88\x02\x03\xe8"
            await asyncio.wait_for(ended.wait(), 1)

    run(test)


def test_WS1_no_handshake_is_a_json_error() -> None:
    async def handler(call: Call) -> None:
        await call.websocket()

    async def test() -> None:
        async with serving({Socket: handler}) as served:
            client = await served.connect()
            await client.send(get("/containers/x/attach/ws"))
            response, body = await client.response()
            assert (response.status, body) == (400, b'{"message":"not websocket protocol"}\n')

    run(test)
