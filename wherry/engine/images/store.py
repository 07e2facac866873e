"""The images of an engine: which there are, what they are called, which layers they stand on.

Rows are small and all in memory: ``image`` (id → its layers), ``reference`` (name → image id), ``layer`` (chain id →
its archive), ``pending`` (a path of the data root that is about to get or lose its owner); ``manifest`` (image id → how
a registry describes it) is read when asked for. Content is written in ``tmp``, made durable, renamed into place and only
then given rows; it loses its rows before it is renamed to the trash. Whatever instant the engine dies at, ``recover``
finds by the ``pending`` rows what was under way, and takes it away.

Everything here runs on the engine's loop, except what is said to block.
"""

from __future__ import annotations

import logging
import os
import re
import time
from collections import Counter, defaultdict
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from wherry.api.errors import BadRequest, NotFound
from wherry.api.models.images import (
    ImageDeleteResponseItem,
    ImageHistoryResponseItem,
    ImageInspect,
    ImagePruneResponse,
    ImageSummary,
)
from wherry.engine.blocking import in_thread
from wherry.engine.events import Events
from wherry.engine.images import reference
from wherry.engine.images.config import LARGEST, ImageConfigFile, InvalidConfig, read_config
from wherry.engine.images.content import ContentError, blob_path, read_blob, stage_bytes, sync_filesystem
from wherry.engine.images.image import Image, ImageRow, InUse, User
from wherry.engine.images.layers import LayerRow, StagedLayer, chain_ids
from wherry.engine.images.partial import Partials
from wherry.engine.images.reference import Reference
from wherry.engine.store.database import Database
from wherry.engine.store.layout import Layout
from wherry.engine.store.rootfs import Rootfs, layer_diff, layer_directory
from wherry.engine.store.trash import Trash

log = logging.getLogger(__name__)

IMAGE, REFERENCE, LAYER, MANIFEST, PENDING = "image", "reference", "layer", "manifest", "pending"
_ID_PREFIX = re.compile(r"[0-9a-f]+")

__all__ = ["Filters", "Image", "Images", "InUse", "User"]

Filters = Mapping[str, Sequence[str]]
_Summaries = list[ImageSummary]
_History = list[ImageHistoryResponseItem]
_Deleted = list[ImageDeleteResponseItem]
_Paths = list[Path]


class Images:
    def __init__(
        self,
        layout: Layout,
        database: Database,
        events: Events,
        rootfs: Rootfs | None = None,
        trash: Trash | None = None,
    ) -> None:
        self.layout = layout
        self.events = events
        self.trash = trash or Trash(layout)
        self.rootfs = rootfs or Rootfs(layout, self.trash)
        self.partials = Partials(layout, self.trash)
        self.layers: dict[str, LayerRow] = {}
        self._database = database
        self._rows: dict[str, ImageRow] = {}
        self._files: dict[str, ImageConfigFile] = {}
        self._broken: dict[str, ImageRow] = {}  # images whose configuration is damaged: kept, and not shown
        self._names: dict[str, str] = {}  # reference key → image id
        self._keys: defaultdict[str, set[str]] = defaultdict(set)  # and the other way round
        self._pins: Counter[str] = Counter()  # chain ids that somebody needs for a while
        self.held: Counter[str] = Counter()  # ids of images that builds under way stand on: no prune takes them

    def recover(self) -> _Paths:
        """At the engine's start: read the rows, take away what was under way, set unknown content aside.

        Returns where unknown directories and blobs went.
        """
        self.layers = {id: msgspec.json.decode(body, type=LayerRow) for id, _, body in self._database.all(LAYER)}
        self._rows = {id: msgspec.json.decode(body, type=ImageRow) for id, _, body in self._database.all(IMAGE)}
        self._names = {key: body.decode() for key, _, body in self._database.all(REFERENCE)}
        for id in list(self._rows):
            try:
                self._files[id] = read_config(read_blob(self.layout, id, LARGEST))
            except (ContentError, InvalidConfig) as error:
                log.error("image %s is left out: %s", id, error)
                self._broken[id] = self._rows.pop(id)
        for id, _, _ in self._database.all(MANIFEST):
            if id not in self._rows and id not in self._broken:
                self._database.delete(MANIFEST, id)
        self._names = {key: id for key, id in self._names.items() if id in self._rows}
        for key, id in self._names.items():
            self._keys[id].add(key)
        owned = self._owned()
        for path, _, _ in self._database.all(PENDING):
            if path not in owned:
                self.trash.discard(self.layout.data_root / path)
            self._database.delete(PENDING, path)
        lost = []
        for directory in (self.layout.layers, self.layout.blobs / "sha256"):
            for entry in list(directory.iterdir()):
                if self._relative(entry) not in owned and entry.name != "empty":
                    lost.append(self.trash.set_aside(entry))
        for chain in self.layers:
            if not layer_diff(self.layout, chain).is_dir():
                log.error("layer %s has lost its files", chain)
        self.collect()
        self.partials.clean()
        return lost

    # looking things up

    def get(self, text: str) -> Image:
        """The image of a name, id, or start of an id.

        Raises ``NotFound`` (``No such image: busybox:latest``, E3) and ``BadRequest`` for what can be no reference.
        """
        id, shown = self._resolve(text)
        if id is None:
            raise NotFound(f"No such image: {shown}")
        return self.by_id(id)

    def find(self, text: str) -> Image | None:
        """As ``get``, with None for whatever finds nothing."""
        try:
            return self.get(text)
        except (NotFound, BadRequest):
            return None

    def by_id(self, id: str) -> Image:
        """The image of a whole id. Raises ``NotFound``."""
        row = self._rows.get(id)
        if row is None:
            raise NotFound(f"No such image: {id}")
        layers = tuple(row.layers)
        names = tuple(sorted(reference.parse_key(key) for key in self._keys.get(id, ())))
        return Image(id, self._files[id], layers, self.layers_size(layers), names, row.parent, row.tagged_at)

    def all(self) -> Sequence[Image]:
        """Every image, in no order."""
        return [self.by_id(id) for id in self._rows]

    def children(self, id: str) -> Sequence[str]:
        """Ids of the images that were made from this one here."""
        return [child for child, row in self._rows.items() if row.parent == id]

    def built_from(self, parent: str) -> Sequence[str]:
        """Ids of the images that builds here made directly from ``parent``, or from nothing where it is empty."""
        return [id for id, row in self._rows.items() if row.built and row.parent == parent]

    def descendants(self, ids: Iterable[str]) -> set[str]:
        """Ids of the images that were made here from these, directly or not; without these themselves."""
        found: set[str] = set()
        new = set(ids)
        while new:
            new = {child for child, row in self._rows.items() if row.parent in new} - found
            found |= new
        return found

    def size(self, id: str) -> int:
        """Bytes of the files of an image's layers; 0 for an image that is gone."""
        row = self._rows.get(id)
        return self.layers_size(row.layers) if row is not None else 0

    def named(self, name: Reference) -> str | None:
        """The id of the image with exactly this name; a digest counts more than a tag."""
        if name.digest:
            name = Reference(name.name, "", name.digest)
        return self._names.get(name.tagged().key)

    def tags_of(self, name: str) -> Sequence[tuple[Reference, str]]:
        """The (reference, image id) pairs of a whole repository name."""
        pairs = ((reference.parse_key(key), id) for key, id in self._names.items())
        return sorted(pair for pair in pairs if pair[0].name == name)

    def layers_size(self, layer_ids: Iterable[str]) -> int:
        """Bytes of the files of these layers (SizeRootFs)."""
        return sum(self.layers[layer].size for layer in layer_ids if layer in self.layers)

    def _resolve(self, text: str) -> tuple[str | None, str]:
        """(image id or None, the text as moby would show it)."""
        whole = reference.image_id(text)
        if whole is not None:
            return (whole if whole in self._rows else None), whole
        name = reference.parse(text)
        found = self.named(name)
        if found is None:
            digits = text.removeprefix("sha256:")
            if _ID_PREFIX.fullmatch(digits):
                matches = [id for id in self._rows if id.startswith(f"sha256:{digits}")]
                if len(matches) == 1:
                    found = matches[0]
        return found, str(name.tagged())

    # names

    def tag(self, name: str, repo: str, tag: str = "") -> None:
        """Give an image another name, taking it from whichever had it. Event ``tag``.

        Raises ``NotFound``, ``BadRequest`` (``invalid reference format``, ``refusing to create a tag with a digest
        reference``).
        """
        image = self.get(name)
        target = reference.parse(repo)
        if tag:
            target = target.with_tag(tag)
        if target.digest:
            raise BadRequest("refusing to create a tag with a digest reference")
        if repo in ("sha256", "sha384", "sha512"):
            raise BadRequest("refusing to create an ambiguous tag using digest algorithm as name")
        self.name_image(image.id, target.tagged(), action="tag")

    @contextmanager
    def holding(self, id: str) -> Iterator[None]:
        """No prune takes this image, which may not be there yet, until the end of the block."""
        self.held[id] += 1
        try:
            yield
        finally:
            self.held[id] -= 1
            if not self.held[id]:
                del self.held[id]

    def name_image(self, id: str, name: Reference, *, action: str = "") -> None:
        """Let ``name`` mean image ``id`` from now on; with ``action`` an event says so."""
        row = self._rows[id]
        if action == "tag":
            row.tagged_at = time.time_ns()
        with self._database.transaction():
            self._database.put(REFERENCE, name.key, id.encode())
            self._database.put(IMAGE, id, msgspec.json.encode(row))
        self._forget(name.key)
        self._names[name.key] = id
        self._keys[id].add(name.key)
        if action:
            self.emit(id, action, str(name))

    def unname(self, name: Reference) -> None:
        """Take a name away, whether it was there or not."""
        key = (Reference(name.name, "", name.digest) if name.digest else name.tagged()).key
        self._database.delete(REFERENCE, key)
        self._forget(key)

    def _forget(self, key: str) -> None:
        owner = self._names.pop(key, None)
        if owner is not None:
            self._keys[owner].discard(key)

    def emit(self, id: str, action: str, name: str | None = None) -> None:
        """An event of the image, with its labels."""
        labels = dict(self.by_id(id).labels) if id in self._rows else {}
        self.events.emit("image", action, id, {**labels, "name": name or id})

    # coming and going

    @contextmanager
    def using(self, layer_ids: Iterable[str]) -> Iterator[None]:
        """Keep layers from being collected while something is built on them."""
        held = tuple(layer_ids)
        self._pins.update(held)
        try:
            yield
        finally:
            self._pins.subtract(held)
            self._pins += Counter()

    async def commit(
        self, config: bytes, staged: Sequence[StagedLayer], *, parent: str = "", built: bool = False
    ) -> str:
        """Make an image of its configuration and its layers, some or all of them new; returns its id.

        All or nothing. The staged layers are used up. Raises ``InvalidConfig``, and ``ContentError`` when a layer is
        missing.
        """
        blob = None
        try:
            file = read_config(config)
            chain = chain_ids(file.diff_ids)
            id, blob = await in_thread(stage_bytes, self.layout, config)
            with self.using(chain):
                await in_thread(sync_filesystem, self.layout.data_root)
                new = {layer.chain_id: layer for layer in staged if layer.chain_id not in self.layers}
                missing = [layer for layer in chain if layer not in self.layers and layer not in new]
                if missing:
                    raise ContentError(f"layer {missing[0]} is missing")
                self._commit(id, file, blob, new, ImageRow(layers=chain[::-1], parent=parent, built=built))
        finally:
            await in_thread(_discard, staged, blob)
        return id

    def _commit(
        self, id: str, file: ImageConfigFile, blob: Path, new: Mapping[str, StagedLayer], row: ImageRow
    ) -> None:
        self._broken.pop(id, None)
        moves = [(blob, blob_path(self.layout, id))]
        for chain, layer in new.items():
            moves.append((layer.directory, layer_directory(self.layout, chain)))
            moves.append((layer.blob, blob_path(self.layout, layer.row.blob)))
        owned = self._owned()
        moves = [(source, place) for source, place in moves if self._relative(place) not in owned]
        with self._database.transaction():
            for _, place in moves:
                self._database.put(PENDING, self._relative(place), b"")
        for source, place in moves:
            os.rename(source, place)
        old = self._rows.get(id)
        if old is not None:
            row = old
        with self._database.transaction():
            for chain, layer in new.items():
                self._database.put(LAYER, chain, msgspec.json.encode(layer.row))
            self._database.put(IMAGE, id, msgspec.json.encode(row))
            for _, place in moves:
                self._database.delete(PENDING, self._relative(place))
        self.layers.update({chain: layer.row for chain, layer in new.items()})
        self._rows[id] = row
        self._files[id] = file

    def keep_manifest(self, id: str, media_type: str, data: bytes) -> None:
        """Remember how a registry describes an image, so that a push says the same."""
        self._database.put(MANIFEST, id, media_type.encode() + b"\n" + data)

    def manifest(self, id: str) -> tuple[str, bytes] | None:
        """The (media type, bytes) of an image's manifest, as last pulled or pushed; None where it never was."""
        body = self._database.get(MANIFEST, id)
        if body is None:
            return None
        media_type, _, data = body.partition(b"\n")
        return media_type.decode(), data

    def repack(self, chain: str, digest: str, size: int, staged: Path) -> None:
        """Store another archive of a layer, with the same content, instead of the one there is. Blocks for a moment."""
        row = self.layers[chain]
        old, new = blob_path(self.layout, row.blob), blob_path(self.layout, digest)
        if row.blob == digest:
            staged.unlink(missing_ok=True)
            return
        owned = self._owned()
        with self._database.transaction():
            for path in (old, new):
                self._database.put(PENDING, self._relative(path), b"")
        if self._relative(new) in owned:
            staged.unlink(missing_ok=True)
        else:
            os.rename(staged, new)
        row.blob, row.blob_size = digest, size
        with self._database.transaction():
            self._database.put(LAYER, chain, msgspec.json.encode(row))
            self._database.delete(PENDING, self._relative(new))
        self._drop([old])

    def delete(self, id: str) -> Sequence[str]:
        """Remove an image with its names, and the layers that nobody needs any more; returns their chain ids."""
        keys = self._keys.pop(id, set())
        with self._database.transaction():
            for key in keys:
                self._database.delete(REFERENCE, key)
            self._database.delete(IMAGE, id)
            self._database.delete(MANIFEST, id)
            self._database.put(PENDING, self._relative(blob_path(self.layout, id)), b"")
        for key in keys:
            del self._names[key]
        candidates = self._rows.pop(id).layers
        self._files.pop(id, None)
        gone = self._release(candidates)
        self._drop([blob_path(self.layout, id)])
        return gone

    def collect(self) -> Sequence[str]:
        """Remove the layers that neither an image nor a container stands on; returns their chain ids.

        To be called when a container was removed whose image had gone before it; ``recover`` does it as well.
        """
        return self._release(list(self.layers))

    def _release(self, candidates: Iterable[str]) -> Sequence[str]:
        rows_kept = (*self._rows.values(), *self._broken.values())
        kept = {layer for row in rows_kept for layer in row.layers} | set(self._pins)
        gone = [layer for layer in candidates if layer in self.layers and layer not in kept]
        if gone:
            held = self.rootfs.layers_in_use()
            gone = [layer for layer in gone if layer not in held]
        if not gone:
            return []
        rows = [self.layers.pop(layer) for layer in gone]
        blobs = {layer.blob for layer in self.layers.values()}
        paths = [layer_directory(self.layout, layer) for layer in gone]
        paths += [blob_path(self.layout, blob) for blob in {row.blob for row in rows} - blobs]
        with self._database.transaction():
            for layer in gone:
                self._database.delete(LAYER, layer)
            for path in paths:
                self._database.put(PENDING, self._relative(path), b"")
        self._drop(paths)
        return gone

    def _drop(self, paths: Sequence[Path]) -> None:
        owned = self._owned()
        for path in paths:
            if self._relative(path) not in owned:
                self.trash.discard(path)
        with self._database.transaction():
            for path in paths:
                self._database.delete(PENDING, self._relative(path))

    def _owned(self) -> set[str]:
        """Every path with a row, relative to the data root."""
        paths = [blob_path(self.layout, id) for id in (*self._rows, *self._broken)]
        for chain, row in self.layers.items():
            paths += (layer_directory(self.layout, chain), blob_path(self.layout, row.blob))
        return {self._relative(path) for path in paths}

    def _relative(self, path: Path) -> str:
        return str(path.relative_to(self.layout.data_root))

    # the operations

    def list(
        self,
        filters: Filters | None = None,
        *,
        all: bool = False,
        shared_size: bool = False,
        in_use: InUse | None = None,
        version: tuple[int, int] = (1, 43),
    ) -> _Summaries:
        """ImageList: newest first. With ``in_use`` the containers are counted. Raises ``BadRequest``, ``NotFound``."""
        from wherry.engine.images.views import list_images

        return list_images(self, filters or {}, all=all, shared_size=shared_size, in_use=in_use, version=version)

    def inspect(self, name: str, *, version: tuple[int, int] = (1, 43)) -> ImageInspect:
        """ImageInspect. Raises ``NotFound``, ``BadRequest``."""
        from wherry.engine.images.views import inspect_image

        return inspect_image(self, name, version)

    def history(self, name: str) -> _History:
        """ImageHistory: the newest step first. Raises ``NotFound``, ``BadRequest``."""
        from wherry.engine.images.views import image_history

        return image_history(self, name)

    def remove(self, name: str, *, force: bool = False, noprune: bool = False, in_use: InUse) -> _Deleted:
        """ImageDelete. Raises ``NotFound``, ``BadRequest``, ``Conflict``. Events ``untag`` and ``delete``."""
        from wherry.engine.images.remove import remove_image

        return remove_image(self, name, force=force, prune=not noprune, in_use=in_use)

    def prune(self, filters: Filters | None = None, *, in_use: InUse) -> ImagePruneResponse:
        """ImagePrune: images without a name that no container uses, or with ``dangling=false`` every unused one."""
        from wherry.engine.images.remove import prune_images

        return prune_images(self, filters or {}, in_use=in_use)

    def load(self, body: AsyncIterator[bytes], *, quiet: bool = True) -> AsyncIterator[dict[str, Any]]:
        """ImageLoad: the messages of reading a docker or OCI archive; an error comes as the last of them."""
        from wherry.engine.images.load import load

        return load(self, body, quiet=quiet)

    def save(self, names: Sequence[str]) -> AsyncIterator[bytes]:
        """ImageGet and ImageGetAll: a docker archive. Raises ``NotFound`` and ``BadRequest`` here, before any byte."""
        from wherry.engine.images.save import save

        return save(self, names)

    def import_(
        self,
        body: AsyncIterator[bytes],
        *,
        repo: str = "",
        tag: str = "",
        message: str = "",
        changes: Sequence[str] = (),
        platform: str = "",
    ) -> AsyncGenerator[dict[str, Any], None]:
        """ImageCreate with ``fromSrc=-``: one layer from an archive.

        Raises ``BadRequest`` and the like at the first step, before any message.
        """
        from wherry.engine.images.import_ import import_image

        return import_image(self, body, repo=repo, tag=tag, message=message, changes=changes, platform=platform)


def _discard(staged: Sequence[StagedLayer], blob: Path | None) -> None:
    for layer in staged:
        layer.discard()
    if blob is not None:
        blob.unlink(missing_ok=True)
