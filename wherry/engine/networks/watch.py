"""Word from the kernel that somebody else changed nftables rules that matter here: dockerd started, a firewall was reloaded.

The kernel tells of every change on the machine, and some machines change rules all day (other engines publish ports, fail2ban
bans). What does not touch this engine's tables or the chains in which it has its accepts is passed over without a question.
"""

from __future__ import annotations

import asyncio
import enum
import socket
import struct
from collections.abc import Callable, Iterator

from wherry.engine.networks.forward import CHAINS

_NETLINK_NETFILTER, _SOL_NETLINK, _ADD_MEMBERSHIP, _GROUP_NFTABLES = 12, 270, 1, 7
_NFTABLES = 10 << 8
_NEW_CHAIN, _DELETE_CHAIN, _NEW_RULE, _DELETE_RULE = 3, 5, 6, 8
_NEW_GENERATION = 15  # the message at the end of every transaction
_PROCESS = 2  # its attribute: the thread that made the change
_TABLE = 1  # the attribute of every other message
_RULE_CHAIN, _CHAIN_NAME, _CHAIN_HOOK = 2, 3, 4
_HOOK_NUMBER, _FORWARD = 1, 2
_CALM, _WEARY = 0.2, 1.0  # seconds: others change rules one by one, and are waited for; the longer the more often
_HEADER = struct.Struct("=IH")
_ATTRIBUTE = struct.Struct("=HH")


class Concern(enum.Flag):
    """What of the engine's a change may have touched."""

    NONE = 0
    OWN = enum.auto()  # its tables
    FORWARD = enum.auto()  # its accepts, or whether they are needed


def _attributes(data: bytes, offset: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Kind, begin and end of each."""
    while offset + 4 <= end:
        size, kind = _ATTRIBUTE.unpack_from(data, offset)
        if size < 4:
            return
        yield kind & 0x3FFF, offset + 4, min(offset + size, end)
        offset += (size + 3) & ~3


class Changes:
    """Puts the kernel's datagrams together to transactions. Pure.

    ``own_thread`` tells by its system id a thread whose changes don't count; a wrong no costs a needless look.
    """

    def __init__(self, own_table: str, own_thread: Callable[[int], bool]) -> None:
        self._own_table = own_table.encode() + b"\0"
        self._own_thread = own_thread
        self._seen = Concern.NONE  # of the transaction that is being told

    def feed(self, data: bytes) -> Concern:
        """What the foreign transactions that end in this datagram concern."""
        found = Concern.NONE
        offset = 0
        while offset + 20 <= len(data):
            length, kind = _HEADER.unpack_from(data, offset)
            if length < 20:
                break
            end = min(offset + length, len(data))
            if kind == _NFTABLES | _NEW_GENERATION:
                if self._seen and not self._is_own(data, offset + 20, end):
                    found |= self._seen
                self._seen = Concern.NONE
            elif kind & 0xFF00 == _NFTABLES:
                self._seen |= self._concern(kind & 0xFF, data, offset + 20, end)
            offset += (length + 3) & ~3
        return found

    def _is_own(self, data: bytes, begin: int, end: int) -> bool:
        for kind, start, stop in _attributes(data, begin, end):
            if kind == _PROCESS and stop - start == 4:
                return self._own_thread(int.from_bytes(data[start:stop], "big"))
        return False  # it is not told by whom

    def _concern(self, message: int, data: bytes, begin: int, end: int) -> Concern:
        chain_attribute = {
            _NEW_CHAIN: _CHAIN_NAME,
            _DELETE_CHAIN: _CHAIN_NAME,
            _NEW_RULE: _RULE_CHAIN,
            _DELETE_RULE: _RULE_CHAIN,
        }.get(message)
        table = b""
        for kind, start, stop in _attributes(data, begin, end):
            if kind == _TABLE:
                table = data[start:stop]
                if table == self._own_table:
                    return Concern.OWN
                if chain_attribute is None:
                    break
            elif kind == chain_attribute:
                if table == b"filter\0" and data[start : stop - 1].decode(errors="replace") in CHAINS:
                    return Concern.FORWARD
                if chain_attribute == _RULE_CHAIN:
                    break
            elif kind == _CHAIN_HOOK and chain_attribute == _CHAIN_NAME:
                for inner, first, last in _attributes(data, start, stop):
                    if inner == _HOOK_NUMBER and int.from_bytes(data[first:last], "big") == _FORWARD:
                        return Concern.FORWARD
        return Concern.NONE


class RulesetWatch:
    """Calls ``callback(concern)`` on the loop once others' changes have calmed down."""

    def __init__(self, callback: Callable[[Concern], None], own_table: str, own_thread: Callable[[int], bool]) -> None:
        self._callback = callback
        self._changes = Changes(own_table, own_thread)
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._pending = Concern.NONE
        self._last = 0.0
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
        for _ in range(64):
            try:
                data = self._socket.recv(65536)
            except BlockingIOError:
                break
            except OSError:  # ENOBUFS: messages were lost, so anything may have changed
                self._pending = Concern.OWN | Concern.FORWARD
                continue
            self._pending |= self._changes.feed(data)
        if self._pending and self._timer is None:
            often = self._loop.time() - self._last < 5 * _WEARY
            self._timer = self._loop.call_later(_WEARY if often else _CALM, self._calm)

    def _calm(self) -> None:
        self._timer = None
        self._last = self._loop.time()
        concern, self._pending = self._pending, Concern.NONE
        self._callback(concern)
