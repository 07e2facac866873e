"""Making the kernel forget the paths of UDP conversations, so that a client that never pauses finds a new container.

Translations are decided once, at the first packet of what the kernel takes for a connection. A client that sends from
one socket before its port is published, or goes on while the container is replaced, would stay on the old path.
TCP needs nothing of the kind: its connections end.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Collection, Iterator

_NETLINK_NETFILTER = 12
_GET, _DELETE = 1 << 8 | 1, 1 << 8 | 2
_ERROR, _DONE = 2, 3
_REQUEST, _ACK, _DUMP = 0x1, 0x4, 0x300
_TUPLE_ORIG, _TUPLE_PROTO, _ZONE = 1, 2, 18
_NESTED = 0x8000
_PROTO_NUMBER, _PROTO_DESTINATION = 1, 3
_HEADER = struct.Struct("=IHHII")
_FAMILY = struct.Struct("=BBH")
_NUMBERS = {"udp": socket.IPPROTO_UDP, "sctp": 132}


def _attributes(data: bytes) -> dict[int, bytes]:
    found = {}
    offset = 0
    while offset + 4 <= len(data):
        length, kind = struct.unpack_from("=HH", data, offset)
        if length < 4:
            break
        found[kind & 0x3FFF] = data[offset + 4 : offset + length]
        offset += (length + 3) & ~3
    return found


def _attribute(kind: int, data: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(data), kind) + data + bytes(-len(data) % 4)


def target(entry: bytes) -> tuple[int, int] | None:
    """Protocol number and destination port of a conntrack message, as its first packet had them."""
    proto = _attributes(_attributes(_attributes(entry).get(_TUPLE_ORIG, b"")).get(_TUPLE_PROTO, b""))
    if _PROTO_NUMBER not in proto or _PROTO_DESTINATION not in proto:
        return None
    return proto[_PROTO_NUMBER][0], int.from_bytes(proto[_PROTO_DESTINATION], "big")


def forget(ports: Collection[tuple[str, int]], families: Collection[int] = (socket.AF_INET,)) -> None:
    """Forget every conversation that began with a packet to one of these (protocol, port), but for tcp.

    Blocks; a machine with very many connections takes a while. Raises ``OSError``.
    """
    wanted = {(_NUMBERS[protocol], port) for protocol, port in ports if protocol in _NUMBERS}
    if not wanted:
        return
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_NETFILTER) as kernel:
        kernel.settimeout(10)
        entries = [
            (family, entry)
            for family in families
            for entry in _exchange(kernel, _GET, _DUMP, family, b"")
            if target(entry) in wanted
        ]
        for family, entry in entries:
            known = _attributes(entry)
            body = _attribute(_TUPLE_ORIG | _NESTED, known[_TUPLE_ORIG])
            if _ZONE in known:
                body += _attribute(_ZONE, known[_ZONE])
            try:
                list(_exchange(kernel, _DELETE, _ACK, family, body))
            except FileNotFoundError:  # it ended by itself
                pass


def _exchange(kernel: socket.socket, kind: int, flags: int, family: int, body: bytes) -> Iterator[bytes]:
    """Send a request and give the bodies of its answers."""
    body = _FAMILY.pack(family, 0, 0) + body
    kernel.send(_HEADER.pack(_HEADER.size + len(body), kind, flags | _REQUEST, 0, 0) + body)
    while True:
        data = kernel.recv(1 << 18)
        offset = 0
        while offset + _HEADER.size <= len(data):
            length, answer, *_ = _HEADER.unpack_from(data, offset)
            if length < _HEADER.size:
                break
            content = data[offset + _HEADER.size : offset + length]
            if answer == _DONE:
                return
            if answer == _ERROR:
                code = -struct.unpack_from("=i", content)[0]
                if code:
                    raise OSError(code, os.strerror(code))
                return
            yield content[_FAMILY.size :]
            offset += (length + 3) & ~3
