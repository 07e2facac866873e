"""The engine's end of the name server (resolver.py): it is started, told who is called what, and started again if need be.

A container on a user-defined network asks 127.0.0.11. For it two sockets are opened in the container's namespace, handed to
the name server, and port 53 of that address is led to them by a small nftables table in that namespace, so that the ports
themselves stay free for the container. Everything that the name server knows can be told it again, from endpoints' rows.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import socket
import struct
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import wherry
from wherry.engine.blocking import in_thread
from wherry.engine.networks import netns
from wherry.engine.networks.nftables import Nft, NftError

log = logging.getLogger(__name__)

NAMESERVER = "127.0.0.11"
_TABLE = "wherry-names"
_DEADLINE = 10.0  # seconds for an answer of the name server
_START_DEADLINE = 30.0  # a second on a busy machine; many where a machine is translated
_PACKET = 1 << 18
_DESCRIPTORS = 128  # that go with one order


class NamesError(Exception):
    """Names cannot be served; the text says why."""


@dataclass(frozen=True, slots=True)
class Membership:
    """A container in one network: its addresses, IPv4 first, what it is called there, and what it alone calls others
    (links: alias to name)."""

    network: str  # id
    network_name: str
    addresses: tuple[str, ...]
    names: tuple[str, ...]
    links: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Relayed:
    """A port of the host's ``::1`` that leads to a container's address and port."""

    protocol: str  # tcp or udp
    host_port: int
    address: str
    port: int


@dataclass(frozen=True, slots=True)
class Entry:
    """What the name server is to know of a container. Without ``servers`` the host's resolvers are asked; without
    ``outside`` nobody is; without ``networks`` it has no names. ``relays`` are carried on there, too."""

    sandbox: Path
    networks: tuple[Membership, ...]
    servers: tuple[str, ...] = ()
    outside: bool = True
    relays: tuple[Relayed, ...] = ()


class Names:
    """For the engine's loop. Orders are given one at a time, each within milliseconds."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / "names.sock"
        self._entries: dict[str, Entry] = {}
        self._known: set[str] = set()  # whom the present name server has sockets of
        self._relayed: dict[str, tuple[Relayed, ...]] = {}  # what it carries on
        self._socket: socket.socket | None = None
        self._pidfd: int | None = None
        self._lock = asyncio.Lock()
        self._mending: asyncio.Task[None] | None = None

    async def put(self, container: str, entry: Entry) -> None:
        """Serve a container, or serve it by what is true now. Raises ``NamesError``."""
        async with self._lock:
            self._entries[container] = entry
            try:
                await self._put(container)
            except (OSError, NamesError) as error:
                log.warning("the name server is started again: %s", error)
                try:
                    await self._begin_anew()
                except (OSError, NamesError, NftError) as error:
                    raise NamesError(f"name server: {error}") from None
            except NftError as error:
                raise NamesError(f"name server: {error}") from None

    async def drop(self, container: str) -> None:
        """Serve a container no longer, and let go of its namespace."""
        async with self._lock:
            self._entries.pop(container, None)
            if container in self._known or container in self._relayed:
                self._known.discard(container)
                self._relayed.pop(container, None)
                with contextlib.suppress(OSError, NamesError):  # a dead one holds nothing
                    await self._order({"op": "drop", "id": container})

    async def recover(self, entries: Mapping[str, Entry]) -> None:
        """Find the name server that an earlier engine left, or start one if it is needed; it knows just these then."""
        async with self._lock:
            self._entries = dict(entries)
            try:
                if await self._connect():
                    served = set((await self._order({"op": "list"}))["ids"])
                    for container in served - set(entries):
                        await self._order({"op": "drop", "id": container})
                    self._known = served & {container for container, entry in entries.items() if entry.networks}
                for container in entries:
                    await self._put(container)
            except (OSError, NamesError, NftError) as error:
                log.warning("the name server is started again: %s", error)
                try:
                    await self._begin_anew()
                except (OSError, NamesError, NftError) as error:
                    log.error("names of containers are not served: %s", error)

    async def rest(self) -> None:
        """No user-defined network is left: end the name server."""
        async with self._lock:
            if not self._entries and (self._socket is not None or await self._connect()):
                with contextlib.suppress(OSError, NamesError):
                    await self._order({"op": "exit"})
            self._let_go()

    async def close(self) -> None:
        """Let go of the name server; it goes on without the engine as long as containers need it."""
        if self._mending is not None:
            self._mending.cancel()
            await asyncio.gather(self._mending, return_exceptions=True)
        async with self._lock:
            self._let_go()

    # parts

    async def _put(self, container: str) -> None:
        entry = self._entries[container]
        if entry.networks:
            await self._put_names(container, entry)
        elif container in self._known:
            self._known.discard(container)
            await self._order({"op": "drop", "id": container})
            self._relayed.pop(container, None)
        if self._relayed.get(container, ()) != entry.relays:
            await self._put_relays(container, entry.relays)

    async def _put_relays(self, container: str, relays: tuple[Relayed, ...]) -> None:
        for start in range(0, max(1, len(relays)), _DESCRIPTORS):
            some = relays[start : start + _DESCRIPTORS]
            with contextlib.ExitStack() as stack:
                sockets = [stack.enter_context(one) for one in map(_relay_socket, some)]
                ports = [{"address": relay.address, "port": relay.port} for relay in some]
                await self._order({"op": "relay", "id": container, "ports": ports, "more": start > 0}, *sockets)
        self._relayed[container] = relays

    async def _put_names(self, container: str, entry: Entry) -> None:
        order = {
            "op": "put",
            "id": container,
            "networks": [
                {
                    "id": member.network,
                    "name": member.network_name,
                    "addresses": member.addresses,
                    "names": member.names,
                    "links": dict(member.links),
                }
                for member in entry.networks
            ],
            "servers": entry.servers,
            "outside": entry.outside,
        }
        if container in self._known:
            await self._order(order)
            return
        udp, tcp = await netns.in_own_thread(lambda: open_within(entry.sandbox))
        try:
            await self._order(order, udp, tcp)
        finally:
            udp.close()
            tcp.close()
        self._known.add(container)

    async def _begin_anew(self) -> None:
        """Start, or find, a name server and tell it everything."""
        self._let_go()
        if not await self._connect():
            raise NamesError("it does not start")
        for container, entry in self._entries.items():
            if netns.is_held(entry.sandbox):
                await self._put(container)

    async def _order(self, order: dict[str, Any], *sockets: socket.socket) -> dict[str, Any]:
        if self._socket is None and not await self._connect():
            raise NamesError("it does not start")
        assert self._socket is not None
        answer: dict[str, Any] = await in_thread(_ask, self._socket, order, sockets)
        if "error" in answer:
            raise NamesError(answer["error"])
        return answer

    async def _connect(self) -> bool:
        """Connect to the name server that runs; whether one does. One that is needed is started."""
        if self._socket is not None:
            return True
        for attempt in range(20):
            try:
                self._socket = await in_thread(_dial, self._path)
                break
            except OSError:
                if not self._entries:
                    return False
                if attempt:
                    await asyncio.sleep(0.05)  # it is on its way out
                await in_thread(_spawn, self._path)
        else:
            return False
        pid, _, _ = struct.unpack("3i", self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        try:
            self._pidfd = os.pidfd_open(pid)
        except OSError:
            self._let_go()
            return False
        asyncio.get_running_loop().add_reader(self._pidfd, self._died)
        return True

    def _let_go(self) -> None:
        self._known.clear()
        self._relayed.clear()
        if self._pidfd is not None:
            asyncio.get_running_loop().remove_reader(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = None
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _died(self) -> None:
        assert self._pidfd is not None
        asyncio.get_running_loop().remove_reader(self._pidfd)
        if self._entries:
            self._mending = asyncio.get_running_loop().create_task(self._mend())

    async def _mend(self) -> None:
        async with self._lock:
            if not self._entries:
                self._let_go()
                return
            log.warning("the name server died and is started again")
            try:
                await self._begin_anew()
            except (OSError, NamesError, NftError) as error:
                log.error("names of containers are not served: %s", error)


def _at(path: Path) -> tuple[int, str]:
    """A directory's descriptor, and a name for a socket in it that fits into a socket's address. Raises ``OSError``."""
    place = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    return place, f"/proc/self/fd/{place}/{path.name}"


def _dial(path: Path) -> socket.socket:
    place, short = _at(path)
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        connection.settimeout(_DEADLINE)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _PACKET)
        connection.connect(short)
    except BaseException:
        connection.close()
        raise
    finally:
        os.close(place)
    return connection


def _ask(connection: socket.socket, order: dict[str, Any], sockets: tuple[socket.socket, ...]) -> dict[str, Any]:
    data = json.dumps(order).encode()
    if len(data) > _PACKET // 2:
        raise NamesError("too many names")
    socket.send_fds(connection, [data], [one.fileno() for one in sockets])
    answer = connection.recv(_PACKET)
    if not answer:
        raise ConnectionResetError("the name server has ended")
    result: dict[str, Any] = json.loads(answer)
    return result


def _relay_socket(relay: Relayed) -> socket.socket:
    """Beside the socket that holds the port, which allows just that (ports.py). Raises ``OSError``."""
    kind = socket.SOCK_DGRAM if relay.protocol == "udp" else socket.SOCK_STREAM
    one = socket.socket(socket.AF_INET6, kind | socket.SOCK_CLOEXEC)
    try:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        one.bind(("::1", relay.host_port))
        if kind == socket.SOCK_STREAM:
            one.listen(64)
    except BaseException:
        one.close()
        raise
    return one


def _spawn(path: Path) -> None:
    """Start the name server: on return it can be connected to. Raises ``NamesError``."""
    environment = {"PATH": os.defpath, "PYTHONPATH": str(Path(wherry.__file__).parents[1])}
    process = subprocess.Popen(
        [sys.executable, "-s", "-m", "wherry.engine.networks.resolver", str(path)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        cwd="/",
        env=environment,
    )
    try:
        said, _ = process.communicate(timeout=_START_DEADLINE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        raise NamesError("the name server does not start") from None
    text = said.decode(errors="replace").strip()
    if text != "ready":
        raise NamesError(f"the name server does not start: {text.splitlines()[-1] if text else 'no word of why'}")


def redirect_text(udp: int, tcp: int) -> str:
    """The nftables commands that lead port 53 of the name server's address to these ports of it."""
    return f"""
create table ip {_TABLE}
table ip {_TABLE} {{
  chain output {{
    type nat hook output priority -100; policy accept;
    ip daddr {NAMESERVER} udp dport 53 dnat to {NAMESERVER}:{udp}
    ip daddr {NAMESERVER} tcp dport 53 dnat to {NAMESERVER}:{tcp}
  }}
}}
"""


def open_within(sandbox: Path) -> tuple[socket.socket, socket.socket]:
    """A UDP and a listening TCP socket in the namespace held at ``sandbox``, behind port 53 of ``NAMESERVER`` there.

    Only for a thread of ``in_own_thread``. Raises ``OSError``, ``NftError``.
    """
    os.close(netns.enter_here(sandbox))
    with contextlib.ExitStack() as stack:
        udp = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC))
        tcp = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_CLOEXEC))
        udp.bind((NAMESERVER, 0))
        tcp.bind((NAMESERVER, 0))
        tcp.listen(32)
        for one in (udp, tcp):
            one.setblocking(False)
        nft = Nft()
        try:
            text = redirect_text(udp.getsockname()[1], tcp.getsockname()[1])
            try:
                nft.run(text)  # 0.3 ms
            except NftError:  # there was a name server before; or nothing works here, which will be said again
                nft.run(f"add table ip {_TABLE}\ndelete table ip {_TABLE}\n{text}")  # 10 ms
        finally:
            nft.close()
        stack.pop_all()
    return udp, tcp
