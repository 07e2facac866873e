"""Compressed archives, told by their first bytes: gzip, bzip2, xz, zstandard, or none of these."""

from __future__ import annotations

import bz2
import lzma
import zlib
from typing import Protocol

import zstandard

from wherry.engine.store.tarread import Source

_MAGIC = (
    (b"\x1f\x8b\x08", "gzip"),
    (b"BZh", "bzip2"),
    (b"\xfd7zXZ\x00", "xz"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
)
_LONGEST = 6
_INPUT = 1 << 17
_XZ_MEMORY = 256 << 20


class CompressionError(ValueError):
    """The compressed data is broken or ends early."""


class _Decompressor(Protocol):
    """One member of a compressed file, as ``bz2`` and ``lzma`` have it."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int = -1) -> bytes: ...


def detect(start: bytes) -> str | None:
    """``gzip``, ``bzip2``, ``xz``, ``zstd``, or None; six bytes tell."""
    for magic, name in _MAGIC:
        if start.startswith(magic):
            return name
    return None


def decompressed(source: Source) -> Source:
    """A reader of the unpacked bytes, whatever ``source`` is compressed with. Its ``read`` raises ``CompressionError``.

    What a small input blows up to is never held: at most some hundred kilobytes are unpacked at a time.
    """
    start = b""
    while len(start) < _LONGEST:
        data = source.read(_LONGEST - len(start))
        if not data:
            break
        start += data
    kind = detect(start)
    if kind is None:
        return _Prefixed(start, source)
    return _Unpacked(kind, _Prefixed(start, source))


class _Prefixed:
    def __init__(self, start: bytes, source: Source) -> None:
        self._start = start
        self._source = source

    def read(self, size: int = -1, /) -> bytes:
        if not self._start:
            return self._source.read(size)
        if size < 0:
            data, self._start = self._start, b""
            return data + self._source.read()
        data, self._start = self._start[:size], self._start[size:]
        return data


class _Zlib:
    """zlib's decompressor in the manner of ``bz2`` and ``lzma``."""

    def __init__(self) -> None:
        self._inner = zlib.decompressobj(31)

    @property
    def eof(self) -> bool:
        return self._inner.eof

    @property
    def needs_input(self) -> bool:
        return not self._inner.unconsumed_tail

    @property
    def unused_data(self) -> bytes:
        return self._inner.unused_data

    def decompress(self, data: bytes, max_length: int = -1) -> bytes:
        return self._inner.decompress(self._inner.unconsumed_tail + data, max(0, max_length))


class _Unpacked:
    """Reads a compressed file of one or more members."""

    def __init__(self, kind: str, source: Source) -> None:
        self._kind = kind
        self._source = source
        self._member: _Decompressor | None = None
        self._input = b""
        self._any = False
        self._zstd = None
        if kind == "zstd":
            self._zstd = zstandard.ZstdDecompressor(max_window_size=1 << 27).stream_reader(
                source,  # type: ignore[arg-type]
                read_size=_INPUT,
                read_across_frames=True,
            )

    def read(self, size: int = -1, /) -> bytes:
        if size < 0:
            parts = []
            while data := self.read(1 << 20):
                parts.append(data)
            return b"".join(parts)
        if not size:
            return b""
        try:
            if self._zstd is not None:
                return self._zstd.read(size)
            return self._read(size)
        except (OSError, EOFError, zlib.error, lzma.LZMAError, zstandard.ZstdError) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise  # the source's own
            raise CompressionError(f"{self._kind}: {error}") from error

    def _read(self, size: int) -> bytes:
        while True:
            if self._member is None:
                if not self._input:
                    self._input = self._source.read(_INPUT)
                if self._any:
                    self._input = self._input.lstrip(b"\0")  # padding behind a member
                if not self._input:
                    if self._any and self._source_has_more():
                        continue
                    return b""
                self._member = _new_member(self._kind)
                self._any = True
            feed = b""
            ended = False
            if self._member.needs_input:
                feed, self._input = self._input or self._source.read(_INPUT), b""
                ended = not feed
            data = self._member.decompress(feed, size)
            if self._member.eof:
                self._input = self._member.unused_data + self._input
                self._member = None
            if data:
                return data
            if ended and self._member is not None:
                raise CompressionError("unexpected EOF")

    def _source_has_more(self) -> bool:
        self._input = self._source.read(_INPUT)
        return bool(self._input)


def _new_member(kind: str) -> _Decompressor:
    if kind == "gzip":
        return _Zlib()
    if kind == "bzip2":
        return bz2.BZ2Decompressor()
    return lzma.LZMADecompressor(memlimit=_XZ_MEMORY)
