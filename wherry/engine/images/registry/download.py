"""A blob from a registry to a file: checked, bounded, and taken up again where a broken connection or pull left it."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from wherry.engine.blocking import in_thread
from wherry.engine.images.content import free_space, no_space, temporary
from wherry.engine.images.partial import Partials
from wherry.engine.images.registry.errors import Interrupted, RegistryError, Unreachable
from wherry.engine.images.registry.manifest import Descriptor
from wherry.engine.images.registry.repository import Repository
from wherry.engine.store.layout import Layout

ATTEMPTS = 5
"""In a row without a byte gained, after which a blob is given up."""
_MOST_ATTEMPTS = 50
PATIENCE, LEAST = 300.0, 1 << 16
"""A blob of which fewer than so many bytes come in so many seconds is as good as broken off."""
_SMALL_ATTEMPTS = 3
_BATCH = 1 << 20
_PIECE = 1 << 22

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
    """One blob on its way to a file, ``path``; whoever is done with it calls ``end``."""

    def __init__(self, layout: Layout, partials: Partials, repository: Repository, blob: Descriptor) -> None:
        self._layout = layout
        self._partials = partials
        self._repository = repository
        self._blob = blob
        self._hash = hashlib.new(blob.digest.partition(":")[0])
        self._received = 0
        place = partials.claim(blob.digest)
        self._claimed = place is not None
        self.path = place or temporary(layout, "download")

    async def run(self, progress: Callable[[int], None], retrying: Callable[[float], None]) -> None:
        """Fetch what is missing. ``progress`` is told how many bytes there are, ``retrying`` how long a pause will be.

        Raises ``RegistryError``, and ``OSError`` when the disk is full.
        """
        fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            taken_up = await self._take_up(fd)
            if self._blob.size - self._received > free_space(self._layout):
                self._partials.clear()
                if self._blob.size - self._received > free_space(self._layout):
                    raise no_space(self._layout)
            await self._fetch(fd, progress, retrying)
            if taken_up and not self._verified:  # damaged where it lay: that is no fault of the registry's
                self._start_again(fd)
                await self._fetch(fd, progress, retrying)
        finally:
            os.close(fd)
        if not self._verified:
            raise RegistryError(f"filesystem layer verification failed for digest {self._blob.digest}")

    async def _fetch(self, fd: int, progress: Callable[[int], None], retrying: Callable[[float], None]) -> None:
        failures = attempts = 0
        while True:
            before = self._received
            attempts += 1
            try:
                return await self._attempt(fd, progress)
            except (Interrupted, Unreachable):
                failures = 1 if self._received > before else failures + 1
                if failures >= ATTEMPTS or attempts >= _MOST_ATTEMPTS:
                    raise
            delay = retry_delay(failures)
            retrying(delay)
            await asyncio.sleep(delay)

    @property
    def _verified(self) -> bool:
        return self._hash.hexdigest() == self._blob.digest.partition(":")[2]

    async def _take_up(self, fd: int) -> bool:
        """Hash what an earlier pull left; whether that was anything."""
        size = os.fstat(fd).st_size
        if size > self._blob.size:
            self._start_again(fd)
            return False
        while self._received < size:
            self._received += await _in_thread(self._hash_some, fd)
        return size > 0

    def _hash_some(self, fd: int) -> int:
        data = os.read(fd, _PIECE)
        if not data:
            raise OSError(errno.EIO, "the file became shorter", str(self.path))
        self._hash.update(data)
        return len(data)

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
        seen, looked = self._received, time.monotonic()
        try:
            async for piece in answer.pieces():
                batch.append(piece)
                held += len(piece)
                if (now := time.monotonic()) - looked > PATIENCE:
                    if self._received + held - seen < LEAST:
                        raise Interrupted(f"the blob {self._blob.digest} hardly comes")
                    seen, looked = self._received + held, now
                if self._received + held > size:
                    raise RegistryError(f"the blob {self._blob.digest} has more than the {size} bytes announced")
                if held >= _BATCH:
                    await self._keep(fd, batch, held)
                    batch, held = [], 0
                progress(self._received + held)
        except BaseException as error:
            answer.close()
            if isinstance(error, (Interrupted, asyncio.CancelledError)):
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
        if batch:
            await _in_thread(self._write, fd, b"".join(batch), size)

    def _write(self, fd: int, data: bytes, size: int) -> None:
        if size > free_space(self._layout):
            raise no_space(self._layout)
        self._hash.update(data)
        view = memoryview(data)
        while view:
            view = view[os.write(fd, view) :]
        self._received += size

    def end(self, *, keep: bool = False) -> None:
        """Remove the file, if it is still there; ``keep`` it for a later pull, which only one of several at a time can."""
        if self._claimed:
            self._claimed = False
            self._partials.release(self._blob.digest, keep=keep)
        else:
            self.path.unlink(missing_ok=True)


async def _in_thread(work: Callable[..., T], fd: int, *arguments: Any) -> T:
    """Work on an open file, which must not be closed under it."""
    running = asyncio.ensure_future(in_thread(work, fd, *arguments))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.wait([running])
        raise
