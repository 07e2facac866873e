"""Listens, and hands each request to one function."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import socket
import ssl as tls
import stat
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path

from wherry.engine.http import respond
from wherry.engine.http.acceptor import Acceptor
from wherry.engine.http.connection import Connection
from wherry.engine.http.connection_exchange import Exchange
from wherry.engine.http.connection_hangup import HangupWatch
from wherry.engine.http.connection_tls import Handshakes, TlsLayer
from wherry.engine.http.server_guard import Guard
from wherry.engine.http.server_limits import Budget, Limits
from wherry.engine.memory import release_memory_soon

log = logging.getLogger(__name__)

BACKLOG = 4096  # cut by the kernel to net.core.somaxconn
REFUSED = 64
"""Connections over the limit that are told so; beyond these they are closed without a word."""

CLOSE_SECONDS = 5.0
"""How long ``close`` waits for handlers that it has cancelled."""


class HttpServer:
    """``handle`` answers each exchange; it is a ``Router`` in the engine.

    To be made inside a running loop, which then is its own. ``names`` are host names for the check of TCP requests.
    """

    def __init__(
        self,
        handle: Callable[[Exchange], Awaitable[None]],
        *,
        names: Iterable[str] = (),
        limits: Limits | None = None,
    ) -> None:
        self.limits = limits or Limits()
        self.bodies = Budget(self.limits.bodies)
        self.loop = asyncio.get_running_loop()
        self.hangups = HangupWatch(self.loop)
        self.read_buffer = memoryview(bytearray(65536))  # shared: what is read into it is copied out at once
        self.closing = False
        self._handle = handle
        self._names = set(names)
        self._guard = Guard(self._names)
        self._connections: set[Connection] = set()
        self._handshakes = Handshakes(max(4, self.limits.connections // 4))
        self._sweeper: asyncio.TimerHandle | None = None
        self._acceptors: list[Acceptor] = []
        self._unix: list[tuple[Path, int]] = []  # path and inode of our own socket files
        self._adopting: set[asyncio.Task[None]] = set()

    @property
    def connections(self) -> int:
        """Connections that are open now."""
        return len(self._connections)

    async def listen_unix(self, path: str | Path, mode: int = 0o660) -> None:
        """Listen on a unix socket file; one that nobody listens on is replaced.

        Raises ``OSError``: EADDRINUSE where somebody does listen, ENAMETOOLONG for a path over the kernel's limit.
        """
        path = Path(path)
        if len(os.fsencode(path)) > 107:
            raise OSError(errno.ENAMETOOLONG, "the path of a unix socket must not be longer than 107 bytes", str(path))
        path.parent.mkdir(parents=True, exist_ok=True)
        await self._clear(path)
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            os.fchmod(sock.fileno(), mode)  # before bind, so that the file is never open to others
            sock.bind(str(path))
            os.chmod(path, mode)
            factory = self._factory(local=True, secure=False)
            self._acceptors.append(Acceptor(sock, lambda client: self._spawn(client, factory), backlog=BACKLOG))
        except BaseException:
            sock.close()
            raise
        self._unix.append((path, path.stat().st_ino))

    async def listen_tcp(self, host: str, port: int, ssl: tls.SSLContext | None = None) -> list[tuple[str, int]]:
        """Listen on TCP; returns the addresses, with the port chosen where ``port`` is 0. Raises ``OSError``."""
        self._guard = Guard({*self._names, host})
        plain = self._factory(local=False, secure=ssl is not None)
        factory = plain if ssl is None else lambda: TlsLayer(ssl, plain(), self._handshakes)

        def take(client: socket.socket) -> None:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)  # a dead peer's streams end some day
            self._spawn(client, factory)

        return [(await self._listen(*found, take)).address for found in await self._resolve(host, port)]

    def adopt(self, sock: socket.socket) -> None:
        """Serve a connected stream socket, such as one end of a socket pair; it is the server's from now on."""
        sock.setblocking(False)
        self._spawn(sock, self._factory(local=sock.family == socket.AF_UNIX, secure=False))

    async def close(self) -> None:
        """Stop listening, end the connections, cancel the handlers and wait for them."""
        self.closing = True
        for acceptor in self._acceptors:
            acceptor.close()
        self._acceptors.clear()
        if self._sweeper is not None:
            self._sweeper.cancel()
            self._sweeper = None
        for path, inode in self._unix:
            with contextlib.suppress(OSError):
                if path.stat().st_ino == inode:
                    path.unlink()
        self._unix.clear()
        for task in list(self._adopting):
            task.cancel()
        self._handshakes.abort()
        connections = list(self._connections)
        for connection in connections:
            connection.shut()
        if connections:
            waits = [self.loop.create_task(connection.wait_done()) for connection in connections]
            _, late = await asyncio.wait(waits, timeout=CLOSE_SECONDS)
            for task in late:
                task.cancel()
            if late:
                log.warning("%d requests did not end within %g s", len(late), CLOSE_SECONDS)
        for connection in list(self._connections):
            connection.abort()
        await asyncio.sleep(0)  # asyncio reports the aborted connections lost
        self.hangups.close()

    # -- for the connections -----------------------------------------------------------------------------------------

    def enter(self, connection: Connection) -> bool:
        """A connection begins; False where it is too late, or there are far too many."""
        if self.closing or len(self._connections) >= self.limits.connections + REFUSED:
            return False
        if len(self._connections) >= self.limits.connections and not self._evict():
            connection.refuse(503, "too many connections: close some, or try again")
        self._connections.add(connection)
        if self._sweeper is None:
            self._sweeper = self.loop.call_later(self.limits.sweep, self._sweep)
        return True

    def leave(self, connection: Connection) -> None:
        self._connections.discard(connection)
        if connection.was_behind:
            release_memory_soon()  # what was queued for it

    async def serve(self, exchange: Exchange) -> None:
        if not exchange.local:
            refusal = self._guard.refusal(exchange.request, secure=exchange.secure)
            if refusal is not None:
                exchange.send(403, b"Content-Type: application/json\r\n", respond.error_body(refusal))
                return
        await self._handle(exchange)

    # -- own ---------------------------------------------------------------------------------------------------------

    def _factory(self, *, local: bool, secure: bool) -> Callable[[], Connection]:
        return lambda: Connection(self, local=local, secure=secure)

    def _spawn(self, sock: socket.socket, factory: Callable[[], asyncio.BaseProtocol]) -> None:
        task = self.loop.create_task(self._adopt(sock, factory))
        self._adopting.add(task)
        task.add_done_callback(self._adopting.discard)

    async def _adopt(self, sock: socket.socket, factory: Callable[[], asyncio.BaseProtocol]) -> None:
        try:
            await self.loop.connect_accepted_socket(factory, sock)
        except OSError as error:
            log.debug("a connection ended at once: %s", error)
            sock.close()
        except BaseException:
            sock.close()
            raise

    def _evict(self) -> bool:
        """End the connection that has been idle longest; False where none is."""
        idle = [connection for connection in self._connections if connection.idle_since is not None]
        if not idle:
            return False
        min(idle, key=lambda connection: connection.idle_since or 0.0).expire()
        return True

    def _sweep(self) -> None:
        now = self.loop.time()
        for connection in list(self._connections):
            connection.check_time(now)
        again = bool(self._connections) and not self.closing
        self._sweeper = self.loop.call_later(self.limits.sweep, self._sweep) if again else None

    async def _resolve(self, host: str, port: int) -> list[tuple[socket.AddressFamily, tuple[str, int]]]:
        found = await self.loop.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        return list(dict.fromkeys((family, address[:4]) for family, _, _, _, address in found))  # type: ignore[misc]

    async def _listen(
        self, family: socket.AddressFamily, address: tuple[str, int], take: Callable[[socket.socket], None]
    ) -> Acceptor:
        sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.bind(address)
            acceptor = Acceptor(sock, take, backlog=BACKLOG)
        except BaseException:
            sock.close()
            raise
        self._acceptors.append(acceptor)
        return acceptor

    async def _clear(self, path: Path) -> None:
        """Remove a socket file that nobody listens on."""
        try:
            if not stat.S_ISSOCK(path.lstat().st_mode):
                raise FileExistsError(errno.EEXIST, "the path exists and is no socket", str(path))
        except FileNotFoundError:
            return
        probe = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            await asyncio.wait_for(self.loop.sock_connect(probe, str(path)), 1)
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)
        except FileNotFoundError:
            pass
        except TimeoutError:
            raise OSError(errno.EADDRINUSE, "another engine listens here", str(path)) from None
        else:
            raise OSError(errno.EADDRINUSE, "another engine listens here", str(path))
        finally:
            probe.close()
