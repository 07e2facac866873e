"""A process's streams in both directions, whatever carries them."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import TYPE_CHECKING, Self

from wherry.client._async.streams import _collect, _decode, _finish
from wherry.client.results import Output
from wherry.client.stream_errors import raise_system_frame
from wherry.wire.frames import STDOUT, SYSTEM, FrameDecoder

if TYPE_CHECKING:
    from wherry.client._async import io
    from wherry.client._async.websocket import AsyncWebSocketStream

_BLOCK = 262144


class AsyncChannel:
    """A process's stdin, stdout and stderr, of an attach or an exec.

    Iterate to get ``(stream, bytes)``, stream being 1 for stdout and 2 for stderr; with a terminal (``tty``), or over a
    websocket, all is stdout. Sending and reading may go on at the same time, from two tasks.

        channel = await docker.containers.attach("sorter", stdin=True)
        await channel.send(b"b\\na\\n")
        await channel.send_eof()
        print((await channel.read_all()).stdout)
    """

    def __init__(
        self,
        stream: io.Stream | AsyncWebSocketStream,
        early: bytes,
        *,
        tty: bool,
        multiplexed: bool,
        resize: Callable[[int, int], Awaitable[None]],
        stdin: bool = True,
    ) -> None:
        self.tty = tty
        self._stdin = stdin
        self._stream = stream
        self._early = early
        self._decoder = FrameDecoder() if multiplexed else None
        self._resize = resize
        self._waiting: deque[tuple[int, bytes]] = deque()

    async def send(self, data: bytes | bytearray | memoryview) -> None:
        """Send to the process's stdin.

        Raises ``ProtocolError`` if nobody is there any more, ``ValueError`` if the channel was opened without ``stdin``.
        """
        if not self._stdin:
            raise ValueError("nobody reads what is sent: attach with stdin=True")
        await self._stream.send(data)

    async def send_eof(self) -> None:
        """Close the process's stdin; its output goes on."""
        await self._stream.send_eof()

    async def resize(self, height: int, width: int) -> None:
        """Set the size of the process's terminal, in characters."""
        await self._resize(height, width)

    def set_timeout(self, seconds: float | None) -> None:
        """The longest silence to bear, in seconds; ``Timeout`` after it. None: for ever, as it is at first."""
        self._stream.set_timeout(seconds)

    async def close(self) -> None:
        """End the connection; the process is not touched, beyond what the end of its stdin does to it."""
        self._stream.close()

    def abort(self) -> None:
        """End the connection from elsewhere: who reads or sends gets ``ProtocolError``. ``close`` is still needed."""
        self._stream.abort()

    async def read_all(self) -> Output:
        """Read to the end; stdout and stderr apart."""
        return await _collect(self)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> tuple[int, bytes]:
        waiting = self._waiting
        while not waiting:
            data, self._early = self._early, b""
            if not data:
                data = await self._stream.receive(_BLOCK)
            decoder = self._decoder
            if not data:
                if decoder is not None:
                    _finish(decoder)
                raise StopAsyncIteration
            if decoder is None:
                return STDOUT, data
            waiting.extend(_decode(decoder, data))
        frame = waiting.popleft()
        if frame[0] == SYSTEM:
            await self.close()
            raise_system_frame(frame[1])
        return frame

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()
