"""A layer from a tree that is there already: its archive goes to the store, and the tree itself becomes the layer's files.

The way back from an archive costs a file more for each file; a tree that nobody needs any more can just be moved.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable
from pathlib import Path

import zstandard

from wherry.engine.images.content import temporary
from wherry.engine.images.layers import ZSTD_LEVEL, HashingFile, LayerRow, StagedLayer, chain_id
from wherry.engine.store.layout import Layout
from wherry.engine.store.removal import remove_path

_BATCH = 1 << 18
_KEPT = frozenset(("security.capability", "trusted.overlay.opaque"))


class Packing:
    """The archive of a layer as it is written: hashed, and compressed into ``tmp``. All of it blocks."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._blob = temporary(layout, "blob")
        self._file = open(self._blob, "wb")  # noqa: SIM115
        self._stored = HashingFile(self._file, layout)
        self._compressor = zstandard.ZstdCompressor(level=ZSTD_LEVEL).stream_writer(
            self._stored,  # type: ignore[arg-type]
            closefd=False,
        )
        self._hash = hashlib.sha256()
        self._pending = bytearray()
        self._size = 0

    def write(self, data: bytes) -> int:
        self._pending += data
        if len(self._pending) >= _BATCH:
            self._flush()
        return len(data)

    def _flush(self) -> None:
        self._hash.update(self._pending)
        self._size += len(self._pending)
        self._compressor.write(self._pending)
        self._pending.clear()

    def finish(self, take: Callable[[Path], None], parent: str) -> StagedLayer:
        """The layer above ``parent``; ``take`` moves the tree to the path that it is given. Raises ``OSError``."""
        self._flush()
        self._compressor.close()  # type: ignore[no-untyped-call]
        self._file.close()
        directory = temporary(self._layout, "layer")
        try:
            directory.mkdir()
            take(directory / "diff")
            size = _as_layer(directory / "diff")
        except BaseException:
            remove_path(directory)
            raise
        row = LayerRow(
            diff_id=f"sha256:{self._hash.hexdigest()}",
            parent=parent,
            size=size,
            tar_size=self._size,
            blob=self._stored.digest,
            blob_size=self._stored.size,
        )
        return StagedLayer(chain_id(parent, row.diff_id), row, directory, self._blob)

    def abandon(self) -> None:
        """Nothing comes of it."""
        self._file.close()
        remove_path(self._blob)


def _as_layer(root: Path) -> int:
    """Take from an upper directory what its archive does not have: sockets, and attributes that no archive carries.

    Returns the bytes of its files, a hard-linked one once. No link is followed, and nothing changes the tree meanwhile.
    """
    total = 0
    seen: set[int] = set()
    _strip(os.fspath(root))
    todo = [os.fspath(root)]
    while todo:
        with os.scandir(todo.pop()) as entries:
            for entry in entries:
                status = entry.stat(follow_symlinks=False)
                if stat.S_ISSOCK(status.st_mode):
                    os.unlink(entry.path)
                    continue
                _strip(entry.path)
                if stat.S_ISDIR(status.st_mode):
                    todo.append(entry.path)
                elif stat.S_ISREG(status.st_mode) and status.st_ino not in seen:
                    if status.st_nlink > 1:
                        seen.add(status.st_ino)
                    total += status.st_size
    return total


def _strip(path: str) -> None:
    for name in os.listxattr(path, follow_symlinks=False):
        if name not in _KEPT:
            os.removexattr(path, name, follow_symlinks=False)
