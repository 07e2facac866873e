"""Images to an archive: ``docker save`` (ImageGet, ImageGetAll), streamed.

One archive for all readers: a docker archive (``manifest.json``) and an OCI layout (``index.json``) over the same blobs. The
same images give the same bytes.
"""

from __future__ import annotations

import tarfile
from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from wherry.api.errors import NotFound, ServerError
from wherry.engine.blocking import in_thread
from wherry.engine.images import reference
from wherry.engine.images.config import LARGEST
from wherry.engine.images.content import ContentError, Slice, blob_path, digest_of, read_blob
from wherry.engine.images.layers import Hashing, LayerRow
from wherry.engine.images.reference import Reference
from wherry.engine.images.registry.manifest import OCI_CONFIG, OCI_INDEX, OCI_LAYER, OCI_MANIFEST
from wherry.engine.store.compression import decompressed

if TYPE_CHECKING:
    from wherry.engine.images.store import Image, Images

_CHUNK = 1 << 20
_BLOCK = 512
_END = 20 * _BLOCK


def save(images: Images, names: Sequence[str]) -> AsyncIterator[bytes]:
    """The archive's bytes. Raises ``NotFound`` and ``BadRequest`` at once. Event ``save`` for each image.

    A name without a tag stands for all tags of its repository.
    """
    chosen: dict[str, list[Reference]] = {}
    for name in names:
        for id, given in _resolve(images, name):
            known = chosen.setdefault(id, [])
            if given is not None and given not in known:
                known.append(given)
    for id in chosen:
        if not images.by_id(id).layer_ids:
            raise ServerError("empty export - not implemented")
    return _stream(images, [(images.by_id(id), given) for id, given in chosen.items()])


def _resolve(images: Images, text: str) -> list[tuple[str, Reference | None]]:
    if reference.image_id(text) is None:
        name = reference.parse(text)
        if not name.tag and not name.digest:
            tags = [(id, found) for found, id in images.tags_of(name.name) if not found.digest]
            if tags:
                return list(tags)
        found = images.named(name)
        if found is not None:
            return [(found, None if name.digest else name.tagged())]
        if name.tag or name.digest:
            raise NotFound(f"No such image: {name.tagged()}")
    return [(images.get(text).id, None)]


async def _stream(images: Images, chosen: Sequence[tuple[Image, list[Reference]]]) -> AsyncIterator[bytes]:
    listed: list[dict[str, Any]] = []  # manifest.json, for readers of docker archives
    index: list[dict[str, Any]] = []  # index.json, for readers of OCI layouts
    repositories: dict[str, dict[str, str]] = {}
    written: set[str] = set()
    yield _file("oci-layout", b'{"imageLayoutVersion":"1.0.0"}')
    yield _directory("blobs/") + _directory("blobs/sha256/")
    for image, names in chosen:
        with images.using(image.layer_ids):
            rows = []
            for chain in reversed(image.layer_ids):
                row = images.layers.get(chain)
                if row is None:
                    raise ContentError(f"layer {chain} is missing")
                rows.append(row)
            for row in rows:
                if row.diff_id in written:
                    continue
                written.add(row.diff_id)
                yield _header(_blob(row.diff_id), row.tar_size)
                async for data in _layer(images, row):
                    yield data
                yield _padding(row.tar_size)
            config = await in_thread(read_blob, images.layout, image.id, LARGEST)
            manifest = _manifest(image.id, len(config), rows)
            described = _described(OCI_MANIFEST, digest_of(manifest), len(manifest))
            for id, data in ((image.id, config), (described["digest"], manifest)):
                if id not in written:
                    written.add(id)
                    yield _file(_blob(id), data)
        listed.append(
            {
                "Config": _blob(image.id),
                "RepoTags": [str(name) for name in names] or None,
                "Layers": [_blob(row.diff_id) for row in rows],
            }
        )
        index += [{**described, "annotations": _annotations(name)} for name in names] or [described]
        for name in names:
            tags = repositories.setdefault(name.familiar_name, {})
            tags[name.tag] = image.layer_ids[0].removeprefix("sha256:")
        images.emit(image.id, "save")
    content = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": index}
    yield _file("index.json", msgspec.json.encode(content))
    yield _file("manifest.json", msgspec.json.encode(listed) + b"\n")
    if repositories:
        yield _file("repositories", msgspec.json.encode(repositories) + b"\n")
    yield b"\0" * _END


def _manifest(id: str, config_size: int, rows: Sequence[LayerRow]) -> bytes:
    """OCI's, of the layers as they are in the archive: unpacked."""
    content = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": _described(OCI_CONFIG, id, config_size),
        "layers": [_described(OCI_LAYER, row.diff_id, row.tar_size) for row in rows],
    }
    return msgspec.json.encode(content)


def _described(media_type: str, digest: str, size: int) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": digest, "size": size}


def _annotations(name: Reference) -> dict[str, str]:
    return {"io.containerd.image.name": name.key, "org.opencontainers.image.ref.name": name.tag}


def _blob(digest: str) -> str:
    return f"blobs/sha256/{digest.removeprefix('sha256:')}"


async def _layer(images: Images, row: LayerRow) -> AsyncIterator[bytes]:
    """A layer's archive, unpacked and checked. Raises ``ContentError`` before its last bytes if it is damaged."""
    source = await in_thread(Slice, blob_path(images.layout, row.blob))
    try:
        reader = Hashing(decompressed(source))
        last = b""
        while data := await in_thread(reader.read, _CHUNK):
            if last:
                yield last
            last = data
            if reader.size > row.tar_size:
                break
        if reader.size != row.tar_size or reader.digest != row.diff_id:
            raise ContentError(f"content {row.blob} is damaged")
        yield last
    finally:
        source.close()


def _header(name: str, size: int) -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.mode = size, 0o644
    return info.tobuf(tarfile.GNU_FORMAT)


def _directory(name: str) -> bytes:
    info = tarfile.TarInfo(name)
    info.type, info.mode = tarfile.DIRTYPE, 0o755
    return info.tobuf(tarfile.GNU_FORMAT)


def _file(name: str, data: bytes) -> bytes:
    return _header(name, len(data)) + data + _padding(len(data))


def _padding(size: int) -> bytes:
    return b"\0" * (-size % _BLOCK)
