"""Commands on containers that there are."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from wherry.cli.common import (
    DETACH_KEYS,
    age_text,
    each,
    filters_from,
    formatted,
    parse_policy,
    parse_size,
    size_text,
    table,
    with_client,
)

if TYPE_CHECKING:
    from wherry.api.models.containers import ContainerSummary
    from wherry.client._sync.client import Client

NAMES = click.argument("containers", nargs=-1, required=True)


@click.command("ps")
@click.option("-a", "--all", "everything", is_flag=True, help="Also those that do not run.")
@click.option("-f", "--filter", "filters", multiple=True, metavar="KEY=VALUE")
@click.option("-l", "--latest", is_flag=True, help="The newest alone, running or not.")
@click.option("-n", "--last", type=int, metavar="NUMBER", help="So many of the newest, running or not.")
@click.option("-q", "--quiet", is_flag=True, help="Ids alone.")
@click.option("-s", "--size", is_flag=True, help="With the bytes they use.")
@click.option("--no-trunc", "whole", is_flag=True, help="Whole ids and commands.")
@click.option("--format", "form", metavar="json|TEMPLATE", help="Such as '{{.Names}} {{.Status}}'.")
@with_client
def ps_command(client: Client, everything: bool, filters: tuple[str, ...], **given: Any) -> None:
    """List containers, newest first."""
    from wherry.api.models.containers import ContainerSummary

    if given["form"] is not None:
        formatted(
            row_of(ContainerSummary(), whole=True), given["form"]
        )  # a mistake is said also where nothing is listed
    found = client.containers.list(
        all=everything or None,
        limit=1 if given["latest"] else given["last"],
        size=given["size"] or None,
        filters=filters_from(filters),
    )
    if given["quiet"]:
        for container in found:
            click.echo(container.id if given["whole"] else container.id[:12])
        return
    rows = [row_of(container, whole=given["whole"]) for container in found]
    if given["form"] is not None:
        for row in rows:
            click.echo(formatted(row, given["form"]))
        return
    columns = ["ID", "Image", "Command", "CreatedAgo", "Status", "Ports", "Names"] + ["Size"] * given["size"]
    titles = ["CONTAINER" if name == "ID" else name.removesuffix("Ago").upper() for name in columns]
    table(titles, [[row[name] for name in columns] for row in rows])


def row_of(container: ContainerSummary, *, whole: bool) -> dict[str, str]:
    """What ``ps --format`` knows of a container, by docker's names."""
    command = container.command
    settings = container.network_settings
    row = {
        "ID": container.id if whole else container.id[:12],
        "Names": ",".join(name.lstrip("/") for name in container.names or []),
        "Image": container.image,
        "Command": command if whole or len(command) <= 30 else command[:29] + "…",
        "CreatedAt": datetime.fromtimestamp(container.created, UTC).strftime("%Y-%m-%d %H:%M:%S +0000 UTC"),
        "CreatedAgo": age_text(container.created),
        "Status": container.status,
        "State": container.state,
        "Ports": ", ".join(ports_text(container.ports or [])),
        "Labels": ",".join(f"{key}={value}" for key, value in (container.labels or {}).items()),
        "Networks": ",".join((settings.networks if settings else None) or ()),
        "Mounts": ",".join(mount.name or mount.source for mount in container.mounts or []),
        "Size": "",
    }
    if isinstance(container.size_rw, int):
        whole_size = container.size_root_fs if isinstance(container.size_root_fs, int) else 0
        row["Size"] = f"{size_text(container.size_rw)} (virtual {size_text(whole_size)})"
    return row


def ports_text(ports: list[Any]) -> list[str]:
    shown = []
    for port in ports:
        target = f"{port.private_port}/{port.type}"
        shown.append(f"{port.ip}:{port.public_port}->{target}" if port.public_port else target)
    return sorted(set(shown))


@click.command("start")
@click.option("-a", "--attach", is_flag=True, help="Stay with its output to its end; its exit code is this command's.")
@click.option("-i", "--interactive", is_flag=True, help="Feed it this command's stdin as well.")
@DETACH_KEYS
@NAMES
@with_client
def start_command(
    client: Client, containers: tuple[str, ...], attach: bool, interactive: bool, detach_keys: str | None
) -> None:
    """Start containers."""
    if not attach and not interactive:
        each(containers, client.containers.start)
        return
    if len(containers) > 1:
        raise click.UsageError("one container at a time can be attached to")
    from wherry.cli.attach import run_attached
    from wherry.cli.terminal import keys_from, need_terminal

    found = client.containers.inspect(containers[0])
    stdin, tty, remove = interactive and found.config.open_stdin, found.config.tty, found.host_config.auto_remove
    need_terminal(stdin=stdin, tty=tty)
    keys = keys_from(detach_keys)
    sys.exit(run_attached(client, found.id, stdin=stdin, tty=tty, remove=remove, keys=keys))


@click.command("stop")
@click.option("-s", "--signal", "name_or_number", help="What asks them to end.")
@click.option("-t", "--time", "seconds", type=int, help="Seconds until it is killed; -1 waits for ever.")
@NAMES
@with_client
def stop_command(client: Client, containers: tuple[str, ...], seconds: int | None, name_or_number: str | None) -> None:
    """Ask containers to end."""
    each(containers, lambda name: client.containers.stop(name, t=seconds, signal=name_or_number))


@click.command("restart")
@click.option("-s", "--signal", "name_or_number", help="What asks them to end.")
@click.option("-t", "--time", "seconds", type=int, help="Seconds until it is killed; -1 waits for ever.")
@NAMES
@with_client
def restart_command(
    client: Client, containers: tuple[str, ...], seconds: int | None, name_or_number: str | None
) -> None:
    """Stop and start containers."""
    each(containers, lambda name: client.containers.restart(name, t=seconds, signal=name_or_number))


@click.command("pause")
@NAMES
@with_client
def pause_command(client: Client, containers: tuple[str, ...]) -> None:
    """Freeze the processes of containers."""
    each(containers, client.containers.pause)


@click.command("unpause")
@NAMES
@with_client
def unpause_command(client: Client, containers: tuple[str, ...]) -> None:
    """Let frozen containers go on."""
    each(containers, client.containers.unpause)


@click.command("kill")
@click.option("-s", "--signal", "name_or_number", default="SIGKILL", show_default=True)
@NAMES
@with_client
def kill_command(client: Client, containers: tuple[str, ...], name_or_number: str) -> None:
    """Send containers a signal."""
    each(containers, lambda name: client.containers.kill(name, signal=name_or_number))


@click.command("rm")
@click.option("-f", "--force", is_flag=True, help="Kill it first if it runs.")
@click.option("-l", "--link", is_flag=True, help="Only the link of this name, CONTAINER/ALIAS.")
@click.option("-v", "--volumes", is_flag=True, help="With its anonymous volumes.")
@NAMES
@with_client
def rm_command(client: Client, containers: tuple[str, ...], force: bool, volumes: bool, link: bool) -> None:
    """Remove containers."""
    each(
        containers,
        lambda name: client.containers.delete(name, force=force, v=volumes, link=link or None),
        may_be_gone=force,
    )


@click.command("wait")
@NAMES
@with_client
def wait_command(client: Client, containers: tuple[str, ...]) -> None:
    """Wait until containers stop; print their exit codes."""
    each(containers, lambda name: click.echo(client.containers.wait(name).status_code), show=False)


@click.command("rename")
@click.argument("container")
@click.argument("name")
@with_client
def rename_command(client: Client, container: str, name: str) -> None:
    """Give a container another name."""
    client.containers.rename(container, name)


@click.command("update")
@click.option("-m", "--memory", metavar="SIZE")
@click.option("--memory-reservation", metavar="SIZE")
@click.option("--memory-swap", metavar="SIZE", help="Memory and swap together; -1 for no limit.")
@click.option("--cpus", type=float)
@click.option("-c", "--cpu-shares", type=int)
@click.option("--cpu-period", type=int, metavar="MICROSECONDS")
@click.option("--cpu-quota", type=int, metavar="MICROSECONDS")
@click.option("--cpuset-cpus", metavar="LIST")
@click.option("--cpuset-mems", metavar="LIST")
@click.option("--blkio-weight", type=int)
@click.option("--pids-limit", type=int, help="-1 for no limit.")
@click.option("--restart", "restart_policy", metavar="no|always|unless-stopped|on-failure[:N]")
@NAMES
@with_client
def update_command(client: Client, containers: tuple[str, ...], cpus: float | None, **given: Any) -> None:
    """Change limits and the restart policy of containers."""
    options = {name: value for name, value in given.items() if value is not None}
    for name in ("memory", "memory_reservation", "memory_swap"):
        if name in options:
            options[name] = parse_size(options[name], f"--{name.replace('_', '-')}")
    if "restart_policy" in options:
        options["restart_policy"] = parse_policy(options["restart_policy"])
    if cpus is not None:
        options["nano_cpus"] = int(cpus * 1e9)
    if not options:
        raise click.UsageError("nothing to change: give an option, such as --memory 256m")

    def update(name: str) -> None:
        for warning in client.containers.update(name, **options).warnings or ():
            click.echo(f"wherry: {warning}", err=True)

    each(containers, update)
