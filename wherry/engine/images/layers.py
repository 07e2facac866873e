"""Layers: an archive unpacked once, for every image and container above the same stack.

A layer is named by its *chain id*, the digest of the diff ids from the lowest layer to itself. Its archive is kept as
well (as received when it came compressed, else zstd), because an image's id depends on its archives' exact bytes and no
archiver gives the same ones again.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

import msgspec
import zstandard

from wherry.engine.images.content import Slice, free_inodes, free_space, no_space, temporary
from wherry.engine.store.ahead import ReadAhead
from wherry.engine.store.compression import decompressed, detect
from wherry.engine.store.layout import Layout
from wherry.engine.store.removal import remove_path
from wherry.engine.store.untar import Extracted, UntarOptions, extract

_CHUNK = 1 << 20
_MOST_ENTRIES = 5_000_000
ZSTD_LEVEL = 1


class Cancelled(Exception):
    """Whoever wanted the layer went away."""


class LayerRow(msgspec.Struct, kw_only=True):
    """A layer in the database; its id there is its chain id. Sizes are bytes.

    ``blob`` is the digest of the archive as stored, ``tar_size`` its size unpacked, ``size`` that of the files in it.
    ``received``: the archive came as it is stored, and others may know it by its digest.
    """

    diff_id: str
    parent: str = ""
    size: int = 0
    tar_size: int = 0
    blob: str = ""
    blob_size: int = 0
    received: bool = False


@dataclass(slots=True)
class StagedLayer:
    """A layer unpacked in ``tmp`` and not yet committed: the directory with ``diff`` in it, and the archive."""

    chain_id: str
    row: LayerRow
    directory: Path
    blob: Path

    def discard(self) -> None:
        remove_path(self.directory)
        remove_path(self.blob)


class Writable(Protocol):
    def write(self, data: bytes, /) -> int: ...


class Readable(Protocol):
    def read(self, size: int = -1, /) -> bytes: ...


def chain_id(parent: str, diff_id: str) -> str:
    """The chain id of a layer above ``parent`` (empty for the lowest)."""
    if not parent:
        return diff_id
    return f"sha256:{hashlib.sha256(f'{parent} {diff_id}'.encode()).hexdigest()}"


def chain_ids(diff_ids: Sequence[str]) -> list[str]:
    """The chain ids of an image's layers, **lowest first** like ``diff_ids``."""
    chain: list[str] = []
    for diff_id in diff_ids:
        chain.append(chain_id(chain[-1] if chain else "", diff_id))
    return chain


class Hashing:
    """Hashes, counts and optionally copies what is read through it."""

    def __init__(
        self, source: Readable, copy: Writable | None = None, cancelled: threading.Event | None = None
    ) -> None:
        self._source = source
        self._copy = copy
        self._cancelled = cancelled
        self._hash = hashlib.sha256()
        self.size = 0

    @property
    def digest(self) -> str:
        return f"sha256:{self._hash.hexdigest()}"

    def read(self, size: int = -1, /) -> bytes:
        if self._cancelled is not None and self._cancelled.is_set():
            raise Cancelled
        data = self._source.read(size)
        self._hash.update(data)
        self.size += len(data)
        if self._copy is not None:
            self._copy.write(data)
        return data

    def drain(self) -> None:
        while self.read(_CHUNK):
            pass


class HashingFile:
    """A file written through a hash."""

    def __init__(self, file: BinaryIO, layout: Layout) -> None:
        self._file = file
        self._layout = layout
        self._hash = hashlib.sha256()
        self._unchecked = 0
        self.size = 0

    @property
    def digest(self) -> str:
        return f"sha256:{self._hash.hexdigest()}"

    def write(self, data: bytes) -> int:
        self._hash.update(data)
        self.size += len(data)
        self._unchecked += len(data)
        if self._unchecked > _CHUNK * 16:
            self._unchecked = 0
            if not free_space(self._layout):
                raise no_space(self._layout)
        return self._file.write(data)


def _extract(tar: Hashing, dir_fd: int, options: UntarOptions) -> Extracted:
    """Extract, and read what follows the archive's end: it counts for the digest."""
    with ReadAhead(tar) as ahead:
        extracted = extract(ahead, dir_fd, options=options)
        while ahead.read():
            pass
        return extracted


def unpack(
    layout: Layout,
    source: Slice,
    parent: str,
    parent_diff: Path | None,
    *,
    whiteouts: bool = True,
    cancelled: threading.Event | None = None,
    given: Path | None = None,
) -> StagedLayer:
    """Unpack a layer's archive, compressed or not, into ``tmp``. Blocks: run it in a thread.

    ``whiteouts`` says whether overlayfs's own are made; else the archive's ``.wh.`` files stay. The root directory gets
    owner and mode of ``parent_diff`` where the archive has no entry for it. ``given``: what ``source`` reads from, if it
    may be had; an archive that came compressed is then moved, not copied. Raises ``UntarError``,
    ``CompressionError``, ``OSError`` and ``Cancelled``, with nothing left behind.
    """
    directory, blob = temporary(layout, "layer"), temporary(layout, "blob")
    try:
        diff = directory / "diff"
        diff.mkdir(parents=True, mode=0o755)
        packed = False
        if parent_diff is not None:
            status = parent_diff.stat()
            os.chown(diff, status.st_uid, status.st_gid)
            diff.chmod(status.st_mode & 0o7777)
        else:
            diff.chmod(0o755)
        inodes = free_inodes(layout)
        options = UntarOptions(
            whiteouts=whiteouts,
            root_attributes=True,
            max_bytes=free_space(layout),
            max_entries=_MOST_ENTRIES if inodes is None else min(inodes, _MOST_ENTRIES),
        )
        with open(blob, "wb") as file:
            stored = HashingFile(file, layout)
            dir_fd = os.open(diff, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                if detect(source.peek(6)) is not None:
                    packed = True
                    raw = Hashing(source, None if given is not None else stored, cancelled)
                    tar = Hashing(decompressed(raw), None, cancelled)
                    extracted = _extract(tar, dir_fd, options)
                    raw.drain()
                else:
                    with zstandard.ZstdCompressor(level=ZSTD_LEVEL).stream_writer(
                        stored,  # type: ignore[arg-type]
                        closefd=False,
                    ) as compressor:
                        tar = Hashing(source, compressor, cancelled)
                        extracted = _extract(tar, dir_fd, options)
            finally:
                os.close(dir_fd)
        if packed and given is not None:
            os.rename(given, blob)
        kept = raw if packed else stored
        row = LayerRow(
            diff_id=tar.digest,
            parent=parent,
            size=extracted.size,
            tar_size=tar.size,
            blob=kept.digest,
            blob_size=kept.size,
            received=packed,
        )
        staged = StagedLayer(chain_id(parent, row.diff_id), row, directory, blob)
        if cancelled is not None and cancelled.is_set():
            raise Cancelled
        return staged
    except BaseException:
        remove_path(directory)
        remove_path(blob)
        raise
