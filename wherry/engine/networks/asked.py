"""What an endpoint asks for and what it becomes: addresses, and where ports lead. Pure, but for the addresses taken."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_interface

from wherry.api.errors import BadRequest, Forbidden, ServerError
from wherry.api.models.networks import EndpointSettings
from wherry.engine.networks.ipam import Address, Addresses, Interface, NoAddress, NotInSubnet
from wherry.engine.networks.names import Relayed
from wherry.engine.networks.ports import ANY6, Published, Wish, is_ipv6
from wherry.engine.networks.records import EndpointRecord, NetworkRecord


def check_address(network: NetworkRecord, asked: EndpointSettings) -> None:
    """Whether a network takes the addresses and aliases that are asked for. Raises ``BadRequest``."""
    ipam = asked.ipam_config
    if network.default and asked.aliases:
        raise BadRequest("network-scoped alias is supported only for containers in user defined networks")
    if not ipam:
        return
    for text in ipam.link_local_ips or ():
        link_local(text)
    if not (ipam.ipv4_address or ipam.ipv6_address):
        return
    if network.default:
        raise BadRequest("user specified IP address is supported on user defined networks only")
    if ipam.ipv4_address:
        try:
            IPv4Address(ipam.ipv4_address)
        except ValueError:
            raise BadRequest(f"invalid IPv4 address: {ipam.ipv4_address}") from None
    if ipam.ipv6_address:
        try:
            if IPv6Address(ipam.ipv6_address).scope_id is not None:
                raise ValueError
        except ValueError:
            raise BadRequest(f"invalid IPv6 address: {ipam.ipv6_address}") from None
        if network.six is None:
            raise BadRequest(f"invalid IPv6 address: {ipam.ipv6_address}: network {network.name} has no IPv6")
    if (ipam.ipv4_address and not network.subnet_given) or (
        ipam.ipv6_address and not (network.six and network.six.given)
    ):
        raise BadRequest(
            "user specified IP address is supported only when connecting to networks with user configured subnets"
        )


def link_local(text: str) -> Interface:
    """One of ``LinkLocalIPs``, with the prefix length that it has. Raises ``BadRequest``."""
    try:
        address = ip_address(text)
        if not address.is_link_local or "%" in text:
            raise ValueError
    except ValueError:
        raise BadRequest(f"Invalid link-local IP address: {text}") from None
    return ip_interface(f"{address}/{16 if address.version == 4 else 64}")


def check_wishes(network: NetworkRecord, wishes: Sequence[Wish]) -> None:
    """Whether ports can be published where they are asked for. Raises ``BadRequest``."""
    for wish in wishes:
        if not is_ipv6(wish.host_ip):
            continue
        if network.six is None:
            raise BadRequest(
                f"port {wish.container_port}/{wish.protocol} can't be published on {wish.host_ip}: network {network.name} has "
                "no IPv6 (make one with EnableIPv6, or publish on an IPv4 address)"
            )
        if IPv6Address(wish.host_ip).is_loopback and wish.protocol != "tcp":
            raise BadRequest(
                f"port {wish.container_port}/{wish.protocol} can't be published on {wish.host_ip} alone, only those of tcp can "
                "(publish on 127.0.0.1 or ::)"
            )


def targets(record: EndpointRecord) -> dict[Published, Address]:
    """Where an endpoint's published ports lead, those of IPv6 addresses to its IPv6 address."""
    six = record.interface6
    found: dict[Published, Address] = {}
    for port in record.ports:
        if not is_ipv6(port.host_ip):
            found[port] = record.interface.ip
        elif six is not None:
            found[port] = six.ip
    return found


def relays_of(record: EndpointRecord) -> list[Relayed]:
    """What of an endpoint's ports is reached on the host's ``::1``, too."""
    six = record.interface6
    if six is None or not record.gateway:
        return []
    return [
        Relayed(port.protocol, port.host_port, str(six.ip), port.container_port)
        for port in record.ports
        if port.host_ip in (ANY6, "::1") and port.protocol in ("tcp", "udp")
    ]


def take_address(pool: Addresses, wanted: Address | None, container: str) -> str:
    """An address with its prefix length. Raises ``BadRequest``, ``Forbidden``, ``ServerError``."""
    try:
        if wanted is None:
            return str(pool.allocate(container))
        pool.take(wanted, container)
    except NotInSubnet as error:
        raise BadRequest(str(error)) from None
    except NoAddress as error:
        raise (Forbidden if wanted else ServerError)(str(error)) from None
    return f"{wanted}/{pool.subnet.prefixlen}"
