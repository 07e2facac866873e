# Made from _async/channel.py by scripts/generate_sync.py: change that, and run it.
"""A process's streams in both directions, whatever carries them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Self

from wherry.client._sync.streams import _collect, _decode, _finish
from wherry.client.results import Output
from wherry.client.stream_errors import raise_system_frame
from wherry.wire.frames import STDOUT, SYSTEM, FrameDecoder

if TYPE_CHECKING:
    from wherry.client._sync import io
    from wherry.client._sync.websocket import WebSocketStream

_BLOCK = 262144


class Channel:
    """A process's stdin, stdout and stderr, of an attach or an exec.

    Iterate to get ``(stream, bytes)``, stream being 1 for stdout and 2 for stderr; with a terminal (``tty``), or over a
    websocket, all is stdout. Sending and reading may go on at the same time, from two threads.

        channel = docker.containers.attach("sorter", stdin=True)
        channel.send(b"b\\na\\n")
        channel.send_eof()
        print((channel.read_all()).stdout)
    """

    def __init__(
        self,
        stream: io.Stream | WebSocketStream,
        early: bytes,
        *,
        tty: bool,
        multiplexed: bool,
        resize: Callable[[int, int], None],
        stdin: bool = True,
    ) -> None:
        self.tty = tty
        self._stdin = stdin
        self._stream = stream
        self._early = early
        self._decoder = FrameDecoder() if multiplexed else None
        self._resize = resize
        self._waiting: deque[tuple[int, bytes]] = deque()

    def send(self, data: bytes | bytearray | memoryview) -> None:
        """Send to the process's stdin.

        Raises ``ProtocolError`` if nobody is there any more, ``ValueError`` if the channel was opened without ``stdin``.
        """
        if not self._stdin:
            raise ValueError("nobody reads what is sent: attach with stdin=True")
        self._stream.send(data)

    def send_eof(self) -> None:
        """Close the process's stdin; its output goes on."""
        self._stream.send_eof()

    def resize(self, height: int, width: int) -> None:
        """Set the size of the process's terminal, in characters."""
        self._resize(height, width)

    def set_timeout(self, seconds: float | None) -> None:
        """The longest silence to bear, in seconds; ``Timeout`` after it. None: for ever, as it is at first."""
        self._stream.set_timeout(seconds)

    def close(self) -> None:
        """End the connection; the process is not touched, beyond what the end of its stdin does to it."""
        self._stream.close()

    def abort(self) -> None:
        """End the connection from elsewhere: who reads or sends gets ``ProtocolError``. ``close`` is still needed."""
        self._stream.abort()

    def read_all(self) -> Output:
        """Read to the end; stdout and stderr apart."""
        return _collect(self)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> tuple[int, bytes]:
        waiting = self._waiting
        while not waiting:
            data, self._early = self._early, b""
            if not data:
                data = self._stream.receive(_BLOCK)
            decoder = self._decoder
            if not data:
                if decoder is not None:
                    _finish(decoder)
                raise StopIteration
            if decoder is None:
                return STDOUT, data
            waiting.extend(_decode(decoder, data))
        frame = waiting.popleft()
        if frame[0] == SYSTEM:
            self.close()
            raise_system_frame(frame[1])
        return frame

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
