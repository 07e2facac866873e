"""Takes a stream of JSON values apart: one a line, or with nothing between them, as the engines send them."""

from __future__ import annotations

import re

MAX_VALUE = 16 << 20
"""Longest accepted value, in bytes."""

_SPACE = re.compile(rb"[ \t\r\n\0]*")
_SCALAR = re.compile(rb'[^][{}",: \t\r\n\0]+')
# Counted repeats, so that a long run of strings or escapes does not pile up places to go back to.
_STRING = rb'"[^"\\]*+(?:\\[\s\S][^"\\]*+){0,99}"'
# Over numbers, words and whole strings to a bracket or to a string that is not whole.
_NEXT = re.compile(rb'(?:[^][{}"]++|' + _STRING + rb")" + rb'{0,99}([][{}"]?)')
_STRING_REST = re.compile(rb'[^"\\]*+(?:\\[\s\S][^"\\]*+){0,99}("?)')

_OPEN = frozenset((b"[", b"{"))
_CLOSE = frozenset((b"]", b"}"))
_QUOTE = ord('"')


class JsonStreamError(ValueError):
    """The bytes are no sequence of JSON values, or a value is too long or unfinished."""


class JsonSplitter:
    """Finds where values end; it does not check what is inside them."""

    def __init__(self, limit: int = MAX_VALUE) -> None:
        self._limit = limit
        self._buffer = b""
        self._scanned = 0  # the buffer is scanned up to here
        self._depth = 0
        self._in_string = False

    def feed(self, data: bytes) -> list[bytes]:
        """The values that are complete now. Raises ``JsonStreamError``."""
        buffer = self._buffer + data if self._buffer else data
        values: list[bytes] = []
        start, position, end = 0, self._scanned, len(buffer)
        while True:
            if not self._depth and not self._in_string:  # between values
                space = _SPACE.match(buffer, position)
                assert space is not None
                start = position = space.end()
                if position == end:
                    break
                if buffer[position] not in b'[{"':
                    scalar = _SCALAR.match(buffer, position)
                    if scalar is None:
                        raise JsonStreamError(f"unexpected {chr(buffer[position])!r} between JSON values")
                    if scalar.end() == end:
                        break  # it may go on
                    position = scalar.end()
                    values.append(buffer[start:position])
                    continue
            position = self._scan(buffer, position)
            if self._depth or self._in_string:
                break
            values.append(buffer[start:position])
        self._buffer = buffer[start:]
        self._scanned = position - start
        if len(self._buffer) > self._limit:
            raise JsonStreamError(f"a JSON value is longer than {self._limit} bytes")
        return values

    def finish(self) -> list[bytes]:
        """The stream has ended: the last value, where only the end could tell that it was complete.

        Raises ``JsonStreamError`` for an unfinished value.
        """
        rest, self._buffer = self._buffer, b""
        if self._depth or self._in_string:
            raise JsonStreamError("the stream ended in the middle of a JSON value")
        return [rest] if rest else []

    def _scan(self, buffer: bytes, position: int) -> int:
        """Go on within a value, to its end or that of the buffer; the position reached."""
        if not self._depth and not self._in_string:
            self._in_string = buffer[position] == _QUOTE
            self._depth = 0 if self._in_string else 1
            position += 1
        if self._in_string:
            position = self._skip_string(buffer, position)
        end = len(buffer)
        while position < end and not self._in_string and self._depth:
            found = _NEXT.match(buffer, position)
            assert found is not None
            position = found.end()
            mark = found[1]
            if mark in _OPEN:
                self._depth += 1
            elif mark in _CLOSE:
                self._depth -= 1
            elif mark:
                self._in_string = True
                position = self._skip_string(buffer, position)
        return position

    def _skip_string(self, buffer: bytes, position: int) -> int:
        while self._in_string:
            rest = _STRING_REST.match(buffer, position)
            assert rest is not None
            if rest.end() == position:
                break
            position = rest.end()
            self._in_string = not rest[1]
        return position
