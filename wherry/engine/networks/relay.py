"""Ports on the host's ``::1``, carried on to a container byte by byte: the kernel leads no packet from there to a bridge.

Part of the name server's process, which lives on without the engine. The sockets are opened by the engine and handed over;
here is only what runs on them. Of Wherry nothing is imported, to stay small.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from typing import Any

CONNECTIONS = 512  # at once, of one port
CONVERSATIONS, IDLE = 256, 90.0  # UDP: how many clients of one port are remembered, and for how many seconds
CONNECT = 10.0  # seconds until a container must have accepted
PIECE = 1 << 16


class TcpRelay:
    """Accepts on a listening socket, and connects each connection through."""

    def __init__(self, listener: socket.socket, address: str, port: int) -> None:
        self._listener = listener
        self._target = (address, port)
        self._server: asyncio.Server | None = None
        self._connections = 0

    async def open(self) -> None:
        self._server = await asyncio.start_server(self._connected, sock=self._listener)

    def close(self) -> None:
        """Accept no more; connections go on until one side ends them."""
        if self._server is not None:
            self._server.close()
        else:
            self._listener.close()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._connections >= CONNECTIONS:
            writer.transport.abort()
            return
        self._connections += 1
        try:
            async with asyncio.timeout(CONNECT):
                inner_reader, inner_writer = await asyncio.open_connection(*self._target)
        except (OSError, TimeoutError):
            writer.transport.abort()
            self._connections -= 1
            return
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(_pump(reader, inner_writer))
                both.create_task(_pump(inner_reader, writer))
        except* OSError:  # one side broke off: so does the other
            writer.transport.abort()
            inner_writer.transport.abort()
        finally:
            self._connections -= 1
            writer.close()
            inner_writer.close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(PIECE):
        writer.write(data)
        await writer.drain()
    if writer.can_write_eof():
        writer.write_eof()


class UdpRelay(asyncio.DatagramProtocol):
    """Gives each client a socket of its own towards the container, so that answers find their way back."""

    def __init__(self, front: socket.socket, address: str, port: int) -> None:
        self._front = front
        self._target = (address, port)
        self._transport: asyncio.DatagramTransport | None = None
        self._backs: dict[Any, tuple[socket.socket, float]] = {}  # the longest unused first

    async def open(self) -> None:
        self._transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(lambda: self, sock=self._front)

    def close(self) -> None:
        for client in list(self._backs):
            self._forget(client)
        if self._transport is not None:
            self._transport.close()
        else:
            self._front.close()

    def datagram_received(self, data: bytes, addr: Any) -> None:
        back, _ = self._backs.pop(addr, (None, 0.0))
        now = time.monotonic()
        if back is None:
            for client, (_, used) in list(self._backs.items()):
                if now - used < IDLE and len(self._backs) < CONVERSATIONS:
                    break
                self._forget(client)
            back = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
            try:
                back.connect(self._target)
            except OSError:
                back.close()
                return
            asyncio.get_running_loop().add_reader(back, self._answer, back, addr)
        self._backs[addr] = (back, now)
        with contextlib.suppress(OSError):  # lost, as datagrams may be
            back.send(data)

    def _answer(self, back: socket.socket, client: Any) -> None:
        with contextlib.suppress(OSError):
            data = back.recv(PIECE)
            if self._transport is not None:
                self._transport.sendto(data, client)

    def _forget(self, client: Any) -> None:
        back, _ = self._backs.pop(client)
        asyncio.get_running_loop().remove_reader(back)
        back.close()


Relay = TcpRelay | UdpRelay


async def open_relays(ports: list[dict[str, object]], sockets: list[socket.socket]) -> list[Relay]:
    """One relay a port, each on its socket: ``{"address", "port"}`` says where to."""
    relays: list[Relay] = []
    for port, one in zip(ports, sockets, strict=True):
        one.setblocking(False)
        kind = UdpRelay if one.type == socket.SOCK_DGRAM else TcpRelay
        relay = kind(one, str(port["address"]), int(str(port["port"])))
        await relay.open()
        relays.append(relay)
    return relays
