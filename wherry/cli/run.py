"""``wherry run`` and ``wherry exec``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from wherry.cli.common import fail, parse_size, with_client

if TYPE_CHECKING:
    from wherry.client._sync.client import Client

# The exit codes of a command that could not be run, as docker's.
ENGINE_FAILED, NOT_EXECUTABLE, NOT_FOUND = 125, 126, 127

# what follows the image or container belongs to the command there
PASS_ON = {"allow_interspersed_args": False}


def exit_code_of(message: str) -> int:
    """The exit code for the engine's text about a start that failed."""
    lowered = message.lower()
    if "executable file not found" in lowered or "no such file or directory" in lowered:
        return NOT_FOUND
    return NOT_EXECUTABLE if "permission denied" in lowered else ENGINE_FAILED


def ports_from(published: tuple[str, ...]) -> dict[str | int, Any]:
    """``-p`` options, ``[[IP:]HOST:]CONTAINER[/PROTOCOL]``, as ``create`` takes them."""
    ports: dict[str | int, Any] = {}
    for text in published:
        where, _, port = text.rpartition(":")
        ports.setdefault(port, []).append(where or None)
    return ports


def volumes_from(volumes: tuple[str, ...]) -> tuple[list[str], dict[str, Any] | None]:
    """``-v`` options as binds, and the paths of anonymous volumes."""
    binds = [volume for volume in volumes if ":" in volume]
    anonymous: dict[str, Any] = {volume: {} for volume in volumes if ":" not in volume}
    return binds, anonymous or None


@click.command("run", context_settings=PASS_ON)
@click.option("-i", "--interactive", is_flag=True, help="Keep stdin open.")
@click.option("-t", "--tty", is_flag=True, help="Give it a terminal.")
@click.option("-d", "--detach", is_flag=True, help="Leave it running and print its id.")
@click.option("--rm", "remove", is_flag=True, help="Remove it when it ends.")
@click.option("--name")
@click.option("-e", "--env", multiple=True, metavar="KEY=VALUE")
@click.option("-v", "--volume", "volumes", multiple=True, metavar="SOURCE:TARGET[:ro]")
@click.option("--tmpfs", multiple=True, metavar="TARGET[:OPTIONS]")
@click.option("-p", "--publish", multiple=True, metavar="[[IP:]PORT:]PORT")
@click.option("-w", "--workdir", default="")
@click.option("-u", "--user", default="")
@click.option("-h", "--hostname", default="")
@click.option("-l", "--label", "labels", multiple=True, metavar="KEY=VALUE")
@click.option("-m", "--memory", metavar="SIZE")
@click.option("--cpus", type=float)
@click.option("--pids-limit", type=int)
@click.option("--network", default="")
@click.option("--restart", "policy", default="", metavar="no|always|unless-stopped|on-failure[:N]")
@click.option("--entrypoint")
@click.option("--read-only", is_flag=True)
@click.option("--privileged", is_flag=True)
@click.option("--cap-add", multiple=True)
@click.option("--cap-drop", multiple=True)
@click.argument("image")
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
@with_client
def run_command(client: Client, image: str, command: tuple[str, ...], **given: Any) -> None:
    """Run COMMAND in a new container of IMAGE; end with its exit code."""
    import wherry

    interactive, tty = given["interactive"], given["tty"]
    try:
        created = client.containers.create(
            image,
            list(command) or None,
            name=given["name"],
            config=config_from(given, attached=not given["detach"]),
            host_config=host_config_from(given),
            **options_from(given),
        )
    except wherry.WherryError as error:
        fail(error, ENGINE_FAILED)
    for warning in created.warnings or ():
        click.echo(f"wherry: {warning}", err=True)
    id = created.id
    try:
        if given["detach"]:
            client.containers.start(id)
            click.echo(id)
            return
        sys.exit(run_attached(client, id, stdin=interactive, tty=tty, remove=given["remove"]))
    except wherry.ApiError as error:
        fail(error, exit_code_of(error.message))


def run_attached(client: Client, id: str, *, stdin: bool, tty: bool, remove: bool) -> int:
    """Attach, wait, start, and stay with it to its end; its exit code."""
    from wherry.cli.terminal import tie

    terminal = tty and stdin and sys.stdin.isatty()
    condition = "removed" if remove else "next-exit"
    with (
        client.containers.attach(id, stdin=stdin) as channel,
        client.containers.begin_wait(id, condition=condition) as waiting,
    ):
        client.containers.start(id)
        tie(channel, stdin=stdin, terminal=terminal, forward=lambda name: client.containers.kill(id, signal=name))
        if terminal and client.containers.list(filters={"id": [id]}):
            return 0  # detached
        return waiting.result().status_code


def config_from(given: dict[str, Any], *, attached: bool) -> Any:
    import wherry

    _, anonymous = volumes_from(given["volumes"])
    return wherry.ContainerConfig(
        attach_stdin=attached and given["interactive"],
        attach_stdout=attached,
        attach_stderr=attached,
        open_stdin=given["interactive"],
        stdin_once=attached and given["interactive"],
        tty=given["tty"],
        volumes=anonymous,
    )


def host_config_from(given: dict[str, Any]) -> Any:
    import wherry

    name, _, count = given["policy"].partition(":")
    if count and not count.isdigit():
        raise click.BadParameter(f"{given['policy']!r} is no restart policy")
    policy = wherry.RestartPolicy(name=name, maximum_retry_count=int(count or 0))
    return wherry.HostConfig(restart_policy=policy, auto_remove=given["remove"])


def options_from(given: dict[str, Any]) -> dict[str, Any]:
    """The options that ``create`` takes by name, those given only."""
    binds, _ = volumes_from(given["volumes"])
    options = {
        "env": list(given["env"]),
        "binds": binds,
        "tmpfs": {target: rest for target, _, rest in (text.partition(":") for text in given["tmpfs"])},
        "ports": ports_from(given["publish"]),
        "working_dir": given["workdir"],
        "user": given["user"],
        "hostname": given["hostname"],
        "labels": {key: value for key, _, value in (text.partition("=") for text in given["labels"])},
        "memory": parse_size(given["memory"]),
        "nano_cpus": int(given["cpus"] * 1e9) if given["cpus"] else None,
        "pids_limit": given["pids_limit"],
        "network_mode": given["network"],
        "entrypoint": [given["entrypoint"]] if given["entrypoint"] is not None else None,
        "readonly_rootfs": given["read_only"],
        "privileged": given["privileged"],
        "cap_add": list(given["cap_add"]),
        "cap_drop": list(given["cap_drop"]),
    }
    return {name: value for name, value in options.items() if value}


@click.command("exec", context_settings=PASS_ON)
@click.option("-i", "--interactive", is_flag=True, help="Keep stdin open.")
@click.option("-t", "--tty", is_flag=True, help="Give it a terminal.")
@click.option("-d", "--detach", is_flag=True, help="Leave it running.")
@click.option("-e", "--env", multiple=True, metavar="KEY=VALUE")
@click.option("-w", "--workdir", default="")
@click.option("-u", "--user", default="")
@click.option("--privileged", is_flag=True)
@click.argument("container")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@with_client
def exec_command(client: Client, container: str, command: tuple[str, ...], **given: Any) -> None:
    """Run COMMAND in a running container; end with its exit code."""
    from wherry.cli.terminal import tie

    created = client.exec.create(
        container,
        list(command),
        attach_stdin=given["interactive"],
        tty=given["tty"],
        env=list(given["env"]) or None,
        working_dir=given["workdir"],
        user=given["user"],
        privileged=given["privileged"],
    )
    if given["detach"]:
        client.exec.start_detached(created.id, tty=given["tty"])
        return
    terminal = given["tty"] and given["interactive"] and sys.stdin.isatty()
    with client.exec.start(created.id, tty=given["tty"]) as channel:
        tie(channel, stdin=given["interactive"], terminal=terminal)
    sys.exit(client.exec.inspect(created.id).exit_code or 0)
