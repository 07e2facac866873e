"""Commands on containers that there are."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from wherry.cli.common import age_text, each, fail, filters_from, size_text, table, with_client

if TYPE_CHECKING:
    from wherry.client._sync.client import Client

NAMES = click.argument("containers", nargs=-1, required=True)


@click.command("ps")
@click.option("-a", "--all", "everything", is_flag=True, help="Also those that do not run.")
@click.option("-q", "--quiet", is_flag=True, help="Ids alone.")
@click.option("-f", "--filter", "filters", multiple=True, metavar="KEY=VALUE")
@with_client
def ps_command(client: Client, everything: bool, quiet: bool, filters: tuple[str, ...]) -> None:
    """List containers, newest first."""
    found = client.containers.list(all=everything or None, filters=filters_from(filters))
    if quiet:
        for container in found:
            click.echo(container.id[:12])
        return
    rows = [
        (
            container.id[:12],
            container.image,
            container.command if len(container.command) <= 30 else container.command[:29] + "…",
            age_text(container.created),
            container.status,
            ", ".join(ports_text(container.ports or [])),
            ", ".join(name.lstrip("/") for name in container.names or []),
        )
        for container in found
    ]
    table(("CONTAINER", "IMAGE", "COMMAND", "CREATED", "STATUS", "PORTS", "NAMES"), rows)


def ports_text(ports: list[Any]) -> list[str]:
    shown = []
    for port in ports:
        target = f"{port.private_port}/{port.type}"
        shown.append(f"{port.ip}:{port.public_port}->{target}" if port.public_port else target)
    return sorted(set(shown))


@click.command("start")
@NAMES
@with_client
def start_command(client: Client, containers: tuple[str, ...]) -> None:
    """Start containers."""
    each(containers, client.containers.start)


@click.command("stop")
@click.option("-t", "--time", "seconds", type=int, help="Seconds until it is killed; -1 waits for ever.")
@NAMES
@with_client
def stop_command(client: Client, containers: tuple[str, ...], seconds: int | None) -> None:
    """Ask containers to end."""
    each(containers, lambda name: client.containers.stop(name, t=seconds))


@click.command("restart")
@click.option("-t", "--time", "seconds", type=int, help="Seconds until it is killed.")
@NAMES
@with_client
def restart_command(client: Client, containers: tuple[str, ...], seconds: int | None) -> None:
    """Stop and start containers."""
    each(containers, lambda name: client.containers.restart(name, t=seconds))


@click.command("kill")
@click.option("-s", "--signal", "name_or_number", default="SIGKILL", show_default=True)
@NAMES
@with_client
def kill_command(client: Client, containers: tuple[str, ...], name_or_number: str) -> None:
    """Send containers a signal."""
    each(containers, lambda name: client.containers.kill(name, signal=name_or_number))


@click.command("rm")
@click.option("-f", "--force", is_flag=True, help="Kill it first if it runs.")
@click.option("-v", "--volumes", is_flag=True, help="With its anonymous volumes.")
@NAMES
@with_client
def rm_command(client: Client, containers: tuple[str, ...], force: bool, volumes: bool) -> None:
    """Remove containers."""
    each(containers, lambda name: client.containers.delete(name, force=force, v=volumes))


@click.command("wait")
@NAMES
@with_client
def wait_command(client: Client, containers: tuple[str, ...]) -> None:
    """Wait until containers stop; print their exit codes."""
    for name in containers:
        click.echo(client.containers.wait(name).status_code)


@click.command("rename")
@click.argument("container")
@click.argument("name")
@with_client
def rename_command(client: Client, container: str, name: str) -> None:
    """Give a container another name."""
    client.containers.rename(container, name)


@click.command("logs")
@click.option("-f", "--follow", is_flag=True)
@click.option("-n", "--tail", default="all", help="So many lines from the end.")
@click.option("--since", type=float, help="Seconds since 1970.")
@click.option("--until", type=float, help="Seconds since 1970.")
@click.option("-t", "--timestamps", is_flag=True)
@click.argument("container")
@with_client
def logs_command(client: Client, container: str, **options: Any) -> None:
    """Show what a container wrote."""
    out, err = sys.stdout.buffer, sys.stderr.buffer
    with client.containers.logs(container, **options) as logs:
        try:
            for stream, data in logs:
                target = err if stream == 2 else out
                target.write(data)
                target.flush()
        except KeyboardInterrupt:
            sys.exit(130)


@click.command("inspect")
@click.argument("names", nargs=-1, required=True)
@with_client
def inspect_command(client: Client, names: tuple[str, ...]) -> None:
    """Show all there is to know of containers or images, as the API's JSON."""
    import json

    from wherry.api.errors import NotFound
    from wherry.api.json import encode

    found = []
    for name in names:
        value: Any
        try:
            value = client.containers.inspect(name)
        except NotFound:
            try:
                value = client.images.inspect(name)
            except NotFound:
                fail(NotFound(f"no container and no image {name}"))
        found.append(json.loads(encode(value)))
    click.echo(json.dumps(found, indent=4, ensure_ascii=False))


@click.command("stats")
@click.argument("containers", nargs=-1)
@with_client
def stats_command(client: Client, containers: tuple[str, ...]) -> None:
    """Show what containers use, once; all running ones by default."""
    rows = []
    for name in containers or [container.id for container in client.containers.list()]:
        sample = client.containers.stats(name)
        rows.append((name[:12], *stats_row(sample)))
    table(("CONTAINER", "CPU %", "MEMORY", "LIMIT", "PIDS"), rows)


def stats_row(sample: Any) -> tuple[str, str, str, str]:
    """CPU percent, memory without the page cache that can go, its limit, processes."""
    cpu, before, memory = sample.cpu_stats, sample.precpu_stats, sample.memory_stats
    percent = 0.0
    if cpu and before:
        used = cpu.cpu_usage.total_usage - before.cpu_usage.total_usage
        passed = (cpu.system_cpu_usage or 0) - (before.system_cpu_usage or 0)
        percent = used / passed * (cpu.online_cpus or 1) * 100 if passed > 0 else 0.0
    details = memory.stats or {}
    cache = details.get("total_inactive_file", details.get("inactive_file", 0))
    usage = max(0, (memory.usage or 0) - cache)
    return f"{percent:.2f}%", size_text(usage), size_text(memory.limit or 0), str(sample.pids_stats.current or 0)
