"""The engine's own nftables tables: addresses translated on the way out, ports on the way in, neighbours kept apart.

A table ``ip wherry-<tag>`` holds everything, and ``ip6 wherry-<tag>`` the same for IPv6 where a network has that. They are
replaced as a whole in one transaction; a published port is one element of a map, added and deleted alone. ``Firewall``
remembers what should be there, so that the tables can be put back whatever became of them. Its calls block; any thread may
make them.

A table, for bridges B with subnets S:

    raw         from B to or from 127.0.0.0/8: dropped. ``route_localnet`` on B lets published ports be reached on
                127.0.0.1, and must not let containers reach the host's own loopback services.
    prerouting  to an address of this host: to the container that publishes the port. Not for 127.0.0.0/8, which a
    output      neighbour on the wire could send; that is translated only where it begins, in output. Never for ::1,
                whose answers the kernel would drop: the name server's process carries that on (relay.py).
    forward     into B: answers, published ports, and neighbours on the same B; nothing else. From and to an internal
                B only neighbours.
    postrouting from S out of anywhere but B: masqueraded; also the host's loopback into B, and a container that reaches
                a published port of its own bridge, whose answer would otherwise bypass the translation.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path

from wherry.engine.networks.ipam import Address, Subnet
from wherry.engine.networks.nftables import Nft, NftError
from wherry.engine.networks.ports import ANY, ANY6, Published, is_ipv6

_PORTS = "meta l4proto { tcp, udp, sctp }"


@dataclass(frozen=True, slots=True)
class Segment:
    """What the table is to do for a bridge. ``icc``: its containers reach one another; ``internal``: nobody else."""

    subnet: IPv4Network
    masquerade: bool = True
    icc: bool = True
    internal: bool = False
    subnet6: IPv6Network | None = None

    def within(self, family: str) -> Subnet | None:
        return self.subnet if family == "ip" else self.subnet6


def table_name(tag: str) -> str:
    return f"wherry-{tag}"


def _entry(port: Published) -> tuple[str, str]:
    """The map and the key of a published port."""
    if port.host_ip in (ANY, ANY6):
        return "published", f"{port.protocol} . {port.host_port}"
    return "published_at", f"{port.host_ip} . {port.protocol} . {port.host_port}"


def elements_text(verb: str, table: str, ports: Mapping[Published, Address]) -> str:
    """``add`` or ``delete`` commands for published ports that lead to containers' addresses."""
    lines = []
    for port, address in ports.items():
        name, key = _entry(port)
        target = f" : {address} . {port.container_port}" if verb == "add" else ""
        family = "ip6" if is_ipv6(port.host_ip) else "ip"
        lines.append(f"{verb} element {family} {table} {name} {{ {key}{target} }}")
    return "\n".join(lines)


def _masquerades(family: str, name: str, segment: Segment) -> str:
    subnet = segment.within(family)
    lines = [f'ip saddr 127.0.0.0/8 oifname "{name}" masquerade'] if family == "ip" else []
    if not segment.internal:
        lines.append(f'{family} saddr {subnet} oifname "{name}" ct status dnat masquerade')
    if segment.masquerade and not segment.internal:
        lines.append(f'{family} saddr {subnet} oifname != "{name}" masquerade')
    return "\n".join(f"    {line}" for line in lines)


def _elements(entries: Iterable[str]) -> str:
    text = ", ".join(entries)
    return f"elements = {{ {text} }}" if text else ""


def table_text(
    table: str, bridges: Mapping[str, Segment], ports: Mapping[Published, Address], *, ipv6: bool = True
) -> str:
    """The transaction that puts the whole of both tables in the place of whatever is there.

    Without ``ipv6`` the kernel has none, and is not asked for any.
    """
    text = _family_text("ip", table, bridges)
    six = {name: segment for name, segment in bridges.items() if segment.subnet6 is not None}
    if six:
        text += _family_text("ip6", table, six)
    elif ipv6:
        text += removal_text("ip6", table)
    return text + elements_text("add", table, ports)


def removal_text(family: str, table: str) -> str:
    """Commands after which there is no such table, whether or not it was there."""
    return f"add table {family} {table}\ndelete table {family} {table}\n"


def _family_text(family: str, table: str, bridges: Mapping[str, Segment]) -> str:
    address = "ipv4_addr" if family == "ip" else "ipv6_addr"
    raw = (
        "iifname @bridges ip daddr 127.0.0.0/8 drop\n    iifname @bridges ip saddr 127.0.0.0/8 drop"
        if family == "ip"
        else ""  # the kernel itself takes ::1 from no wire
    )
    loopback = "127.0.0.0/8" if family == "ip" else "::1"
    own = "" if family == "ip" else "ip6 daddr ::1 return\n    "
    names = _elements(f'"{name}"' for name in bridges)
    pairs = _elements(f'"{name}" . "{name}"' for name, segment in bridges.items() if segment.icc)
    internal = _elements(f'"{name}"' for name, segment in bridges.items() if segment.internal)
    out = "\n".join(_masquerades(family, name, segment) for name, segment in bridges.items())
    return f"""{removal_text(family, table)}table {family} {table} {{
  set bridges {{
    type ifname
    {names}
  }}
  set internal {{
    type ifname
    {internal}
  }}
  set same_bridge {{
    type ifname . ifname
    {pairs}
  }}
  map published_at {{
    type {address} . inet_proto . inet_service : {address} . inet_service
  }}
  map published {{
    type inet_proto . inet_service : {address} . inet_service
  }}
  chain raw {{
    type filter hook prerouting priority raw; policy accept;
    {raw}
  }}
  chain publish {{
    {_PORTS} dnat {family} to {family} daddr . meta l4proto . th dport map @published_at
    {_PORTS} dnat {family} to meta l4proto . th dport map @published
  }}
  chain prerouting {{
    type nat hook prerouting priority dstnat; policy accept;
    {family} daddr {loopback} return
    fib daddr type local jump publish
  }}
  chain output {{
    type nat hook output priority -100; policy accept;
    {own}fib daddr type local jump publish
  }}
  chain forward {{
    type filter hook forward priority filter; policy accept;
    iifname @internal jump inside
    oifname @internal jump inside
    oifname @bridges jump into_bridge
  }}
  chain inside {{
    iifname . oifname @same_bridge accept
    drop
  }}
  chain into_bridge {{
    ct state established,related accept
    ct status dnat accept
    iifname . oifname @same_bridge accept
    drop
  }}
  chain postrouting {{
    type nat hook postrouting priority srcnat; policy accept;
{out}
  }}
}}
"""


class Firewall:
    def __init__(self, nft: Nft, tag: str) -> None:
        self.table = table_name(tag)
        self._nft = nft
        self._lock = threading.Lock()
        self._bridges: dict[str, Segment] = {}
        self._ports: dict[Published, Address] = {}

    def restore(self, bridges: Mapping[str, Segment], ports: Mapping[Published, Address] | None = None) -> None:
        """Make this, and nothing more, the tables' content; without ``ports`` those of now stay. Raises ``NftError``."""
        with self._lock:
            self._bridges = dict(bridges)
            if ports is not None:
                self._ports = dict(ports)
            self._rebuild()

    def publish(self, ports: Mapping[Published, Address]) -> None:
        """Lead host ports to addresses. Raises ``NftError``; then none of them is led anywhere."""
        self._change("add", ports)

    def unpublish(self, ports: Iterable[Published]) -> None:
        """Stop leading host ports; those that aren't led are passed over. Raises ``NftError``."""
        with self._lock:
            known = {port: self._ports[port] for port in ports if port in self._ports}
        self._change("delete", known)

    def mend(self) -> None:
        """Put the tables back after somebody else changed them. Raises ``NftError``."""
        with self._lock:
            if self._bridges:
                self._rebuild()

    def remove(self) -> None:
        """Take the tables away. Raises ``NftError``."""
        with self._lock:
            self._bridges.clear()
            self._ports.clear()
            families = ("ip", "ip6") if _has_ipv6() else ("ip",)
            self._nft.run("".join(removal_text(family, self.table) for family in families))

    def _change(self, verb: str, ports: Mapping[Published, Address]) -> None:
        if not ports:
            return
        with self._lock:
            before = dict(self._ports)
            for port, address in ports.items():
                if verb == "add":
                    self._ports[port] = address
                else:
                    self._ports.pop(port, None)
            try:
                self._nft.run(elements_text(verb, self.table, ports))
            except NftError:
                # the table isn't as it should be (somebody flushed it): put all of it back
                try:
                    self._rebuild()
                except NftError:
                    if verb == "add":
                        self._ports = before
                    raise

    def _rebuild(self) -> None:
        self._nft.run(table_text(self.table, self._bridges, self._ports, ipv6=_has_ipv6()))


def _has_ipv6() -> bool:
    return Path("/proc/net/if_inet6").exists()
