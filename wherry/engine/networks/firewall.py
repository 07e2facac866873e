"""The engine's own nftables table: addresses translated on the way out, ports on the way in, neighbours kept apart.

One table, ``ip wherry-<tag>``, holds everything and is replaced as a whole in one transaction; a published port is
one element of a map, added and deleted alone. ``Firewall`` remembers what should be there, so that the table can be put
back whatever became of it. Its calls block; any thread may make them.

The table, for bridges B with subnets S:

    raw         from B to or from 127.0.0.0/8: dropped. ``route_localnet`` on B lets published ports be reached on
                127.0.0.1, and must not let containers reach the host's own loopback services.
    prerouting  to an address of this host: to the container that publishes the port. Not for 127.0.0.0/8, which a
    output      neighbour on the wire could send; that is translated only where it begins, in output.
    forward     into B: answers, published ports, and neighbours on the same B; nothing else. From and to an internal
                B only neighbours.
    postrouting from S out of anywhere but B: masqueraded; also the host's loopback into B, and a container that reaches
                a published port of its own bridge, whose answer would otherwise bypass the translation.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network

from wherry.engine.networks.nftables import Nft, NftError
from wherry.engine.networks.ports import ANY, Published

_PORTS = "meta l4proto { tcp, udp, sctp }"


@dataclass(frozen=True, slots=True)
class Segment:
    """What the table is to do for a bridge. ``icc``: its containers reach one another; ``internal``: nobody else."""

    subnet: IPv4Network
    masquerade: bool = True
    icc: bool = True
    internal: bool = False


def table_name(tag: str) -> str:
    return f"wherry-{tag}"


def _entry(port: Published) -> tuple[str, str]:
    """The map and the key of a published port."""
    if port.host_ip == ANY:
        return "published", f"{port.protocol} . {port.host_port}"
    return "published_at", f"{port.host_ip} . {port.protocol} . {port.host_port}"


def elements_text(verb: str, table: str, ports: Mapping[Published, IPv4Address]) -> str:
    """``add`` or ``delete`` commands for published ports that lead to containers' addresses."""
    lines = []
    for port, address in ports.items():
        name, key = _entry(port)
        target = f" : {address} . {port.container_port}" if verb == "add" else ""
        lines.append(f"{verb} element ip {table} {name} {{ {key}{target} }}")
    return "\n".join(lines)


def _masquerades(name: str, segment: Segment) -> str:
    lines = [f'ip saddr 127.0.0.0/8 oifname "{name}" masquerade']
    if not segment.internal:
        lines.append(f'ip saddr {segment.subnet} oifname "{name}" ct status dnat masquerade')
    if segment.masquerade and not segment.internal:
        lines.append(f'ip saddr {segment.subnet} oifname != "{name}" masquerade')
    return "\n".join(f"    {line}" for line in lines)


def _elements(entries: Iterable[str]) -> str:
    text = ", ".join(entries)
    return f"elements = {{ {text} }}" if text else ""


def table_text(table: str, bridges: Mapping[str, Segment], ports: Mapping[Published, IPv4Address]) -> str:
    """The transaction that puts the whole table in the place of whatever is there."""
    names = _elements(f'"{name}"' for name in bridges)
    pairs = _elements(f'"{name}" . "{name}"' for name, segment in bridges.items() if segment.icc)
    internal = _elements(f'"{name}"' for name, segment in bridges.items() if segment.internal)
    out = "\n".join(_masquerades(name, segment) for name, segment in bridges.items())
    return f"""
add table ip {table}
delete table ip {table}
table ip {table} {{
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
    type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service
  }}
  map published {{
    type inet_proto . inet_service : ipv4_addr . inet_service
  }}
  chain raw {{
    type filter hook prerouting priority raw; policy accept;
    iifname @bridges ip daddr 127.0.0.0/8 drop
    iifname @bridges ip saddr 127.0.0.0/8 drop
  }}
  chain publish {{
    {_PORTS} dnat ip to ip daddr . meta l4proto . th dport map @published_at
    {_PORTS} dnat ip to meta l4proto . th dport map @published
  }}
  chain prerouting {{
    type nat hook prerouting priority dstnat; policy accept;
    ip daddr 127.0.0.0/8 return
    fib daddr type local jump publish
  }}
  chain output {{
    type nat hook output priority -100; policy accept;
    fib daddr type local jump publish
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
{elements_text("add", table, ports)}
"""


class Firewall:
    def __init__(self, nft: Nft, tag: str) -> None:
        self.table = table_name(tag)
        self._nft = nft
        self._lock = threading.Lock()
        self._bridges: dict[str, Segment] = {}
        self._ports: dict[Published, IPv4Address] = {}

    def restore(self, bridges: Mapping[str, Segment], ports: Mapping[Published, IPv4Address] | None = None) -> None:
        """Make this, and nothing more, the table's content; without ``ports`` those of now stay. Raises ``NftError``."""
        with self._lock:
            self._bridges = dict(bridges)
            if ports is not None:
                self._ports = dict(ports)
            self._rebuild()

    def publish(self, ports: Mapping[Published, IPv4Address]) -> None:
        """Lead host ports to addresses. Raises ``NftError``; then none of them is led anywhere."""
        self._change("add", ports)

    def unpublish(self, ports: Iterable[Published]) -> None:
        """Stop leading host ports; those that aren't led are passed over. Raises ``NftError``."""
        with self._lock:
            known = {port: self._ports[port] for port in ports if port in self._ports}
        self._change("delete", known)

    def check(self) -> bool:
        """Put the table back if somebody took it away; whether that was so. Raises ``NftError``."""
        with self._lock:
            if not self._bridges or self._exists():
                return False
            self._rebuild()
            return True

    def remove(self) -> None:
        """Take the table away. Raises ``NftError``."""
        with self._lock:
            self._bridges.clear()
            self._ports.clear()
            self._nft.run(f"add table ip {self.table}\ndelete table ip {self.table}")

    def _change(self, verb: str, ports: Mapping[Published, IPv4Address]) -> None:
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

    def _exists(self) -> bool:
        tables = (entry.get("table") for entry in self._nft.query("list tables ip"))
        return any(table and table.get("name") == self.table for table in tables)

    def _rebuild(self) -> None:
        self._nft.run(table_text(self.table, self._bridges, self._ports))
