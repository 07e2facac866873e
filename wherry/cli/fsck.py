"""``wherry fsck``: rebuild the engine's database from what lies in its data root."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from wherry.cli.serve import DATA_ROOT


@click.command("fsck")
@click.option("--data-root", default=DATA_ROOT, show_default=True, type=click.Path(exists=True, path_type=Path))
def fsck_command(data_root: Path) -> None:
    """Build rows of containers, images and volumes anew that the database has lost; nothing is ever removed."""
    from wherry.embed import fsck

    try:
        done = fsck(data_root)
    except RuntimeError as error:
        click.echo(f"wherry fsck: {error}", err=True)
        sys.exit(1)
    for line in done:
        click.echo(line)
    if not done:
        click.echo("nothing is missing")
