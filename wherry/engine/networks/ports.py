"""Published ports: what is asked for, which host ports that becomes, and the sockets that hold those.

A host port is held by a bound socket for as long as it is published, so that another program that wants it is refused
and one that has it gives moby's error. Traffic never reaches the socket, it is redirected before; what slips by (rules
not there yet) is refused, as the socket does not listen.
"""

from __future__ import annotations

import ctypes
import errno
import os
import re
import socket
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address, IPv6Address

import msgspec

from wherry.api.errors import BadRequest
from wherry.api.models.networks import PortBinding, PortMap

ANY, ANY6 = "0.0.0.0", "::"
PROTOCOLS = ("tcp", "udp", "sctp")
EPHEMERAL = (32768, 60999)  # where the kernel's own range can't be read
_IPPROTO_SCTP = 132
_SO_ATTACH_FILTER = 26
_NUMBER = re.compile(r"[0-9]{1,5}\Z")


class PortError(Exception):
    """A host port can't be had; the text is moby's, to be put behind its ``driver failed programming …``."""


def is_ipv6(host_ip: str) -> bool:
    """Which family a host's address is of."""
    return ":" in host_ip


class Published(msgspec.Struct, frozen=True, kw_only=True):
    """A host port that leads to a container's. Also part of an endpoint's row."""

    protocol: str
    container_port: int
    host_ip: str
    host_port: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """A port to publish: any of ``first`` … ``last`` on the host, or an ephemeral one where both are 0."""

    protocol: str
    container_port: int
    host_ip: str = ANY
    first: int = 0
    last: int = 0
    both: bool = False  # the same port also of all the host's IPv6 addresses


def _invalid(text: str) -> BadRequest:
    return BadRequest(f'invalid port specification: "{text}"')


def _number(text: str, whole: str) -> int:
    if not _NUMBER.match(text) or int(text) > 65535:
        raise _invalid(whole)
    return int(text)


def parse_port(key: str) -> tuple[int, str]:
    """``"80"`` and ``"80/tcp"`` as (80, "tcp"). Raises ``BadRequest`` (CRE20)."""
    text, _, protocol = key.partition("/")
    protocol = protocol.lower() or "tcp"
    port = _number(text, text)
    if port == 0:
        raise _invalid(text)
    if protocol not in PROTOCOLS:
        raise BadRequest(f"invalid proto: {protocol}")
    return port, protocol


def _parse_host_port(text: str) -> tuple[int, int]:
    if not text:
        return 0, 0
    start, dash, end = text.partition("-")
    first = _number(start, text)
    last = _number(end, text) if dash else first
    if last < first or (dash and first == 0):
        raise _invalid(text)
    return first, last


def _parse_host_ip(text: str, default: str) -> str:
    if not text:
        return default
    try:
        return str(IPv4Address(text))
    except AddressValueError:
        pass
    try:
        address = IPv6Address(text.removeprefix("[").removesuffix("]"))
    except AddressValueError:
        raise BadRequest(f"invalid IP address in port binding: {text!r}") from None
    if address.scope_id is not None:
        raise BadRequest(f"invalid IP address in port binding: {text!r}: it may not name a link")
    return str(address.ipv4_mapped or address)


def parse_wishes(
    bindings: PortMap | None,
    exposed: Iterable[str] | None = None,
    publish_all: bool = False,
    default_ip: str = ANY,
    *,
    ipv6: bool = False,
) -> tuple[list[Wish], list[str]]:
    """What to publish, and the keys (``81/tcp``) that are exposed only, both in order of port.

    ``default_ip`` is where a binding publishes that names no address; with ``ipv6``, and if that is everywhere, on all IPv6
    addresses too. Raises ``BadRequest`` for what is not a port; create
    calls this too, to refuse early (CRE20).
    """
    wanted: dict[tuple[int, str], Sequence[PortBinding]] = {}
    for key, given in (bindings or {}).items():
        if given:
            wanted[parse_port(key)] = given
    only_exposed = []
    for key in exposed or ():
        port = parse_port(key)
        if port in wanted:
            continue
        if publish_all:
            wanted[port] = (PortBinding(),)
        else:
            only_exposed.append(port)
    wishes = []
    for (number, protocol), asked in sorted(wanted.items()):
        for binding in asked:
            first, last = _parse_host_port(binding.host_port)
            host_ip = _parse_host_ip(binding.host_ip, default_ip)
            both = ipv6 and not binding.host_ip and host_ip == ANY
            wishes.append(
                Wish(protocol=protocol, container_port=number, host_ip=host_ip, first=first, last=last, both=both)
            )
    return wishes, [f"{number}/{protocol}" for number, protocol in sorted(set(only_exposed))]


def port_map(published: Iterable[Published], only_exposed: Iterable[str] = ()) -> PortMap:
    """The ports of an inspect answer: the bindings that are, and null for what is exposed only (INS5)."""
    ports: PortMap = {}
    for port in published:
        bindings = ports.setdefault(f"{port.container_port}/{port.protocol}", [])
        assert bindings is not None
        bindings.append(PortBinding(host_ip=port.host_ip, host_port=str(port.host_port)))
    for key in only_exposed:
        ports.setdefault(key, None)
    return ports


def ephemeral_range() -> tuple[int, int]:
    """The host's range of ephemeral ports, first and last."""
    try:
        with open("/proc/sys/net/ipv4/ip_local_port_range") as file:
            first, last = map(int, file.read().split())
        return first, last
    except (OSError, ValueError):
        return EPHEMERAL


class HostPorts:
    """The host ports that this engine holds. Calls do not block; not for two threads at once."""

    def __init__(self, ephemeral: tuple[int, int] | None = None) -> None:
        self._range = ephemeral or ephemeral_range()
        self._next: dict[str, int] = {}
        self._held: dict[tuple[str, int], dict[str, socket.socket | None]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._held.values()))

    def allocate(self, wishes: Sequence[Wish]) -> list[Published]:
        """Hold a host port for every wish, or for none. Raises ``PortError``."""
        got: list[Published] = []
        try:
            # fixed ports first: an ephemeral one must not take what another wish names
            for wish in sorted(wishes, key=lambda wish: wish.first == 0):
                got += self._allocate(wish)
        except BaseException:
            self.release(got)
            raise
        return sorted(got, key=lambda port: (port.container_port, port.protocol, port.host_ip, port.host_port))

    def hold(self, port: Published) -> None:
        """Hold a port that is published already, after a restart of the engine. Raises ``PortError``."""
        self._hold(port.protocol, port.host_ip, port.host_port, again=True)

    def release(self, ports: Iterable[Published]) -> None:
        """Let go of ports; those not held are passed over."""
        for port in ports:
            key = (port.protocol, port.host_port)
            owners = self._held.get(key, {})
            holder = owners.pop(port.host_ip, None)
            if holder is not None:
                holder.close()
            if not owners:
                self._held.pop(key, None)

    def close(self) -> None:
        """Let go of everything."""
        for owners in self._held.values():
            for holder in owners.values():
                if holder is not None:
                    holder.close()
        self._held.clear()

    def _allocate(self, wish: Wish) -> list[Published]:
        if wish.first and wish.first == wish.last:
            return self._hold_for(wish, wish.first)
        return self._search(wish)

    def _hold_for(self, wish: Wish, number: int) -> list[Published]:
        got: list[Published] = []
        try:
            for host_ip in (wish.host_ip, ANY6) if wish.both else (wish.host_ip,):
                self._hold(wish.protocol, host_ip, number)
                got.append(
                    Published(
                        protocol=wish.protocol, container_port=wish.container_port, host_ip=host_ip, host_port=number
                    )
                )
        except PortError:
            self.release(got)
            raise
        return got

    def _search(self, wish: Wish) -> list[Published]:
        first, last = (wish.first, wish.last) if wish.first else self._range
        count = last - first + 1
        start = 0 if wish.first else self._next.get(wish.protocol, 0)
        for step in range(count):
            offset = (start + step) % count
            try:
                got = self._hold_for(wish, first + offset)
            except _Taken:
                continue
            if not wish.first:
                self._next[wish.protocol] = offset + 1
            return got
        raise PortError("all ports are allocated")

    def _hold(self, protocol: str, host_ip: str, number: int, *, again: bool = False) -> None:
        owners = self._held.get((protocol, number), {})
        own = [owner for owner in owners if is_ipv6(owner) == is_ipv6(host_ip)]
        if own and (host_ip in (ANY, ANY6, *own) or not {ANY, ANY6}.isdisjoint(own)):
            raise _Taken(f"Bind for {host_ip}:{number} failed: port is already allocated")
        try:
            holder = _holder(protocol, host_ip, number, again=again)
        except OSError as error:
            where = f"{protocol}6 [{host_ip}]" if is_ipv6(host_ip) else f"{protocol}4 {host_ip}"
            text = f"listen {where}:{number}: bind: {os.strerror(error.errno or 0).lower()}"
            raise (_Taken if error.errno == errno.EADDRINUSE else PortError)(text) from None
        self._held.setdefault((protocol, number), {})[host_ip] = holder


class _Taken(PortError):
    pass


def _holder(protocol: str, host_ip: str, number: int, *, again: bool = False) -> socket.socket | None:
    """A socket that keeps the port and answers nothing; None where the kernel lacks the protocol.

    On IPv6 the name server's process listens on ``::1`` beside it (relay.py), and goes on doing so without the engine:
    sockets of root that say so may share the port, but not before this one has it, unless it is so ``again``.
    """
    family = socket.AF_INET6 if is_ipv6(host_ip) else socket.AF_INET
    if protocol == "udp":
        holder = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
    elif protocol == "tcp":
        holder = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    else:
        try:
            holder = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC, _IPPROTO_SCTP)
        except OSError:
            return None
    try:
        if family == socket.AF_INET6:
            holder.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, int(again))
        if protocol == "udp":
            _drop_all(holder)
            holder.bind((host_ip, number))
        elif protocol == "sctp":
            holder.bind((host_ip, number))  # it has no TIME-WAIT, and refuses what comes
        else:
            # To listen with address reuse is what passes over old connections in TIME-WAIT and still meets every
            # other listener. After it the socket is bound for good and, no longer listening, refuses what comes.
            holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            holder.bind((host_ip, number))
            holder.listen(1)
            holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
            holder.shutdown(socket.SHUT_RD)
        if family == socket.AF_INET6:
            holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    except BaseException:
        holder.close()
        raise
    return holder


def _drop_all(holder: socket.socket) -> None:
    """Have the kernel throw away every datagram, by a filter of one instruction: return 0."""
    program = ctypes.create_string_buffer(struct.pack("=HBBI", 0x06, 0, 0, 0))
    holder.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("@HP", 1, ctypes.addressof(program)))
