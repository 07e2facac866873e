"""This process's terminal, or pipes, tied to a container's streams."""

from __future__ import annotations

import os
import signal
import sys
import termios
import threading
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, NoReturn

from wherry.api.errors import WherryError
from wherry.cli.common import fail

if TYPE_CHECKING:
    from wherry.client._sync.channel import Channel

STDERR = 2

# So many SIGINT and SIGTERM end the client though the container takes them and lives on, as docker's.
PATIENCE = 3

_NAMED = frozenset(signal.Signals)
_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

# Not handed on: what cannot be caught; faults, from whose handlers there is no way back; and what the kernel tells this
# process alone, of its children, its pipes and its terminal. (docker hands on SIGWINCH too, and a web server that takes it
# for a request to end does so when a window is resized.)
_OWN = {
    *(signal.SIGKILL, signal.SIGSTOP),
    *(signal.SIGILL, signal.SIGTRAP, signal.SIGBUS, signal.SIGFPE, signal.SIGSEGV, signal.SIGSYS),
    *(signal.SIGCHLD, signal.SIGPIPE, signal.SIGURG, signal.SIGTTIN, signal.SIGTTOU, signal.SIGWINCH),
}


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


def tie(channel: Channel, *, stdin: bool, tty: bool, forward: Callable[[str], None] | None = None) -> bool:
    """Copy stdin to the channel and its output to stdout and stderr, until the channel ends.

    With ``tty``, a terminal at the other end, this one's size follows, and its keys go over raw: the result is True where
    they do, and the detach keys may have ended it. Without, ``forward`` is called with each signal, by name or number.
    Where signals are not handed on, SIGINT, SIGTERM and SIGHUP end the client with 128 and their number.
    """
    _heed_signals(None if tty else forward)
    if stdin:
        threading.Thread(target=_feed, args=(channel,), daemon=True).start()
    if tty and sys.stdout.isatty():
        signal.signal(signal.SIGWINCH, lambda *_: _in_thread(lambda: _fit(channel)))
        _in_thread(lambda: _fit(channel))
    raw = tty and stdin and sys.stdin.isatty()
    with raw_terminal() if raw else nullcontext():
        _copy_out(channel)
    return raw


def _heed_signals(forward: Callable[[str], None] | None) -> None:
    left = PATIENCE

    def end(number: int, _: object) -> NoReturn:
        sys.exit(128 + number)

    def hand_on(number: int, _: object) -> None:
        nonlocal left
        if number in (signal.SIGINT, signal.SIGTERM):
            left -= 1
        if forward is None or not left:
            sys.exit(128 + number)
        name = signal.Signals(number).name if number in _NAMED else str(number)  # most of the real-time ones have none
        _in_thread(lambda: forward(name))

    for number in _ENDING if forward is None else signal.valid_signals() - _OWN:
        if signal.getsignal(number) is not signal.SIG_IGN:  # nohup's, or a shell's for what it runs in the background
            signal.signal(number, end if forward is None else hand_on)


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
    columns, rows = os.get_terminal_size(sys.stdout.fileno())
    channel.resize(rows, columns)


def _in_thread(act: Callable[[], None]) -> None:
    """A call to the engine from a signal handler must not meet one that is under way."""

    def quietly() -> None:
        try:
            act()
        except WherryError:
            pass

    threading.Thread(target=quietly, daemon=True).start()
