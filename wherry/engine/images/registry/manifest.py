"""What registries say of images: manifests and indexes, docker's and OCI's, read with suspicion.

A document must be of one kind only, and its header, its own ``mediaType`` and its fields must agree: what one reader takes
for an index and another for a manifest is two images under one digest.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from wherry.engine.images.config import LARGEST
from wherry.engine.images.platform import Platform
from wherry.engine.images.registry.errors import RegistryError

LARGEST_MANIFEST = 4 << 20
_MOST_LAYERS = 500
_MOST_MANIFESTS = 5_000

DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"

ACCEPTED = (DOCKER_LIST, OCI_INDEX, DOCKER_MANIFEST, OCI_MANIFEST)
_MANIFESTS = frozenset({DOCKER_MANIFEST, OCI_MANIFEST})
_INDEXES = frozenset({DOCKER_LIST, OCI_INDEX})
_SCHEMA1 = "application/vnd.docker.distribution.manifest.v1+"
_CONFIGS = frozenset({DOCKER_CONFIG, OCI_CONFIG, "application/octet-stream", "application/json", "text/html", ""})
_LAYERS = frozenset(
    {
        DOCKER_LAYER,
        "application/vnd.docker.image.rootfs.diff.tar",
        "application/vnd.docker.image.rootfs.diff.tar.zstd",
        "application/vnd.docker.image.rootfs.diff.tar.gzip",
        OCI_LAYER,
        f"{OCI_LAYER}+gzip",
        f"{OCI_LAYER}+zstd",
        "application/octet-stream",
        "",
    }
)
_FOREIGN = re.compile(r"application/vnd\.(docker\.image\.rootfs\.foreign|oci\.image\.layer\.nondistributable)\..*")
_DIGEST = re.compile(r"sha256:[a-f0-9]{64}|sha384:[a-f0-9]{96}|sha512:[a-f0-9]{128}")


_ABSENT = msgspec.Raw(b"null")


class PlatformOf(msgspec.Struct):
    """The platform of an index's entry."""

    architecture: str = ""
    os: str = ""
    variant: str = ""
    os_version: str = msgspec.field(default="", name="os.version")
    os_features: list[str] | None = msgspec.field(default=None, name="os.features")


class Descriptor(msgspec.Struct, kw_only=True):
    """A piece of content: its type, digest, and bytes."""

    media_type: str = msgspec.field(default="", name="mediaType")
    digest: str = ""
    size: int = -1
    platform: PlatformOf | None = None


class _Fields(msgspec.Struct):
    schema_version: int = msgspec.field(default=0, name="schemaVersion")
    media_type: str = msgspec.field(default="", name="mediaType")
    config: msgspec.Raw = _ABSENT
    layers: msgspec.Raw = _ABSENT
    manifests: msgspec.Raw = _ABSENT
    fs_layers: msgspec.Raw = msgspec.field(default=_ABSENT, name="fsLayers")


@dataclass(frozen=True, slots=True)
class Document:
    """A manifest (``config`` and ``layers``, lowest first) or, with ``manifests``, an index."""

    media_type: str
    digest: str
    data: bytes
    config: Descriptor | None
    layers: Sequence[Descriptor]
    manifests: Sequence[Descriptor] | None

    @property
    def descriptor(self) -> Descriptor:
        return Descriptor(media_type=self.media_type, digest=self.digest, size=len(self.data))


def read_document(content_type: str, data: bytes, digest: str) -> Document:
    """Raises ``RegistryError`` for what is no manifest or index, or is both."""
    said = content_type.partition(";")[0].strip().lower()
    try:
        fields = msgspec.json.decode(data, type=_Fields)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RegistryError(f"the registry's manifest cannot be read: {error}") from None
    if said.startswith(_SCHEMA1) or fields.schema_version == 1 or _there(fields.fs_layers):
        raise RegistryError(
            "the image is of the format that was given up in 2019 (docker image manifest version 2, schema 1): "
            "it must be pushed anew by a newer tool"
        )
    media_type = fields.media_type or said
    if said in ACCEPTED and fields.media_type and fields.media_type != said:
        raise RegistryError(f"the registry calls the manifest {said}, the manifest itself {_shown(fields.media_type)}")
    if media_type not in ACCEPTED:
        raise RegistryError(f"unsupported media type {_shown(media_type) or 'none'} of the manifest")
    if fields.schema_version != 2:
        raise RegistryError(f"unsupported schema version {fields.schema_version} of the manifest")
    if media_type in _INDEXES:
        if _there(fields.layers) or _there(fields.config) or not _there(fields.manifests):
            raise RegistryError("the registry's index has what only a manifest has, or names no manifests: refused")
        manifests = _descriptors(fields.manifests, _MOST_MANIFESTS, "index")
        return Document(media_type, digest, data, None, (), manifests)
    if _there(fields.manifests) or not _there(fields.config) or not _there(fields.layers):
        raise RegistryError("the registry's manifest has what only an index has, or lacks config or layers: refused")
    config: Descriptor = _decoded(fields.config, Descriptor)
    layers = _descriptors(fields.layers, _MOST_LAYERS, "manifest")
    _check_descriptor(config)
    return Document(media_type, digest, data, config, layers, None)


def _there(raw: msgspec.Raw) -> bool:
    return bytes(raw) != b"null"


def _descriptors(raw: msgspec.Raw, most: int, what: str) -> list[Descriptor]:
    found: list[Descriptor] = _decoded(raw, list[Descriptor] | None) or []
    if len(found) > most:
        raise RegistryError(f"the {what} names {len(found)} things; {most} is the most there may be")
    for descriptor in found:
        _check_descriptor(descriptor)
    return found


def _decoded(raw: msgspec.Raw, kind: Any) -> Any:
    try:
        return msgspec.json.decode(raw, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RegistryError(f"the registry's manifest cannot be read: {error}") from None


def _check_descriptor(descriptor: Descriptor) -> None:
    if not _DIGEST.fullmatch(descriptor.digest):
        raise RegistryError(f"invalid digest {_shown(descriptor.digest)!r} in the manifest")
    if descriptor.size < 0:
        raise RegistryError(f"the manifest says no size of {descriptor.digest}")


def check_image(manifest: Document) -> Descriptor:
    """The configuration's descriptor. Raises ``RegistryError`` where the manifest is of no image that can be run here."""
    config = manifest.config
    assert config is not None
    if config.media_type not in _CONFIGS:
        raise RegistryError(f'Encountered remote "{_shown(config.media_type)}" when fetching: this is no image')
    if not config.digest.startswith("sha256:"):
        raise RegistryError(f"the image's id {config.digest} is by another algorithm than SHA-256")
    if config.size > LARGEST:
        raise RegistryError("the image's configuration is too large")
    for layer in manifest.layers:
        if _FOREIGN.fullmatch(layer.media_type):
            raise RegistryError(f"the layer {layer.digest} is not to be had from the registry ({layer.media_type})")
        if layer.media_type not in _LAYERS:
            raise RegistryError(f"unsupported media type {_shown(layer.media_type)} of the layer {layer.digest}")
    return config


def choose(index: Document, wanted: Platform) -> Descriptor:
    """The entry of an index for a platform; the best, where several would do. Raises ``RegistryError``."""
    ranks = _acceptable(wanted)
    best: tuple[int, Descriptor] | None = None
    for entry in index.manifests or ():
        if entry.media_type not in ACCEPTED:
            continue
        rank = ranks.get(_normal(entry.platform)) if entry.platform is not None else len(ranks)
        if rank is not None and (best is None or rank < best[0]):
            best = (rank, entry)
    if best is None:
        raise RegistryError(f"no matching manifest for {wanted} in the manifest list entries")
    return best[1]


def _normal(platform: PlatformOf) -> tuple[str, str, str]:
    return platform.os, platform.architecture, _variant(platform.architecture, platform.variant)


def _variant(architecture: str, variant: str) -> str:
    if (architecture, variant) in (("amd64", "v1"), ("arm64", "v8"), ("arm64", "8")):
        return ""
    if architecture == "arm":
        return variant if variant.startswith("v") else f"v{variant or 7}"
    return variant


def _acceptable(wanted: Platform) -> dict[tuple[str, str, str], int]:
    """What may run on a platform, the best first."""
    system, architecture, _ = wanted
    variant = _variant(architecture, wanted.variant)
    found = [(system, architecture, variant)]
    if architecture == "amd64":
        if variant:
            found += [(system, architecture, f"v{lower}") for lower in (3, 2) if f"v{lower}" < variant]
            found.append((system, architecture, ""))
        found.append((system, "386", ""))
    elif architecture == "arm":
        found += [(system, "arm", f"v{lower}") for lower in (7, 6, 5) if f"v{lower}" < variant]
    elif architecture == "arm64":
        found += [(system, "arm64", ""), *((system, "arm", f"v{lower}") for lower in (8, 7, 6, 5))]
    return {key: rank for rank, key in reversed(list(enumerate(found)))}


def _shown(text: str) -> str:
    return "".join(char if char.isprintable() else "?" for char in text[:200])


def new_manifest(config: Descriptor, layers: Sequence[Descriptor]) -> tuple[str, bytes]:
    """A manifest of docker's kind, or of OCI's where a layer is of a kind that docker's does not know; its type, itself."""
    oci = any(layer.media_type.startswith(OCI_LAYER) for layer in layers)
    media_type = OCI_MANIFEST if oci else DOCKER_MANIFEST
    content = {
        "schemaVersion": 2,
        "mediaType": media_type,
        "config": _as_json(config, OCI_CONFIG if oci else DOCKER_CONFIG),
        "layers": [
            _as_json(layer, f"{OCI_LAYER}+gzip" if oci and layer.media_type == DOCKER_LAYER else layer.media_type)
            for layer in layers
        ],
    }
    return media_type, msgspec.json.format(msgspec.json.encode(content), indent=3)


def _as_json(descriptor: Descriptor, media_type: str) -> dict[str, object]:
    return {"mediaType": media_type, "size": descriptor.size, "digest": descriptor.digest}
