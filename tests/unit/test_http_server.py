"""Connections: order, bodies, the ends of both sides, limits, listening."""

from __future__ import annotations

import asyncio
import contextlib
import logging

import pytest
from http_harness import Get, Head, Post, Put, Served, get, run, serving

from wherry.api.errors import NotFound
from wherry.engine.http.call import Call
from wherry.engine.http.respond import Answer
from wherry.wire.http1 import encode_chunk


async def name(call: Call) -> object:
    return {"id": call.params["id"]}


async def size(call: Call) -> object:
    return {"size": sum([len(piece) async for piece in call.stream()])}


async def refuse(call: Call) -> object:
    raise NotFound("No such container: x")


# -- one after the other


def test_G6_pipelined_requests_are_answered_in_order_then_end_of_file() -> None:
    async def slow_first(call: Call) -> object:
        await asyncio.sleep(0.02 if call.params["id"] == "0" else 0)
        return {"id": call.params["id"]}

    async def test() -> None:
        async with serving({Get: slow_first}) as served:
            client = await served.connect()
            await client.send(b"".join(get(f"/get/{i}") for i in range(20)))
            client.half_close()
            for i in range(20):
                response, body = await client.response()
                assert (response.status, body) == (200, b'{"id":"%d"}\n' % i)
            assert await client.recv() == b""
            await served.quiet()

    run(test)


def test_G6_http_1_0() -> None:
    async def stream(call: Call) -> None:
        writer = await call.start(200, "text/plain")
        await writer.write(b"a")
        await writer.write(b"b")

    async def test() -> None:
        async with serving({Get: name, Put: stream}) as served:
            client = await served.connect()
            await client.send(get("/get/1", "Connection: keep-alive", version="1.0"))
            response, _ = await client.response()
            assert response.headers.get("connection") == "keep-alive"
            await client.send(get("/get/1", version="1.0"))
            response, _ = await client.response()
            assert response.headers.get("connection") == "close"
            assert await client.recv() == b""
            client = await served.connect()
            await client.send(get("/put/1", method="PUT", version="1.0"))
            response, body = await client.response()
            assert (response.chunked, response.content_length, body) == (False, None, b"ab")

    run(test)


def test_connection_close_is_honoured() -> None:
    async def test() -> None:
        async with serving({Get: name}) as served:
            client = await served.connect()
            await client.send(get("/get/1", "Connection: close"))
            response, _ = await client.response()
            assert response.headers.get("connection") == "close"
            assert await client.recv() == b""
            await served.quiet()

    run(test)


def test_flood_of_pipelined_requests_is_held_back() -> None:
    """A client that sends on and on without reading is not read on and on."""

    async def test() -> None:
        async with serving({Get: name}) as served:
            client = await served.connect()
            flood = get("/get/1") * 100_000
            sending = asyncio.create_task(client.send(flood))
            await asyncio.sleep(0.2)
            assert not sending.done()
            [connection] = served.server._connections
            assert connection.pending < 1 << 20
            assert connection._parser.buffered <= 1 << 17
            sending.cancel()

    run(test)


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"\x16\x03\x01\x02\x00\x01\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nX: " + b"y" * 70_000, 431),
        (b"GET / HTTP/2.0\r\n\r\n", 505),
    ],
)
def test_bytes_that_are_no_request(data: bytes, status: int) -> None:
    async def test() -> None:
        async with serving({Get: name}) as served:
            client = await served.connect()
            await client.send(get("/get/1"))
            await client.response()
            await client.send(data)
            response, body = await client.response()
            assert response.status == status
            assert body.startswith(b'{"message":"')
            assert await client.recv() == b""

    run(test)


@pytest.mark.parametrize("data", [b"", b"GET /ge", b"\r\n"])
def test_end_of_file_between_and_within_heads(data: bytes) -> None:
    async def test() -> None:
        async with serving({Get: name}) as served:
            client = await served.connect()
            await client.send(data or b"\r\n")
            client.half_close()
            assert await client.recv() == b""
            await served.quiet()

    run(test)


# -- request bodies


@pytest.mark.parametrize("chunked", [False, True])
def test_body_is_streamed_with_little_read_ahead(chunked: bool) -> None:
    body = b"b" * 1_000_000

    async def slow(call: Call) -> object:
        await asyncio.sleep(0.1)
        [connection] = served_now[0].server._connections
        ahead.append(connection._body._unread)
        return await size(call)

    ahead: list[int] = []
    served_now: list[Served] = []

    async def test() -> None:
        async with serving({Put: slow}) as served:
            served_now.append(served)
            client = await served.connect()
            field = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {len(body)}"
            pieces = [body[i : i + 50_000] for i in range(0, len(body), 50_000)]
            sent = b"".join(map(encode_chunk, pieces)) + b"0\r\n\r\n" if chunked else body
            sending = asyncio.create_task(client.send(get("/put/1", field, method="PUT") + sent))
            response, answer = await client.response()
            await sending
            assert (response.status, answer) == (200, b'{"size":1000000}\n')
            assert ahead[0] <= 2 * 65536
            await client.send(get("/put/1", "Content-Length: 0", method="PUT"))
            assert (await client.response())[1] == b'{"size":0}\n'

    run(test)


def test_expect_100_continue() -> None:
    async def test() -> None:
        async with serving({Put: size, Post: refuse}) as served:
            client = await served.connect()
            await client.send(get("/put/1", "Content-Length: 3", "Expect: 100-continue", method="PUT"))
            assert await client.head() == b"HTTP/1.1 100 Continue\r\n\r\n"
            await client.send(b"abc")
            assert (await client.response())[1] == b'{"size":3}\n'
            # nobody wants the body: no 100, and whether it comes is unknowable, so the connection ends
            await client.send(get("/post/1", "Content-Length: 3", "Expect: 100-continue", method="POST"))
            response, _ = await client.response()
            assert (response.status, response.keep_alive) == (404, False)
            assert await client.recv() == b""

    run(test)


def test_E4_big_body_that_nobody_reads_does_not_hide_the_message() -> None:
    async def test() -> None:
        async with serving({Put: refuse}) as served:
            client = await served.connect()
            body = b"t" * 8_000_000
            await client.send(
                get("/put/1", f"Content-Length: {len(body)}", method="PUT") + body
            )  # all of it, then read
            response, answer = await client.response()
            assert (response.status, answer) == (404, b'{"message":"No such container: x"}\n')
            assert response.headers.get("connection") == "close"
            assert await client.recv() == b""  # and no reset
            client.close()
            await served.quiet()

    run(test)


def test_E4_small_body_that_nobody_reads_keeps_the_connection() -> None:
    async def test() -> None:
        async with serving({Put: refuse, Get: name}) as served:
            client = await served.connect()
            await client.send(get("/put/1", "Content-Length: 100000", method="PUT") + b"t" * 99_000)
            response, _ = await client.response()
            assert (response.status, response.keep_alive) == (404, True)
            await client.send(b"t" * 1000 + get("/get/2"))
            assert (await client.response())[1] == b'{"id":"2"}\n'

    run(test)


def test_client_that_leaves_within_its_body() -> None:
    caught: list[Exception] = []

    async def handler(call: Call) -> object:
        try:
            return await size(call)
        except Exception as error:
            caught.append(error)
            raise

    async def test() -> None:
        async with serving({Put: handler}) as served:
            client = await served.connect()
            await client.send(get("/put/1", "Content-Length: 100", method="PUT") + b"short")
            client.close()
            await served.quiet()
        assert [type(error) for error in caught] == [ConnectionResetError]

    run(test)


def test_malformed_chunks() -> None:
    async def test() -> None:
        async with serving({Put: size}) as served:
            client = await served.connect()
            await client.send(get("/put/1", "Transfer-Encoding: chunked", method="PUT") + b"3\r\nabcXX")
            response, body = await client.response()
            assert (response.status, response.keep_alive) == (400, False)
            assert b"malformed chunked body" in body
            assert await client.recv() == b""

    run(test)


# -- answers that stream


def test_WAI1_head_is_sent_at_once() -> None:
    async def test() -> None:
        go = asyncio.Event()

        async def wait(call: Call) -> None:
            writer = await call.start(200, "application/json", headers=[("X-A", "b")])
            await go.wait()
            await writer.write(b'{"StatusCode":0}\n')

        async with serving({Post: wait, Get: name}) as served:
            client = await served.connect()
            await client.send(get("/post/1", method="POST"))
            head = await client.head()
            assert head.startswith(b"HTTP/1.1 200 OK\r\nApi-Version: 1.44\r\n")
            assert b"\r\nTransfer-Encoding: chunked\r\n" in head
            assert b"\r\nX-A: b\r\n" in head
            go.set()
            assert await client.exactly(28) == b'11\r\n{"StatusCode":0}\n\r\n0\r\n\r\n'
            await client.send(get("/get/1"))
            assert (await client.response())[0].status == 200

    run(test)


def test_failure_after_the_head_breaks_the_answer_off() -> None:
    async def fail(call: Call) -> None:
        writer = await call.start(200, None)
        await writer.write(b"#" * 300_000)
        raise NotFound("gone meanwhile")

    async def test() -> None:
        async with serving({Get: fail}) as served:
            client = await served.connect()
            await client.send(get("/get/1"))
            data = b""
            with contextlib.suppress(ConnectionError):
                data = await client.until_eof()
            assert data.count(b"#") == 300_000
            assert not data.endswith(b"0\r\n\r\n")
            await served.quiet()

    run(test)


def test_client_that_never_reads_stops_the_writer() -> None:
    async def test() -> None:
        progress = [0]
        ended: asyncio.Future[BaseException] = asyncio.get_running_loop().create_future()

        async def flood(call: Call) -> None:
            writer = await call.start(200, None)
            try:
                while True:
                    await writer.write(b"f" * 65536)
                    progress[0] += 65536
                    assert writer.pending < 1 << 20
            except BaseException as error:
                ended.set_result(error)
                raise

        async with serving({Get: flood}) as served:
            client = await served.connect()
            await client.send(get("/get/1"))
            await asyncio.sleep(0.1)
            before = progress[0]
            await asyncio.sleep(0.1)
            assert progress[0] == before < 2 << 20
            client.close()
            assert isinstance(await ended, ConnectionError)
            await served.quiet()

    run(test)


def test_fast_reader_does_not_starve_the_engine() -> None:
    async def test() -> None:
        async def flood(call: Call) -> None:
            writer = await call.start(200, None)
            while True:
                await writer.write(b"f" * 65536)

        async with serving({Get: flood}) as served:
            client = await served.connect()
            await client.send(get("/get/1"))
            for _ in range(50):
                await client.recv()
                await asyncio.sleep(0)

    run(test)


@pytest.mark.parametrize("how", ["half_close", "close"])
def test_handler_learns_that_the_client_has_left(how: str) -> None:
    async def test() -> None:
        left = asyncio.Event()

        async def wait(call: Call) -> None:
            await call.start(200, None)
            await call.disconnected()
            left.set()

        async with serving({Get: wait}) as served:
            client = await served.connect()
            await client.send(get("/get/1"))
            await client.head()
            getattr(client, how)()
            await asyncio.wait_for(left.wait(), 1)
            await served.quiet()

    run(test)


def test_E5_client_that_has_left_is_no_server_error(caplog: pytest.LogCaptureFixture) -> None:
    async def slow(call: Call) -> object:
        await asyncio.sleep(0.05)
        return {"big": "x" * 1_000_000}

    async def streams(call: Call) -> None:
        writer = await call.start(200, None)
        while True:
            await writer.write(b"x" * 100_000)
            await asyncio.sleep(0.001)

    async def test() -> None:
        async with serving({Get: slow, Put: streams}) as served:
            for request in (get("/get/1"), get("/put/1", method="PUT")):
                client = await served.connect()
                await client.send(request)
                client.close()
                await served.quiet()

    with caplog.at_level(logging.INFO):
        run(test)
    assert [record for record in caplog.records if record.name.startswith("wherry")] == []


def test_answers_without_body() -> None:
    async def nothing(call: Call) -> object:
        return Answer(304) if call.params["id"] == "again" else None

    async def headers_only(call: Call) -> object:
        return Answer(200, b"12345", {"X-A": "b"})

    async def test() -> None:
        async with serving({Post: nothing, Head: headers_only}) as served:
            client = await served.connect()
            await client.send(get("/post/1", method="POST") + get("/post/again", method="POST"))
            for status in (204, 304):
                response, _ = await client.response("POST")
                assert response.status == status
                assert "content-length" not in response.headers
            await client.send(get("/get/1", method="HEAD"))
            response, body = await client.response("HEAD")
            assert (response.headers.get("content-length"), response.headers.get("x-a"), body) == ("5", "b", b"")

    run(test)


# -- all of them


def test_close_cancels_handlers_and_ends_connections() -> None:
    async def test() -> None:
        states: list[str] = []

        async def forever(call: Call) -> None:
            try:
                await asyncio.sleep(100)
            except asyncio.CancelledError:
                states.append("cancelled")
                raise

        async with serving({Get: forever, Put: name}) as served:
            idle, busy, used = [await served.connect() for _ in range(3)]
            await busy.send(get("/get/1"))
            await used.send(get("/put/1", method="PUT"))
            await used.response()
            await asyncio.sleep(0.02)
            await served.server.close()
            assert states == ["cancelled"]
            for client in (idle, busy, used):
                with contextlib.suppress(ConnectionError):
                    assert await client.recv() == b""

    run(test)


def test_one_stuck_client_does_not_keep_the_others_waiting() -> None:
    async def test() -> None:
        async with serving({Get: name}) as served:
            stuck = await served.connect()
            await stuck.send(b"GET /get/1 HTT")
            for i in range(50):
                client = await served.connect()
                await client.send(get(f"/get/{i}"))
                assert (await client.response())[0].status == 200

    run(test)
