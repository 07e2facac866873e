"""Websockets for attach/ws (WS1): messages in and out for both ends, over the sans-I/O layer of ``websockets``."""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
from collections.abc import Mapping
from typing import Protocol

from websockets.frames import CloseCode, Frame, Opcode
from websockets.protocol import CLIENT, OPEN, SERVER
from websockets.protocol import Protocol as WebSocketProtocol

MAX_MESSAGE = 16 << 20
"""Longest accepted message, in bytes."""

_USUAL = (CloseCode.NORMAL_CLOSURE, CloseCode.GOING_AWAY, CloseCode.NO_STATUS_RCVD)
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class WebSocketError(ValueError):
    """The peer's handshake is none."""


class _Fields(Protocol):
    def get(self, name: str, default: str = ..., /) -> str: ...


def accept_key(key: str) -> str:
    """The ``Sec-WebSocket-Accept`` that belongs to a ``Sec-WebSocket-Key``."""
    return base64.b64encode(hashlib.sha1(key.encode() + _GUID, usedforsecurity=False).digest()).decode()


def _has_token(headers: _Fields, name: str, token: str) -> bool:
    return token in (part.strip().lower() for part in headers.get(name, "").split(","))


def accept_handshake(method: str, headers: _Fields) -> list[tuple[str, str]]:
    """The fields of the 101 that accepts a client's handshake. Raises ``WebSocketError`` where the request is none."""
    key = headers.get("Sec-WebSocket-Key", "")
    try:
        right_key = len(base64.b64decode(key, validate=True)) == 16
    except (binascii.Error, ValueError):
        right_key = False
    asked = _has_token(headers, "Upgrade", "websocket") and _has_token(headers, "Connection", "upgrade")
    if method != "GET" or not asked or not right_key or headers.get("Sec-WebSocket-Version", "") != "13":
        raise WebSocketError("not websocket protocol")
    return [("Upgrade", "websocket"), ("Connection", "Upgrade"), ("Sec-WebSocket-Accept", accept_key(key))]


class ClientHandshake:
    """A client's handshake: send ``headers`` with a GET, then ``check`` the answer's."""

    def __init__(self) -> None:
        self._key = base64.b64encode(os.urandom(16)).decode()
        self.headers: list[tuple[str, str]] = [
            ("Connection", "Upgrade"),
            ("Upgrade", "websocket"),
            ("Sec-WebSocket-Version", "13"),
            ("Sec-WebSocket-Key", self._key),
        ]

    def check(self, status: int, headers: _Fields | Mapping[str, str]) -> None:
        """Raises ``WebSocketError`` where the answer does not accept the handshake."""
        accepted = headers.get("Sec-WebSocket-Accept", "").strip() == accept_key(self._key)
        if status != 101 or not accepted:
            raise WebSocketError("the server did not accept the websocket")


class WebSocket:
    """An open websocket. Bytes to send, answers to pings among them, pile up until ``outgoing``."""

    def __init__(self, *, client: bool) -> None:
        self._protocol = WebSocketProtocol(CLIENT if client else SERVER, state=OPEN, max_size=MAX_MESSAGE)
        self._eof = False
        self._leaving = False  # this end began to close

    def feed(self, data: bytes) -> list[bytes]:
        """The payloads in ``data``: of binary, text and continuation frames alike, as a stream has no messages."""
        if not self._eof:
            self._protocol.receive_data(data)
        return [
            bytes(event.data)
            for event in self._protocol.events_received()
            if isinstance(event, Frame) and event.opcode in (Opcode.BINARY, Opcode.TEXT, Opcode.CONT) and event.data
        ]

    def feed_eof(self) -> None:
        if not self._eof:
            self._eof = True
            self._protocol.receive_eof()

    def send(self, data: bytes | bytearray | memoryview) -> None:
        """One binary message. Dropped once the websocket is closing."""
        if self._protocol.state is OPEN:
            self._protocol.send_binary(data)

    def close(self, code: int = 1000) -> None:
        """Begin the closing handshake."""
        self._leaving = True
        if self._protocol.state is OPEN:
            self._protocol.send_close(code)

    def outgoing(self) -> bytes:
        """What is to be sent now."""
        return b"".join(self._protocol.data_to_send())

    @property
    def closing(self) -> bool:
        """True once either end has begun to close, or the peer broke the protocol."""
        return self._protocol.state is not OPEN

    @property
    def peer_closed(self) -> bool:
        """True once the peer has sent its close, or broke the protocol: nothing more comes from it."""
        return self._protocol.close_rcvd is not None or self._protocol.parser_exc is not None or self._eof

    @property
    def failure(self) -> str:
        """Once ``peer_closed``: what was wrong with the end, "" where it is one (WS1).

        That is a close of the usual kind, or the connection's end after this end began to close.
        """
        received, broken = self._protocol.close_rcvd, self._protocol.parser_exc
        if received is not None:
            return "" if received.code in _USUAL else f"the websocket was closed with {received}"
        if broken is not None and not isinstance(broken, EOFError):
            return f"what came is no websocket: {broken}"
        return "" if self._leaving else "the connection ended without a close of the websocket"

    @property
    def close_code(self) -> int | None:
        """The peer's closing code, once it has sent one."""
        received = self._protocol.close_rcvd
        return None if received is None else received.code


__all__ = [
    "ClientHandshake",
    "WebSocket",
    "WebSocketError",
    "accept_handshake",
    "accept_key",
]
