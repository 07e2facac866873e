"""Networks and endpoints as the database keeps them, and what they look like outside."""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import IPv4Interface, IPv4Network, IPv6Interface, IPv6Network
from pathlib import Path

import msgspec

from wherry.api.models.networks import EndpointIPAMConfig, EndpointSettings, PortMap
from wherry.engine.networks.ports import Published

NETWORK, ENDPOINT = "network", "endpoint"  # kinds of rows
BRIDGE, HOST, NULL = "bridge", "host", "null"  # drivers


class Pool6(msgspec.Struct, kw_only=True):
    """A network's IPv6 addresses: as ``NetworkRecord`` has those of IPv4."""

    subnet: str
    given: bool = True
    gateway_address: str = ""
    ip_range: str = ""
    auxiliary: dict[str, str] = msgspec.field(default_factory=dict)

    @property
    def network(self) -> IPv6Network:
        return IPv6Network(self.subnet)

    @property
    def gateway(self) -> IPv6Interface:
        net = self.network
        return IPv6Interface((self.gateway_address or int(net.network_address) + 1, net.prefixlen))


class NetworkRecord(msgspec.Struct, kw_only=True):
    """A network's row. ``subnet`` and ``bridge`` are empty for the drivers host and null.

    It is written, ``pending``, before the bridge is made, and deleted after that is gone, ``pending`` again.
    """

    id: str
    name: str
    driver: str
    created: int  # nanoseconds since the epoch
    subnet: str = ""
    bridge: str = ""
    default: bool = False
    labels: dict[str, str] = msgspec.field(default_factory=dict)
    options: dict[str, str] = msgspec.field(default_factory=dict)  # as asked for
    ipam_options: dict[str, str] | None = None
    internal: bool = False
    attachable: bool = False
    gateway_address: str = ""  # empty: the subnet's first
    ip_range: str = ""  # where addresses are chosen; empty: anywhere in the subnet
    auxiliary: dict[str, str] = msgspec.field(default_factory=dict)  # addresses that are others', by their names
    subnet_given: bool = False
    ipv6: bool = False
    pool6: Pool6 | None = None  # may be asked for without ``ipv6``: then it is shown, and nothing more
    host_binding: str = ""  # where ports are published that name no address; empty: everywhere
    icc: bool = True  # containers reach one another
    masquerade: bool = True
    mtu: int = 0  # 0: that of the way out
    config_only: bool = False  # settings for others to follow, and no network
    config_from: str = ""  # the name of the one that it follows
    pending: bool = False

    @property
    def network(self) -> IPv4Network:
        return IPv4Network(self.subnet)

    @property
    def gateway(self) -> IPv4Interface:
        net = self.network
        return IPv4Interface((self.gateway_address or int(net.network_address) + 1, net.prefixlen))

    @property
    def six(self) -> Pool6 | None:
        """Its IPv6 addresses, if it has any."""
        return self.pool6 if self.ipv6 else None

    @property
    def user_defined(self) -> bool:
        """Not one of the three that are always there: containers know each other's names in it."""
        return not self.default

    @property
    def leads_out(self) -> bool:
        """Whether a container can have its default route, and published ports, through it."""
        return self.driver == BRIDGE and not self.internal


class EndpointRecord(msgspec.Struct, kw_only=True):
    """A container's place in a network: its row is written before the first effect and deleted after the last.

    ``pending``: the container ran already when it was connected, and that is not finished.
    """

    id: str
    container: str
    network: str  # id
    address: str = ""  # with prefix length
    address6: str = ""
    link_local: list[str] = msgspec.field(
        default_factory=list
    )  # further addresses that were asked for, with prefix lengths
    mac: str = ""
    veth: str = ""
    ports: list[Published] = msgspec.field(default_factory=list)
    only_exposed: list[str] = msgspec.field(default_factory=list)
    number: int = 0  # of its link in the container: eth0, eth1, …
    gateway: bool = True  # the container's default route and its published ports go this way
    names: list[str] = msgspec.field(default_factory=list)  # that it has in this network
    links: dict[str, str] = msgspec.field(default_factory=dict)  # what it alone calls others: alias to name
    servers: list[str] = msgspec.field(default_factory=list)  # for names outside; none: the host's
    pending: bool = False

    @property
    def interface(self) -> IPv4Interface:
        return IPv4Interface(self.address)

    @property
    def interface6(self) -> IPv6Interface | None:
        return IPv6Interface(self.address6) if self.address6 else None

    @property
    def addresses(self) -> list[str]:
        """Without prefix lengths, IPv4 first."""
        return [text.partition("/")[0] for text in (self.address, self.address6) if text]


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """What a container got. Addresses are empty in the networks none and host, ``sandbox`` is None in host.

    ``ports`` holds the bindings as they are, and null for ports that are exposed only (INS5).
    """

    id: str
    network_id: str
    network_name: str
    driver: str
    sandbox: Path | None
    ip_address: str = ""
    ip_prefix_len: int = 0
    gateway: str = ""
    ipv6_address: str = ""
    ipv6_prefix_len: int = 0
    ipv6_gateway: str = ""
    mac_address: str = ""
    ports: PortMap = field(default_factory=dict)
    dns_names: tuple[str, ...] | None = None  # in a user-defined network

    def settings(self, asked: EndpointSettings | None = None) -> EndpointSettings:
        """The entry of ``NetworkSettings.Networks``: what was asked for, with what it became."""
        asked = asked or EndpointSettings()
        ipam: EndpointIPAMConfig | None = asked.ipam_config
        return EndpointSettings(
            ipam_config=ipam,
            links=asked.links,
            aliases=asked.aliases,
            driver_opts=asked.driver_opts,
            network_id=self.network_id,
            endpoint_id=self.id,
            gateway=self.gateway,
            ip_address=self.ip_address,
            ip_prefix_len=self.ip_prefix_len,
            ipv6_gateway=self.ipv6_gateway,
            global_ipv6_address=self.ipv6_address,
            global_ipv6_prefix_len=self.ipv6_prefix_len,
            mac_address=self.mac_address,
            dns_names=None if self.dns_names is None else list(self.dns_names),
        )
