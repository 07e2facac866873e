"""``wherry exec``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from wherry.cli.common import DETACH_KEYS, with_client
from wherry.cli.process import ENV, ENV_FILE, ProcessCommand, env_from
from wherry.cli.terminal import end_detached, keys_from, need_terminal, terminal_size, tie

if TYPE_CHECKING:
    from wherry.client._sync.client import Client


@click.command("exec", cls=ProcessCommand)
@click.option("-i", "--interactive", is_flag=True, help="Keep stdin open.")
@click.option("-t", "--tty", is_flag=True, help="Give it a terminal.")
@click.option("-d", "--detach", is_flag=True, help="Leave it running.")
@ENV
@ENV_FILE
@click.option("-w", "--workdir", default="")
@click.option("-u", "--user", default="")
@click.option("--privileged", is_flag=True)
@DETACH_KEYS
@click.argument("container")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@with_client
def exec_command(client: Client, container: str, command: tuple[str, ...], **given: Any) -> None:
    """Run COMMAND in a running container; end with its exit code."""
    need_terminal(stdin=given["interactive"] and not given["detach"], tty=given["tty"])
    keys = keys_from(given["detach_keys"])
    created = client.exec.create(
        container,
        list(command),
        attach_stdin=given["interactive"],
        tty=given["tty"],
        detach_keys=keys,
        console_size=terminal_size() if given["tty"] else None,
        env=env_from(given) or None,
        working_dir=given["workdir"],
        user=given["user"],
        privileged=given["privileged"],
    )
    if given["detach"]:
        client.exec.start_detached(created.id, tty=given["tty"])
        return
    with client.exec.start(created.id, tty=given["tty"]) as channel:
        if tie(channel, stdin=given["interactive"], tty=given["tty"], keys=keys):
            end_detached()
    sys.exit(client.exec.inspect(created.id).exit_code or 0)
