"""What an archive of images holds: a docker archive (``manifest.json``) or an OCI layout (``index.json``).

The archive lies in a file; only its index is read into memory, everything bounded.
"""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from wherry.engine.images import reference
from wherry.engine.images.config import LARGEST
from wherry.engine.images.content import Slice, digest_of, free_space, no_space, temporary
from wherry.engine.images.platform import host_platform
from wherry.engine.images.reference import Reference
from wherry.engine.store import tarread
from wherry.engine.store.compression import decompressed, detect
from wherry.engine.store.layout import Layout
from wherry.engine.store.tarread import TarReader

T = TypeVar("T")

_MOST_MEMBERS = 200_000
_MOST_IMAGES = 1_000
_DEEPEST = 10
_CHUNK = 1 << 20
_INDEX_TYPES = frozenset(
    {"application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json"}
)


class ArchiveError(ValueError):
    """The archive holds no images, or contradicts itself; the text says what."""


@dataclass(frozen=True, slots=True)
class Member:
    """Where a file of the archive lies in the (uncompressed) archive file, or where its link leads."""

    offset: int
    size: int
    link: str = ""


@dataclass(frozen=True, slots=True)
class PlannedLayer:
    """``digest`` is what the archive says of the bytes as they are stored there; empty where it says nothing."""

    name: str
    member: Member
    digest: str = ""


@dataclass(frozen=True, slots=True)
class PlannedImage:
    """One image to load. ``layers`` is lowest first."""

    config: bytes
    layers: tuple[PlannedLayer, ...]
    names: tuple[Reference, ...]


class _ManifestItem(msgspec.Struct):
    config: str = msgspec.field(default="", name="Config")
    repo_tags: list[str] | None = msgspec.field(default=None, name="RepoTags")
    layers: list[str] | None = msgspec.field(default=None, name="Layers")


class _Platform(msgspec.Struct):
    architecture: str = ""
    os: str = ""


class _Descriptor(msgspec.Struct):
    media_type: str = msgspec.field(default="", name="mediaType")
    digest: str = ""
    platform: _Platform | None = None
    annotations: dict[str, str] | None = None


class _Index(msgspec.Struct):
    manifests: list[_Descriptor] | None = None


class _Manifest(msgspec.Struct):
    config: _Descriptor | None = None
    layers: list[_Descriptor] | None = None
    manifests: list[_Descriptor] | None = None


class Archive:
    """An opened archive. ``path`` is where its members' offsets count from; ``close`` removes what it made itself."""

    def __init__(self, layout: Layout, path: Path) -> None:
        """Reads the whole archive once. Blocks. Raises ``TarError``, ``CompressionError``, ``ArchiveError``."""
        self.path = path
        self._own: Path | None = None
        source = Slice(path)
        try:
            if detect(source.peek(6)) is not None:
                self.path = self._own = temporary(layout, "archive")
                _unpack(layout, source, self._own)
            self._members = _index(self.path)
        except BaseException:
            self.close()
            raise
        finally:
            source.close()

    def close(self) -> None:
        if self._own is not None:
            self._own.unlink(missing_ok=True)

    def plan(self) -> list[PlannedImage]:
        """The images to load, in the archive's order. Raises ``ArchiveError``, ``InvalidReference``."""
        if "manifest.json" in self._members:
            return self._docker()
        if "index.json" in self._members:
            return self._oci()
        raise ArchiveError("neither manifest.json nor index.json is in the archive: not one of images")

    # docker archive

    def _docker(self) -> list[PlannedImage]:
        items = self._json("manifest.json", list[_ManifestItem] | None)
        if items is None:
            raise ArchiveError("invalid manifest, manifest cannot be null (but can be [])")
        planned = []
        for item in items[: _MOST_IMAGES + 1]:
            layers = tuple(PlannedLayer(name, self._find(name)) for name in item.layers or [])
            names = []
            for text in item.repo_tags or []:
                name = reference.parse(text)
                if not name.tag:
                    raise ArchiveError(f'invalid tag "{text}"')
                names.append(Reference(name.name, name.tag))
            planned.append(PlannedImage(self._read(item.config), layers, tuple(names)))
        return _bounded(planned)

    # OCI layout

    def _oci(self) -> list[PlannedImage]:
        index = self._json("index.json", _Index)
        planned = []
        for descriptor in (index.manifests or [])[: _MOST_IMAGES + 1]:
            manifest = self._manifest(descriptor, 0)
            if manifest is None or manifest.config is None:
                continue
            layers = tuple(
                PlannedLayer(layer.digest, self._find(_blob_name(layer.digest)), layer.digest)
                for layer in manifest.layers or []
            )
            config = self._blob(manifest.config.digest)
            planned.append(PlannedImage(config, layers, _oci_names(descriptor.annotations or {})))
        if not planned:
            raise ArchiveError("no image for this machine is in the archive")
        return _bounded(planned)

    def _manifest(self, descriptor: _Descriptor, depth: int) -> _Manifest | None:
        """The manifest that a descriptor leads to; of an index, the one for this machine."""
        if depth > _DEEPEST:
            raise ArchiveError("the archive's indexes are nested too deeply")
        data = self._blob(descriptor.digest)
        manifest: _Manifest = _decoded(data, _Manifest, descriptor.digest)
        if descriptor.media_type not in _INDEX_TYPES and manifest.manifests is None:
            return manifest
        system, architecture, _ = host_platform()
        choices = [
            choice
            for choice in manifest.manifests or []
            if _blob_name(choice.digest) in self._members and (choice.platform is None or choice.platform.os == system)
        ]
        choices.sort(key=lambda choice: choice.platform is None or choice.platform.architecture != architecture)
        return self._manifest(choices[0], depth + 1) if choices else None

    def _blob(self, digest: str) -> bytes:
        data = self._read(_blob_name(digest))
        if digest_of(data) != digest:
            raise ArchiveError(f"the content of {digest} is not what its digest says")
        return data

    # members

    def _find(self, name: str) -> Member:
        """A member by name, links followed inside the archive."""
        path = _clean(name)
        for _ in range(_DEEPEST):
            member = self._members.get(path)
            if member is None:
                break
            if not member.link:
                return member
            path = member.link
        raise ArchiveError(f"{name[:200]!r} is not in the archive")

    def _read(self, name: str) -> bytes:
        member = self._find(name)
        if member.size > LARGEST:
            raise ArchiveError(f"{name[:200]!r} is too large")
        source = Slice(self.path, member.offset, member.size)
        try:
            return source.read()
        finally:
            source.close()

    def _json(self, name: str, kind: type[T] | Any) -> T | Any:
        return _decoded(self._read(name), kind, name)


def _decoded(data: bytes, kind: Any, name: str) -> Any:
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.DecodeError, RecursionError) as error:
        raise ArchiveError(f"{name} of the archive is invalid: {error}") from None


def _bounded(planned: list[PlannedImage]) -> list[PlannedImage]:
    if len(planned) > _MOST_IMAGES:
        raise ArchiveError(f"the archive holds more than {_MOST_IMAGES} images")
    return planned


def _blob_name(digest: str) -> str:
    algorithm, _, digits = digest.partition(":")
    return f"blobs/{algorithm}/{digits}"


def _oci_names(annotations: Mapping[str, str]) -> tuple[Reference, ...]:
    """The whole name where a tool left one; a bare tag names nothing."""
    text = annotations.get("io.containerd.image.name", "")
    if not text:
        text = annotations.get("org.opencontainers.image.ref.name", "")
        if ":" not in text and "/" not in text:
            return ()
    name = reference.parse(text).tagged()
    return () if name.digest else (name,)


def _clean(name: str) -> str:
    """A name relative to the archive's root; ``..`` does not lead out."""
    return posixpath.normpath(f"/{name}").lstrip("/")


def _index(path: Path) -> dict[str, Member]:
    members: dict[str, Member] = {}
    with open(path, "rb", buffering=_CHUNK) as file:
        for entry in TarReader(file):
            name = _clean(entry.name.decode("utf-8", "surrogateescape"))
            if entry.type == tarread.REGULAR and entry.sparse is None:
                members[name] = Member(file.tell(), entry.size)
            elif entry.type in (tarread.SYMLINK, tarread.LINK):
                link = entry.link.decode("utf-8", "surrogateescape")
                if entry.type == tarread.SYMLINK and not link.startswith("/"):
                    link = posixpath.join(posixpath.dirname(name), link)
                members[name] = Member(0, 0, _clean(link))
            if len(members) > _MOST_MEMBERS:
                raise ArchiveError(f"the archive has more than {_MOST_MEMBERS} members")
    return members


def _unpack(layout: Layout, source: Slice, target: Path) -> None:
    """Write the decompressed archive to ``target``, as long as there is room."""
    reader = decompressed(source)
    with open(target, "wb") as file:
        for count in range(1 << 40):
            data = reader.read(_CHUNK)
            if not data:
                return
            if count % 16 == 0 and free_space(layout) < 16 * _CHUNK:
                raise no_space(layout)
            file.write(data)
