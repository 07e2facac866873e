"""Networks, and a container's place in them."""

from __future__ import annotations

from typing import Any, ClassVar

from msgspec import field

from wherry.api.models.common import UNSET, GoInt, Model, StringMap, UnsetType


class EndpointIPAMConfig(Model, kw_only=True):
    """The addresses that the caller asks for; without them the network's address management chooses."""

    GO: ClassVar = "network.EndpointIPAMConfig"

    ipv4_address: str | UnsetType = field(default=UNSET, name="IPv4Address")
    ipv6_address: str | UnsetType = field(default=UNSET, name="IPv6Address")
    link_local_ips: list[str] | UnsetType = UNSET


class EndpointSettings(Model, kw_only=True):
    """A container's endpoint in one network: what was asked for, and what it got while it runs."""

    GO: ClassVar = "network.EndpointSettings"

    ipam_config: EndpointIPAMConfig | None = field(default=None, name="IPAMConfig")
    links: list[str] | None = None
    aliases: list[str] | None = None
    network_id: str = ""
    endpoint_id: str = ""
    gateway: str = ""
    ip_address: str = ""
    ip_prefix_len: GoInt = 0
    ipv6_gateway: str = ""
    global_ipv6_address: str = ""
    global_ipv6_prefix_len: GoInt = 0
    mac_address: str = ""
    driver_opts: StringMap | None = None
    dns_names: list[str] | UnsetType | None = field(default=UNSET, name="DNSNames")  # since 1.44
    gw_priority: GoInt | UnsetType = UNSET  # since 1.48


class NetworkingConfig(Model, kw_only=True):
    """The networks to connect at create, by name; before 1.44 at most one."""

    GO: ClassVar = "network.NetworkingConfig"

    endpoints_config: dict[str, EndpointSettings | None] | None = None


class PortBinding(Model, kw_only=True):
    """A published port on the host. Empty ``host_ip``: all addresses; empty ``host_port``: an ephemeral one.

    ``host_port`` is text because it may be a range, ``8000-8010``.
    """

    GO: ClassVar = "nat.PortBinding"

    host_ip: str = field(default="", name="HostIp")
    host_port: str = ""


# "80/tcp" to its bindings; null: exposed, not published
PortMap = dict[str, list[PortBinding] | None]


class Address(Model, kw_only=True):
    """A further address of a container."""

    addr: str = ""
    prefix_len: int = 0


class NetworkSettings(Model, kw_only=True):
    """A container's networks. The fields from ``endpoint_id`` on mirror the network named bridge only (INS5)."""

    bridge: str = ""
    sandbox_id: str = ""
    hairpin_mode: bool = False
    link_local_ipv6_address: str = ""
    link_local_ipv6_prefix_len: int = 0
    ports: PortMap | None = None
    sandbox_key: str = ""
    secondary_ip_addresses: list[Address] | None = None
    secondary_ipv6_addresses: list[Address] | None = None
    endpoint_id: str = ""
    gateway: str = ""
    global_ipv6_address: str = ""
    global_ipv6_prefix_len: int = 0
    ip_address: str = ""
    ip_prefix_len: int = 0
    ipv6_gateway: str = ""
    mac_address: str = ""
    networks: dict[str, EndpointSettings] | None = None


class ConfigReference(Model, kw_only=True):
    """The name of a configuration-only network."""

    GO: ClassVar = "network.ConfigReference"

    network: str = ""


class IPAMConfig(Model, kw_only=True):
    """One address pool, in CIDR notation; ``auxiliary_addresses`` are host names to reserved addresses."""

    GO: ClassVar = "network.IPAMConfig"

    subnet: str | UnsetType = UNSET
    ip_range: str | UnsetType = UNSET
    gateway: str | UnsetType = UNSET
    auxiliary_addresses: StringMap | UnsetType = UNSET


class IPAM(Model, kw_only=True):
    """A network's address management: its driver and pools."""

    GO: ClassVar = "network.IPAM"

    driver: str = ""
    options: StringMap | None = None
    config: list[IPAMConfig] | None = None


class NetworkContainer(Model, kw_only=True):
    """A running container in a network; the addresses carry their prefix length, ``172.17.0.2/16``."""

    name: str = ""
    endpoint_id: str = ""
    mac_address: str = ""
    ipv4_address: str = field(default="", name="IPv4Address")
    ipv6_address: str = field(default="", name="IPv6Address")


class PeerInfo(Model, kw_only=True):
    """A host of an overlay network."""

    name: str = ""
    ip: str = ""


class Network(Model, kw_only=True):
    """A network. ``containers`` is keyed by container id, and filled by inspect only."""

    name: str = ""
    id: str = ""
    created: str = ""
    scope: str = ""
    driver: str = ""
    enable_ipv4: bool | UnsetType = UNSET  # since 1.47
    enable_ipv6: bool = False
    ipam: IPAM = field(default_factory=IPAM, name="IPAM")
    internal: bool = False
    attachable: bool = False
    ingress: bool = False
    config_from: ConfigReference = field(default_factory=ConfigReference)
    config_only: bool = False
    containers: dict[str, NetworkContainer] | None = None
    options: StringMap | None = None
    labels: StringMap | None = None
    peers: list[PeerInfo] | UnsetType = UNSET
    services: dict[str, Any] | UnsetType = UNSET


class NetworkCreateRequest(Model, kw_only=True):
    """The body of NetworkCreate."""

    GO: ClassVar = "types.NetworkCreateRequest"

    name: str = ""
    check_duplicate: bool = False
    driver: str = ""
    scope: str = ""
    enable_ipv4: bool | UnsetType | None = UNSET  # since 1.47
    enable_ipv6: bool | None = False
    ipam: IPAM | None = field(default=None, name="IPAM")
    internal: bool = False
    attachable: bool = False
    ingress: bool = False
    config_only: bool = False
    config_from: ConfigReference | None = None
    options: StringMap | None = None
    labels: StringMap | None = None


class NetworkCreateResponse(Model, kw_only=True):
    """The new network's id, and a warning or nothing."""

    id: str = ""
    warning: str = ""


class NetworkConnectRequest(Model, kw_only=True):
    """The body of NetworkConnect: a container's id or name, and its endpoint there."""

    GO: ClassVar = "types.NetworkConnect"

    container: str = ""
    endpoint_config: EndpointSettings | None = None


class NetworkDisconnectRequest(Model, kw_only=True):
    """The body of NetworkDisconnect; ``force`` also where the container does not answer."""

    GO: ClassVar = "types.NetworkDisconnect"

    container: str = ""
    force: bool = False


class NetworkPruneResponse(Model, kw_only=True):
    """The names of the removed networks, null when none was."""

    networks_deleted: list[str] | None = None
