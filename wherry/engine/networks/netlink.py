"""Links, addresses and routes by raw rtnetlink: just the messages that a container's network needs.

A ``Netlink`` socket belongs for good to the network namespace of the thread that made it, wherever it is used later.
Messages are built as bytes and sent in batches, each message acknowledged, one system call a batch: a setup takes a
millisecond or two, where a general library takes twenty-five. Calls block for as long as the kernel works on them.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network

RTM_NEWLINK, RTM_DELLINK, RTM_GETLINK, RTM_SETLINK = 16, 17, 18, 19
RTM_NEWADDR, RTM_GETADDR = 20, 22
RTM_NEWROUTE, RTM_DELROUTE, RTM_GETROUTE = 24, 25, 26
RTM_NEWNEIGH = 28

_ERROR, _DONE = 2, 3
_REQUEST, _ACK, _DUMP = 0x1, 0x4, 0x300
_REPLACE, _EXCLUSIVE, _CREATE = 0x100, 0x200, 0x400
_NESTED = 0x8000

_IFF_UP, _IFF_RUNNING = 0x1, 0x40
_IFLA_ADDRESS, _IFLA_IFNAME, _IFLA_MTU, _IFLA_MASTER, _IFLA_PROTINFO = 1, 3, 4, 10, 12
_IFLA_LINKINFO, _IFLA_NET_NS_FD = 18, 28
_INFO_KIND, _INFO_DATA, _VETH_PEER = 1, 2, 1
_BRPORT_HAIRPIN, _BRPORT_ISOLATED = 4, 33
_IFA_ADDRESS, _IFA_LOCAL, _IFA_BROADCAST = 1, 2, 4
_IFA_F_NODAD = 0x02
_RTA_DST, _RTA_OIF, _RTA_GATEWAY, _RTA_TABLE = 1, 4, 5, 15
_NDA_DST, _NDA_LLADDR = 1, 2
_NTF_MASTER, _NTF_STICKY, _NUD_REACHABLE, _NUD_NOARP = 0x04, 0x40, 0x02, 0x40
_TABLE_MAIN, _TABLE_LOCAL, _PROTO_BOOT, _SCOPE_UNIVERSE, _TYPE_UNICAST = 254, 255, 3, 0, 1

_HEADER = struct.Struct("=IHHII")
_LINK = struct.Struct("=BxHiII")
_ADDRESS = struct.Struct("=BBBBi")
_ROUTE = struct.Struct("=BBBBBBBBI")
_NEIGHBOUR = struct.Struct("=BxxxiHBB")
_ATTRIBUTE = struct.Struct("=HH")

NAME_LIMIT = 15  # bytes in an interface's name
LOOPBACK_INDEX = 1
CONTAINER_INDEX = 2  # what the first link moved into a fresh namespace is given


class NetlinkError(OSError):
    """The kernel refused a message; ``errno`` says why, the text which one."""


@dataclass(frozen=True, slots=True)
class Link:
    index: int
    name: str
    up: bool
    running: bool  # frames pass: it has a carrier, and the kernel has done what follows from that
    mtu: int
    master: int  # index of the bridge it belongs to, 0 for none
    mac: str = ""


@dataclass(frozen=True, slots=True)
class Route:
    destination: IPv4Network | IPv6Network
    interface: int  # index


@dataclass(frozen=True, slots=True)
class Message:
    """One request, ready but for its sequence number; ``what`` names it in errors."""

    type: int
    flags: int
    body: bytes
    what: str
    ignore: tuple[int, ...] = ()  # errnos that mean it is as wished already


def _attribute(kind: int, data: bytes) -> bytes:
    return _ATTRIBUTE.pack(4 + len(data), kind) + data + bytes(-len(data) % 4)


def _name(kind: int, name: str) -> bytes:
    encoded = name.encode()
    if not 0 < len(encoded) <= NAME_LIMIT:
        raise ValueError(f"not an interface name: {name!r}")
    return _attribute(kind, encoded + b"\0")


def _number(kind: int, value: int) -> bytes:
    return _attribute(kind, struct.pack("=I", value))


def _attributes(data: bytes | memoryview, offset: int) -> dict[int, bytes]:
    found = {}
    while offset + 4 <= len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, offset)
        if length < 4:
            break
        found[kind & 0x3FFF] = bytes(data[offset + 4 : offset + length])
        offset += (length + 3) & ~3
    return found


def mac_bytes(mac: str) -> bytes:
    """A MAC address's six bytes. Raises ``ValueError`` for anything else, multicast addresses included."""
    parts = mac.replace("-", ":").split(":")
    if len(parts) != 6 or any(len(part) != 2 for part in parts):
        raise ValueError(f"invalid MAC address: {mac}")
    raw = bytes.fromhex("".join(parts))
    if raw[0] & 1:
        raise ValueError(f"invalid MAC address (multicast): {mac}")
    return raw


# messages


def new_bridge(name: str, mac: str) -> Message:
    """``mac`` is set so that it stays: left to itself a bridge takes the lowest of its ports' and changes with them."""
    info = _attribute(_INFO_KIND, b"bridge\0")
    body = (
        _LINK.pack(0, 0, 0, 0, 0)
        + _name(_IFLA_IFNAME, name)
        + _attribute(_IFLA_ADDRESS, mac_bytes(mac))
        + _attribute(_IFLA_LINKINFO | _NESTED, info)
    )
    return Message(RTM_NEWLINK, _CREATE | _EXCLUSIVE, body, f"create bridge {name}", (errno.EEXIST,))


def new_veth(
    host: str, master: int, namespace: int, name: str, mac: str, mtu: int, index: int = CONTAINER_INDEX
) -> Message:
    """A pair in one message: ``host`` up and on the bridge, ``name`` in the namespace of the fd ``namespace``, as its
    link number ``index`` (0: the kernel chooses)."""
    peer = (
        _LINK.pack(0, 0, index, 0, 0)
        + _name(_IFLA_IFNAME, name)
        + _attribute(_IFLA_ADDRESS, mac_bytes(mac))
        + _number(_IFLA_MTU, mtu)
        + _number(_IFLA_NET_NS_FD, namespace)
    )
    info = _attribute(_INFO_KIND, b"veth\0") + _attribute(_INFO_DATA | _NESTED, _attribute(_VETH_PEER | _NESTED, peer))
    body = (
        _LINK.pack(0, 0, 0, _IFF_UP, _IFF_UP)
        + _name(_IFLA_IFNAME, host)
        + _number(_IFLA_MTU, mtu)
        + _number(_IFLA_MASTER, master)
        + _attribute(_IFLA_LINKINFO | _NESTED, info)
    )
    return Message(RTM_NEWLINK, _CREATE | _EXCLUSIVE, body, f"create veth {host}")


def link_up(index: int) -> Message:
    return Message(RTM_NEWLINK, 0, _LINK.pack(0, 0, index, _IFF_UP, _IFF_UP), f"set link {index} up")


def set_mtu(index: int, mtu: int) -> Message:
    """A bridge keeps an MTU that is set so; one that it was made with goes with its last port."""
    body = _LINK.pack(0, 0, index, 0, 0) + _number(_IFLA_MTU, mtu)
    return Message(RTM_NEWLINK, 0, body, f"set MTU of link {index}")


def delete_link(index: int) -> Message:
    return Message(RTM_DELLINK, 0, _LINK.pack(0, 0, index, 0, 0), f"delete link {index}", (errno.ENODEV,))


def bridge_port(index: int, *, isolated: bool = False) -> Message:
    """Let a bridge send a frame out of the port it came in by: a container reaching its own published port.

    From an ``isolated`` port nothing goes to other isolated ones, only to the host.
    """
    flags = _attribute(_BRPORT_HAIRPIN, b"\1")
    if isolated:
        flags += _attribute(_BRPORT_ISOLATED, b"\1")
    body = _LINK.pack(socket.AF_BRIDGE, 0, index, 0, 0) + _attribute(_IFLA_PROTINFO | _NESTED, flags)
    return Message(RTM_SETLINK, 0, body, f"set up bridge port {index}")


def forward_mac(index: int, mac: str) -> Message:
    """Tell a bridge that a MAC address lives behind this port, for good: neither a port on its way out that had it
    before nor another container that claims it gets its frames. Goes with the port."""
    flags = _NTF_MASTER | _NTF_STICKY
    body = _NEIGHBOUR.pack(socket.AF_BRIDGE, index, _NUD_NOARP, flags, 0) + _attribute(_NDA_LLADDR, mac_bytes(mac))
    return Message(RTM_NEWNEIGH, _CREATE | _REPLACE, body, f"set forwarding on link {index}")


def _family(address: IPv4Address | IPv6Address) -> int:
    return socket.AF_INET if address.version == 4 else socket.AF_INET6


def neighbour(index: int, address: IPv4Address | IPv6Address, mac: str) -> Message:
    """Tell the host which MAC address an address behind a link has, in the place of what it may remember."""
    body = (
        _NEIGHBOUR.pack(_family(address), index, _NUD_REACHABLE, 0, 0)
        + _attribute(_NDA_DST, address.packed)
        + _attribute(_NDA_LLADDR, mac_bytes(mac))
    )
    return Message(RTM_NEWNEIGH, _CREATE | _REPLACE, body, f"set neighbour {address}")


def add_address(index: int, address: IPv4Interface | IPv6Interface) -> Message:
    """An IPv6 address is good at once: nobody else has it, so nobody is asked (no duplicate address detection)."""
    packed = address.ip.packed
    flags = 0 if address.version == 4 else _IFA_F_NODAD
    body = (
        _ADDRESS.pack(_family(address.ip), address.network.prefixlen, flags, 0, index)
        + _attribute(_IFA_LOCAL, packed)
        + _attribute(_IFA_ADDRESS, packed)
    )
    if address.version == 4:
        body += _attribute(_IFA_BROADCAST, address.network.broadcast_address.packed)
    return Message(RTM_NEWADDR, _CREATE | _EXCLUSIVE, body, f"add address {address}", (errno.EEXIST,))


def add_default_route(gateway: IPv4Address | IPv6Address) -> Message:
    body = _ROUTE.pack(
        _family(gateway), 0, 0, 0, _TABLE_MAIN, _PROTO_BOOT, _SCOPE_UNIVERSE, _TYPE_UNICAST, 0
    ) + _attribute(_RTA_GATEWAY, gateway.packed)
    return Message(RTM_NEWROUTE, _CREATE | _REPLACE, body, f"set default route by {gateway}")


# the socket


class Netlink:
    """An rtnetlink socket in the network namespace of the thread that makes it; not for two threads at once."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
        self._socket.settimeout(10)  # the kernel answers within the send; this only bounds the unthinkable
        self._sequence = 0

    def __enter__(self) -> Netlink:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._socket.close()

    def send(self, *messages: Message) -> None:
        """Send a batch. The kernel goes on after a refused message; the first refusal is raised at the end.

        Raises ``NetlinkError``.
        """
        waiting: dict[int, Message] = {}
        batch = []
        for message in messages:
            self._sequence += 1
            waiting[self._sequence] = message
            batch.append(self._pack(message.type, message.flags | _REQUEST | _ACK, message.body))
        self._socket.send(b"".join(batch))
        failure: NetlinkError | None = None
        while waiting:
            for kind, sequence, body in self._receive():
                if kind != _ERROR or sequence not in waiting:
                    continue
                message = waiting.pop(sequence)
                code = -struct.unpack_from("=i", body)[0]
                if code and code not in message.ignore and failure is None:
                    failure = NetlinkError(code, f"{message.what}: {os.strerror(code)}")
        if failure is not None:
            raise failure

    def link(self, name: str) -> Link | None:
        """The link of this name, None if there is none."""
        try:
            found = list(self._ask(RTM_GETLINK, _LINK.pack(0, 0, 0, 0, 0) + _name(_IFLA_IFNAME, name)))
        except NetlinkError as error:
            if error.errno == errno.ENODEV:
                return None
            raise
        return _link(found[0]) if found else None

    def links(self) -> list[Link]:
        return [_link(body) for body in self._ask(RTM_GETLINK, _LINK.pack(0, 0, 0, 0, 0), dump=True)]

    def addresses(self) -> list[tuple[int, IPv4Interface | IPv6Interface]]:
        """Every (link index, address)."""
        found: list[tuple[int, IPv4Interface | IPv6Interface]] = []
        for body in self._ask(RTM_GETADDR, _ADDRESS.pack(socket.AF_UNSPEC, 0, 0, 0, 0), dump=True):
            family, prefix, _, _, index = _ADDRESS.unpack_from(body)
            if family not in (socket.AF_INET, socket.AF_INET6):
                continue
            attributes = _attributes(body, _ADDRESS.size)
            packed = attributes.get(_IFA_LOCAL) or attributes.get(_IFA_ADDRESS)
            if packed is not None:
                kind = IPv4Interface if family == socket.AF_INET else IPv6Interface
                found.append((index, kind((packed, prefix))))
        return found

    def routes(self) -> list[Route]:
        """Every unicast route but those of the local table."""
        found = []
        request = _ROUTE.pack(socket.AF_UNSPEC, 0, 0, 0, 0, 0, 0, 0, 0)
        for body in self._ask(RTM_GETROUTE, request, dump=True):
            family, prefix, _, _, table, _, _, kind, _ = _ROUTE.unpack_from(body)
            attributes = _attributes(body, _ROUTE.size)
            if _RTA_TABLE in attributes:
                (table,) = struct.unpack("=I", attributes[_RTA_TABLE])
            if table == _TABLE_LOCAL or kind != _TYPE_UNICAST or family not in (socket.AF_INET, socket.AF_INET6):
                continue
            (interface,) = struct.unpack("=I", attributes.get(_RTA_OIF, bytes(4)))
            if family == socket.AF_INET:
                found.append(Route(IPv4Network((attributes.get(_RTA_DST, bytes(4)), prefix)), interface))
            else:
                found.append(Route(IPv6Network((attributes.get(_RTA_DST, bytes(16)), prefix)), interface))
        return found

    def _pack(self, kind: int, flags: int, body: bytes) -> bytes:
        return _HEADER.pack(_HEADER.size + len(body), kind, flags, self._sequence, 0) + body

    def _ask(self, kind: int, body: bytes, *, dump: bool = False) -> Iterator[bytes]:
        self._sequence += 1
        asked = self._sequence
        self._socket.send(self._pack(kind, _REQUEST | (_DUMP if dump else 0), body))
        answers: list[bytes] = []
        done = False
        while not done:
            for answer, sequence, data in self._receive():
                if sequence != asked:
                    continue
                if answer == _ERROR:
                    code = -struct.unpack_from("=i", data)[0]
                    raise NetlinkError(code, os.strerror(code))
                if answer == _DONE:
                    done = True
                else:
                    answers.append(data)
                    done = done or not dump
        return iter(answers)

    def _receive(self) -> Sequence[tuple[int, int, bytes]]:
        data = self._socket.recv(1 << 18)
        messages = []
        offset = 0
        while offset + _HEADER.size <= len(data):
            length, kind, _, sequence, _ = _HEADER.unpack_from(data, offset)
            if length < _HEADER.size:
                break
            messages.append((kind, sequence, data[offset + _HEADER.size : offset + length]))
            offset += (length + 3) & ~3
        return messages


def _link(body: bytes) -> Link:
    _, _, index, flags, _ = _LINK.unpack_from(body)
    attributes = _attributes(body, _LINK.size)
    (mtu,) = struct.unpack("=I", attributes.get(_IFLA_MTU, bytes(4)))
    (master,) = struct.unpack("=I", attributes.get(_IFLA_MASTER, bytes(4)))
    name = attributes.get(_IFLA_IFNAME, b"").rstrip(b"\0").decode(errors="replace")
    mac = attributes.get(_IFLA_ADDRESS, b"").hex(":")
    return Link(index, name, bool(flags & _IFF_UP), bool(flags & _IFF_RUNNING), mtu, master, mac)
