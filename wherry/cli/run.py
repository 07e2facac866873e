"""``wherry run`` and ``wherry create``."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from wherry.cli.common import DETACH_KEYS, fail, pairs_from, parse_policy, parse_size, with_client
from wherry.cli.mounts import mount_from, volumes_from
from wherry.cli.process import ENGINE_FAILED, ENV, ENV_FILE, ProcessCommand, env_from, exit_code_of
from wherry.cli.terminal import keys_from, need_terminal, terminal_size

if TYPE_CHECKING:
    from wherry.client._sync.client import Client

F = TypeVar("F", bound=Callable[..., Any])


def ports_from(published: tuple[str, ...]) -> dict[str | int, Any]:
    """``-p`` options, ``[[IP:]HOST:]CONTAINER[/PROTOCOL]``, as ``create`` takes them."""
    ports: dict[str | int, Any] = {}
    for text in published:
        if re.sub(r"^\[[^]]*\]", "", text).count(":") > 2:
            raise click.BadParameter(
                f"{text!r} is no port; write [[IP:]HOST:]CONTAINER[/PROTOCOL]", param_hint="--publish"
            )
        where, _, port = text.rpartition(":")
        ports.setdefault(port, []).append(where or None)
    return ports


def settings(command: F) -> F:
    """The options that ``run`` and ``create`` have."""
    for option in reversed(SETTINGS):
        command = option(command)
    return command


SETTINGS = (
    click.option("-i", "--interactive", is_flag=True, help="Keep stdin open."),
    click.option("-t", "--tty", is_flag=True, help="Give it a terminal."),
    click.option("--rm", "remove", is_flag=True, help="Remove it when it ends."),
    click.option("--name"),
    click.option("--platform", metavar="OS[/ARCH[/VARIANT]]"),
    click.option(
        "--pull",
        type=click.Choice(("always", "missing", "never")),
        default="missing",
        show_default=True,
        help="When to fetch the image from its registry.",
    ),
    ENV,
    ENV_FILE,
    click.option("-v", "--volume", "volumes", multiple=True, metavar="SOURCE:TARGET[:ro]"),
    click.option(
        "--mount", "mounts", multiple=True, metavar="type=…,source=…,target=…,…", help="A bind, volume or tmpfs."
    ),
    click.option("--volumes-from", multiple=True, metavar="CONTAINER[:ro]"),
    click.option("--tmpfs", multiple=True, metavar="TARGET[:OPTIONS]"),
    click.option("-p", "--publish", multiple=True, metavar="[[IP:]PORT:]PORT"),
    click.option("-P", "--publish-all", is_flag=True, help="Every exposed port, at any free one."),
    click.option("--expose", multiple=True, metavar="PORT[/PROTOCOL]"),
    click.option("-w", "--workdir", default=""),
    click.option("-u", "--user", default=""),
    click.option("--group-add", multiple=True),
    click.option("-h", "--hostname", default=""),
    click.option("-l", "--label", "labels", multiple=True, metavar="KEY=VALUE"),
    click.option("-m", "--memory", metavar="SIZE"),
    click.option("--memory-swap", metavar="SIZE", help="Memory and swap together; -1 for no limit."),
    click.option("--cpus", type=float),
    click.option("--cpuset-cpus", metavar="LIST"),
    click.option("--pids-limit", type=int),
    click.option("--shm-size", metavar="SIZE"),
    click.option("--ulimit", "ulimits", multiple=True, metavar="NAME=SOFT[:HARD]"),
    click.option("--network", default=""),
    click.option("--dns", multiple=True, metavar="ADDRESS"),
    click.option("--add-host", "extra_hosts", multiple=True, metavar="NAME:ADDRESS"),
    click.option("--restart", "policy", default="", metavar="no|always|unless-stopped|on-failure[:N]"),
    click.option("--entrypoint"),
    click.option("--init", is_flag=True, help="With a small init before the command."),
    click.option("--stop-signal"),
    click.option("--stop-timeout", type=int, metavar="SECONDS"),
    click.option("--read-only", is_flag=True),
    click.option("--privileged", is_flag=True),
    click.option("--cap-add", multiple=True),
    click.option("--cap-drop", multiple=True),
    click.option("--security-opt", multiple=True, metavar="OPTION"),
    click.option("--sysctl", "sysctls", multiple=True, metavar="KEY=VALUE"),
    click.option("--log-driver", metavar="json-file|local|none"),
    click.option("--log-opt", "log_options", multiple=True, metavar="KEY=VALUE"),
)


@click.command("run", cls=ProcessCommand)
@click.option("-d", "--detach", is_flag=True, help="Leave it running and print its id.")
@click.option(
    "--sig-proxy/--no-sig-proxy", default=True, help="Hand on the signals it gets, without -t.", show_default=True
)
@DETACH_KEYS
@settings
@click.argument("image")
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
@with_client
def run_command(
    client: Client,
    image: str,
    command: tuple[str, ...],
    detach: bool,
    sig_proxy: bool,
    detach_keys: str | None,
    **given: Any,
) -> None:
    """Run COMMAND in a new container of IMAGE; end with its exit code."""
    import wherry
    from wherry.cli.attach import run_attached

    need_terminal(stdin=given["interactive"] and not detach, tty=given["tty"])
    keys = keys_from(detach_keys)
    id = created(client, image, command, given, attached=not detach)
    try:
        if detach:
            client.containers.start(id)
            click.echo(id)
            return
        stdin, tty, remove = given["interactive"], given["tty"], given["remove"]
        sys.exit(run_attached(client, id, stdin=stdin, tty=tty, remove=remove, keys=keys, sig_proxy=sig_proxy))
    except wherry.ApiError as error:
        fail(error, exit_code_of(error.message))


@click.command("create", cls=ProcessCommand)
@settings
@click.argument("image")
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
@with_client
def create_command(client: Client, image: str, command: tuple[str, ...], **given: Any) -> None:
    """Make a container of IMAGE for COMMAND, and print its id; start starts it."""
    click.echo(created(client, image, command, given, attached=True))


def created(client: Client, image: str, command: tuple[str, ...], given: dict[str, Any], *, attached: bool) -> str:
    """The id of the new container; an error ends with docker's exit code for it."""
    import wherry

    def create() -> Any:
        return client.containers.create(
            image,
            list(command) or None,
            name=given["name"],
            platform=given["platform"],
            config=config_from(given, attached=attached),
            host_config=host_config_from(given),
            **options_from(given),
        )

    try:
        if given["pull"] == "always":
            fetch(client, image, given["platform"])
        try:
            made = create()
        except wherry.NotFound as error:
            if given["pull"] != "missing" or not error.message.startswith("No such image"):
                raise
            click.echo(f"wherry: {error.message}: looking for it in its registry", err=True)
            fetch(client, image, given["platform"])
            made = create()
    except (wherry.WherryError, ValueError) as error:
        fail(error, ENGINE_FAILED)
    for warning in made.warnings or ():
        click.echo(f"wherry: {warning}", err=True)
    id: str = made.id
    return id


def fetch(client: Client, image: str, platform: str | None) -> None:
    """Pull an image, its progress on stderr."""
    from wherry.cli.progress import follow
    from wherry.client.references import split_reference

    repository, tag = split_reference(image)
    with client.images.create(from_image=repository, tag=tag, platform=platform) as progress:
        follow(progress)


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

    host = wherry.HostConfig(restart_policy=parse_policy(given["policy"]), auto_remove=given["remove"])
    if given["log_driver"] or given["log_options"]:
        options = pairs_from(given["log_options"])
        host.log_config = wherry.LogConfig(type=given["log_driver"] or "json-file", config=options)
    if given["tty"]:
        host.console_size = terminal_size() or (0, 0)
    host.ulimits = [ulimit_from(text) for text in given["ulimits"]] or None
    return host


def ulimit_from(text: str) -> Any:
    """``nofile=1024`` or ``nofile=1024:2048``."""
    from wherry.api.models.host import Ulimit

    name, _, limits = text.partition("=")
    soft, _, hard = limits.partition(":")
    if not name or not soft.lstrip("-").isdecimal() or not (hard or soft).lstrip("-").isdecimal():
        raise click.BadParameter(f"{text!r} is no limit; write nofile=1024:2048", param_hint="--ulimit")
    return Ulimit(name=name, soft=int(soft), hard=int(hard or soft))


def options_from(given: dict[str, Any]) -> dict[str, Any]:
    """The options that ``create`` takes by name, those given only."""
    binds, _ = volumes_from(given["volumes"])
    options = {
        "env": env_from(given),
        "binds": binds,
        "mounts": [mount_from(text) for text in given["mounts"]],
        "volumes_from": list(given["volumes_from"]),
        "tmpfs": {target: rest for target, _, rest in (text.partition(":") for text in given["tmpfs"])},
        "ports": ports_from(given["publish"]),
        "working_dir": given["workdir"],
        "user": given["user"],
        "hostname": given["hostname"],
        "group_add": list(given["group_add"]),
        "labels": pairs_from(given["labels"]),
        "memory": parse_size(given["memory"], "--memory"),
        "memory_swap": parse_size(given["memory_swap"], "--memory-swap"),
        "shm_size": parse_size(given["shm_size"], "--shm-size"),
        "cpuset_cpus": given["cpuset_cpus"],
        "nano_cpus": int(given["cpus"] * 1e9) if given["cpus"] else None,
        "pids_limit": given["pids_limit"],
        "network_mode": given["network"],
        "dns": list(given["dns"]),
        "extra_hosts": list(given["extra_hosts"]),
        "init": given["init"] or None,
        "stop_signal": given["stop_signal"],
        "stop_timeout": given["stop_timeout"],
        "publish_all_ports": given["publish_all"],
        "exposed_ports": exposed_from(given["expose"]),
        "security_opt": list(given["security_opt"]),
        "sysctls": pairs_from(given["sysctls"]),
        "entrypoint": [given["entrypoint"]] if given["entrypoint"] is not None else None,
        "readonly_rootfs": given["read_only"],
        "privileged": given["privileged"],
        "cap_add": list(given["cap_add"]),
        "cap_drop": list(given["cap_drop"]),
    }
    return {name: value for name, value in options.items() if value or (value == 0 and name == "stop_timeout")}


def exposed_from(texts: tuple[str, ...]) -> list[str]:
    return [text if "/" in text else f"{text}/tcp" for text in texts]
