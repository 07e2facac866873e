"""What is carried from ``::1`` to a container, here to another port of ``::1``."""

from __future__ import annotations

import asyncio
import hashlib
import os
import socket
from collections.abc import Awaitable, Callable

import pytest

from wherry.engine.networks import relay
from wherry.engine.networks.relay import open_relays


def bound(kind: int) -> socket.socket:
    one = socket.socket(socket.AF_INET6, kind)
    one.bind(("::1", 0))
    if kind == socket.SOCK_STREAM:
        one.listen()
    return one


def run(test: Callable[[], Awaitable[None]]) -> None:
    async def limited() -> None:
        async with asyncio.timeout(30):
            await test()

    asyncio.run(limited())


def test_a_connection_is_carried_with_its_ends() -> None:
    async def test() -> None:
        async def digest(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            data = await reader.read()  # until its end, which must come through alone
            writer.write(hashlib.sha256(data).hexdigest().encode())
            writer.close()

        server = await asyncio.start_server(digest, "::1", 0)
        front = bound(socket.SOCK_STREAM)
        port = front.getsockname()[1]
        (one,) = await open_relays([{"address": "::1", "port": server.sockets[0].getsockname()[1]}], [front])
        sent = os.urandom(3 << 20)

        async def ask() -> bytes:
            reader, writer = await asyncio.open_connection("::1", port)
            writer.write(sent)
            writer.write_eof()
            answer = await reader.read()
            writer.close()
            return answer

        expected = hashlib.sha256(sent).hexdigest().encode()
        assert await asyncio.gather(*(ask() for _ in range(5))) == [expected] * 5
        one.close()
        with pytest.raises(OSError):
            await asyncio.open_connection("::1", port)
        server.close()

    run(test)


def test_where_nobody_listens_the_connection_is_broken_off() -> None:
    async def test() -> None:
        nobody = bound(socket.SOCK_STREAM)
        target = nobody.getsockname()[1]
        nobody.close()
        front = bound(socket.SOCK_STREAM)
        (one,) = await open_relays([{"address": "::1", "port": target}], [front])
        reader, writer = await asyncio.open_connection("::1", front.getsockname()[1])
        try:
            assert await reader.read() == b""
        except ConnectionResetError:
            pass
        writer.close()
        one.close()

    run(test)


def test_every_client_of_udp_has_its_answers_and_few_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay, "CONVERSATIONS", 3)

    async def test() -> None:
        loop = asyncio.get_running_loop()
        back, front = bound(socket.SOCK_DGRAM), bound(socket.SOCK_DGRAM)
        back.setblocking(False)
        (one,) = await open_relays([{"address": "::1", "port": back.getsockname()[1]}], [front])
        assert isinstance(one, relay.UdpRelay)
        clients = [bound(socket.SOCK_DGRAM) for _ in range(6)]
        for number, client in enumerate(clients):
            client.setblocking(False)
            for word in (b"first", b"second"):
                client.sendto(word, front.getsockname())
                data, peer = await loop.sock_recvfrom(back, 100)
                back.sendto(data + str(number).encode(), peer)
                assert await loop.sock_recv(client, 100) == word + str(number).encode()
            assert len(one._backs) <= 3
        one.close()
        assert not one._backs
        for each in (back, *clients):
            each.close()

    run(test)
