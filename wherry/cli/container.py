"""``wherry container``: all commands on containers under one name."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from wherry.cli import attach, containers, copy, exec, output, run
from wherry.cli.common import filters_from, size_text, with_client
from wherry.cli.containers import ps_command
from wherry.cli.images import commit_command

if TYPE_CHECKING:
    from wherry.client._sync.client import Client


@click.group("container")
def container_command() -> None:
    """All commands on containers, list and prune among them."""


@container_command.command("prune")
@click.option("-f", "--filter", "filters", multiple=True, metavar="KEY=VALUE", help="until, label or label!.")
@with_client
def prune_command(client: Client, filters: tuple[str, ...]) -> None:
    """Remove all containers that do not run."""
    pruned = client.containers.prune(filters=filters_from(filters))
    for id in pruned.containers_deleted or []:
        click.echo(id)
    click.echo(f"{size_text(pruned.space_reclaimed)} are free again", err=True)


def _gather() -> None:
    container_command.add_command(ps_command, "ls")
    container_command.add_command(commit_command)
    for module in (containers, copy, output, run, exec, attach):
        for value in vars(module).values():
            if isinstance(value, click.Command):
                container_command.add_command(value)


_gather()
