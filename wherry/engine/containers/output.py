"""What a container writes, as it passes: one source, any number of listeners.

The monitor writes each piece to the log file first and then to the engine's one attach connection. The size that a piece
takes in the file follows from the piece, so ``Output`` always knows the place in the log up to which everything has
passed: a listener that falls behind leaves the live stream with its place and is served from the file (attach.py), and
rotation needs no polling (rotation.py).

After the engine's own restart the place is not known to the byte: some pieces may have reached the file between the
look at its size and the monitor's first packet to the new connection. For such a run the live stream only tells that
there is more, and every listener is served from the file from the start.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

# "2026-11-23T12:28:03.449623053+00:00 stdout F " before each line of the log file
LINE_HEAD = 45


class Listener(Protocol):
    def output(self, stream: int, data: bytes, before: int) -> None:
        """A piece of output; ``before`` is the place in the log just before it."""

    def ended(self) -> None:
        """The run is over and all of its output has passed."""


def size_in_log(data: bytes) -> int:
    """Bytes that one piece of output takes in the monitor's log: a head a line, and an end of line for a torn one."""
    lines = data.count(b"\n")
    if data and not data.endswith(b"\n"):
        return len(data) + 1 + LINE_HEAD * (lines + 1)
    return len(data) + LINE_HEAD * lines


class Output:
    """The live output of a container, over all of its runs.

    ``position`` counts the bytes that the log has taken since the container's first run, rotated files included; None
    with no log at all. ``placed``: it is exact; else (the run began under an earlier engine) just near enough for
    rotation.
    """

    def __init__(self) -> None:
        self.position: int | None = 0
        self.placed = True
        self.on_growth: Callable[[int], None] | None = None
        self._listeners: list[Listener] = []
        self._followers: set[asyncio.Event] = set()

    def listen(self, listener: Listener) -> None:
        self._listeners.append(listener)

    def leave(self, listener: Listener) -> None:
        # another list: one may leave while a piece is being handed round, and nobody may miss it for that
        self._listeners = [other for other in self._listeners if other is not listener]

    @property
    def listeners(self) -> int:
        return len(self._listeners)

    def feed(self, stream: int, data: bytes) -> None:
        """Called for every piece, in order, by the engine's attach connection."""
        before = self.position
        if before is not None:
            self.position = before + size_in_log(data)
        for listener in self._listeners:
            listener.output(stream, data, -1 if before is None else before)
        for event in self._followers:
            event.set()
        if self.on_growth is not None and self.position is not None:
            self.on_growth(self.position)

    def end(self) -> None:
        """The run is over: every listener of it is told and leaves."""
        listeners, self._listeners = self._listeners, []
        for listener in listeners:
            listener.ended()
        self.placed = True  # for whoever listens before the next run
        self.wake()

    def wake(self) -> None:
        """Let followers of the log look again."""
        for event in self._followers:
            event.set()

    def follow(self, event: asyncio.Event) -> None:
        """``event`` is set whenever there is more to read or the run ended."""
        self._followers.add(event)

    def unfollow(self, event: asyncio.Event) -> None:
        self._followers.discard(event)
