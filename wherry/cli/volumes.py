"""Commands on volumes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from wherry.cli.common import each, filters_from, pairs_from, show_all, size_text, table, with_client

if TYPE_CHECKING:
    from wherry.client._sync.client import Client

FILTERS = click.option("-f", "--filter", "filters", multiple=True, metavar="KEY=VALUE")


@click.group("volume")
def volume_command() -> None:
    """Make, list, show and remove volumes."""


@volume_command.command("ls")
@click.option("-q", "--quiet", is_flag=True, help="Names alone.")
@FILTERS
@with_client
def ls_command(client: Client, quiet: bool, filters: tuple[str, ...]) -> None:
    """List volumes. Filters: dangling, driver, label, name."""
    volumes = client.volumes.list(filters=filters_from(filters)).volumes or []
    if quiet:
        for volume in volumes:
            click.echo(volume.name)
        return
    rows = [
        (
            volume.name,
            volume.driver,
            ",".join(f"{key}={value}" for key, value in sorted((volume.options or {}).items())) or "-",
            volume.mountpoint,
        )
        for volume in volumes
    ]
    table(("VOLUME", "DRIVER", "OPTIONS", "MOUNTPOINT"), rows)


@volume_command.command("create")
@click.option("-d", "--driver", default="", help="The driver, local if not given.")
@click.option("-o", "--opt", "options", multiple=True, metavar="KEY=VALUE", help="type, device, o or size.")
@click.option("-l", "--label", "labels", multiple=True, metavar="KEY[=VALUE]")
@click.argument("name", default="")
@with_client
def create_command(client: Client, name: str, driver: str, options: Sequence[str], labels: Sequence[str]) -> None:
    """Make a volume and print its name; without NAME it gets one.

    Options of the driver local: type, device and o, as mount has them, are mounted while the volume is used; size is
    held by the filesystem where it has project quotas.
    """
    volume = client.volumes.create(
        name, driver=driver, driver_opts=pairs_from(options) or None, labels=pairs_from(labels) or None
    )
    click.echo(volume.name)


@volume_command.command("rm")
@click.option("-f", "--force", is_flag=True, help="No error for one that is not there.")
@click.argument("names", nargs=-1, required=True)
@with_client
def rm_command(client: Client, names: tuple[str, ...], force: bool) -> None:
    """Remove volumes."""
    each(names, lambda name: client.volumes.delete(name, force=force or None))


@volume_command.command("inspect")
@click.argument("names", nargs=-1, required=True)
@with_client
def inspect_command(client: Client, names: tuple[str, ...]) -> None:
    """Show all about volumes, as the API's JSON."""
    show_all(names, client.volumes.inspect)


@volume_command.command("prune")
@click.option("-a", "--all", "everything", is_flag=True, help="Also those that have a name.")
@FILTERS
@with_client
def prune_command(client: Client, everything: bool, filters: tuple[str, ...]) -> None:
    """Remove anonymous volumes that no container uses. Filters: label, label!."""
    chosen = filters_from(filters) or {}
    if everything:
        chosen["all"] = ["true"]
    pruned = client.volumes.prune(filters=chosen or None)
    for name in pruned.volumes_deleted or []:
        click.echo(name)
    click.echo(f"{size_text(pruned.space_reclaimed)} are free again", err=True)
