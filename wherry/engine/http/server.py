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
from wherry.engine.http.connection import Connection
from wherry.engine.http.connection_exchange import Exchange
from wherry.engine.http.connection_hangup import HangupWatch
from wherry.engine.http.connection_tls import TlsLayer
from wherry.engine.http.server_guard import Guard

log = logging.getLogger(__name__)

BACKLOG = 1024
CLOSE_SECONDS = 5.0
"""How long ``close`` waits for handlers that it has cancelled."""


class HttpServer:
    """``handle`` answers each exchange; it is a ``Router`` in the engine.

    To be made inside a running loop, which then is its own. ``names`` are host names for the check of TCP requests.
    """

    def __init__(self, handle: Callable[[Exchange], Awaitable[None]], *, names: Iterable[str] = ()) -> None:
        self.loop = asyncio.get_running_loop()
        self.hangups = HangupWatch(self.loop)
        self.read_buffer = memoryview(bytearray(65536))  # shared: what is read into it is copied out at once
        self.closing = False
        self._handle = handle
        self._names = set(names)
        self._guard = Guard(self._names)
        self._connections: set[Connection] = set()
        self._servers: list[asyncio.Server] = []
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
            server = await self.loop.create_unix_server(
                self._factory(local=True, secure=False), sock=sock, backlog=BACKLOG
            )
        except BaseException:
            sock.close()
            raise
        self._servers.append(server)
        self._unix.append((path, path.stat().st_ino))

    async def listen_tcp(self, host: str, port: int, ssl: tls.SSLContext | None = None) -> list[tuple[str, int]]:
        """Listen on TCP; returns the addresses, with the port chosen where ``port`` is 0. Raises ``OSError``."""
        self._guard = Guard({*self._names, host})
        plain = self._factory(local=False, secure=ssl is not None)
        factory = plain if ssl is None else lambda: TlsLayer(ssl, plain())
        server = await self.loop.create_server(factory, host, port, backlog=BACKLOG)
        self._servers.append(server)
        return [sock.getsockname()[:2] for sock in server.sockets]

    def adopt(self, sock: socket.socket) -> None:
        """Serve a connected stream socket, such as one end of a socket pair; it is the server's from now on."""
        sock.setblocking(False)
        task = self.loop.create_task(self._adopt(sock))
        self._adopting.add(task)
        task.add_done_callback(self._adopting.discard)

    async def close(self) -> None:
        """Stop listening, end the connections, cancel the handlers and wait for them."""
        self.closing = True
        for server in self._servers:
            server.close()
        self._servers.clear()
        for path, inode in self._unix:
            with contextlib.suppress(OSError):
                if path.stat().st_ino == inode:
                    path.unlink()
        self._unix.clear()
        for task in list(self._adopting):
            task.cancel()
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
        """A connection begins; False where it is too late for it."""
        if self.closing:
            return False
        self._connections.add(connection)
        return True

    def leave(self, connection: Connection) -> None:
        self._connections.discard(connection)

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

    async def _adopt(self, sock: socket.socket) -> None:
        local = sock.family == socket.AF_UNIX
        try:
            await self.loop.connect_accepted_socket(self._factory(local=local, secure=False), sock)
        except BaseException:
            sock.close()
            raise

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
