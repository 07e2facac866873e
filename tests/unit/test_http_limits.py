"""What a client may take of the server: time for a head, idle time, connections, bodies, descriptors."""

from __future__ import annotations

import asyncio
import logging
import os
import resource
import socket
from pathlib import Path

import pytest
from http_harness import Attach, Client, Exec, Get, Put, Send, get, run, serving

from wherry.engine.http.call import Call
from wherry.engine.http.router import MAX_JSON
from wherry.engine.http.server_limits import FREE_BODY, Limits, default_connections

QUICK = Limits(head=0.1, idle=0.3, sweep=0.02)


async def name(call: Call) -> object:
    return {"id": call.params["id"]}


async def size(call: Call) -> object:
    return {"size": sum([len(piece) async for piece in call.stream()])}


async def body_length(call: Call) -> object:
    return {"length": len(call.body)}


# -- time


@pytest.mark.parametrize("first", [False, True])
def test_head_that_does_not_arrive_in_time(first: bool) -> None:
    async def test() -> None:
        async with serving({Get: name}, QUICK) as served:
            client = await served.connect()
            if not first:
                await client.send(get("/get/1"))
                await client.response()
            for byte in b"GET /get/1 HTT":  # a byte now and then does not help
                await client.send(bytes([byte]))
                await asyncio.sleep(0.001)
            response, body = await client.response()
            assert (response.status, response.keep_alive) == (408, False)
            assert b"did not arrive within 0.1 s" in body
            assert await client.recv() == b""

    run(test)


def test_partial_head_behind_a_request_has_its_time_too() -> None:
    async def test() -> None:
        async with serving({Get: name}, QUICK) as served:
            client = await served.connect()
            await client.send(get("/get/1") + b"GET /get/2 HTTP/1.1\r\nHost:")
            assert (await client.response())[0].status == 200
            assert (await client.response())[0].status == 408

    run(test)


@pytest.mark.parametrize("used", [False, True])
def test_idle_connection_ends_without_a_word(used: bool) -> None:
    async def test() -> None:
        async with serving({Get: name}, QUICK) as served:
            client = await served.connect()
            if used:
                await client.send(get("/get/1"))
                await client.response()
            assert await client.recv() == b""
            await served.quiet()

    run(test)


def test_streams_uploads_and_slow_answers_have_no_end() -> None:
    async def slow(call: Call) -> object:
        await asyncio.sleep(0.6)
        return {}

    async def hijack(call: Call) -> object:
        duplex = await call.hijack()
        while data := await duplex.read():
            duplex.write(data)
        return None

    async def test() -> None:
        async with serving({Get: slow, Put: size, Attach: hijack, Exec: hijack}, QUICK) as served:
            waiting, attached, uploading = [await served.connect() for _ in range(3)]
            await waiting.send(get("/get/1"))
            await attached.send(get("/containers/a/attach", "Upgrade: tcp", "Connection: Upgrade", method="POST"))
            assert b" 101 " in await attached.head()
            await uploading.send(get("/put/1", "Content-Length: 2", method="PUT") + b"a")
            assert (await waiting.response())[0].status == 200  # twice the idle time later
            await attached.send(b"hello")
            assert await attached.exactly(5) == b"hello"
            await uploading.send(b"b")
            assert (await uploading.response())[1] == b'{"size":2}\n'

    run(test)


def test_json_body_that_stalls() -> None:
    async def test() -> None:
        async with serving({Send: body_length}, Limits(body=0.1)) as served:
            client = await served.connect()
            await client.send(_json_head(10) + b"{")
            response, body = await client.response()
            assert (response.status, b"did not arrive" in body) == (408, True)

    run(test)


# -- connections


def test_one_connection_too_many_ends_the_longest_idle_one() -> None:
    async def test() -> None:
        async with serving({Get: name}, Limits(connections=3)) as served:
            clients = []
            for _ in range(3):
                client = await served.connect()
                await client.send(get("/get/1"))
                await client.response()
                clients.append(client)
            await clients[0].send(get("/get/1"))  # now the second has been idle longest
            await clients[0].response()
            fourth = await served.connect()
            await fourth.send(get("/get/4"))
            assert (await fourth.response())[0].status == 200
            assert await clients[1].recv() == b""
            for client in (clients[0], clients[2]):
                await client.send(get("/get/1"))
                assert (await client.response())[0].status == 200

    run(test)


def test_one_connection_too_many_is_told_so() -> None:
    over = asyncio.Event()

    async def wait(call: Call) -> object:
        await over.wait()
        return {}

    async def test() -> None:
        async with serving({Get: wait}, Limits(connections=2)) as served:
            busy = [await served.connect() for _ in range(2)]
            for client in busy:
                await client.send(get("/get/1"))
            await asyncio.sleep(0.05)
            third = await served.connect()
            response, body = await third.response()
            assert (response.status, b"too many connections" in body) == (503, True)
            assert await third.recv() == b""
            flood = [await served.connect() for _ in range(200)]
            async with asyncio.timeout(5):
                while served.server.connections > 70:
                    await asyncio.sleep(0.01)
            for client in flood:
                client.close()
            over.set()
            for client in busy:
                assert (await client.response())[0].status == 200

    run(test)


def test_limit_leaves_descriptors_for_containers() -> None:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert default_connections() <= soft // 2


def test_thousand_connections_dropped_leave_nothing() -> None:
    async def test() -> None:
        async with serving({Get: name, Put: size}) as served:
            before = len(os.listdir("/proc/self/fd"))
            tasks = len(asyncio.all_tasks())
            for round_ in range(10):
                clients = [await served.connect() for _ in range(100)]
                for number, client in enumerate(clients):
                    if number % 3 == 1:
                        await client.send(b"GET /get/1 HTTP/1.1\r\n")
                    elif number % 3 == 2:
                        await client.send(get("/put/1", "Content-Length: 9", method="PUT") + b"abc")
                if round_ % 2:
                    await asyncio.sleep(0.01)
                for client in clients:
                    client.close()
            await served.quiet()
            assert len(os.listdir("/proc/self/fd")) <= before + 2
            assert len(asyncio.all_tasks()) <= tasks

    run(test)


# -- descriptors


def test_without_descriptors_accepting_pauses(caplog: pytest.LogCaptureFixture) -> None:
    """Clients wait in the kernel's queue; those who are connected are served on."""

    async def test() -> None:
        async with serving({Get: name}) as served:
            early = await served.connect()
            await early.send(get("/get/1"))
            await early.response()
            late = [socket.socket(socket.AF_UNIX) for _ in range(3)]
            held = _exhaust()
            try:
                for sock in late:
                    sock.setblocking(False)
                    sock.connect(str(served.path))
                await asyncio.sleep(0.6)
                await early.send(get("/get/1"))
                assert (await early.response())[0].status == 200
                warnings = [record for record in caplog.records if "no new connection" in record.getMessage()]
                assert len(warnings) == 1, "said once, not in a circle"
            finally:
                held.close()
            for sock in late:
                client = Client(sock)
                await client.send(get("/get/2"))
                assert (await client.response())[0].status == 200
                client.close()

    caplog.set_level(logging.WARNING)
    run(test)


class _exhaust:
    """Every descriptor of this process is taken."""

    def __init__(self) -> None:
        self._limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        used = max(int(fd) for fd in os.listdir("/proc/self/fd"))
        resource.setrlimit(resource.RLIMIT_NOFILE, (used + 20, self._limits[1]))
        self._held: list[int] = []
        try:
            while True:
                self._held.append(os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC))
        except OSError:
            pass

    def close(self) -> None:
        for fd in self._held:
            os.close(fd)
        resource.setrlimit(resource.RLIMIT_NOFILE, self._limits)


# -- bytes


def _json_head(length: int) -> bytes:
    return get("/send", "Content-Type: application/json", f"Content-Length: {length}", method="POST")


def test_json_body_over_the_limit() -> None:
    async def test() -> None:
        async with serving({Send: body_length}) as served:
            client = await served.connect()
            await client.send(_json_head(MAX_JSON + 1))
            response, body = await client.response()
            assert (response.status, b"longer than" in body) == (413, True)

    run(test)


def test_many_large_bodies_share_a_budget() -> None:
    large = b'{"a":"' + b"x" * 300_000 + b'"}'

    async def test() -> None:
        async with serving({Send: body_length}, Limits(bodies=250_000)) as served:
            first, second, small = [await served.connect() for _ in range(3)]
            await first.send(_json_head(len(large)) + large[:200_000])
            await _until(lambda: served.server.bodies.left <= 250_000 - 130_000)
            sending = asyncio.create_task(second.send(_json_head(len(large)) + large))
            response, body = await second.response()
            assert (response.status, b"try again" in body) == (503, True)
            await sending
            await small.send(_json_head(FREE_BODY) + b'{"a":"' + b"x" * (FREE_BODY - 8) + b'"}')
            assert (await small.response())[0].status == 201, "small requests pass"
            await first.send(large[200_000:])
            assert (await first.response())[0].status == 201
            assert served.server.bodies.left == 250_000

    run(test)


async def _until(condition: object) -> None:
    assert callable(condition)
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.005)


# -- smuggling: one reading of a request, or none

SMUGGLED = {
    "length and chunked": b"POST /send HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunked and length": b"POST /send HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
    "two lengths": b"POST /send HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef",
    "the same length twice": b"POST /send HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nabcde",
    "list of lengths": b"POST /send HTTP/1.1\r\nHost: a\r\nContent-Length: 5, 5\r\n\r\nabcde",
    "signed length": b"POST /send HTTP/1.1\r\nHost: a\r\nContent-Length: +5\r\n\r\nabcde",
    "length too long": b"POST /send HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999\r\n\r\nabcde",
    "chunked twice": b"POST /send HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
    "chunked in 1.0": b"POST /send HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "not quite chunked": b"POST /send HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "folded field": b"GET /get/1 HTTP/1.1\r\nHost: a\r\nX: a\r\n b\r\n\r\n",
    "bare line feeds": b"GET /get/1 HTTP/1.1\nHost: a\n\n",
    "one bare line feed": b"GET /get/1 HTTP/1.1\r\nHost: a\nX: b\r\n\r\n",
    "bare carriage return": b"GET /get/1 HTTP/1.1\r\nHost: a\rX: b\r\n\r\n",
    "blank before the colon": b"POST /send HTTP/1.1\r\nContent-Length : 5\r\n\r\nabcde",
    "NUL in a field": b"GET /get/1 HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n",
    "two hosts": b"GET /get/1 HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    "two blanks": b"GET  /get/1 HTTP/1.1\r\nHost: a\r\n\r\n",
    "blank in the target": b"GET /get/1 x HTTP/1.1\r\nHost: a\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "bare line feed in a chunk's size": b"POST /send HTTP/1.1\r\nContent-Type: application/json\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n"
    b"2;a\nb\r\n{}\r\n0\r\n\r\n",
    "bare line feed in a trailer": b"POST /send HTTP/1.1\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"2\r\n{}\r\n0\r\nA: b\nC: d\r\n\r\n",
    "chunk longer than it says": b"POST /send HTTP/1.1\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"2\r\n{}}\r\n0\r\n\r\n",
}


@pytest.mark.parametrize("case", SMUGGLED)
def test_ambiguous_request_is_refused_and_closes(case: str) -> None:
    async def test() -> None:
        async with serving({Get: name, Send: body_length}) as served:
            client = await served.connect()
            await client.send(SMUGGLED[case] + get("/get/smuggled"))
            response, body = await client.response()
            assert (response.status, response.keep_alive) == (400, False), body
            assert body.startswith(b'{"message":"')
            assert await client.recv() == b"", "nothing behind it is read as a request"

    run(test)


def test_huge_heads() -> None:
    async def test() -> None:
        async with serving({Get: name}) as served:
            for head in (
                get("/get/" + "x" * 70_000),
                get("/get/1", "X: " + "y" * 70_000),
                get("/get/1", *(f"X{number}: y" for number in range(8000))),
            ):
                client = await served.connect()
                await client.send(head)
                response, _ = await client.response()
                assert (response.status, response.keep_alive) == (431, False)
                assert await client.recv() == b""

    run(test)


def test_log_files_are_closed_where_no_batch_was_asked_for(tmp_path: Path) -> None:
    from wherry.engine.containers.logs import LogOptions, open_logs

    async def test() -> None:
        path = tmp_path / "log"
        path.write_bytes(b"2024-01-01T00:00:00.000000000Z stdout F a\n" * 10)
        fds = len(os.listdir("/proc/self/fd"))
        batches = await open_logs(path, LogOptions(stdout=True, stderr=True), tty=False)
        assert len(os.listdir("/proc/self/fd")) > fds
        await batches.aclose()
        await batches.aclose()
        assert len(os.listdir("/proc/self/fd")) == fds

    run(test)
