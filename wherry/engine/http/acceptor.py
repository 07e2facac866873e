"""Takes connections off a listening socket.

asyncio's own acceptor takes a whole backlog in one go and, when the process has no file descriptor left, goes on to fail
once for each place in the backlog, every second. This one takes a few at a time, so that a burst does not hold up
who is connected already, and pauses when descriptors run out: clients wait in the kernel's queue meanwhile.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from collections.abc import Callable

log = logging.getLogger(__name__)

BATCH = 16
"""Connections taken before everything else has its turn."""

RETRY_SECONDS = 0.25
"""How long accepting pauses when it fails for want of descriptors or memory."""

_EXHAUSTED = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM))


class Acceptor:
    """Listens on a bound socket, which is its own, and hands each connection to ``take``."""

    def __init__(self, sock: socket.socket, take: Callable[[socket.socket], None], *, backlog: int) -> None:
        self._loop = asyncio.get_running_loop()
        self._sock = sock
        self._take = take
        self._retry: asyncio.TimerHandle | None = None
        self._exhausted = False
        sock.setblocking(False)
        sock.listen(backlog)
        self._loop.add_reader(sock.fileno(), self._ready)

    @property
    def address(self) -> tuple[str, int]:
        """Address and port; for TCP."""
        name = self._sock.getsockname()
        return name[0], name[1]

    def close(self) -> None:
        if self._retry is not None:
            self._retry.cancel()
        self._loop.remove_reader(self._sock.fileno())
        self._sock.close()

    def _ready(self) -> None:
        for _ in range(BATCH):
            try:
                connection, _ = self._sock.accept()
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                if error.errno in _EXHAUSTED:
                    self._pause(error)
                    return
                continue  # this client's connection failed on its way here: it is the client's news
            self._exhausted = False
            connection.setblocking(False)
            if _has_left(connection):
                connection.close()
            else:
                self._take(connection)

    def _pause(self, error: OSError) -> None:
        if not self._exhausted:  # once, however long it lasts
            self._exhausted = True
            log.warning("no new connection can be taken now: %s", error)
        self._loop.remove_reader(self._sock.fileno())
        self._retry = self._loop.call_later(RETRY_SECONDS, self._resume)

    def _resume(self) -> None:
        self._retry = None
        self._loop.add_reader(self._sock.fileno(), self._ready)


def _has_left(connection: socket.socket) -> bool:
    """Whether the client has closed without a word: a connection costs a hundred times as much as this look."""
    try:
        return connection.recv(1, socket.MSG_PEEK) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True
