"""GET attach/ws, and what test_attach leaves open: semantics section 11."""

from __future__ import annotations

import base64
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.support.engines import Engine
from tests.support.http import Answer, Exchange, eventually

TEXT, BINARY, CLOSE = 1, 2, 8


def handshake() -> dict[str, str]:
    return {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": base64.b64encode(os.urandom(16)).decode(),
        "Origin": "http://somewhere.else",
    }


@contextmanager
def websocket(engine: Engine, container: str, *, prefix: str | None = None, **query: Any) -> Iterator[Exchange]:
    asked = {"stream": 1, "stdin": 1, "stdout": 1, "stderr": 1} | query
    with engine.http.open(
        "GET", f"/containers/{container}/attach/ws", query=asked, headers=handshake(), prefix=prefix
    ) as exchange:
        yield exchange


def exactly(exchange: Exchange, size: int) -> bytes:
    data = exchange._file.read(size)
    assert len(data) == size, f"the stream ended: {data!r}"
    return data


def message(exchange: Exchange) -> tuple[int, bytes]:
    """The next frame: its kind and its payload. The engine's frames are whole and not masked."""
    first, second = exactly(exchange, 2)
    assert (first & 0x80, second & 0x80) == (0x80, 0)
    size = second & 0x7F
    if size == 126:
        (size,) = struct.unpack(">H", exactly(exchange, 2))
    elif size == 127:
        (size,) = struct.unpack(">Q", exactly(exchange, 8))
    return first & 0x0F, exactly(exchange, size)


def masked(data: bytes) -> bytes:
    """A binary frame as a client sends it."""
    mask = os.urandom(4)
    return bytes([0x80 | BINARY, 0x80 | len(data)]) + mask + bytes(b ^ mask[i % 4] for i, b in enumerate(data))


def test_WS1a_a_handshake_is_needed(engine: Engine) -> None:
    container = engine.create("true")
    answer = engine.http.get(f"/containers/{container}/attach/ws", query={"stream": 1, "stdout": 1})
    assert (answer.status, b"not websocket protocol" in answer.body) == (400, True), answer


def test_WS1bcd_G6d_binary_frames_and_a_close(engine: Engine) -> None:
    script = "read line; echo out $line; read line; echo err $line >&2; read line"
    container = engine.run("sh", "-c", script, OpenStdin=True)
    with websocket(engine, container) as socket:
        assert socket.status == 101
        assert socket.headers["upgrade"].lower() == "websocket"
        socket.send(masked(b"one\n"))
        assert message(socket) == (BINARY, b"out one\n")
        socket.send(masked(b"two\n"))
        assert message(socket) == (BINARY, b"err two\n")
        socket.send(masked(b"three\n"))
        kind, payload = message(socket)
        assert (kind, payload[:2]) == (CLOSE, struct.pack(">H", 1000))


def test_WS1e_errors_are_json(engine: Engine) -> None:
    with websocket(engine, "nope") as refused:
        answer = Answer(refused)
    assert (answer.status, answer.message) == (404, "No such container: nope")
    assert answer.headers["content-type"] == "application/json"


def test_WS1f_the_chosen_streams(engine: Engine) -> None:
    if engine.is_dockerd:
        return  # before API 1.42 always all
    container = engine.create("sh", "-c", "echo out; echo err >&2")
    with websocket(engine, container, stdout=0) as socket:
        assert socket.status == 101
        engine.start(container)
        assert message(socket) == (BINARY, b"err\n")
        assert message(socket)[0] == CLOSE


def test_WS1g_below_1_42_always_all_streams(engine: Engine) -> None:
    container = engine.create("sh", "-c", "echo out")
    with websocket(engine, container, prefix="/v1.41", stdout=0, stderr=0, stdin=0) as socket:
        assert socket.status == 101
        engine.start(container)
        assert message(socket) == (BINARY, b"out\n")


def test_ATT3b_other_errors_are_plain_text_too(engine: Engine) -> None:
    container = engine.run("cat", Tty=True, OpenStdin=True, name="frozen")
    with engine.attach(container, detachKeys="ctrl-foo") as refused:
        assert (refused.status, refused.read()[-2:]) == (400, b"\r\n")
    assert engine.http.post(f"/containers/{container}/pause").status == 204
    with engine.attach("frozen") as refused:
        assert refused.status == 409
        assert refused.headers["content-type"] == "application/vnd.docker.raw-stream"
        assert refused.read() == b"container frozen is paused, unpause the container before attach\r\n"


def test_ATT4b_attach_to_an_ended_container_holds(engine: Engine) -> None:
    container = engine.run("true")
    engine.wait(container)
    with engine.attach(container) as attached:
        assert attached.status == 101
        assert not attached.at_end(within=0.5)


def test_ATT2c_frames_are_small_and_in_the_order_written(engine: Engine) -> None:
    script = "read go; head -c 100000 /dev/zero; usleep 100000; echo err >&2; usleep 100000; echo out"
    container = engine.run("sh", "-c", script, OpenStdin=True)
    with engine.attach(container) as attached:
        attached.send(b"go\n")
        seen = list(attached.frames())
    assert max(len(data) for _, data in seen) <= 32 << 10
    assert sum(len(data) for stream, data in seen if stream == 1) == 100004
    assert seen[-2:] == [(2, b"err\n"), (1, b"out\n")]


def test_ATT10a_many_lost_clients_leave_nothing(wherry: Engine) -> None:
    container = wherry.run("sh", "-c", "while read line; do echo got $line; done", OpenStdin=True)
    open_files = f"/proc/{wherry.pid}/fd"
    with wherry.attach(container) as attached:
        attached.send(b"warm\n")
        next(attached.frames())
    before = len(os.listdir(open_files))
    for _ in range(20):
        wherry.attach(container).close()
    with wherry.attach(container) as attached:
        attached.send(b"it\n")
        assert next(attached.frames()) == (1, b"got it\n")
    eventually(lambda: len(os.listdir(open_files)) <= before + 2, what="connections given back")
