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
from typing import TYPE_CHECKING, NoReturn

from wherry.api.errors import WherryError
from wherry.cli.common import fail

if TYPE_CHECKING:
    from wherry.client._sync.channel import Channel

STDERR = 2

# So many signals in a row end the client though the container takes them and lives on, as docker's.
PATIENCE = 3


def need_terminal(*, stdin: bool, tty: bool) -> None:
    """A terminal's input cannot come from elsewhere: end as docker does, before anything is made."""
    if tty and stdin and not sys.stdin.isatty():
        fail(ValueError("the input device is not a TTY"))


@contextmanager
def raw_terminal() -> Iterator[None]:
    """The terminal hands on every key as it is typed; put back at the end. What was typed before stays to be read."""
    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    tty.setraw(descriptor, termios.TCSADRAIN)
    try:
        yield
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


def tie(channel: Channel, *, stdin: bool, terminal: bool, forward: Callable[[str], None] | None = None) -> None:
    """Copy stdin to the channel and its output to stdout and stderr, until the channel ends.

    With ``terminal`` keys go over raw and the size follows; else ``forward`` is called with the name of a SIGINT or SIGTERM.
    Any other way SIGINT, SIGTERM and SIGHUP end the client with 128 and their number.
    """
    _heed_signals(None if terminal else forward)
    if stdin:
        threading.Thread(target=_feed, args=(channel,), daemon=True).start()
    if terminal:
        with raw_terminal():
            signal.signal(signal.SIGWINCH, lambda *_: _in_thread(lambda: _fit(channel)))
            _in_thread(lambda: _fit(channel))
            _copy_out(channel)
        return
    _copy_out(channel)


def _heed_signals(forward: Callable[[str], None] | None) -> None:
    left = PATIENCE

    def end(number: int, _: object) -> NoReturn:
        sys.exit(128 + number)

    def hand_on(number: int, _: object) -> None:
        nonlocal left
        left -= 1
        if forward is None or not left:
            sys.exit(128 + number)
        name = signal.Signals(number).name
        _in_thread(lambda: forward(name))

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # nohup's, or a shell's for what it runs in the background
            signal.signal(number, end if forward is None or number == signal.SIGHUP else hand_on)


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
