"""Staying with a container to its end: ``wherry attach``, and what ``run`` and ``start -a`` do."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

import click

from wherry.cli.common import DETACH_KEYS, fail, with_client
from wherry.cli.process import ENGINE_FAILED
from wherry.cli.terminal import end_detached, keys_from, need_terminal, tie

if TYPE_CHECKING:
    from wherry.api.models.containers import ContainerInspect
    from wherry.client._sync.client import Client
    from wherry.client._sync.containers import Waiting


def run_attached(
    client: Client, id: str, *, stdin: bool, tty: bool, remove: bool, keys: str = "", sig_proxy: bool = True
) -> int:
    """Attach, wait, start, and stay with it to its end; its exit code, 0 if the detach ``keys`` ended it.

    ``remove``: the engine removes it at its end, and the end is told after that.
    """
    condition = "removed" if remove else "next-exit"
    with (
        client.containers.attach(id, stdin=stdin, detach_keys=keys or None) as channel,
        client.containers.begin_wait(id, condition=condition) as waiting,
    ):
        client.containers.start(id)
        if tie(channel, stdin=stdin, tty=tty, keys=keys, forward=_forward(client, id) if sig_proxy else None):
            return 0
        return end_of(waiting)


def _forward(client: Client, id: str) -> Callable[[str], None]:
    """What hands a signal on to a container, by its name or number."""

    def forward(name: str) -> None:
        client.containers.kill(id, signal=name)

    return forward


def end_of(waiting: Waiting) -> int:
    """The exit code at the end of a wait; a wait that failed ends this process as docker's does."""
    ended = waiting.result()
    if ended.error:
        fail(ValueError(ended.error.message), ENGINE_FAILED)
    return ended.status_code


@click.command("attach")
@click.option("--no-stdin", is_flag=True, help="Feed it nothing.")
@DETACH_KEYS
@click.option(
    "--sig-proxy/--no-sig-proxy",
    default=True,
    help="Hand on the signals it gets, without a terminal.",
    show_default=True,
)
@click.argument("container")
@with_client
def attach_command(client: Client, container: str, no_stdin: bool, detach_keys: str | None, sig_proxy: bool) -> None:
    """Take part in what a running container reads and writes; end with its exit code."""
    with client.containers.begin_wait(container) as waiting:  # before it is seen to run: no end is missed
        found = _running(client, container)
        need_terminal(stdin=not no_stdin, tty=found.config.tty)
        stdin, tty, id = found.config.open_stdin and not no_stdin, found.config.tty, found.id
        keys = keys_from(detach_keys)
        with client.containers.attach(id, stdin=stdin, detach_keys=keys or None) as channel:
            _running(client, container)  # an attach to one that has ended meanwhile would wait for its next start
            if tie(channel, stdin=stdin, tty=tty, keys=keys, forward=_forward(client, id) if sig_proxy else None):
                end_detached()
            sys.exit(end_of(waiting))


def _running(client: Client, container: str) -> ContainerInspect:
    found = client.containers.inspect(container)
    if not found.state.running:
        fail(ValueError(f"{container} does not run: start it with wherry start -a {container}"))
    return found
