"""This process's terminal, or pipes, tied to a container's streams."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import termios
import threading
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from wherry.api.errors import WherryError

if TYPE_CHECKING:
    from wherry.client._sync.channel import Channel

STDERR = 2


@contextmanager
def raw_terminal() -> Iterator[None]:
    """The terminal hands on every key as it is typed; put back at the end."""
    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    tty.setraw(descriptor)
    try:
        yield
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


def tie(channel: Channel, *, stdin: bool, terminal: bool, forward: Callable[[str], None] | None = None) -> None:
    """Copy stdin to the channel and its output to stdout and stderr, until the channel ends.

    With ``terminal`` keys go over raw and the size follows; else ``forward`` is called with the name of a SIGINT or SIGTERM.
    """
    if stdin:
        threading.Thread(target=_feed, args=(channel,), daemon=True).start()
    if terminal:
        with raw_terminal():
            signal.signal(signal.SIGWINCH, lambda *_: _in_thread(lambda: _fit(channel)))
            _in_thread(lambda: _fit(channel))
            _copy_out(channel)
        return
    if forward is not None:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda n, _: _in_thread(lambda: forward(signal.Signals(n).name)))
    _copy_out(channel)


def _feed(channel: Channel) -> None:
    try:
        while data := os.read(0, 65536):
            channel.send(data)
        channel.send_eof()
    except (OSError, WherryError):
        pass  # the other end is gone: its exit code tells


def _copy_out(channel: Channel) -> None:
    out, err = sys.stdout.buffer, sys.stderr.buffer
    for stream, data in channel:
        target = err if stream == STDERR else out
        target.write(data)
        target.flush()


def _fit(channel: Channel) -> None:
    columns, rows = shutil.get_terminal_size()
    channel.resize(rows, columns)


def _in_thread(act: Callable[[], None]) -> None:
    """A call to the engine from a signal handler must not meet one that is under way."""

    def quietly() -> None:
        try:
            act()
        except WherryError:
            pass

    threading.Thread(target=quietly, daemon=True).start()
