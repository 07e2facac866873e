"""What uses space, and what nothing needs: ``wherry system``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from wherry.cli.common import filters_from, size_text, table, with_client
from wherry.cli.system import events_command, info_command

if TYPE_CHECKING:
    from wherry.api.models.system import SystemDataUsageResponse
    from wherry.client._sync.client import Client


@click.group("system")
def system_command() -> None:
    """What uses space, remove what nothing uses, and more of the engine."""


@system_command.command("df")
@click.option("-v", "--verbose", is_flag=True, help="Each image, container and volume.")
@with_client
def df_command(client: Client, verbose: bool) -> None:
    """What uses space. ACTIVE are those that containers use, or that run; the others can be removed."""
    usage = client.system.data_usage()
    table(("", "TOTAL", "ACTIVE", "SIZE", "RECLAIMABLE"), summary(usage))
    if not verbose:
        return
    click.echo()
    rows = [
        (
            ", ".join(image.repo_tags or ["<none>"]),
            size_text(image.size),
            size_text(max(0, image.shared_size)),
            size_text(image.size - max(0, image.shared_size)),
            str(image.containers),
        )
        for image in usage.images or []
    ]
    table(("IMAGE", "SIZE", "SHARED", "UNIQUE", "CONTAINERS"), rows)
    click.echo()
    containers = [
        (
            ", ".join(name.lstrip("/") for name in container.names or []),
            size_text(container.size_rw or 0),
            container.state,
        )
        for container in usage.containers or []
    ]
    table(("CONTAINER", "SIZE", "STATE"), containers)
    click.echo()
    volumes = [
        (volume.name, size_text(max(0, volume.usage_data.size)), str(volume.usage_data.ref_count))
        for volume in usage.volumes or []
        if volume.usage_data
    ]
    table(("VOLUME", "SIZE", "CONTAINERS"), volumes)


def summary(usage: SystemDataUsageResponse) -> list[tuple[str, str, str, str, str]]:
    """A row for each kind: how many, how many in use, bytes, and bytes that nothing uses."""
    images, containers, caches = usage.images or [], usage.containers or [], usage.build_cache or []
    volumes = [volume.usage_data for volume in usage.volumes or [] if volume.usage_data]
    running = [container for container in containers if container.state in ("running", "paused", "restarting")]
    used_images = sum(image.size for image in images if image.containers)
    rows: list[tuple[str, int, int, int, int]] = [
        (
            "images",
            len(images),
            sum(image.containers > 0 for image in images),
            usage.layers_size,
            max(0, usage.layers_size - used_images),
        ),
        (
            "containers",
            len(containers),
            len(running),
            sum(container.size_rw or 0 for container in containers),
            sum(container.size_rw or 0 for container in containers if container not in running),
        ),
        (
            "volumes",
            len(volumes),
            sum(volume.ref_count > 0 for volume in volumes),
            sum(max(0, volume.size) for volume in volumes),
            sum(max(0, volume.size) for volume in volumes if not volume.ref_count),
        ),
        (
            "build cache",
            len(caches),
            sum(bool(cache.in_use) for cache in caches),
            sum(cache.size or 0 for cache in caches),
            sum(cache.size or 0 for cache in caches if not cache.in_use),
        ),
    ]
    return [
        (name, str(total), str(active), size_text(size), size_text(free)) for name, total, active, size, free in rows
    ]


@system_command.command("prune")
@click.option(
    "-a", "--all", "everything", is_flag=True, help="All images that no container uses, not only nameless ones."
)
@click.option("--volumes", is_flag=True, help="Anonymous volumes that no container uses, too.")
@click.option("--filter", "filters", multiple=True, metavar="KEY=VALUE", help="until, label or label!.")
@click.option("-f", "--force", is_flag=True, help="Do not ask.")
@with_client
def prune_command(client: Client, everything: bool, volumes: bool, filters: tuple[str, ...], force: bool) -> None:
    """Remove what nothing uses: containers that do not run, networks, images, what builds keep; asks first."""
    chosen = filters_from(filters) or {}
    if volumes and "until" in chosen:
        raise click.UsageError("volumes have no age: --filter until does not go with --volumes")
    if not force:
        click.echo("This removes, for good:", err=True)
        for line in doomed(everything, volumes):
            click.echo(f"  - {line}", err=True)
        if filters:
            click.echo(f"as far as it fits {', '.join(filters)}", err=True)
        click.confirm("Go on?", abort=True, err=True)
    free = 0
    containers = client.containers.prune(filters=chosen or None)
    for id in containers.containers_deleted or []:
        click.echo(f"deleted container {id}")
    for name in client.networks.prune(filters=chosen or None).networks_deleted or []:
        click.echo(f"deleted network {name}")
    if volumes:
        pruned = client.volumes.prune(filters=chosen or None)
        for name in pruned.volumes_deleted or []:
            click.echo(f"deleted volume {name}")
        free += pruned.space_reclaimed
    images = client.images.prune(filters=chosen | {"dangling": ["false"]} if everything else chosen or None)
    for item in images.images_deleted or []:
        click.echo(f"untagged {item.untagged}" if item.untagged else f"deleted image {item.deleted}")
    free += containers.space_reclaimed + images.space_reclaimed
    if not chosen.keys() - {"until"}:  # what builds keep has no labels
        caches = client.images.build_prune(all=everything or None, filters=chosen or None)
        for id in caches.caches_deleted or []:
            click.echo(f"deleted build cache {id}")
        free += caches.space_reclaimed
    click.echo(f"{size_text(free)} are free again", err=True)


def doomed(everything: bool, volumes: bool) -> list[str]:
    """What ``system prune`` removes, for people to agree to."""
    return [
        "all containers that do not run",
        "all networks that no container uses",
        *(["all anonymous volumes that no container uses"] if volumes else []),
        f"all images {'' if everything else 'without a name '}that no container uses",
        "what builds keep beside their images",
    ]


system_command.add_command(info_command)
system_command.add_command(events_command)
