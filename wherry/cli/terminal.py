"""This process's terminal, or pipes, tied to a container's streams."""

from __future__ import annotations

import os
import signal
import sys
import termios
import threading
import tty
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import TYPE_CHECKING, NoReturn

import click

from wherry.api.errors import WherryError
from wherry.cli.common import fail
from wherry.wire.detach import DetachScanner, parse_detach_keys

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


def keys_from(option: str | None) -> str:
    """The detach keys of ``--detach-keys``, or else of the docker configuration; "" for the usual ones."""
    keys = option or _configured_keys()
    try:
        parse_detach_keys(keys)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--detach-keys") from None
    return keys


def end_detached() -> NoReturn:
    """How ``attach`` and ``exec`` end by the detach keys, as docker's do; ``run`` and ``start`` say nothing."""
    fail(ValueError("read escape sequence"))


def _configured_keys() -> str:
    from wherry.api.errors import CredentialsError
    from wherry.client.configuration import configuration_file, read_configuration

    try:
        config = read_configuration(configuration_file(os.environ)) or {}
    except CredentialsError:
        return ""  # where something else of it is needed, it is said what is wrong with it
    keys = config.get("detachKeys")
    return keys if isinstance(keys, str) else ""


def terminal_size() -> tuple[int, int] | None:
    """Rows and columns of the terminal that the keys come from, or else of the one that shows the output."""
    for stream in (sys.stdin, sys.stdout):
        try:
            columns, rows = os.get_terminal_size(stream.fileno())
        except OSError:
            continue
        return rows, columns
    return None


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


def tie(
    channel: Channel, *, stdin: bool, tty: bool, keys: str = "", forward: Callable[[str], None] | None = None
) -> bool:
    """Copy stdin to the channel and its output to stdout and stderr, until the channel ends.

    With ``tty``, a terminal at the other end, this one's size follows, and its keys go over raw, but for the detach
    ``keys``: the result is True where they have ended it. Without, ``forward`` is called with each signal, by name or number.
    Where signals are not handed on, SIGINT, SIGTERM and SIGHUP end the client with 128 and their number.
    """
    if tty or forward is None:
        for number in filter(_is_heeded, _ENDING):
            signal.signal(number, _end)
    else:
        _watch(_forwarding(forward))
    raw = tty and stdin and sys.stdin.isatty()
    detached = threading.Event()
    if stdin:
        scanner = DetachScanner(parse_detach_keys(keys) if raw else b"")
        threading.Thread(target=_feed, args=(channel, scanner, detached), daemon=True).start()
    if tty:
        _watch({signal.SIGWINCH: lambda: _in_thread(lambda: _fit(channel))})
        _in_thread(lambda: _fit(channel))
    with raw_terminal() if raw else nullcontext():
        try:
            _copy_out(channel)
        except WherryError:
            if not detached.is_set():
                raise
    return detached.is_set()


def _end(number: int, _: object) -> NoReturn:
    sys.exit(128 + number)


def _forwarding(forward: Callable[[str], None]) -> dict[int, Callable[[], None]]:
    """What is to be done with each signal that is handed on."""
    left = PATIENCE

    def hand_on(number: int) -> None:
        nonlocal left
        if number in (signal.SIGINT, signal.SIGTERM):
            left -= 1
            if not left:
                os._exit(128 + number)
        name = signal.Signals(number).name if number in _NAMED else str(number)  # most of the real-time ones have none
        _in_thread(lambda: forward(name))

    return {number: partial(hand_on, number) for number in signal.valid_signals() - _OWN if _is_heeded(number)}


def _is_heeded(number: int) -> bool:
    """False for what nohup, or a shell for what it runs in the background, has told this process to ignore."""
    return signal.getsignal(number) is not signal.SIG_IGN


def _watch(acts: Mapping[int, Callable[[], None]]) -> None:
    """Have a thread act on signals as they come.

    A handler waits for the main thread, which sees it only after the next output if it is just about to read.
    """
    heard, tell = os.pipe()
    os.set_blocking(tell, False)
    signal.set_wakeup_fd(tell, warn_on_full_buffer=False)
    for number in acts:
        signal.signal(number, lambda *_: None)

    def watch() -> None:
        while True:
            for number in os.read(heard, 64):
                if number in acts:
                    acts[number]()

    threading.Thread(target=watch, daemon=True).start()


def _feed(channel: Channel, scanner: DetachScanner, detached: threading.Event) -> None:
    try:
        while data := os.read(0, 65536):
            passed, ends = scanner.feed(data)
            if passed:
                channel.send(passed)
            if ends:
                detached.set()
                channel.abort()
                return
        channel.send(scanner.flush())
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
    if size := terminal_size():
        channel.resize(*size)


def _in_thread(act: Callable[[], None]) -> None:
    """A call to the engine that may take its time; it has gone by then where it fails."""

    def quietly() -> None:
        try:
            act()
        except WherryError:
            pass

    threading.Thread(target=quietly, daemon=True).start()
