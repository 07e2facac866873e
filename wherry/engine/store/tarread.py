"""Tar archives, entry by entry from a stream: ustar, GNU and PAX headers, bounded, with nothing guessed.

Only reading, and no file system: ``untar`` writes what is read here. Errors have moby's texts.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Protocol

BLOCK = 512
_ZERO = b"\0" * BLOCK
# A longer name or a larger set of PAX records than this has no use on a file system.
_MAX_EXTENDED = 1 << 20
_MAX_SPARSE = 1 << 16

REGULAR, LINK, SYMLINK, CHARACTER, BLOCK_DEVICE, DIRECTORY, FIFO = b"0", b"1", b"2", b"3", b"4", b"5", b"6"
_GLOBAL, _EXTENDED, _LONG_NAME, _LONG_LINK, _SPARSE = b"g", b"x", b"L", b"K", b"S"
_WITHOUT_DATA = frozenset({LINK, SYMLINK, CHARACTER, BLOCK_DEVICE, DIRECTORY, FIFO})
_HEADER = struct.Struct("100s8s8s8s12s12s8x1s100s8s64x8s8s155s12x")  # without checksum and names of owners


class TarError(ValueError):
    """The archive is broken, or asks for what is not allowed; the text says which entry and why."""


class Source(Protocol):
    def read(self, size: int = -1, /) -> bytes: ...


@dataclass(slots=True)
class Entry:
    """One member. ``name`` and ``link`` are as in the archive, ``mtime`` and ``atime`` are nanoseconds since the epoch.

    ``size`` is the size of the content as a file, ``stored`` what the archive holds of it; they differ for a sparse
    file, whose pieces are ``sparse``: (offset, length) in order.
    """

    type: bytes
    name: bytes
    link: bytes
    mode: int
    uid: int
    gid: int
    size: int
    mtime: int
    atime: int
    major: int
    minor: int
    stored: int = 0
    xattrs: dict[bytes, bytes] = field(default_factory=dict)
    sparse: list[tuple[int, int]] | None = None


class TarReader:
    """Iterate to get entries; between two, ``copy`` may take the content of the last. What is not taken is skipped.

    ``ahead``: at least so many bytes are asked of the source at a time, which makes small members cheap. Without, the
    source is never read beyond what has been taken.
    """

    def __init__(self, source: Source, *, ahead: int = 0) -> None:
        self._source = source
        self._ahead = ahead
        self._data = b""  # read ahead, taken up to _at
        self._at = 0
        self._remaining = 0  # content of the present entry
        self._padding = 0

    def __iter__(self) -> Iterator[Entry]:
        pax: dict[bytes, bytes] = {}
        long_name = long_link = None
        while True:
            self._skip()
            header = self._header()
            if header is None:
                if pax or long_name is not None or long_link is not None:
                    raise TarError("unexpected EOF")
                return
            kind = header[156:157]
            if kind in (_GLOBAL, _EXTENDED, _LONG_NAME, _LONG_LINK):
                data = self._small_content(_number(header[124:136]))
                if kind == _EXTENDED:
                    pax = _pax_records(data)
                elif kind == _LONG_NAME:
                    long_name = data.partition(b"\0")[0]
                elif kind == _LONG_LINK:
                    long_link = data.partition(b"\0")[0]
                continue
            entry = _entry(header, pax, long_name, long_link)
            self._start(entry.stored)
            if entry.type == _SPARSE:
                entry.type = REGULAR
                entry.size = _number(header[483:495])
                entry.sparse = self._old_sparse_map(header)
            elif pax:
                self._pax_sparse(entry, pax)
            if entry.sparse is not None:
                _check_sparse(entry, self._remaining)
            yield entry
            pax, long_name, long_link = {}, None, None

    def copy(self, write: Callable[[bytes | memoryview], object], size: int, chunk: int = 1 << 20) -> None:
        """Pass the next ``size`` bytes of the entry's content on, in pieces."""
        if size > self._remaining:
            raise TarError("unexpected EOF")
        self._remaining -= size
        at = self._at
        if at + size <= len(self._data):
            self._at = at + size
            if size:
                write(memoryview(self._data)[at : at + size])
            return
        if at < len(self._data):
            write(memoryview(self._data)[at:])
            size -= len(self._data) - at
        self._data, self._at = b"", 0
        read = self._source.read
        while size:
            data = read(max(min(size, chunk), self._ahead))
            if not data:
                raise TarError("unexpected EOF")
            if len(data) > size:
                self._data, self._at = data, size
                write(memoryview(data)[:size])
                return
            write(data)
            size -= len(data)

    def read_exactly(self, size: int) -> bytes:
        """The next ``size`` bytes of the archive."""
        at, end = self._at, self._at + size
        if end <= len(self._data):
            self._at = end
            return self._data[at:end]
        parts = [self._data[at:]]
        missing = end - len(self._data)
        self._data, self._at = b"", 0
        while missing and (data := self._source.read(max(missing, self._ahead))):
            if len(data) > missing:
                self._data, self._at = data, missing
                data = data[:missing]
            parts.append(data)
            missing -= len(data)
        return b"".join(parts)

    def _start(self, stored: int) -> None:
        self._remaining = stored
        self._padding = -stored % BLOCK

    def _skip(self) -> None:
        if self._remaining:
            self.copy(_nothing, self._remaining)
        self.read_exactly(self._padding)  # an archive may end without it, as Go's own writers leave some
        self._padding = 0

    def _header(self) -> bytes | None:
        """The next header, or None at the end: two blocks of zeros, or nothing at all."""
        header = self.read_exactly(BLOCK)
        if not header:
            return None
        if len(header) < BLOCK:
            raise TarError("unexpected EOF")
        if header == _ZERO:
            second = self.read_exactly(BLOCK)
            if second in (b"", _ZERO):
                return None
            raise TarError("unexpected EOF" if len(second) < BLOCK else "archive/tar: invalid tar header")
        own = header[148:156]
        given = _number(own)
        # Adler's first half is the sum of all bytes (and 1), by its modulus: a C loop
        summed = (zlib.adler32(header) - 1 - sum(own) + 8 * 32) & 0xFFFF
        if given != summed and given != _sum(header) and given != _signed_sum(header):
            raise TarError("archive/tar: invalid tar header")
        return header

    def _small_content(self, size: int) -> bytes:
        if size > _MAX_EXTENDED:
            raise TarError("archive/tar: header field too long")
        self._start(size)
        parts: list[bytes | memoryview] = []
        self.copy(parts.append, size)
        return b"".join(parts)

    def _old_sparse_map(self, header: bytes) -> list[tuple[int, int]]:
        pieces: list[tuple[int, int]] = []
        block, count, more = header[386:482], 4, header[482]
        while True:
            for index in range(count):
                pair = block[index * 24 : index * 24 + 24]
                if pair[0] == 0:
                    break
                pieces.append((_number(pair[:12]), _number(pair[12:])))
            if not more:
                return pieces
            if len(pieces) > _MAX_SPARSE:
                raise TarError("archive/tar: sparse file of too many pieces")
            extension = self.read_exactly(BLOCK)
            if len(extension) < BLOCK:
                raise TarError("unexpected EOF")
            block, count, more = extension, 21, extension[504]

    def _pax_sparse(self, entry: Entry, pax: dict[bytes, bytes]) -> None:
        """The three PAX forms of GNU's sparse files."""
        if b"GNU.sparse.major" in pax:
            if (pax[b"GNU.sparse.major"], pax.get(b"GNU.sparse.minor")) != (b"1", b"0"):
                raise TarError("archive/tar: unknown sparse format")
            entry.size = _decimal(pax.get(b"GNU.sparse.realsize", b""))
            entry.sparse = self._sparse_map_in_content()
        elif b"GNU.sparse.map" in pax:
            numbers = [_decimal(text) for text in pax[b"GNU.sparse.map"].split(b",")]
            if len(numbers) % 2 or len(numbers) > 2 * _MAX_SPARSE:
                raise TarError("archive/tar: invalid sparse map")
            entry.size = _decimal(pax.get(b"GNU.sparse.size", b""))
            entry.sparse = list(zip(numbers[::2], numbers[1::2], strict=True))

    def _sparse_map_in_content(self) -> list[tuple[int, int]]:
        """Format 1.0: decimal lines at the start of the content, padded to a block."""
        buffer = b""
        wanted = 1
        while True:
            if buffer.count(b"\n") >= wanted:
                lines = buffer.split(b"\n")
                if wanted > 1:
                    numbers = [_decimal(line) for line in lines[1:wanted]]
                    return list(zip(numbers[::2], numbers[1::2], strict=True))
                pieces = _decimal(lines[0])
                if pieces > _MAX_SPARSE:
                    raise TarError("archive/tar: sparse file of too many pieces")
                if not pieces:
                    return []
                wanted = 1 + 2 * pieces
                continue
            if len(buffer) > _MAX_EXTENDED * 4:
                raise TarError("archive/tar: invalid sparse map")
            parts: list[bytes | memoryview] = []
            self.copy(parts.append, BLOCK)
            buffer += b"".join(parts)


def _nothing(data: bytes | memoryview) -> None:
    pass


def _sum(header: bytes) -> int:
    return sum(header[:148]) + 8 * 32 + sum(header[156:])


def _signed_sum(header: bytes) -> int:
    body = header[:148] + b" " * 8 + header[156:]
    return sum(byte - 256 if byte > 127 else byte for byte in body)


def _number(raw: bytes) -> int:
    """Octal text, or GNU's base 256; only the latter may be negative."""
    if raw[0] & 0x80:
        value = int.from_bytes(raw, "big", signed=False)
        bits = 8 * len(raw)
        if raw[0] == 0xFF:
            return value - (1 << bits)
        return value & ~(0x80 << (bits - 8))
    text = raw[:-1]
    if raw[-1] or not text.isdigit():  # not as nearly all write it: digits, and one NUL
        text = raw.strip(b" \0").partition(b"\0")[0]
        if not text:
            return 0
    try:
        value = int(text, 8)
    except ValueError:
        raise TarError("archive/tar: invalid tar header") from None
    if value < 0:
        raise TarError("archive/tar: invalid tar header")
    return value


_one_of_few = lru_cache(256)(_number)  # an archive has few owners and modes


def _decimal(text: bytes) -> int:
    if not text.isdigit() or len(text) > 19:
        raise TarError("archive/tar: invalid tar header")
    return int(text)


def _pax_time(text: bytes) -> int:
    """Decimal seconds with a fraction, to nanoseconds."""
    negative = text.startswith(b"-")
    seconds, _, fraction = text.lstrip(b"-").partition(b".")
    value = _decimal(seconds) * 1_000_000_000
    if fraction:
        if not fraction.isdigit():
            raise TarError("archive/tar: invalid tar header")
        value += int(fraction[:9].ljust(9, b"0"))
    return -value if negative else value


def _pax_records(data: bytes) -> dict[bytes, bytes]:
    """``length key=value\\n`` …; an empty value takes the key back."""
    records: dict[bytes, bytes] = {}
    sparse: list[bytes] = []
    position = 0
    while position < len(data):
        space = data.find(b" ", position, position + 20)
        if space < 0:
            if not data[position:].strip(b"\0"):
                break
            raise TarError("archive/tar: invalid tar header")
        length = _decimal(data[position:space])
        end = position + length
        if length < space - position + 3 or end > len(data) or data[end - 1] != 10:
            raise TarError("archive/tar: invalid tar header")
        key, equals, value = data[space + 1 : end - 1].partition(b"=")
        if not equals or not key:
            raise TarError("archive/tar: invalid tar header")
        if key in (b"GNU.sparse.offset", b"GNU.sparse.numbytes"):  # format 0.0 repeats them
            sparse.append(value)
        else:
            records[key] = value
        position = end
    if sparse:
        records[b"GNU.sparse.map"] = b",".join(sparse)
    return records


def _entry(header: bytes, pax: dict[bytes, bytes], long_name: bytes | None, long_link: bytes | None) -> Entry:
    (name, mode, uid, gid, size, mtime, kind, link, magic, major, minor, prefix) = _HEADER.unpack(header)
    name = name.partition(b"\0")[0]
    if prefix[0] and magic[:6] == b"ustar\0":
        name = prefix.partition(b"\0")[0] + b"/" + name
    if kind in (b"\0", b"7"):
        kind = REGULAR
    if long_name is not None:
        name = long_name
    link = link.partition(b"\0")[0] if long_link is None else long_link
    entry = Entry(
        kind,
        name,
        link,
        _one_of_few(mode) & 0o7777,
        _one_of_few(uid),
        _one_of_few(gid),
        _number(size),
        _number(mtime) * 1_000_000_000,
        0,
        _one_of_few(major),
        _one_of_few(minor),
    )
    if pax:
        _apply_pax(entry, pax)
    if kind == REGULAR and entry.name.endswith(b"/"):  # how archives before ustar say directory
        entry.type = DIRECTORY
    if entry.size < 0 or entry.uid < 0 or entry.gid < 0:
        raise TarError("archive/tar: invalid tar header")
    entry.stored = 0 if kind in _WITHOUT_DATA else entry.size
    if b"\0" in entry.name or b"\0" in entry.link:
        raise TarError("archive/tar: invalid tar header")
    return entry


def _apply_pax(entry: Entry, pax: dict[bytes, bytes]) -> None:
    for key, value in pax.items():
        if key.startswith(b"SCHILY.xattr."):
            entry.xattrs[key[13:]] = value
        elif not value:
            continue
        elif key == b"path":
            entry.name = value
        elif key == b"linkpath":
            entry.link = value
        elif key == b"size":
            entry.size = _decimal(value)
        elif key == b"uid":
            entry.uid = _decimal(value)
        elif key == b"gid":
            entry.gid = _decimal(value)
        elif key == b"mtime":
            entry.mtime = _pax_time(value)
        elif key == b"atime":
            entry.atime = _pax_time(value)
    name = pax.get(b"GNU.sparse.name")
    if name:
        entry.name = name


def _check_sparse(entry: Entry, stored: int) -> None:
    """Pieces in order, inside the file, and together what the archive holds."""
    end = total = 0
    for offset, length in entry.sparse or ():
        if offset < end:
            raise TarError("archive/tar: invalid sparse map")
        end = offset + length
        total += length
    if entry.size < end or total != stored:
        raise TarError("archive/tar: invalid sparse map")
