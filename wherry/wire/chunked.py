"""The chunked transfer coding, taken apart so that the end of the body is known to the byte.

llhttp is several times faster at this, but it does not say where a message ended. A server has to know: what follows
the body is the first input of a hijacked connection, or the next request.
"""

from __future__ import annotations

import re

LAST_CHUNK = b"0\r\n\r\n"

_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]++"
_QUOTED = rb'"(?:[^"\\\x00-\x08\x0a-\x1f\x7f]|\\[^\x00-\x08\x0a-\x1f\x7f])*+"'
_EXTENSION = rb";[ \t]*+" + _TOKEN + rb"(?:=(?:" + _TOKEN + rb"|" + _QUOTED + rb"))?+"
_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*+(?:" + _EXTENSION + rb")*+")
_CONTROL = re.compile(rb"[\r\n\0]")
_LINE_LIMIT = 4096
_TRAILER_LIMIT = 16384


class ChunkError(ValueError):
    """The bytes are no chunked body."""


def encode_chunk(data: bytes | bytearray | memoryview) -> bytes:
    """One chunk. Empty data gives no bytes at all: an empty chunk would end the body."""
    size = len(data)
    return b"".join((b"%x\r\n" % size, data, b"\r\n")) if size else b""


class ChunkDecoder:
    """Fed the bytes of a chunked body; ``done`` is set at its end and ``rest`` has what came after it."""

    __slots__ = ("_carry", "_in_trailer", "_left", "_need_crlf", "_trailer_size", "done", "rest")

    def __init__(self) -> None:
        self._carry = b""
        self._left = 0
        self._need_crlf = False
        self._in_trailer = False
        self._trailer_size = 0
        self.done = False
        self.rest = b""

    def feed(self, data: bytes) -> list[bytes]:
        """The body's bytes in ``data``, in pieces. Raises ``ChunkError``."""
        pieces: list[bytes] = []
        if self._carry:
            data = self._carry + data
            self._carry = b""
        position, end = 0, len(data)
        while True:
            if self._left:
                piece = data[position : position + self._left]
                if not piece:
                    return pieces
                pieces.append(piece)
                position += len(piece)
                self._left -= len(piece)
                if self._left:
                    return pieces
                self._need_crlf = True
            if self._need_crlf:
                mark = data[position : position + 2]
                if not b"\r\n".startswith(mark):
                    raise ChunkError("a chunk is longer than its size says")
                if len(mark) < 2:
                    self._carry = mark
                    return pieces
                position += 2
                self._need_crlf = False
            line_end = data.find(b"\r\n", position)
            if line_end < 0:
                if end - position > _LINE_LIMIT:
                    raise ChunkError("a chunk's size line is too long")
                self._carry = data[position:]
                return pieces
            if line_end - position > _LINE_LIMIT:
                raise ChunkError("a chunk's size line is too long")
            if self._in_trailer:
                self._trailer_size += line_end - position
                if self._trailer_size > _TRAILER_LIMIT:
                    raise ChunkError("the trailer is too long")
                if line_end == position:
                    self.done = True
                    self.rest = data[line_end + 2 :]
                    return pieces
                if _CONTROL.search(data, position, line_end):
                    raise ChunkError("the trailer is malformed")
            else:
                size = _SIZE.fullmatch(data, position, line_end)
                if size is None:
                    raise ChunkError("a chunk's size is no hexadecimal number")
                self._left = int(size[1], 16)
                self._in_trailer = self._left == 0
            position = line_end + 2
