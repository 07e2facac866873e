"""Images to an archive: ``docker save`` (ImageGet, ImageGetAll). The docker archive of version 1.2, streamed."""

from __future__ import annotations

import tarfile
from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from wherry.api.errors import NotFound, ServerError
from wherry.engine.blocking import in_thread
from wherry.engine.images import reference
from wherry.engine.images.config import LARGEST, format_time
from wherry.engine.images.content import ContentError, Slice, blob_path, read_blob
from wherry.engine.images.layers import Hashing, LayerRow
from wherry.engine.images.reference import Reference
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
    manifest: list[dict[str, Any]] = []
    repositories: dict[str, dict[str, str]] = {}
    written: dict[str, str] = {}  # diff id → the path of its archive
    done: set[str] = set()  # chain ids
    for image, names in chosen:
        with images.using(image.layer_ids):
            config = await in_thread(read_blob, images.layout, image.id, LARGEST)
            paths = []
            created = max(0, image.created // 1_000_000_000)
            for chain in reversed(image.layer_ids):
                row = images.layers.get(chain)
                if row is None:
                    raise ContentError(f"layer {chain} is missing")
                directory = chain.removeprefix("sha256:")
                paths.append(f"{directory}/layer.tar")
                if chain in done:
                    continue
                done.add(chain)
                yield _legacy_files(image, chain, row.parent, created)
                if row.diff_id in written:
                    yield _link(paths[-1], f"../{written[row.diff_id]}", created)
                    continue
                written[row.diff_id] = paths[-1]
                yield _header(paths[-1], row.tar_size, created)
                async for data in _layer(images, row):
                    yield data
                yield _padding(row.tar_size)
            yield _file(f"{image.id.removeprefix('sha256:')}.json", config, created)
        manifest.append(
            {
                "Config": f"{image.id.removeprefix('sha256:')}.json",
                "RepoTags": [str(name) for name in names] or None,
                "Layers": paths,
            }
        )
        for name in names:
            tags = repositories.setdefault(name.familiar_name, {})
            tags[name.tag] = image.layer_ids[0].removeprefix("sha256:")
        images.emit(image.id, "save")
    yield _file("manifest.json", msgspec.json.encode(manifest) + b"\n", 0)
    if repositories:
        yield _file("repositories", msgspec.json.encode(repositories) + b"\n", 0)
    yield b"\0" * _END


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


def _legacy_files(image: Image, chain: str, parent: str, created: int) -> bytes:
    """The directory of a layer, as readers of before ``manifest.json`` know it."""
    directory = chain.removeprefix("sha256:")
    about = {"id": directory, "created": format_time(image.created), "os": "linux"}
    if parent:
        about["parent"] = parent.removeprefix("sha256:")
    info = tarfile.TarInfo(f"{directory}/")
    info.type, info.mode, info.mtime = tarfile.DIRTYPE, 0o755, created
    return (
        info.tobuf(tarfile.GNU_FORMAT)
        + _file(f"{directory}/VERSION", b"1.0", created)
        + _file(f"{directory}/json", msgspec.json.encode(about), created)
    )


def _header(name: str, size: int, mtime: int) -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.mode, info.mtime = size, 0o644, mtime
    return info.tobuf(tarfile.GNU_FORMAT)


def _link(name: str, target: str, mtime: int) -> bytes:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.mode, info.mtime = tarfile.SYMTYPE, target, 0o777, mtime
    return info.tobuf(tarfile.GNU_FORMAT)


def _file(name: str, data: bytes, mtime: int) -> bytes:
    return _header(name, len(data), mtime) + data + _padding(len(data))


def _padding(size: int) -> bytes:
    return b"\0" * (-size % _BLOCK)
