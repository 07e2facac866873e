"""``wherry build``."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from wherry.cli.common import fail, parse_size, with_client

if TYPE_CHECKING:
    from wherry.client._sync.client import Client


@click.command("build")
@click.option("-t", "--tag", "tags", multiple=True, metavar="NAME[:TAG]", help="A name for the image.")
@click.option(
    "-f", "--file", "dockerfile", metavar="FILE", help="The Dockerfile, seen from here or in DIRECTORY; - for stdin."
)
@click.option("--build-arg", "build_args", multiple=True, metavar="KEY[=VALUE]", help="KEY alone: the environment's.")
@click.option("--label", "labels", multiple=True, metavar="KEY=VALUE")
@click.option("--target", metavar="STAGE", help="Build up to this stage.")
@click.option("--platform", metavar="OS[/ARCH[/VARIANT]]")
@click.option("--no-cache", is_flag=True, help="Do every step anew.")
@click.option("--cache-from", multiple=True, metavar="IMAGE", help="Take steps of these images alone.")
@click.option("--pull", is_flag=True, help="Ask registries for the base images though they are here.")
@click.option("--network", metavar="MODE", help="Of the RUN steps.")
@click.option("--add-host", "hosts", multiple=True, metavar="NAME:ADDRESS")
@click.option("-m", "--memory", metavar="SIZE", help="For each RUN step.")
@click.option("--memory-swap", metavar="SIZE")
@click.option("-c", "--cpu-shares", type=int)
@click.option("--cpu-period", type=int)
@click.option("--cpu-quota", type=int)
@click.option("--cpuset-cpus")
@click.option("--shm-size", metavar="SIZE")
@click.option("--rm/--no-rm", default=True, help="Remove the containers of steps that succeeded.")
@click.option("--force-rm", is_flag=True, help="Remove the containers of all steps.")
@click.option("-q", "--quiet", is_flag=True, help="Print the image's id alone.")
@click.argument("context", metavar="DIRECTORY | URL | -")
@with_client
def build_command(client: Client, context: str, **given: Any) -> None:
    """Build an image from the Dockerfile in DIRECTORY, at a URL, or in an archive on stdin (-).

    Ends with the exit code of a step that failed.
    """
    from wherry.api.errors import StreamError

    source, place = _source(context, given["dockerfile"])
    options: dict[str, Any] = {
        "t": list(given["tags"]) or None,
        "buildargs": _args(given["build_args"]) or None,
        "labels": _labels(given["labels"]) or None,
        "target": given["target"],
        "platform": given["platform"],
        "nocache": given["no_cache"] or None,
        "cachefrom": list(given["cache_from"]) or None,
        "pull": given["pull"] or None,
        "networkmode": given["network"],
        "extrahosts": list(given["hosts"]) or None,
        "memory": parse_size(given["memory"], "--memory"),
        "memswap": -1 if given["memory_swap"] == "-1" else parse_size(given["memory_swap"], "--memory-swap"),
        "cpushares": given["cpu_shares"],
        "cpuperiod": given["cpu_period"],
        "cpuquota": given["cpu_quota"],
        "cpusetcpus": given["cpuset_cpus"],
        "shmsize": parse_size(given["shm_size"], "--shm-size"),
        "rm": given["rm"],
        "forcerm": given["force_rm"] or None,
        "q": given["quiet"] or None,
        "dockerfile": place,
    }
    if source is None:
        options["remote"] = context
    options = {name: value for name, value in options.items() if value is not None}
    try:
        with client.images.build_progress(source, **options) as progress:
            for message in progress:
                _show(message)
    except StreamError as error:
        fail(error, error.code or 1)
    except ValueError as error:
        fail(error)
    except OSError as error:
        if error.filename is None:  # not one of the context's files
            raise
        fail(ValueError(f"the context cannot be sent: {error.filename}: {error.strerror}"))


def _source(context: str, dockerfile: str | None) -> tuple[Any, str | None]:
    """What to send, None for nothing, and the Dockerfile's path in it."""
    if context == "-":
        if dockerfile == "-":
            raise click.UsageError("stdin is either the archive or the Dockerfile")
        return sys.stdin.buffer, dockerfile
    if context.startswith(("http://", "https://", "git://", "git@")):
        return None, dockerfile
    if dockerfile == "-":
        from wherry.client.context import pack

        try:
            return pack(context, text=sys.stdin.buffer.read())
        except ValueError as error:
            fail(error)
    if dockerfile is not None and os.path.exists(dockerfile):
        dockerfile = os.path.abspath(dockerfile)  # of the present directory first, as docker's; then of the context
    return context, dockerfile


def _args(pairs: Sequence[str]) -> dict[str, str | None]:
    found: dict[str, str | None] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        found[key] = value if equals else os.environ.get(key)
    return found


def _labels(pairs: Sequence[str]) -> dict[str, str]:
    return dict(pair.partition("=")[::2] for pair in pairs)


def _show(message: Any) -> None:
    if message.stream:
        click.echo(message.stream, nl=False)
    elif message.status and not message.progress:
        click.echo(f"{message.id}: {message.status}" if message.id else message.status)
