"""Commands on the engine itself."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import click

from wherry.cli.common import filters_from, with_client

if TYPE_CHECKING:
    from wherry.client._sync.client import Client


@click.command("version")
@with_client
def version_command(client: Client) -> None:
    """The versions of the client and the engine."""
    import wherry

    click.echo(f"client: wherry {wherry.__version__}")
    seen = client.system.version()
    click.echo(f"engine: {seen.version} (API {seen.api_version}, from {seen.min_api_version}) at {client.address}")
    for component in seen.components or []:
        click.echo(f"  {component.name}: {component.version}")


@click.command("info")
@with_client
def info_command(client: Client) -> None:
    """What the engine says of itself, as the API's JSON."""
    from wherry.api.json import encode

    click.echo(json.dumps(json.loads(encode(client.system.info())), indent=4, ensure_ascii=False))


def _time(nanoseconds: Any) -> str:
    return f"{nanoseconds / 1e9:.6f}" if isinstance(nanoseconds, int) else "-"


@click.command("events")
@click.option("--since", type=float, help="Seconds since 1970.")
@click.option("--until", type=float, help="Seconds since 1970.")
@click.option("-f", "--filter", "filters", multiple=True, metavar="KEY=VALUE")
@with_client
def events_command(client: Client, since: float | None, until: float | None, filters: tuple[str, ...]) -> None:
    """Follow what happens."""
    with client.system.events(since=since, until=until, filters=filters_from(filters)) as events:
        try:
            for event in events:
                attributes = " ".join(f"{k}={v}" for k, v in sorted((event.actor.attributes or {}).items()))
                click.echo(f"{_time(event.time_nano)} {event.type} {event.action} {event.actor.id} {attributes}")
        except KeyboardInterrupt:
            sys.exit(130)
