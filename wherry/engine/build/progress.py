"""What a build says, on its way to the client."""

from __future__ import annotations

import asyncio
import codecs
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any

from wherry.wire.frames import STDERR

Message = dict[str, Any]

ENOUGH = 64 * 1024
"""Unread bytes at which ``drain`` waits."""
_QUIET_TAIL = 1 << 20
_HEADER = 8


class BuildProgress:
    """Messages, bounded by whoever writes them: what a build says itself is short, and waits at ``drain``; the output of
    its containers looks at ``pending``.

    ``quiet``: what is said is kept back, its last mebibyte at least, and only shown when the build fails.
    """

    def __init__(self, *, quiet: bool = False) -> None:
        self._quiet = quiet
        self._messages: deque[tuple[Message, int]] = deque()
        self._wake = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self.pending = 0

    def put(self, message: Message, size: int = 100) -> None:
        self._messages.append((message, size))
        self.pending += size
        if self._quiet:
            while self.pending > _QUIET_TAIL:
                self.pending -= self._messages.popleft()[1]
            return
        if self.pending > ENOUGH:
            self._room.clear()
        self._wake.set()

    def say(self, text: str) -> None:
        """Text, with its line ends."""
        self.put({"stream": text}, len(text))

    def complain(self, text: str) -> None:
        """Text of stderr, in red as moby sends it."""
        self.put({"stream": f"\x1b[91m{text}\x1b[0m"}, len(text))

    async def drain(self) -> None:
        """Wait while the client is behind."""
        await self._room.wait()

    def speak_up(self) -> None:
        """What was kept back is shown after all."""
        self._quiet = False
        self._wake.set()

    def forget(self) -> None:
        """What was kept back is not shown."""
        self._messages.clear()
        self.pending = 0
        self._quiet = False

    async def during(self, work: Callable[[], Awaitable[None]]) -> AsyncGenerator[Message, None]:
        """Run ``work`` and give what it says. Its error is raised behind its last message; leaving early cancels it."""
        task = asyncio.ensure_future(work())
        task.add_done_callback(lambda _: self._wake.set())
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                while self._messages and not self._quiet:
                    message, size = self._messages.popleft()
                    self.pending -= size
                    if self.pending <= ENOUGH // 2:
                        self._room.set()
                    yield message
                if task.done() and (self._quiet or not self._messages):
                    await task
                    return
        finally:
            task.cancel()
            await asyncio.wait([task])
            if not task.cancelled():
                task.exception()


class ContainerOutput:
    """The output of one container as messages: the end of an attach (``Duplex``, as far as that writes to it)."""

    def __init__(self, progress: BuildProgress) -> None:
        self._progress = progress
        decoder = codecs.getincrementaldecoder("utf-8")
        self._decoders = {False: decoder("replace"), True: decoder("replace")}

    @property
    def pending(self) -> int:
        return self._progress.pending

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """One frame: stream and size, then the piece."""
        red = data[0] == STDERR
        self._send(self._decoders[red].decode(bytes(data[_HEADER:])), red)

    async def drain(self) -> None:
        await self._progress.drain()

    def finish(self) -> None:
        """What is left of a character cut short."""
        for red, decoder in self._decoders.items():
            self._send(decoder.decode(b"", final=True), red)

    def _send(self, text: str, red: bool) -> None:
        if text:
            (self._progress.complain if red else self._progress.say)(text)
