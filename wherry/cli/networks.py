"""Commands on networks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from wherry.cli.common import each, filters_from, pairs_from, show_all, table, with_client

if TYPE_CHECKING:
    from wherry.api.models.networks import IPAM
    from wherry.client._sync.client import Client

FILTERS = click.option("-f", "--filter", "filters", multiple=True, metavar="KEY=VALUE")


@click.group("network")
def network_command() -> None:
    """Make, list, show and remove networks, and put containers into them."""


@network_command.command("ls")
@click.option("-q", "--quiet", is_flag=True, help="Ids alone.")
@click.option("--no-trunc", is_flag=True, help="Whole ids.")
@FILTERS
@with_client
def ls_command(client: Client, quiet: bool, no_trunc: bool, filters: tuple[str, ...]) -> None:
    """List networks. Filters: dangling, driver, id, label, name, scope, type."""
    networks = sorted(client.networks.list(filters=filters_from(filters)), key=lambda network: network.name)
    rows = [
        (
            network.id if no_trunc else network.id[:12],
            network.name,
            network.driver,
            network.scope,
            ", ".join(str(pool.subnet) for pool in network.ipam.config or () if pool.subnet) or "-",
        )
        for network in networks
    ]
    if quiet:
        for id, *_ in rows:
            click.echo(id)
        return
    table(("NETWORK ID", "NAME", "DRIVER", "SCOPE", "SUBNETS"), rows)


@network_command.command("create")
@click.option("-d", "--driver", default="bridge", show_default=True)
@click.option("--subnet", "subnets", multiple=True, metavar="CIDR", help="One of IPv4, one of IPv6.")
@click.option("--gateway", "gateways", multiple=True, metavar="ADDRESS", help="The host's address in a subnet.")
@click.option("--ip-range", "ranges", multiple=True, metavar="CIDR", help="Where in a subnet addresses are given.")
@click.option("--aux-address", "reserved", multiple=True, metavar="NAME=ADDRESS", help="Addresses that are others'.")
@click.option("--ipv6", is_flag=True, help="With IPv6; without a subnet of it one is chosen.")
@click.option("--internal", is_flag=True, help="Nothing of it leads out.")
@click.option("--attachable", is_flag=True)
@click.option("-o", "--opt", "options", multiple=True, metavar="KEY=VALUE", help="com.docker.network.…")
@click.option("-l", "--label", "labels", multiple=True, metavar="KEY[=VALUE]")
@click.argument("name")
@with_client
def create_command(
    client: Client,
    name: str,
    driver: str,
    subnets: Sequence[str],
    gateways: Sequence[str],
    ranges: Sequence[str],
    reserved: Sequence[str],
    ipv6: bool,
    internal: bool,
    attachable: bool,
    options: Sequence[str],
    labels: Sequence[str],
) -> None:
    """Make a network and print its id."""
    created = client.networks.create(
        name,
        driver=driver,
        internal=internal,
        attachable=attachable,
        ipam=_ipam(subnets, gateways, ranges, pairs_from(reserved)),
        enable_ipv6=ipv6,
        options=pairs_from(options) or None,
        labels=pairs_from(labels) or None,
    )
    if created.warning:
        click.echo(f"wherry: {created.warning}", err=True)
    click.echo(created.id)


def _ipam(
    subnets: Sequence[str], gateways: Sequence[str], ranges: Sequence[str], reserved: dict[str, str]
) -> IPAM | None:
    """Each gateway, range and reserved address goes with the subnet that holds it."""
    from ipaddress import ip_network

    from wherry.api.models.networks import IPAM, IPAMConfig

    if not subnets and not gateways and not ranges and not reserved:
        return None
    pools: dict[str, IPAMConfig] = {}
    for subnet in subnets:
        pools[subnet] = IPAMConfig(subnet=subnet)

    def pool_of(text: str) -> IPAMConfig:
        for subnet, pool in pools.items():
            try:
                outer, inner = ip_network(subnet, strict=False), ip_network(text, strict=False)
            except ValueError as error:
                raise click.BadParameter(str(error)) from None
            if inner.version == outer.version and inner.subnet_of(outer):  # type: ignore[arg-type]
                return pool
        raise click.BadParameter(f"{text} is in none of the subnets: give one with --subnet")

    for gateway in gateways:
        pool_of(gateway).gateway = gateway
    for ip_range in ranges:
        pool_of(ip_range).ip_range = ip_range
    for name, address in reserved.items():
        pool = pool_of(address)
        pool.auxiliary_addresses = {**(pool.auxiliary_addresses or {}), name: address}
    return IPAM(driver="default", config=list(pools.values()))


@network_command.command("rm")
@click.option("-f", "--force", is_flag=True, help="No failure for one that is not there.")
@click.argument("names", nargs=-1, required=True)
@with_client
def rm_command(client: Client, names: tuple[str, ...], force: bool) -> None:
    """Remove networks that no running container is in."""
    each(names, client.networks.delete, may_be_gone=force)


@network_command.command("inspect")
@click.argument("names", nargs=-1, required=True)
@with_client
def inspect_command(client: Client, names: tuple[str, ...]) -> None:
    """Show all about networks, their running containers too, as the API's JSON."""
    show_all(names, client.networks.inspect)


@network_command.command("connect")
@click.option("--ip", default="", metavar="ADDRESS", help="Its IPv4 address there.")
@click.option("--ip6", default="", metavar="ADDRESS", help="Its IPv6 address there.")
@click.option("--alias", "aliases", multiple=True, metavar="NAME", help="A further name that others call it by.")
@click.option("--link", "links", multiple=True, metavar="CONTAINER[:NAME]", help="What it calls another.")
@click.argument("network")
@click.argument("container")
@with_client
def connect_command(
    client: Client, network: str, container: str, ip: str, ip6: str, aliases: Sequence[str], links: Sequence[str]
) -> None:
    """Put a container, running or not, into a network."""
    from wherry.api.models.common import UNSET
    from wherry.api.models.networks import EndpointIPAMConfig, EndpointSettings

    ipam = EndpointIPAMConfig(ipv4_address=ip or UNSET, ipv6_address=ip6 or UNSET) if ip or ip6 else None
    endpoint = EndpointSettings(ipam_config=ipam, aliases=list(aliases) or None, links=list(links) or None)
    client.networks.connect(network, container, endpoint_config=endpoint)


@network_command.command("disconnect")
@click.option("-f", "--force", is_flag=True)
@click.argument("network")
@click.argument("container")
@with_client
def disconnect_command(client: Client, network: str, container: str, force: bool) -> None:
    """Take a container out of a network."""
    client.networks.disconnect(network, container, force=force)


@network_command.command("prune")
@FILTERS
@with_client
def prune_command(client: Client, filters: tuple[str, ...]) -> None:
    """Remove the networks that no running container is in. Filters: label, label!, until."""
    for name in client.networks.prune(filters=filters_from(filters)).networks_deleted or []:
        click.echo(name)
