"""``docker push`` (ImagePush): an image's layers, configuration and manifest to a registry.

An image that came from a registry goes with the manifest that it came with, so that its digest stays. Another one gets a
manifest made here; its layers go as they are stored when that is as they came, else as gzip, and are stored so from then on.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import threading
import zlib
from collections import defaultdict
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING

from wherry.api.errors import NotFound, ServerError
from wherry.engine.blocking import in_thread
from wherry.engine.images.config import LARGEST
from wherry.engine.images.content import (
    ContentError,
    Slice,
    blob_path,
    digest_of,
    free_space,
    no_space,
    read_blob,
    temporary,
)
from wherry.engine.images.layers import Hashing, LayerRow
from wherry.engine.images.reference import Reference, short_id
from wherry.engine.images.registry.auth import Credentials
from wherry.engine.images.registry.download import ATTEMPTS, retried, retry_delay
from wherry.engine.images.registry.errors import Interrupted, RegistryError, Unreachable
from wherry.engine.images.registry.hosts import Registries
from wherry.engine.images.registry.manifest import (
    DOCKER_CONFIG,
    DOCKER_LAYER,
    OCI_LAYER,
    Descriptor,
    Document,
    new_manifest,
    read_document,
)
from wherry.engine.images.registry.progress import Message, Progress
from wherry.engine.images.registry.repository import Registry, Repository
from wherry.engine.store.compression import CompressionError, decompressed, detect
from wherry.engine.store.layout import Layout

if TYPE_CHECKING:
    from wherry.engine.images.store import Images

log = logging.getLogger(__name__)

_PIECE = 1 << 18
_GZIP_LEVEL = 6


async def push(
    images: Images, registries: Registries, name: Reference, credentials: Credentials
) -> AsyncIterator[Message]:
    """The messages of sending ``name``; without a tag all tags of the repository go.

    Raises ``ApiError`` behind the messages. Event ``push``.
    """
    progress = Progress()

    async def work() -> None:
        progress.say(f"The push refers to repository [{name.name}]")
        if name.digest:
            raise ServerError("cannot push a digest reference")
        tags = [(found, id) for found, id in images.tags_of(name.name) if not found.digest]
        if not tags:
            raise NotFound(f"An image does not exist locally with the tag: {name.familiar_name}")
        if name.tag:
            tags = [(found, id) for found, id in tags if found.tag == name.tag]
            if not tags:
                raise NotFound(f"tag does not exist: {name}")
        await _push(images, registries, tags, credentials, progress)
        images.events.emit("image", "push", str(name), {"name": name.familiar_name})

    async with aclosing(progress.during(work)) as messages:
        async for message in messages:
            yield message


async def _push(
    images: Images,
    registries: Registries,
    tags: Sequence[tuple[Reference, str]],
    credentials: Credentials,
    progress: Progress,
) -> None:
    domain, _, path = tags[0][0].name.partition("/")
    last: RegistryError = RegistryError(f"no endpoints found for {tags[0][0]}")
    for endpoint in await registries.endpoints(domain, pulling=False):
        registry = None
        try:
            registry = await Registry.connect(registries, endpoint, credentials)
            repository = Repository(registry, path, "pull,push")
            for name, id in tags:
                await _Push(images, registries, repository, name, id, progress).run()
            return
        except Unreachable as error:
            last = error
        except (RegistryError, ContentError, CompressionError, OSError) as error:
            raise ServerError(str(error)) from error
        finally:
            if registry is not None:
                registry.close()
    raise ServerError(str(last)) from last


class _Push:
    """One image under one tag."""

    def __init__(
        self,
        images: Images,
        registries: Registries,
        repository: Repository,
        name: Reference,
        id: str,
        progress: Progress,
    ) -> None:
        self._images = images
        self._registries = registries
        self._repository = repository
        self._name = name
        self._id = id
        self._progress = progress
        self._cancelled = threading.Event()
        self._turns: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)  # by diff id

    async def run(self) -> None:
        try:
            image = self._images.by_id(self._id)
        except NotFound as error:
            raise RegistryError(error.message) from None
        with self._images.using(image.layer_ids):
            config = await in_thread(read_blob, self._images.layout, self._id, LARGEST)
            for chain in image.layer_ids:
                self._progress.step("Preparing", short_id(self._images.layers[chain].diff_id))
            kept = self._kept(image.layer_ids)
            layers = await self._layers(image.layer_ids[::-1])
            await self._config(config)
            if kept is not None:
                media_type, data = kept.media_type, kept.data
            else:
                described = Descriptor(media_type=DOCKER_CONFIG, digest=self._id, size=len(config))
                media_type, data = new_manifest(described, layers)
            await retried(lambda: self._repository.put_manifest(self._name.tag, media_type, data))
            self._done(media_type, data)

    def _done(self, media_type: str, data: bytes) -> None:
        name, images = self._name, self._images
        digest = digest_of(data)
        try:
            images.by_id(self._id)
            images.keep_manifest(self._id, media_type, data)
            by_digest = Reference(name.name, "", digest)
            if images.named(by_digest) != self._id:
                images.name_image(self._id, by_digest)
        except NotFound:
            log.info("the image %s was removed while it was pushed", self._id)
        self._progress.say(f"{name.tag}: digest: {digest} size: {len(data)}")
        self._progress.put({"progressDetail": {}, "aux": {"Tag": name.tag, "Digest": digest, "Size": len(data)}})

    def _kept(self, layer_ids: Sequence[str]) -> Document | None:
        """The manifest that the image came with, if the archives are still those that it names."""
        kept = self._images.manifest(self._id)
        if kept is None:
            return None
        try:
            document = read_document(kept[0], kept[1], "")
        except RegistryError as error:  # of a version of ours that read less strictly
            log.info("the manifest of %s is made anew: %s", self._id, error)
            return None
        stored = [self._images.layers[chain].blob for chain in reversed(layer_ids)]
        same = document.config is not None and document.config.digest == self._id
        return document if same and [layer.digest for layer in document.layers] == stored else None

    async def _layers(self, layer_ids: Sequence[str]) -> list[Descriptor]:
        """Send them side by side. ``layer_ids`` and the result are lowest first."""
        tasks = [asyncio.ensure_future(self._layer(chain)) for chain in layer_ids]
        try:
            pending = set(tasks)
            while pending:
                done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_EXCEPTION)
                for task in done:
                    task.result()
        finally:
            self._cancelled.set()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        return [task.result() for task in tasks]

    async def _layer(self, chain: str) -> Descriptor:
        row = self._images.layers[chain]
        shown, progress = short_id(row.diff_id), self._progress
        async with self._turns[row.diff_id]:  # an image may hold a layer twice
            if self._registries.uploads.locked():
                progress.step("Waiting", shown)
            async with self._registries.uploads:
                media_type = await self._publishable(chain, row)
                digest, size = row.blob, row.blob_size
                if await retried(lambda: self._repository.has_blob(digest)) is not None:
                    progress.step("Layer already exists", shown)
                else:
                    await self._send(chain, row, shown)
        return Descriptor(media_type=media_type, digest=digest, size=size)

    async def _publishable(self, chain: str, row: LayerRow) -> str:
        """See to it that the stored archive is of a kind for registries; returns its media type."""
        layout = self._images.layout
        kind = await in_thread(_kind, blob_path(layout, row.blob))
        if kind == "zstd" and row.received:
            return f"{OCI_LAYER}+zstd"
        if kind != "gzip":
            work = asyncio.ensure_future(in_thread(_as_gzip, layout, row, self._cancelled))
            try:
                digest, size, path = await asyncio.shield(work)
            except asyncio.CancelledError:
                self._cancelled.set()
                await asyncio.wait([work])
                if work.exception() is None:
                    work.result()[2].unlink(missing_ok=True)
                raise
            self._images.repack(chain, digest, size, path)
        return DOCKER_LAYER

    async def _send(self, chain: str, row: LayerRow, shown: str) -> None:
        location: str | None = None
        for origin in self._origins(chain):
            location = await self._repository.begin_upload(mount=row.blob, origin=origin)
            if location is None:
                self._progress.step(f"Mounted from {origin}", shown)
                return
        path, size = blob_path(self._images.layout, row.blob), row.blob_size

        async def pieces() -> AsyncGenerator[bytes, None]:
            sent = 0
            source = await in_thread(Slice, path)
            try:
                while data := await in_thread(source.read, _PIECE):
                    yield data
                    sent += len(data)
                    self._progress.update("Pushing", shown, sent, size)
            finally:
                source.close()

        for attempt in range(1, ATTEMPTS + 1):
            try:
                location = location or await self._repository.begin_upload()
                assert location is not None
                await self._repository.upload(location, row.blob, size, pieces)
                break
            except (Interrupted, Unreachable):
                if attempt == ATTEMPTS:
                    raise
                location = None
                delay = retry_delay(attempt)
                self._progress.step(f"Retrying in {max(1, round(delay))} second", shown)
                await asyncio.sleep(delay)
        self._progress.update("Pushing", shown, size, size, last=True)
        self._progress.step("Pushed", shown)

    def _origins(self, chain: str) -> list[str]:
        """A repository of the same registry that is known to have the layer, if there is one."""
        domain, _, path = self._name.name.partition("/")
        for image in self._images.all():
            if chain in image.layer_ids:
                for name in image.references:
                    other, _, origin = name.name.partition("/")
                    if name.digest and other == domain and origin != path:
                        return [origin]
        return []

    async def _config(self, data: bytes) -> None:
        async def pieces() -> AsyncGenerator[bytes, None]:
            yield data

        async def send() -> None:
            if await self._repository.has_blob(self._id) is None:
                location = await self._repository.begin_upload()
                assert location is not None
                await self._repository.upload(location, self._id, len(data), pieces)

        await retried(send)


def _kind(path: Path) -> str | None:
    with open(path, "rb") as file:
        return detect(file.read(6))


def _as_gzip(layout: Layout, row: LayerRow, cancelled: threading.Event) -> tuple[str, int, Path]:
    """A layer's archive anew as gzip: its digest, its bytes, where it is. The same content gives the same bytes. Blocks."""
    target = temporary(layout, "gzip")
    source = Slice(blob_path(layout, row.blob))
    digest, size = hashlib.sha256(), 0
    try:
        tar = Hashing(decompressed(source), None, cancelled)
        packer = zlib.compressobj(_GZIP_LEVEL, zlib.DEFLATED, 31)
        with open(target, "wb") as file:
            more = True
            while more:
                data = tar.read(_PIECE)
                more = bool(data)
                packed = packer.compress(data) if data else packer.flush()
                if len(packed) > free_space(layout):
                    raise no_space(layout)
                digest.update(packed)
                size += len(packed)
                file.write(packed)
            file.flush()
            os.fsync(file.fileno())
        if tar.digest != row.diff_id:
            raise ContentError(f"content {row.blob} is damaged")
    except BaseException:
        target.unlink(missing_ok=True)
        raise
    finally:
        source.close()
    return f"sha256:{digest.hexdigest()}", size, target
