"""stdout and stderr on one connection: 1 byte stream, 3 zero bytes, big-endian u32 length, data (ATT2)."""

from __future__ import annotations

from struct import Struct

STDIN, STDOUT, STDERR, SYSTEM = 0, 1, 2, 3

MAX_WHOLE_FRAME = 16 << 20
"""Longest frame that a decoder with ``whole=True`` collects, in bytes."""

_HEADER = Struct(">B3xI")


class FrameError(ValueError):
    """The bytes are no sequence of frames, or end within one."""


def encode_frame_header(stream: int, length: int) -> bytes:
    """The 8 bytes before a frame of ``length`` bytes."""
    return _HEADER.pack(stream, length)


def encode_frame(stream: int, data: bytes) -> bytes:
    return _HEADER.pack(stream, len(data)) + data


class FrameDecoder:
    """Takes frames apart again.

    Without ``whole`` the data of neighbouring frames of one stream comes merged, and that of an unfinished frame at
    once; with it each frame comes as it was sent.
    """

    def __init__(self, *, whole: bool = False) -> None:
        self._whole = whole
        self._carry = b""  # a torn header, or with ``whole`` a torn frame
        self._stream = 0
        self._left = 0

    def feed(self, data: bytes) -> list[tuple[int, bytes]]:
        """The (stream, data) pieces in ``data``. Raises ``FrameError`` for a stream number that does not exist."""
        return self._feed_whole(data) if self._whole else self._feed_merged(data)

    def finish(self) -> None:
        """The stream has ended. Raises ``FrameError`` where a frame has not."""
        if self._carry or self._left:
            raise FrameError("the stream ended in the middle of a frame")

    def _feed_merged(self, data: bytes) -> list[tuple[int, bytes]]:
        out: list[tuple[int, bytes]] = []
        if self._carry:
            data = self._carry + data
            self._carry = b""
        end = len(data)
        stream, position = self._stream, self._left
        if position > end:
            self._left = position - end
            return [(stream, data)] if data else out
        parts = [data[:position]] if position else []
        unpack, last_header = _HEADER.unpack_from, end - 8
        length = 0
        while position <= last_header:
            next_stream, length = unpack(data, position)
            if next_stream != stream:
                if next_stream > SYSTEM:
                    raise FrameError(f"frame of unknown stream {next_stream}: the stream is not multiplexed")
                if parts:
                    out.append((stream, b"".join(parts)))
                    parts = []
                stream = next_stream
            position += 8
            if length:
                parts.append(data[position : position + length])
                position += length
        self._stream = stream
        if position > end:
            self._left = position - end
            if parts and not parts[-1]:
                parts.pop()
        else:
            self._left = 0
            self._carry = data[position:]
        if parts:
            out.append((stream, b"".join(parts)))
        return out

    def _feed_whole(self, data: bytes) -> list[tuple[int, bytes]]:
        out: list[tuple[int, bytes]] = []
        data = self._carry + data
        end, position = len(data), 0
        while position + 8 <= end:
            stream, length = _HEADER.unpack_from(data, position)
            if stream > SYSTEM:
                raise FrameError(f"frame of unknown stream {stream}: the stream is not multiplexed")
            if length > MAX_WHOLE_FRAME:
                raise FrameError(f"frame of {length} bytes is too long")
            if position + 8 + length > end:
                break
            out.append((stream, data[position + 8 : position + 8 + length]))
            position += 8 + length
        self._carry = data[position:]
        return out
