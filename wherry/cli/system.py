"""Commands on the engine itself."""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta
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
    import json

    from wherry.api.json import encode

    click.echo(json.dumps(json.loads(encode(client.system.info())), indent=4, ensure_ascii=False))


def moment(ctx: click.Context, parameter: click.Parameter, text: str | None) -> str | timedelta | None:
    """A time as ``--since`` takes it: seconds since 1970, RFC 3339, or how long ago (``90s``, ``10m``, ``2h``, ``1d``)."""
    from wherry.client.moments import to_seconds

    if text is None:
        return None
    units = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
    if text[-1:] in units and text[:-1].replace(".", "", 1).isdigit():
        return timedelta(**{units[text[-1]]: float(text[:-1])})
    try:
        to_seconds(text)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None
    return text


def _time(nanoseconds: Any) -> str:
    """RFC 3339 to the nanosecond, in this machine's time zone, as docker's."""
    if not isinstance(nanoseconds, int):
        return "-"
    seconds, rest = divmod(nanoseconds, 1_000_000_000)
    local = datetime.fromtimestamp(seconds, UTC).astimezone()
    zone = local.isoformat()[19:]
    return f"{local:%Y-%m-%dT%H:%M:%S}.{rest:09}{'Z' if zone == '+00:00' else zone}"


@click.command("events")
@click.option(
    "--since", callback=moment, metavar="TIME", help="Begin with what happened then: seconds, a time, or 10m ago."
)
@click.option("--until", callback=moment, metavar="TIME", help="End then.")
@click.option("-f", "--filter", "filters", multiple=True, metavar="KEY=VALUE")
@click.option("--json", "as_json", is_flag=True, help="Each event as the API's JSON.")
@with_client
def events_command(
    client: Client,
    since: str | timedelta | None,
    until: str | timedelta | None,
    filters: tuple[str, ...],
    as_json: bool,
) -> None:
    """Follow what happens. Filters: container, event, image, label, network, type, volume."""
    from wherry.api.json import encode

    with client.system.events(since=since, until=until, filters=filters_from(filters)) as events:
        try:
            for event in events:
                if as_json:
                    click.echo(encode(event).decode())
                    continue
                attributes = " ".join(f"{k}={v}" for k, v in sorted((event.actor.attributes or {}).items()))
                click.echo(f"{_time(event.time_nano)} {event.type} {event.action} {event.actor.id} {attributes}")
        except KeyboardInterrupt:
            sys.exit(130)
