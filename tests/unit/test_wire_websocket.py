"""WS1: websocket messages, both ends against each other."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wherry.wire.http1 import Headers
from wherry.wire.websocket import ClientHandshake, WebSocket, WebSocketError, accept_handshake, accept_key


def test_handshake() -> None:
    client = ClientHandshake()
    fields = accept_handshake("GET", Headers(client.headers))
    client.check(101, Headers(fields))
    assert accept_key("dGhlIHNhbXBsZSBub25jZQ==") == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="  # RFC 6455


@pytest.mark.parametrize("missing", ["Connection", "Upgrade", "Sec-WebSocket-Version", "Sec-WebSocket-Key"])
def test_WS1_no_handshake(missing: str) -> None:
    fields = [field for field in ClientHandshake().headers if field[0] != missing]
    with pytest.raises(WebSocketError, match="not websocket protocol"):
        accept_handshake("GET", Headers(fields))


def test_answer_with_a_wrong_key() -> None:
    with pytest.raises(WebSocketError):
        ClientHandshake().check(101, Headers([("Sec-WebSocket-Accept", accept_key("x"))]))
    with pytest.raises(WebSocketError):
        ClientHandshake().check(200, Headers())


@settings(max_examples=100, deadline=None)
@given(st.lists(st.binary(min_size=1, max_size=300), max_size=5), st.integers(1, 50), st.booleans())
def test_messages_do_not_depend_on_the_split(messages: list[bytes], step: int, from_client: bool) -> None:
    sender, receiver = WebSocket(client=from_client), WebSocket(client=not from_client)
    for message in messages:
        sender.send(message)
    data = sender.outgoing()
    out = []
    for i in range(0, len(data), step):
        out += receiver.feed(data[i : i + step])
    assert out == messages


def test_WS1_close_frame() -> None:
    server, client = WebSocket(client=False), WebSocket(client=True)
    server.close()
    goodbye = server.outgoing()
    assert goodbye == b"\x88\x02\x03\xe8"
    assert client.feed(goodbye) == []
    assert (client.peer_closed, client.close_code, client.closing) == (True, 1000, True)
    server.feed(client.outgoing())
    assert server.peer_closed
    server.send(b"too late")
    assert server.outgoing() == b""


def test_pings_are_answered_and_garbage_closes() -> None:
    server = WebSocket(client=False)
    server.feed(b"\x89\x80\0\0\0\0")
    assert server.outgoing() == b"\x8a\x00"
    server.feed(b"\xff\xff\xff\xff\xff\xff")
    assert server.peer_closed
    assert server.outgoing().startswith(b"\x88")


@given(st.binary(max_size=60))
def test_any_bytes_are_survived(data: bytes) -> None:
    for client in (True, False):
        socket = WebSocket(client=client)
        socket.feed(data)
        socket.feed(data)
        socket.feed_eof()
        assert socket.peer_closed
