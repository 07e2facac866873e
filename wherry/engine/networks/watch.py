"""Word from the kernel that somebody else changed its nftables rules: dockerd started, a firewall was reloaded."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable

_NETLINK_NETFILTER, _SOL_NETLINK, _ADD_MEMBERSHIP, _GROUP_NFTABLES = 12, 270, 1, 7
_NEW_GENERATION = 10 << 8 | 15  # the message at the end of every transaction
_PROCESS = 2  # its attribute: the thread that made the change
_CALM = 0.2  # seconds: others change rules one by one, and are waited for


def foreign_change(data: bytes, own_thread: Callable[[int], bool]) -> bool:
    """Whether a datagram of the kernel tells of a transaction that none of our threads made."""
    offset = 0
    while offset + 16 <= len(data):
        length, kind = struct.unpack_from("=IH", data, offset)
        if length < 16:
            break
        if kind == _NEW_GENERATION:
            attribute = offset + 20
            while attribute + 8 <= offset + length:
                size, name = struct.unpack_from("=HH", data, attribute)
                if name & 0x3FFF == _PROCESS:
                    (thread,) = struct.unpack_from("!I", data, attribute + 4)
                    return not own_thread(thread)
                attribute += max(4, (size + 3) & ~3)
            return True
        offset += (length + 3) & ~3
    return False


class RulesetWatch:
    """Calls ``callback()`` on the loop once others' changes have calmed down.

    ``own_thread`` tells by its system id a thread whose changes don't count; a wrong no costs a needless call.
    """

    def __init__(self, callback: Callable[[], None], own_thread: Callable[[int], bool]) -> None:
        self._callback = callback
        self._own_thread = own_thread
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
        self._socket = socket.socket(socket.AF_NETLINK, kind, _NETLINK_NETFILTER)
        try:
            self._socket.bind((0, 0))
            self._socket.setsockopt(_SOL_NETLINK, _ADD_MEMBERSHIP, _GROUP_NFTABLES)
        except OSError:
            self._socket.close()
            raise
        self._loop.add_reader(self._socket, self._readable)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._socket.fileno() >= 0:
            self._loop.remove_reader(self._socket)
            self._socket.close()

    def _readable(self) -> None:
        changed = False
        for _ in range(64):
            try:
                data = self._socket.recv(65536)
            except BlockingIOError:
                break
            except OSError:  # ENOBUFS: messages were lost, so anything may have changed
                changed = True
                continue
            changed = changed or foreign_change(data, self._own_thread)
        if changed and self._timer is None:
            self._timer = self._loop.call_later(_CALM, self._calm)

    def _calm(self) -> None:
        self._timer = None
        self._callback()
