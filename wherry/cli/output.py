"""Commands that show something of a container: its output, processes, changes, ports, figures, files."""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING, Any

import click

from wherry.cli.common import fail, picked, size_text, table, with_client

if TYPE_CHECKING:
    from wherry.client._sync.client import Client

KINDS = {0: "C", 1: "A", 2: "D"}


@click.command("logs")
@click.option("-f", "--follow", is_flag=True, help="And what it goes on to write.")
@click.option("-n", "--tail", default="all", metavar="NUMBER|all", help="So many lines from the end.")
@click.option("--since", metavar="TIME", help="2026-11-23T12:13:52Z, seconds since 1970, or 10m for so long ago.")
@click.option("--until", metavar="TIME", help="Likewise.")
@click.option("-t", "--timestamps", is_flag=True, help="Each line begins with its time.")
@click.option("--details", is_flag=True, help="With the labels and variables that the log options name.")
@click.argument("container")
@with_client
def logs_command(client: Client, container: str, **options: Any) -> None:
    """Show what a container wrote."""
    if options["tail"] != "all" and not options["tail"].lstrip("-").isdecimal():
        raise click.BadParameter(f"{options['tail']!r} is neither a number nor all", param_hint="--tail")
    for name in ("since", "until"):
        options[name] = moment(options[name], f"--{name}")
    options["details"] = options["details"] or None
    out, err = sys.stdout.buffer, sys.stderr.buffer
    with client.containers.logs(container, **options) as logs:
        try:
            for stream, data in logs:
                target = err if stream == 2 else out
                target.write(data)
                target.flush()
        except KeyboardInterrupt:
            sys.exit(130)


def moment(text: str | None, option: str) -> str | None:
    """A time as the client takes it; what is none is said in the terms of the command line."""
    from wherry.client.arguments import seconds_text

    try:
        return seconds_text(text)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint=option) from None


@click.command("top", context_settings={"ignore_unknown_options": True})
@click.argument("container")
@click.argument("ps_options", nargs=-1, type=click.UNPROCESSED)
@with_client
def top_command(client: Client, container: str, ps_options: tuple[str, ...]) -> None:
    """Show the processes of a container, as ps with these options does."""
    seen = client.containers.top(container, ps_args=" ".join(ps_options) or None)
    table(seen.titles or [], seen.processes or [])


@click.command("diff")
@click.argument("container")
@with_client
def diff_command(client: Client, container: str) -> None:
    """Show which files differ from the image's: A for added, C for changed, D for deleted."""
    for change in client.containers.changes(container):
        click.echo(f"{KINDS.get(change.kind, '?')} {change.path}")


@click.command("port")
@click.argument("container")
@click.argument("wanted", metavar="[PORT[/PROTOCOL]]", required=False)
@with_client
def port_command(client: Client, container: str, wanted: str | None) -> None:
    """Show where the ports of a container are published."""
    ports = client.containers.inspect(container).network_settings.ports or {}
    key = wanted and (wanted if "/" in wanted else f"{wanted}/tcp")
    shown = 0
    for port, bindings in sorted(ports.items()):
        for binding in bindings or []:
            if key in (None, port):
                place = f"[{binding.host_ip}]" if ":" in binding.host_ip else binding.host_ip
                click.echo(f"{place}:{binding.host_port}" if key else f"{port} -> {place}:{binding.host_port}")
                shown += 1
    if key and not shown:
        fail(ValueError(f"port {key} of {container} is not published"))


@click.command("export")
@click.option("-o", "--output", metavar="FILE", help="A file rather than stdout.")
@click.argument("container")
@with_client
def export_command(client: Client, container: str, output: str | None) -> None:
    """Write all files of a container as a tar archive."""
    if output is None and sys.stdout.isatty():
        raise click.UsageError("the archive is not for a terminal: give -o FILE, or redirect the output")
    with client.containers.export(container) as archive:
        if output is None:
            archive.write_to(sys.stdout.buffer)
            return
        part = f"{output}.part"
        try:
            archive.write_to(part)
            os.replace(part, output)
        except OSError as error:
            fail(ValueError(f"{output} cannot be written: {error.strerror}"))
        finally:
            if os.path.exists(part):
                os.unlink(part)


@click.command("inspect")
@click.option("-f", "--format", "form", metavar="json|TEMPLATE", help="Such as '{{.State.Status}}'.")
@click.option("-s", "--size", is_flag=True, help="With the bytes that a container uses.")
@click.option("--type", "kind", type=click.Choice(["container", "image"]), help="What it is, where both have the name.")
@click.argument("names", nargs=-1, required=True)
@with_client
def inspect_command(client: Client, names: tuple[str, ...], form: str | None, size: bool, kind: str | None) -> None:
    """Show all there is to know of containers or images, as the API's JSON. What is not there is said at the end."""
    import json

    from wherry.api.errors import NotFound
    from wherry.api.json import encode

    found: list[Any] = []
    unknown: list[str] = []
    for name in names:
        value: Any
        try:
            if kind == "image":
                raise NotFound("")
            value = client.containers.inspect(name, size=size or None)
        except NotFound:
            try:
                if kind == "container":
                    raise
                value = client.images.inspect(name)
            except NotFound:
                unknown.append(f"no {kind} {name}" if kind else f"no container and no image {name}")
                continue
        except ValueError as error:
            unknown.append(str(error))
            continue
        found.append(json.loads(encode(value)))
    if form is None:
        click.echo(json.dumps(found, indent=4, ensure_ascii=False))
    else:
        for value in found:
            click.echo(json.dumps(value, ensure_ascii=False) if form == "json" else picked(value, form))
    for message in unknown:
        click.echo(f"wherry: {message}", err=True)
    if unknown:
        sys.exit(1)


@click.command("stats")
@click.option("-a", "--all", "everything", is_flag=True, help="Also those that do not run.")
@click.option("-f", "--follow", is_flag=True, help="Again and again, until it is interrupted.")
@click.option("--no-stream", "once", is_flag=True, help="Once, as without --follow.")
@click.argument("containers", nargs=-1)
@with_client
def stats_command(client: Client, containers: tuple[str, ...], everything: bool, follow: bool, once: bool) -> None:
    """Show what containers use; all running ones by default."""
    try:
        while True:
            rows = []
            for name in containers or [c.id for c in client.containers.list(all=everything or None)]:
                sample = client.containers.stats(name)
                rows.append((name[:12], *stats_row(sample)))
            table(("CONTAINER", "CPU %", "MEMORY", "LIMIT", "PIDS"), rows)
            if once or not follow:
                return
            time.sleep(1)
    except KeyboardInterrupt:
        sys.exit(130)


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
