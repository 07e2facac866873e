"""``docker pull`` (ImageCreate with ``fromImage``): an image, or all tags of a repository, from a registry."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing, suppress
from functools import partial
from typing import TYPE_CHECKING

from wherry.api.errors import NotFound, ServerError
from wherry.engine.blocking import in_thread
from wherry.engine.images import reference
from wherry.engine.images.config import InvalidConfig, read_config
from wherry.engine.images.content import ContentError, Slice
from wherry.engine.images.import_ import BROKEN
from wherry.engine.images.layers import StagedLayer, chain_ids, unpack
from wherry.engine.images.platform import Platform, parse_platform
from wherry.engine.images.reference import InvalidReference, Reference, short_id
from wherry.engine.images.registry.auth import Credentials
from wherry.engine.images.registry.download import Download, retried
from wherry.engine.images.registry.errors import Interrupted, RegistryError, Unreachable, pull_error
from wherry.engine.images.registry.hosts import Registries
from wherry.engine.images.registry.manifest import Descriptor, Document, check_image, choose
from wherry.engine.images.registry.progress import Message, Progress
from wherry.engine.images.registry.repository import Registry, Repository, digest_matches
from wherry.engine.store.rootfs import layer_diff

if TYPE_CHECKING:
    from wherry.engine.images.store import Images

log = logging.getLogger(__name__)

_DEEPEST = 3
_PROGRESS_EVERY = 0.1


def wanted(text: str, tag: str) -> Reference:
    """The reference of ``fromImage`` and ``tag``; ``tag`` may be a digest. Raises ``InvalidReference``."""
    name = reference.parse(text.removesuffix(":"))
    if not tag:
        return name
    if ":" in tag:
        return reference.parse(f"{name.name}@{tag}")
    if name.digest:
        raise InvalidReference("invalid reference format: a tag beside a digest")
    return name.with_tag(tag)


async def pull(
    images: Images, registries: Registries, name: Reference, platform: str, credentials: Credentials
) -> AsyncIterator[Message]:
    """The messages of fetching ``name``; a name without tag or digest stands for all tags of the repository.

    Raises ``ApiError``, before or behind messages. Event ``pull``.
    """
    chosen = parse_platform(platform)
    progress = Progress()

    async def work() -> None:
        await _pull(images, registries, name, chosen, credentials, progress)
        if platform:
            _check_platform(images, name, chosen, progress)

    async with aclosing(progress.during(work)) as messages:
        async for message in messages:
            yield message


def _check_platform(images: Images, name: Reference, chosen: Platform, progress: Progress) -> None:
    found = images.named(name)
    if found is None:
        return
    file = images.by_id(found).file
    actual = Platform(file.os or "linux", file.architecture, file.variant)
    if actual[:2] != chosen[:2]:
        what = "was found but does not match the specified platform"
        progress.say(f"WARNING: image with reference {name} {what}: wanted {chosen}, actual: {actual}")


async def _pull(
    images: Images,
    registries: Registries,
    name: Reference,
    platform: Platform,
    credentials: Credentials,
    progress: Progress,
) -> None:
    domain, _, path = name.name.partition("/")
    last: RegistryError = RegistryError(f"no endpoints found for {name}")
    for endpoint in await registries.endpoints(domain, pulling=True):
        registry = None
        try:
            registry = await Registry.connect(registries, endpoint, credentials)
            repository = Repository(registry, path)
            names = [name] if name.tag or name.digest else [name.with_tag(tag) for tag in await repository.tags()]
            for each in names:
                await _Pull(images, registries, repository, each, platform, progress).run()
        except RegistryError as error:
            if endpoint.own and not isinstance(error, Unreachable):
                raise pull_error(error, name) from error
            log.info("pulling %s from %s failed: %s", name, endpoint.url, error)
            last = error
            continue
        except (OSError, InvalidConfig, ContentError, *BROKEN) as error:
            log.info("pulling %s from %s failed: %s", name, endpoint.url, error)
            raise ServerError(f"failed to register layer: {error}") from error
        finally:
            if registry is not None:
                registry.close()
        images.events.emit("image", "pull", str(name), _attributes(images, name))
        return
    raise pull_error(last, name) from last


def _attributes(images: Images, name: Reference) -> dict[str, str]:
    labels: dict[str, str] = {}
    with suppress(NotFound):
        labels = dict(images.get(str(name)).labels)
    return {**labels, "name": name.familiar_name}


class _Pull:
    """One tag or digest from one repository."""

    def __init__(
        self,
        images: Images,
        registries: Registries,
        repository: Repository,
        name: Reference,
        platform: Platform,
        progress: Progress,
    ) -> None:
        self._images = images
        self._registries = registries
        self._repository = repository
        self._name = name
        self._platform = platform
        self._progress = progress

    async def run(self) -> None:
        name = self._name
        top = await retried(lambda: self._repository.manifest(name.digest or name.tag))
        self._progress.say(f"Pulling from {_shown_path(name)}", name.key if name.digest else name.tag)
        manifest = await self._choose(top)
        config = check_image(manifest)
        with self._images.holding(config.digest):
            await self._have(manifest, config, top.digest)

    async def _have(self, manifest: Document, config: Descriptor, digest: str) -> None:
        async with self._registries.alone(manifest.digest):
            if self._known(config.digest):
                id = config.digest
            else:
                id = await self._image(manifest, config)
            self._images.keep_manifest(id, manifest.media_type, manifest.data)
            self._name_it(id, digest)

    async def _choose(self, document: Document) -> Document:
        """The manifest that an index has for the platform."""
        for _ in range(_DEEPEST):
            if document.manifests is None:
                return document
            entry = choose(document, self._platform)
            inner = await retried(partial(self._repository.manifest, entry.digest, size=entry.size))
            if inner.media_type != entry.media_type:
                raise RegistryError(f"the index calls {entry.digest} {entry.media_type}, it is {inner.media_type}")
            document = inner
        if document.manifests is not None:
            raise RegistryError("the image's indexes are nested too deeply")
        return document

    def _known(self, id: str) -> bool:
        try:
            self._images.by_id(id)
        except NotFound:
            return False
        return True

    def _name_it(self, id: str, digest: str) -> None:
        name, images = self._name, self._images
        self._progress.say(f"Digest: {digest}")
        new = images.named(name) != id
        by_digest = Reference(name.name, "", name.digest or digest)
        if images.named(by_digest) != id:
            images.name_image(id, by_digest)
        if new and name.tag and not name.digest:
            images.name_image(id, Reference(name.name, name.tag))
        word = "Downloaded newer image" if new else "Image is up to date"
        self._progress.say(f"Status: {word} for {name}")

    # an image that is not there

    async def _image(self, manifest: Document, config: Descriptor) -> str:
        data = await self._config(config)
        file = read_config(data)
        if file.os not in ("", "linux"):
            raise RegistryError(f'image operating system "{file.os}" cannot be used on this platform')
        if len(file.diff_ids) != len(manifest.layers):
            raise RegistryError("layers from manifest don't match image configuration")
        chain = chain_ids(file.diff_ids)
        with self._images.using(chain):
            # Images that are pulled at the same time often stand on one: it is fetched and unpacked once.
            first = next((layer for layer in chain if layer not in self._images.layers), "")
            key = f"{self._repository.registry.endpoint.url} {first}"
            if self._registries.busy(key):
                for layer in manifest.layers:
                    self._progress.step("Waiting", short_id(layer.digest))
            async with self._registries.alone(key):
                staged = await _Layers(self, manifest.layers, file.diff_ids, chain).fetch()
                return await self._images.commit(data, staged)

    async def _config(self, config: Descriptor) -> bytes:
        async def read() -> bytes:
            answer, _ = await self._repository.blob(config.digest)
            return await answer.read(config.size, "the image's configuration")

        data = await retried(read)
        if not digest_matches(data, config.digest):
            raise RegistryError(f"image config verification failed for digest {config.digest}")
        return data

    @property
    def parts(self) -> tuple[Images, Registries, Repository, Progress]:
        return self._images, self._registries, self._repository, self._progress


def _shown_path(name: Reference) -> str:
    """``library/busybox``: a hub's name with its first part, another registry's without the registry."""
    return name.name.partition("/")[2]


class _Layers:
    """The layers of one image: fetched side by side, unpacked one upon the other as they come."""

    def __init__(
        self, pull: _Pull, layers: Sequence[Descriptor], diff_ids: Sequence[str], chain: Sequence[str]
    ) -> None:
        self._images, self._registries, self._repository, self._progress = pull.parts
        self._layers = layers
        self._diff_ids = diff_ids
        self._chain = chain
        self._downloads: dict[str, tuple[Download, asyncio.Task[None]]] = {}
        self._staged: list[StagedLayer] = []

    async def fetch(self) -> list[StagedLayer]:
        """What is missing, staged, lowest first. All or nothing."""
        missing = []
        for number, layer in enumerate(self._layers):
            if self._chain[number] in self._images.layers:
                self._progress.step("Already exists", short_id(layer.digest))
            else:
                self._progress.step("Pulling fs layer", short_id(layer.digest))
                missing.append(number)
        uses = Counter(self._layers[number].digest for number in missing)
        keep, done = False, False
        try:
            for number in missing:
                self._begin(self._layers[number])
            for number in missing:
                layer = self._layers[number]
                download, task = self._downloads[layer.digest]
                await self._wait(task)
                uses[layer.digest] -= 1
                await self._unpack(number, download, last=not uses[layer.digest])
            done = True
        except (Interrupted, Unreachable, asyncio.CancelledError):
            keep = True  # nothing was wrong with what came
            raise
        finally:
            await self._end(keep=keep)
            if not done:
                self._give_up(keep=keep)
        return self._staged

    async def _end(self, *, keep: bool) -> None:
        tasks = [task for _, task in self._downloads.values()]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        for download, task in self._downloads.values():
            if not task.cancelled():
                task.exception()
            download.end(keep=keep)

    def _give_up(self, *, keep: bool) -> None:
        for made in self._staged:
            if keep and made.row.received:
                self._images.partials.put(made.row.blob, made.blob)
            made.discard()

    async def _wait(self, task: asyncio.Task[None]) -> None:
        """Until one download is there; the failure of any of them is at once that of all."""
        while not task.done():
            running = [each for _, each in self._downloads.values() if not each.done()]
            await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            for _, each in self._downloads.values():
                if each.done() and not each.cancelled() and (error := each.exception()) is not None:
                    raise error
        await task

    def _begin(self, layer: Descriptor) -> None:
        if layer.digest not in self._downloads:
            download = Download(self._images.layout, self._images.partials, self._repository, layer)
            self._downloads[layer.digest] = (download, asyncio.ensure_future(self._download(download, layer)))

    async def _download(self, download: Download, layer: Descriptor) -> None:
        shown, progress = short_id(layer.digest), self._progress
        if self._registries.downloads.locked():
            progress.step("Waiting", shown)
        async with self._registries.downloads:
            await download.run(
                lambda count: progress.update("Downloading", shown, count, layer.size),
                lambda seconds: progress.step(f"Retrying in {max(1, round(seconds))} second", shown),
            )
        progress.step("Verifying Checksum", shown)
        progress.step("Download complete", shown)

    async def _unpack(self, number: int, download: Download, *, last: bool) -> None:
        layer, diff_id = self._layers[number], self._diff_ids[number]
        shown = short_id(layer.digest)
        cancelled = threading.Event()
        source = Slice(download.path)
        work = asyncio.ensure_future(in_thread(self._stage, number, source, download, last, cancelled))
        try:
            while not (await asyncio.wait({work}, timeout=_PROGRESS_EVERY))[0]:
                self._progress.update("Extracting", shown, source.position, layer.size)
        except asyncio.CancelledError:
            cancelled.set()
            await asyncio.wait({work})
            if work.exception() is None:
                work.result().discard()
            raise
        made = work.result()
        self._progress.update("Extracting", shown, layer.size, layer.size, last=True)
        self._staged.append(made)
        if made.row.diff_id != diff_id:
            raise RegistryError(
                f"layers from manifest don't match image configuration: the layer {layer.digest} unpacks to "
                f"{made.row.diff_id} where {diff_id} was announced"
            )
        self._progress.step("Pull complete", shown)

    def _stage(
        self, number: int, source: Slice, download: Download, last: bool, cancelled: threading.Event
    ) -> StagedLayer:
        """Blocks."""
        layout = self._images.layout
        parent = self._chain[number - 1] if number else ""
        parent_diff = None
        if parent:
            ours = bool(self._staged) and self._staged[-1].chain_id == parent
            parent_diff = self._staged[-1].directory / "diff" if ours else layer_diff(layout, parent)
        try:
            given = download.path if last else None
            overlay = self._images.rootfs.overlay
            return unpack(layout, source, parent, parent_diff, whiteouts=overlay, cancelled=cancelled, given=given)
        finally:
            source.close()
