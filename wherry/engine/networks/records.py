"""Networks and endpoints as the database keeps them, and what they look like outside."""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import IPv4Interface, IPv4Network
from pathlib import Path

import msgspec

from wherry.api.models.networks import EndpointIPAMConfig, EndpointSettings, PortMap
from wherry.engine.networks.ports import Published

NETWORK, ENDPOINT = "network", "endpoint"  # kinds of rows
BRIDGE, HOST, NULL = "bridge", "host", "null"  # drivers


class NetworkRecord(msgspec.Struct, kw_only=True):
    """A network's row. ``subnet`` and ``bridge`` are empty for the drivers host and null."""

    id: str
    name: str
    driver: str
    created: int  # nanoseconds since the epoch
    subnet: str = ""
    bridge: str = ""
    default: bool = False
    labels: dict[str, str] = msgspec.field(default_factory=dict)

    @property
    def network(self) -> IPv4Network:
        return IPv4Network(self.subnet)

    @property
    def gateway(self) -> IPv4Interface:
        net = self.network
        return IPv4Interface((int(net.network_address) + 1, net.prefixlen))


class EndpointRecord(msgspec.Struct, kw_only=True):
    """A container's place in a network: its row is written before the first effect and deleted after the last."""

    id: str
    container: str
    network: str  # id
    address: str = ""  # with prefix length
    mac: str = ""
    veth: str = ""
    ports: list[Published] = msgspec.field(default_factory=list)
    only_exposed: list[str] = msgspec.field(default_factory=list)

    @property
    def interface(self) -> IPv4Interface:
        return IPv4Interface(self.address)


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
    mac_address: str = ""
    ports: PortMap = field(default_factory=dict)

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
            mac_address=self.mac_address,
        )
