"""Content by digest: an image's configuration and its layers' archives, ``blobs/sha256/<hex>``.

Everything is written in ``tmp`` first; who commits it renames it into place (``Images.commit``).
"""

from __future__ import annotations

import ctypes
import errno
import hashlib
import os
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

from wherry.engine.blocking import in_thread
from wherry.engine.store.layout import Layout

_BATCH = 1 << 20
# What is left free on the data root's filesystem, whatever an archive claims to hold.
_RESERVE = 64 << 20
_INODE_RESERVE = 100  # a hundredth of them


class ContentError(Exception):
    """Stored content is missing or is not what its digest says."""


def digest_of(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def blob_path(layout: Layout, digest: str) -> Path:
    return layout.blobs / "sha256" / digest.removeprefix("sha256:")


def temporary(layout: Layout, kind: str) -> Path:
    """A new name in ``tmp``."""
    return layout.tmp / f"{kind}-{uuid.uuid4().hex[:16]}"


def stage_bytes(layout: Layout, data: bytes) -> tuple[str, Path]:
    """Write ``data`` to ``tmp``; returns its digest and where it is."""
    path = temporary(layout, "blob")
    path.write_bytes(data)
    return digest_of(data), path


def read_blob(layout: Layout, digest: str, limit: int) -> bytes:
    """A small blob, checked against its digest. Raises ``ContentError``."""
    try:
        with open(blob_path(layout, digest), "rb") as file:
            data = file.read(limit + 1)
    except OSError as error:
        raise ContentError(f"content {digest} cannot be read: {error.strerror}") from None
    if digest_of(data) != digest:
        raise ContentError(f"content {digest} is damaged")
    return data


def sync_filesystem(path: Path) -> None:
    """Write everything of the filesystem that holds ``path`` to its disk, so that a row may speak of it."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if ctypes.CDLL(None, use_errno=True).syncfs(fd):
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code), str(path))
    finally:
        os.close(fd)


def free_space(layout: Layout) -> int:
    """Bytes that may still be written to the data root."""
    status = os.statvfs(layout.data_root)
    return max(0, status.f_bavail * status.f_frsize - _RESERVE)


def free_inodes(layout: Layout) -> int | None:
    """How many files may still be made on the data root; None where its filesystem does not count them."""
    status = os.statvfs(layout.data_root)
    return max(0, status.f_favail - status.f_files // _INODE_RESERVE) if status.f_files else None


def no_space(layout: Layout) -> OSError:
    return OSError(errno.ENOSPC, f"{os.strerror(errno.ENOSPC)} (what is left is kept free)", str(layout.data_root))


async def spool(layout: Layout, body: AsyncIterator[bytes], path: Path) -> int:
    """Write a request's body to ``path`` as it arrives; returns its size. Raises ``OSError`` when space runs out."""
    total = 0
    batch: list[bytes] = []
    held = 0

    def write(chunks: list[bytes], size: int) -> None:
        if size > free_space(layout):
            raise no_space(layout)
        file.write(b"".join(chunks))
        file.flush()

    with open(path, "wb") as file:
        async for chunk in body:
            batch.append(chunk)
            held += len(chunk)
            if held >= _BATCH:
                await in_thread(write, batch, held)
                total += held
                batch, held = [], 0
        await in_thread(write, batch, held)
    return total + held


class Slice:
    """A piece of a file as a file of its own; pieces of one file may be read in several threads."""

    def __init__(self, path: Path, offset: int = 0, size: int | None = None) -> None:
        self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self.position = offset
        self._end = os.fstat(self._fd).st_size if size is None else offset + size

    def peek(self, size: int) -> bytes:
        return os.pread(self._fd, min(size, self._end - self.position), self.position)

    def read(self, size: int = -1, /) -> bytes:
        left = self._end - self.position
        data = os.pread(self._fd, left if size < 0 else min(size, left), self.position)
        self.position += len(data)
        return data

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
