"""``wherry fsck``: rows that were lost are built anew from what lies in the data root.

A container's row comes from its ``container.json``, an image's from its configuration among the blobs, a layer's from its
directory and archive, a volume's from its directory. What no file tells is lost: names of images that no container was
made from, addresses, and whether a container was running: it counts as stopped, and what is still
running of it ends with the engine's next start. Nothing is ever removed here.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from wherry.engine.containers.container import Spec, State
from wherry.engine.containers.registry import KIND
from wherry.engine.images.config import LARGEST, InvalidConfig, read_config
from wherry.engine.images.image import ImageRow
from wherry.engine.images.layers import LayerRow, chain_ids
from wherry.engine.images.reference import InvalidReference, parse
from wherry.engine.images.store import IMAGE, LAYER, REFERENCE
from wherry.engine.store.compression import CompressionError, decompressed
from wherry.engine.store.database import Database, NameTaken
from wherry.engine.store.layout import Layout
from wherry.engine.store.rootfs import layer_diff, tree_size
from wherry.engine.volumes.volumes import ANONYMOUS, DESCRIPTION, VOLUME, VolumeRow

UNKNOWN = 137  # the exit code of a container that has run, and nobody knows how it ended
_CHUNK = 1 << 20


def fsck(data_root: Path) -> list[str]:
    """Give everything in the data root that has no row a row again; says in sentences what was done.

    A database that cannot be read is set aside first. Raises ``RuntimeError`` when an engine uses the data root.
    """
    layout = Layout(data_root, data_root)
    if not layout.containers.is_dir():
        raise RuntimeError(f"{data_root} is not the data root of an engine")
    with _locked(layout):
        said: list[str] = []
        database = _open(layout, said)
        try:
            with database.transaction():
                specs = _containers(layout, database, said)
                _images(layout, database, specs, said)
                _volumes(layout, database, specs, said)
        finally:
            database.close()
        return said


@contextmanager
def _locked(layout: Layout) -> Iterator[None]:
    fd = os.open(layout.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RuntimeError(f"an engine uses {layout.data_root}: stop it first") from None
        yield
    finally:
        os.close(fd)


def _open(layout: Layout, said: list[str]) -> Database:
    try:
        database = Database(layout.database)
        database.all(KIND)
        return database
    except sqlite3.DatabaseError as error:
        place = layout.database.with_name(f"state.db.broken-{time.strftime('%Y%m%d-%H%M%S')}")
        for suffix in ("", "-wal", "-shm"):
            part = layout.database.with_name(layout.database.name + suffix)
            if part.exists():
                part.rename(place.with_name(place.name + suffix))
        said.append(f"the database cannot be read ({error}): it was renamed to {place}")
        return Database(layout.database)


def _containers(layout: Layout, database: Database, said: list[str]) -> list[Spec]:
    specs = []
    for directory in sorted(layout.containers.iterdir()):
        known = database.get(KIND, directory.name)
        try:
            spec = msgspec.json.decode(known or (directory / "container.json").read_bytes(), type=Spec)
        except (OSError, msgspec.DecodeError) as error:
            said.append(f"container {directory.name[:12]} cannot be restored: {error}")
            continue
        if known is None:
            if spec.id != directory.name:
                said.append(f"{directory} describes another container, {spec.id[:12]}: it is left as it is")
                continue
            spec.state = _state(layout, spec)
            _put(database, spec)
            said.append(f"container {spec.id[:12]} ({spec.name}) has its row again, as {spec.state.status}")
        specs.append(spec)
    return specs


def _state(layout: Layout, spec: Spec) -> State:
    """What can be told of a container's state: it ran if it has a log."""
    try:
        ended = layout.log(spec.id).stat().st_mtime_ns
    except OSError:
        return State()
    return State(started_at=spec.created, finished_at=ended, exit_code=UNKNOWN)


def _put(database: Database, spec: Spec) -> None:
    try:
        database.put(KIND, spec.id, msgspec.json.encode(spec), spec.name)
    except NameTaken:
        spec.name = f"{spec.name}-{spec.id[:12]}"
        database.put(KIND, spec.id, msgspec.json.encode(spec), spec.name)


def _images(layout: Layout, database: Database, specs: list[Spec], said: list[str]) -> None:
    blobs = sorted((layout.blobs / "sha256").iterdir())
    known = {id for id, _, _ in database.all(IMAGE)}
    lost: dict[str, list[str]] = {}  # image id → diff ids
    for path in blobs:
        id = f"sha256:{path.name}"
        try:
            if id not in known and path.stat().st_size <= LARGEST:
                lost[id] = read_config(path.read_bytes()).diff_ids
        except InvalidConfig:
            continue
    layers = _Layers(layout, database, blobs)
    for id, diff_ids in lost.items():
        chain = chain_ids(diff_ids)
        if all(layer_diff(layout, layer).is_dir() for layer in chain):
            layers.restore(chain[::-1], diff_ids[::-1])
            database.put(IMAGE, id, msgspec.json.encode(ImageRow(layers=chain[::-1])))
            known.add(id)
            said.append(f"image {id[7:19]} has its row again")
    for spec in specs:
        layers.restore(_layers_below(layout, spec.id))
        key = _key(spec)
        if key and spec.image_id in known and database.get(REFERENCE, key) is None:
            database.put(REFERENCE, key, spec.image_id.encode())
            said.append(f"image {spec.image_id[7:19]} is called {spec.image_reference} again")


def _key(spec: Spec) -> str:
    """Under which key a container's reference names its image; empty where it was given by its id."""
    if spec.image_id.removeprefix("sha256:").startswith(spec.image_reference.removeprefix("sha256:")):
        return ""
    try:
        return parse(spec.image_reference).tagged().key
    except InvalidReference:
        return ""


def _layers_below(layout: Layout, container_id: str) -> list[str]:
    """The chain ids that a container stands on, topmost first: its image may be gone."""
    try:
        return [str(layer) for layer in json.loads((layout.rootfs / container_id / "layers").read_bytes())]
    except (OSError, ValueError):
        return []


class _Layers:
    def __init__(self, layout: Layout, database: Database, blobs: list[Path]) -> None:
        self._layout = layout
        self._database = database
        self._blobs = blobs
        self._archives: dict[str, tuple[str, int, int]] | None = None

    def restore(self, chain: list[str], diff_ids: list[str] | None = None) -> None:
        """Give layers without a row one; both lists topmost first."""
        for number, layer in enumerate(chain):
            diff = layer_diff(self._layout, layer)
            if self._database.get(LAYER, layer) is not None or not diff.is_dir():
                continue
            parent = chain[number + 1] if number + 1 < len(chain) else ""
            diff_id = diff_ids[number] if diff_ids else ("" if parent else layer)
            blob, blob_size, tar_size = self._archive(diff_id)
            row = LayerRow(
                diff_id=diff_id, parent=parent, size=tree_size(diff), tar_size=tar_size, blob=blob, blob_size=blob_size
            )
            self._database.put(LAYER, layer, msgspec.json.encode(row))

    def _archive(self, diff_id: str) -> tuple[str, int, int]:
        """(digest, size, size unpacked) of the archive of a layer; unpacks and digests every blob, once."""
        if self._archives is None:
            self._archives = {}
            for path in self._blobs:
                digest, size = _digest_unpacked(path)
                self._archives[digest] = (f"sha256:{path.name}", path.stat().st_size, size)
        return self._archives.get(diff_id, ("", 0, 0))


def _digest_unpacked(path: Path) -> tuple[str, int]:
    digest, size = hashlib.sha256(), 0
    with path.open("rb") as file:
        source = decompressed(file)
        try:
            while data := source.read(_CHUNK):
                digest.update(data)
                size += len(data)
        except CompressionError:
            return "", 0
    return f"sha256:{digest.hexdigest()}", size


def _volumes(layout: Layout, database: Database, specs: list[Spec], said: list[str]) -> None:
    anonymous = {point.name for spec in specs for point in spec.mounts if point.anonymous}
    for directory in sorted(layout.volumes.iterdir()):
        if database.get(VOLUME, directory.name) is None and (directory / "_data").is_dir():
            row = _volume_row(directory)
            if row is None:
                labels = {ANONYMOUS: ""} if directory.name in anonymous else None
                row = VolumeRow(created=directory.stat().st_mtime_ns, labels=labels)
            database.put(VOLUME, directory.name, msgspec.json.encode(row))
            said.append(f"volume {directory.name[:64]} has its row again")


def _volume_row(directory: Path) -> VolumeRow | None:
    try:
        return msgspec.json.decode((directory / DESCRIPTION).read_bytes(), type=VolumeRow)
    except (OSError, msgspec.MsgspecError):
        return None
