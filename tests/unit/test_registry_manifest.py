"""Manifests and indexes: which are believed, which are refused, and which entry a platform gets."""

from __future__ import annotations

import json
from typing import Any

import pytest

from wherry.engine.images.config import LARGEST
from wherry.engine.images.platform import Platform
from wherry.engine.images.reference import InvalidReference, Reference
from wherry.engine.images.registry import manifest as kinds
from wherry.engine.images.registry.errors import RegistryError, from_answer, pull_error
from wherry.engine.images.registry.manifest import Descriptor, check_image, choose, new_manifest, read_document
from wherry.engine.images.registry.pull import wanted

A = f"sha256:{'a' * 64}"


def entry(media_type: str = kinds.DOCKER_CONFIG, **more: Any) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": A, "size": 3, **more}


def manifest(**more: Any) -> dict[str, Any]:
    content = {
        "schemaVersion": 2,
        "mediaType": kinds.DOCKER_MANIFEST,
        "config": entry(),
        "layers": [entry(kinds.DOCKER_LAYER)],
    }
    return {key: value for key, value in {**content, **more}.items() if value is not ...}


def index(*manifests: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"schemaVersion": 2, "mediaType": kinds.OCI_INDEX, "manifests": list(manifests), **more}


def read(content: object, said: str = "") -> kinds.Document:
    return read_document(said, json.dumps(content).encode(), A)


def test_both_kinds_are_read_with_or_without_a_header() -> None:
    for said in ("", kinds.DOCKER_MANIFEST, f"{kinds.DOCKER_MANIFEST}; charset=utf-8", "application/json"):
        document = read(manifest(unknown=[1]), said)
        assert document.config is not None
        assert [layer.digest for layer in document.layers] == [A]
        assert document.manifests is None
    assert read(manifest(mediaType=...), kinds.OCI_MANIFEST).media_type == kinds.OCI_MANIFEST
    document = read(index(entry(kinds.OCI_MANIFEST)), kinds.OCI_INDEX)
    assert document.config is None
    assert document.manifests is not None


@pytest.mark.parametrize(
    ("content", "said", "why"),
    [
        (manifest(), kinds.OCI_INDEX, "calls the manifest"),
        (manifest(), kinds.OCI_MANIFEST, "calls the manifest"),
        (index(), kinds.DOCKER_MANIFEST, "calls the manifest"),
        (manifest(manifests=[]), kinds.DOCKER_MANIFEST, "only an index has"),
        (manifest(layers=...), "", "lacks config or layers"),
        (manifest(config=None), "", "lacks config or layers"),
        (index(layers=[]), "", "only a manifest has"),
        (index(config={}), "", "only a manifest has"),
        (manifest(mediaType=kinds.OCI_INDEX), "", "only a manifest has"),
        (manifest(mediaType=...), "", "unsupported media type none"),
        (manifest(mediaType=...), "text/html", "unsupported media type text/html"),
        (manifest(mediaType="application/x\n"), "", "unsupported media type"),
        (manifest(schemaVersion=3), "", "schema version 3"),
        (manifest(schemaVersion="2"), "", "cannot be read"),
        (manifest(layers={}), "", "cannot be read"),
        (manifest(layers=[entry(digest="sha256:../../etc")]), "", "invalid digest"),
        (manifest(layers=[entry(digest="md5:" + "a" * 32)]), "", "invalid digest"),
        (manifest(layers=[entry(size=-1)]), "", "no size"),
        (manifest(config={"digest": A}), "", "no size"),
        (manifest(layers=[entry()] * 501), "", "501 things"),
        (index(*[entry()] * 5001), "", "5001 things"),
        ([], "", "cannot be read"),
        (None, "", "cannot be read"),
    ],
)
def test_what_could_be_taken_for_two_things_is_refused(content: object, said: str, why: str) -> None:
    with pytest.raises(RegistryError, match=why):
        read(content, said)


@pytest.mark.parametrize("data", [b"", b"{", b"\xff", b"[" * 100_000, b'{"schemaVersion": 2'])
def test_broken_json_is_refused(data: bytes) -> None:
    with pytest.raises(RegistryError):
        read_document(kinds.OCI_MANIFEST, data, A)


def test_schema_1_is_refused_with_a_word_of_advice() -> None:
    old = {"schemaVersion": 1, "name": "x", "fsLayers": [], "history": []}
    for said in ("application/vnd.docker.distribution.manifest.v1+prettyjws", "application/json", ""):
        with pytest.raises(RegistryError, match=r"schema 1.*pushed anew"):
            read(old, said)
    with pytest.raises(RegistryError, match="schema 1"):
        read(manifest(fsLayers=[]), kinds.DOCKER_MANIFEST)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (manifest(config=entry("application/vnd.cncf.helm.config.v1+json")), "this is no image"),
        (manifest(config=entry(size=LARGEST + 1)), "too large"),
        (manifest(config=entry(digest=f"sha512:{'a' * 128}")), "another algorithm"),
        (manifest(layers=[entry("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip")]), "not to be had"),
        (manifest(layers=[entry("application/vnd.oci.image.layer.nondistributable.v1.tar+gzip")]), "not to be had"),
        (manifest(layers=[entry("application/vnd.oci.image.layer.v1.tar+encrypted")]), "unsupported media type"),
    ],
)
def test_what_is_no_image_for_this_engine_is_refused(content: dict[str, Any], why: str) -> None:
    with pytest.raises(RegistryError, match=why):
        check_image(read(content))


def platforms(*names: str) -> kinds.Document:
    entries = []
    for number, name in enumerate(names):
        system, architecture, variant = [*name.split("/"), "", ""][:3]
        of = {"os": system, "architecture": architecture, "variant": variant}
        made = entry(kinds.OCI_MANIFEST, platform=of) if name else entry(kinds.OCI_MANIFEST)
        entries.append({**made, "size": number})
    return read(index(*entries))


@pytest.mark.parametrize(
    ("there", "asked", "chosen"),
    [
        (["linux/arm64", "linux/amd64", "windows/amd64"], "linux/amd64", 1),
        (["linux/386", "linux/amd64"], "linux/amd64", 1),
        (["linux/386"], "linux/amd64", 0),
        (["linux/amd64/v3", "linux/amd64"], "linux/amd64", 1),
        (["linux/amd64/v2", "linux/amd64"], "linux/amd64/v3", 0),
        (["linux/arm64/v8"], "linux/arm64", 0),
        (["linux/arm/v7", "linux/arm64"], "linux/arm64", 1),
        (["linux/arm/v5", "linux/arm/v6", "linux/arm/v7"], "linux/arm/v6", 1),
        (["linux/arm"], "linux/arm/v7", 0),
        (["", "linux/amd64"], "linux/amd64", 1),
        (["unknown/unknown", ""], "linux/amd64", 1),
        (["linux/amd64", "linux/amd64"], "linux/amd64", 0),
        (["linux/arm/v7"], "linux/arm/v6", None),
        (["windows/amd64", "unknown/unknown"], "linux/amd64", None),
        ([], "linux/amd64", None),
    ],
)
def test_an_index_gives_the_best_entry_for_a_platform(there: list[str], asked: str, chosen: int | None) -> None:
    system, architecture, variant = [*asked.split("/"), ""][:3]
    document = platforms(*there)
    if chosen is None:
        with pytest.raises(RegistryError, match=f"no matching manifest for {asked} in the manifest list entries"):
            choose(document, Platform(system, architecture, variant))
    else:
        assert choose(document, Platform(system, architecture, variant)).size == chosen


def test_an_index_s_entry_of_another_kind_is_passed_over() -> None:
    document = read(index(entry("application/x-else"), entry(kinds.OCI_MANIFEST, size=9)))
    assert choose(document, Platform("linux", "amd64")).size == 9


def test_a_new_manifest_is_docker_s_unless_a_layer_is_of_a_newer_kind() -> None:
    config = Descriptor(media_type=kinds.DOCKER_CONFIG, digest=A, size=3)
    gzip = Descriptor(media_type=kinds.DOCKER_LAYER, digest=A, size=4)
    zstd = Descriptor(media_type=f"{kinds.OCI_LAYER}+zstd", digest=A, size=5)
    media_type, data = new_manifest(config, [gzip])
    assert media_type == kinds.DOCKER_MANIFEST
    assert data.startswith(b'{\n   "schemaVersion": 2,\n   "mediaType"')
    assert read_document(media_type, data, A).layers[0].media_type == kinds.DOCKER_LAYER
    media_type, data = new_manifest(config, [gzip, zstd])
    document = read_document(media_type, data, A)
    assert document.media_type == kinds.OCI_MANIFEST
    assert [layer.media_type for layer in document.layers] == [f"{kinds.OCI_LAYER}+gzip", f"{kinds.OCI_LAYER}+zstd"]
    assert document.config is not None
    assert document.config.media_type == kinds.OCI_CONFIG


@pytest.mark.parametrize(
    ("text", "tag", "found"),
    [
        ("busybox", "", Reference("docker.io/library/busybox")),
        ("busybox", "1", Reference("docker.io/library/busybox", "1")),
        ("busybox:2", "", Reference("docker.io/library/busybox", "2")),
        ("busybox:2", "1", Reference("docker.io/library/busybox", "1")),
        ("busybox:", "1", Reference("docker.io/library/busybox", "1")),
        ("busybox:2", A, Reference("docker.io/library/busybox", "", A)),
        ("a.example:5000/b", A, Reference("a.example:5000/b", "", A)),
    ],
)
def test_what_is_to_be_pulled(text: str, tag: str, found: Reference) -> None:
    assert wanted(text, tag) == found


@pytest.mark.parametrize(
    ("text", "tag"), [("Busybox", ""), ("busybox", "-x"), ("busybox", "md5:1"), (f"busybox@{A}", "1"), ("a b", "")]
)
def test_what_can_be_no_reference(text: str, tag: str) -> None:
    with pytest.raises(InvalidReference):
        wanted(text, tag)


@pytest.mark.parametrize(
    ("status", "body", "text", "answer"),
    [
        (404, "MANIFEST_UNKNOWN", "manifest for busybox:1 not found: manifest unknown: manifest unknown", 404),
        (404, "NAME_UNKNOWN", "repository busybox not found: name unknown: manifest unknown", 404),
        (
            403,
            "DENIED",
            "pull access denied for busybox, repository does not exist or may require 'docker login': ",
            404,
        ),
        (401, "UNAUTHORIZED", "unauthorized: manifest unknown", 500),
        (429, "TOOMANYREQUESTS", "toomanyrequests: manifest unknown", 500),
        (400, "", "received unexpected HTTP status: 400 Word", 500),
    ],
)
def test_a_registry_s_refusals_are_told_in_moby_s_words(status: int, body: str, text: str, answer: int) -> None:
    said = json.dumps({"errors": [{"code": body, "message": "manifest unknown"}] if body else []}).encode()
    error = pull_error(from_answer(status, "Word", said, ()), Reference("docker.io/library/busybox", "1"))
    assert error.status == answer
    assert error.message.startswith(text)


def test_a_registry_s_words_stay_on_their_line() -> None:
    said = json.dumps({"errors": [{"code": "X\n", "message": "a\r\nb\x1b[2J" + "c" * 5000}]}).encode()
    text = str(from_answer(400, "Word", said, ()))
    assert text.isprintable()
    assert len(text) < 1100
