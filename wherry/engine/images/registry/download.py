"""A blob from a registry to a file: checked, bounded, and taken up again where a broken connection left it."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

from wherry.engine.blocking import in_thread
from wherry.engine.images.content import free_space, no_space, temporary
from wherry.engine.images.registry.errors import Interrupted, RegistryError, Unreachable
from wherry.engine.images.registry.manifest import Descriptor
from wherry.engine.images.registry.repository import Repository
from wherry.engine.store.layout import Layout

ATTEMPTS = 5
"""In a row without a byte gained, after which a blob is given up."""
_MOST_ATTEMPTS = 50
_SMALL_ATTEMPTS = 3
_BATCH = 1 << 20

T = TypeVar("T")


def retry_delay(attempt: int) -> float:
    """Seconds to wait before attempt ``attempt + 1``."""
    return min(0.5 * attempt * attempt, 10.0)


async def retried(call: Callable[[], Awaitable[T]]) -> T:
    """A small request, made again a few times where the connection breaks."""
    for attempt in range(1, _SMALL_ATTEMPTS):
        try:
            return await call()
        except (Interrupted, Unreachable):
            await asyncio.sleep(retry_delay(attempt))
    return await call()


class Download:
    """One blob on its way to ``tmp``. ``path`` is the file; whoever takes it away sets it to None."""

    def __init__(self, layout: Layout, repository: Repository, blob: Descriptor) -> None:
        self._layout = layout
        self._repository = repository
        self._blob = blob
        self._hash = hashlib.new(blob.digest.partition(":")[0])
        self._received = 0
        self.path: Path | None = temporary(layout, "download")

    async def run(self, progress: Callable[[int], None], retrying: Callable[[float], None]) -> None:
        """Fetch it all. ``progress`` is told how many bytes there are, ``retrying`` how many seconds a pause will be.

        Raises ``RegistryError``, and ``OSError`` when the disk is full.
        """
        assert self.path is not None
        if self._blob.size > free_space(self._layout):
            raise no_space(self._layout)
        failures = attempts = 0
        with open(self.path, "wb", buffering=0) as file:
            while True:
                before = self._received
                attempts += 1
                try:
                    await self._attempt(file.fileno(), progress)
                    break
                except (Interrupted, Unreachable):
                    failures = 1 if self._received > before else failures + 1
                    if failures >= ATTEMPTS or attempts >= _MOST_ATTEMPTS:
                        raise
                delay = retry_delay(failures)
                retrying(delay)
                await asyncio.sleep(delay)
        if self._hash.hexdigest() != self._blob.digest.partition(":")[2]:
            raise RegistryError(f"filesystem layer verification failed for digest {self._blob.digest}")

    async def _attempt(self, fd: int, progress: Callable[[int], None]) -> None:
        size = self._blob.size
        if self._received == size and size:
            return
        answer, begins = await self._repository.blob(self._blob.digest, self._received)
        if begins != self._received:
            self._start_again(fd)
        if answer.content_length is not None and answer.content_length != size - self._received:
            answer.close()
            said = answer.content_length + self._received
            raise RegistryError(f"the blob {self._blob.digest} has {said} bytes where {size} were announced")
        batch: list[bytes] = []
        held = 0
        try:
            async for piece in answer.pieces():
                batch.append(piece)
                held += len(piece)
                if self._received + held > size:
                    raise RegistryError(f"the blob {self._blob.digest} has more than the {size} bytes announced")
                if held >= _BATCH:
                    await self._keep(fd, batch, held)
                    batch, held = [], 0
                progress(self._received + held)
        except BaseException as error:
            answer.close()
            if isinstance(error, Interrupted):
                await self._keep(fd, batch, held)
            raise
        await self._keep(fd, batch, held)
        if self._received < size:
            raise Interrupted(f"the blob {self._blob.digest} ended after {self._received} of {size} bytes")

    def _start_again(self, fd: int) -> None:
        os.ftruncate(fd, 0)
        os.lseek(fd, 0, os.SEEK_SET)
        self._received = 0
        self._hash = hashlib.new(self._blob.digest.partition(":")[0])

    async def _keep(self, fd: int, batch: list[bytes], size: int) -> None:
        if not batch:
            return
        writing = asyncio.ensure_future(in_thread(self._write, fd, b"".join(batch), size))
        try:
            await asyncio.shield(writing)
        except asyncio.CancelledError:
            await asyncio.wait([writing])  # the file must not be closed under it
            raise

    def _write(self, fd: int, data: bytes, size: int) -> None:
        if size > free_space(self._layout):
            raise no_space(self._layout)
        self._hash.update(data)
        view = memoryview(data)
        while view:
            view = view[os.write(fd, view) :]
        self._received += size

    def discard(self) -> None:
        if self.path is not None:
            self.path.unlink(missing_ok=True)
            self.path = None
