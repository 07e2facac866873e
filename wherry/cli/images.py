"""Commands on images."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from wherry.cli.common import age_text, each, size_text, table, with_client

if TYPE_CHECKING:
    from wherry.client._sync.client import Client


@click.command("images")
@click.option("-q", "--quiet", is_flag=True, help="Ids alone.")
@with_client
def images_command(client: Client, quiet: bool) -> None:
    """List images."""
    images = client.images.list()
    if quiet:
        for image in images:
            click.echo(image.id.removeprefix("sha256:")[:12])
        return
    rows = [
        (tag, image.id.removeprefix("sha256:")[:12], age_text(image.created), size_text(image.size))
        for image in images
        for tag in image.repo_tags or ["<none>"]
    ]
    table(("IMAGE", "ID", "CREATED", "SIZE"), rows)


@click.command("load")
@click.option(
    "-i", "--input", "source", type=click.Path(exists=True, dir_okay=False), help="The archive; stdin if not given."
)
@with_client
def load_command(client: Client, source: str | None) -> None:
    """Load images from an archive that ``save`` wrote."""
    if source is None:
        names = client.images.load(sys.stdin.buffer)
    else:
        with Path(source).open("rb") as archive:
            names = client.images.load(archive)
    for name in names:
        click.echo(name)


@click.command("save")
@click.option("-o", "--output", "target", type=click.Path(dir_okay=False), help="The archive; stdout if not given.")
@click.argument("names", nargs=-1, required=True)
@with_client
def save_command(client: Client, names: tuple[str, ...], target: str | None) -> None:
    """Write images to an archive."""
    if target is None and sys.stdout.isatty():
        raise click.UsageError("an archive is nothing for a terminal: give -o FILE, or redirect stdout")
    with client.images.get_all(names) as archive:
        archive.write_to(target if target is not None else sys.stdout.buffer)


@click.command("pull")
@click.argument("image")
@with_client
def pull_command(client: Client, image: str) -> None:
    """Fetch IMAGE from its registry."""
    client.images.pull(image)
    click.echo(image)


@click.command("tag")
@click.argument("image")
@click.argument("name")
@with_client
def tag_command(client: Client, image: str, name: str) -> None:
    """Give IMAGE the name NAME[:TAG] too."""
    repo, separator, tag = name.rpartition(":")
    if not separator or "/" in tag:
        repo, tag = name, ""
    client.images.tag(image, repo, tag or None)


@click.command("rmi")
@click.option("-f", "--force", is_flag=True)
@click.argument("images", nargs=-1, required=True)
@with_client
def rmi_command(client: Client, images: tuple[str, ...], force: bool) -> None:
    """Remove images."""
    each(images, lambda name: client.images.delete(name, force=force))
