"""``wherry run`` and ``wherry exec``."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from wherry.cli.common import fail, pairs_from, parse_policy, parse_size, with_client
from wherry.cli.mounts import mount_from, volumes_from

if TYPE_CHECKING:
    from wherry.client._sync.client import Client

F = TypeVar("F", bound=Callable[..., Any])

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
    click.option("-e", "--env", multiple=True, metavar="KEY=VALUE", help="Without a value: this process's own."),
    click.option("--env-file", "env_files", multiple=True, type=click.Path(exists=True, dir_okay=False)),
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


@click.command("run", context_settings=PASS_ON)
@click.option("-d", "--detach", is_flag=True, help="Leave it running and print its id.")
@click.option(
    "--sig-proxy/--no-sig-proxy", default=True, help="Hand on the signals it gets, without -t.", show_default=True
)
@settings
@click.argument("image")
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
@with_client
def run_command(
    client: Client, image: str, command: tuple[str, ...], detach: bool, sig_proxy: bool, **given: Any
) -> None:
    """Run COMMAND in a new container of IMAGE; end with its exit code."""
    import wherry
    from wherry.cli.terminal import need_terminal

    need_terminal(stdin=given["interactive"] and not detach, tty=given["tty"])
    id = created(client, image, command, given, attached=not detach)
    try:
        if detach:
            client.containers.start(id)
            click.echo(id)
            return
        stdin, tty, remove = given["interactive"], given["tty"], given["remove"]
        sys.exit(run_attached(client, id, stdin=stdin, tty=tty, remove=remove, sig_proxy=sig_proxy))
    except wherry.ApiError as error:
        fail(error, exit_code_of(error.message))


@click.command("create", context_settings=PASS_ON)
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
    except wherry.WherryError as error:
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


def run_attached(client: Client, id: str, *, stdin: bool, tty: bool, remove: bool, sig_proxy: bool = True) -> int:
    """Attach, wait, start, and stay with it to its end; its exit code."""
    from wherry.cli.terminal import tie

    def forward(name: str) -> None:
        client.containers.kill(id, signal=name)

    condition = "removed" if remove else "next-exit"
    with (
        client.containers.attach(id, stdin=stdin) as channel,
        client.containers.begin_wait(id, condition=condition) as waiting,
    ):
        client.containers.start(id)
        raw = tie(channel, stdin=stdin, tty=tty, forward=forward if sig_proxy else None)
        if raw and client.containers.list(filters={"id": [id]}):
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

    host = wherry.HostConfig(restart_policy=parse_policy(given["policy"]), auto_remove=given["remove"])
    if given["log_driver"] or given["log_options"]:
        options = pairs_from(given["log_options"])
        host.log_config = wherry.LogConfig(type=given["log_driver"] or "json-file", config=options)
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


def env_from(given: dict[str, Any]) -> list[str]:
    """The variables of ``--env-file`` and ``--env``; a name alone is passed on from this process, if it has it."""
    lines: list[str] = []
    for path in given["env_files"]:
        with open(path, encoding="utf-8") as file:
            stripped = (line.strip() for line in file)
            lines += [line for line in stripped if line and not line.startswith("#")]
    env = []
    for entry in [*lines, *given["env"]]:
        if "=" in entry:
            env.append(entry)
        elif entry in os.environ:
            env.append(f"{entry}={os.environ[entry]}")
    return env


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
    from wherry.cli.terminal import need_terminal, tie

    need_terminal(stdin=given["interactive"] and not given["detach"], tty=given["tty"])
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
    with client.exec.start(created.id, tty=given["tty"]) as channel:
        tie(channel, stdin=given["interactive"], tty=given["tty"])
    sys.exit(client.exec.inspect(created.id).exit_code or 0)
