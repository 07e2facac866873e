"""GET attach/ws."""

from __future__ import annotations

import base64
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.support.engines import Engine
from tests.support.http import Answer, Exchange

TEXT, BINARY, CLOSE = 1, 2, 8


TEXT, BINARY, CLOSE = 1, 2, 8


def masked(data: bytes) -> bytes:
    """A binary frame as a client sends it."""
    mask = os.urandom(4)
    return bytes([0x80 | BINARY, 0x80 | len(data)]) + mask + bytes(b ^ mask[i % 4] for i, b in enumerate(data))


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
