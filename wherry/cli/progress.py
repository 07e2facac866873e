"""What a pull, push or load says, for people: a line for each layer that stays in its place, or on no terminal each word once."""

from __future__ import annotations

import sys
from collections.abc import Iterable

import click

from wherry.api.models.images import ProgressMessage
from wherry.cli.common import size_text

_UP, _DOWN, _CLEAR = "\x1b[{}A", "\x1b[{}B", "\r\x1b[2K"


def follow(messages: Iterable[ProgressMessage], *, quiet: bool = False) -> None:
    """Show messages to stderr as they come; with ``quiet`` nothing, but to the end all the same."""
    terminal = sys.stderr.isatty()
    places: dict[str, int] = {}
    said: dict[str, str] = {}
    for message in messages:
        text = printable(message)
        if quiet or not text:
            continue
        id = message.id or ""
        if not id or not message.progress_detail:
            places.clear()  # what comes later must not move what is above
            click.echo(text, err=True)
        elif terminal:
            _in_place(places, id, text)
        elif said.get(id) != message.status:
            said[id] = message.status or ""
            click.echo(f"{id}: {message.status}", err=True)


def printable(message: ProgressMessage) -> str:
    """A message as a line, without what could move a terminal's cursor; empty for one that says nothing to people."""
    text = message.status or message.stream or ""
    detail = message.progress_detail
    if detail and detail.current:
        text += f" {size_text(detail.current)}"
        if detail.total and detail.total > 0:
            text += f" of {size_text(detail.total)}"
    if text and message.id:
        text = f"{message.id}: {text}"
    return "".join(char if char.isprintable() else " " for char in text).rstrip()


def _in_place(places: dict[str, int], id: str, text: str) -> None:
    """Write a layer's line over its last one."""
    if id not in places:
        places[id] = len(places)
        click.echo(text, err=True)
        return
    above = len(places) - places[id]
    click.echo(f"{_UP.format(above)}{_CLEAR}{text}{_DOWN.format(above)}\r", err=True, nl=False)
