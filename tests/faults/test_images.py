"""Hostile images and registries: the cases of images.md, refused or contained; nothing of the host is touched."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import images as support
from tests.support.images import Store, digest, gzipped, tar
from tests.support.registry import (
    FakeRegistry,
    Reply,
    fetch,
    with_registry,
)
from wherry.api.errors import ApiError
from wherry.engine.images.registry import manifest as kinds

A, B, C, D = (tar([(name, name.encode() * 5000)]) for name in "abcd")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with support.store(tmp_path) as made:
        yield made


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("download", "push"):
        monkeypatch.setattr(f"wherry.engine.images.registry.{module}.retry_delay", lambda attempt: 0.0)


def honest(fake: FakeRegistry) -> dict[str, Any]:
    top = fake.add_image([A, B], "latest")
    content: dict[str, Any] = json.loads(fake.manifests[top["digest"]][1])
    return content


def wrong_manifest_digest(fake: FakeRegistry) -> str:
    fake.manifests[f"sha256:{'0' * 64}"] = fake.manifests["latest"]
    return f"sha256:{'0' * 64}"


def lying_header(fake: FakeRegistry) -> str:
    media_type, data = fake.manifests["latest"]
    lie = {"Content-Type": media_type, "Docker-Content-Digest": f"sha256:{'0' * 64}"}
    fake.hooks.append(lambda a: Reply(body=data, headers=lie) if "manifests" in a.path else None)
    return "latest"


def swapped_layer(fake: FakeRegistry) -> str:
    fake.blobs[digest(gzipped(B))] = gzipped(C)[: len(gzipped(B))].ljust(len(gzipped(B)), b"x")
    return "latest"


def truncated_layer(fake: FakeRegistry) -> str:
    name = digest(gzipped(B))
    fake.hooks.append(lambda a: Reply(body=fake.blobs[name], cut=10) if a.path.endswith(name) else None)
    return "latest"


def other_content(fake: FakeRegistry) -> str:
    """Layers whose digests are right, of another image than the configuration says."""
    content = honest(fake)
    content["layers"][1] = fake.add_blob(gzipped(C), kinds.DOCKER_LAYER)
    fake.add_manifest(content, "latest")
    return "latest"


def missing_layer(fake: FakeRegistry) -> str:
    content = honest(fake)
    content["layers"].pop()
    fake.add_manifest(content, "latest")
    return "latest"


def absent_blob(fake: FakeRegistry) -> str:
    del fake.blobs[digest(gzipped(B))]
    return "latest"


def not_an_archive(fake: FakeRegistry) -> str:
    content = honest(fake)
    content["layers"][1] = fake.add_blob(b"\x1f\x8b\x08" + b"junk" * 100, kinds.DOCKER_LAYER)
    fake.add_manifest(content, "latest")
    return "latest"


def climbing_layer(fake: FakeRegistry) -> str:
    fake.add_image([tar([("../../../../tmp/wherry-canary", b"x")])], "latest")
    return "latest"


def bomb(fake: FakeRegistry) -> str:
    """A small blob of which the manifest says that it is not: the room for it is not there."""
    content = honest(fake)
    content["layers"][1]["size"] = 1 << 60
    fake.add_manifest(content, "latest")
    return "latest"


def wrong_config(fake: FakeRegistry) -> str:
    content = honest(fake)
    fake.blobs[content["config"]["digest"]] = b"{}".ljust(content["config"]["size"])
    return "latest"


def config_without_layers(fake: FakeRegistry) -> str:
    content = honest(fake)
    content["config"] = fake.add_blob(b'{"os": "linux"}', kinds.DOCKER_CONFIG)
    fake.add_manifest(content, "latest")
    return "latest"


def windows(fake: FakeRegistry) -> str:
    fake.add_image([A], "latest", os="windows")
    return "latest"


def circle(fake: FakeRegistry) -> str:
    entry = {"mediaType": kinds.OCI_INDEX, "digest": f"sha256:{'1' * 64}", "size": 3}
    for _ in range(5):
        entry = fake.add_manifest({"schemaVersion": 2, "mediaType": kinds.OCI_INDEX, "manifests": [entry]}, "latest")
    return "latest"


def wrong_size_of_entry(fake: FakeRegistry) -> str:
    entry = {**fake.add_image([A]), "size": 7}
    fake.add_manifest({"schemaVersion": 2, "mediaType": kinds.OCI_INDEX, "manifests": [entry]}, "latest")
    return "latest"


def wrong_type_of_entry(fake: FakeRegistry) -> str:
    entry = {**fake.add_image([A]), "mediaType": kinds.OCI_MANIFEST}
    fake.add_manifest({"schemaVersion": 2, "mediaType": kinds.OCI_INDEX, "manifests": [entry]}, "latest")
    return "latest"


@pytest.mark.parametrize(
    ("trick", "why"),
    [
        (wrong_manifest_digest, "manifest verification failed"),
        (lying_header, "manifest verification failed"),
        (swapped_layer, "filesystem layer verification failed"),
        (truncated_layer, "closed the connection|ended after"),
        (other_content, "layers from manifest don't match image configuration"),
        (missing_layer, "layers from manifest don't match image configuration"),
        (absent_blob, "blob unknown"),
        (not_an_archive, "failed to register layer"),
        (climbing_layer, 'is outside of "/"'),
        (bomb, "No space left"),
        (wrong_config, "config verification failed"),
        (config_without_layers, "no RootFS key"),
        (windows, 'image operating system "windows" cannot be used on this platform'),
        (circle, "no matching manifest|nested too deeply"),
        (wrong_size_of_entry, "has .* bytes where 7 were announced"),
        (wrong_type_of_entry, "the index calls"),
    ],
)
def test_a_hostile_registry_is_refused_and_leaves_nothing(
    store: Store, trick: Callable[[FakeRegistry], str], why: str
) -> None:
    canary = Path("/tmp/wherry-canary")

    async def work(fake: FakeRegistry) -> None:
        honest(fake)
        tag = trick(fake)
        before = store.content()
        with pytest.raises(ApiError, match=why):
            await fetch(store, f"{fake.domain}/app", tag=tag)
        assert store.content() == before
        assert store.images.all() == []
        assert not canary.exists()

    with_registry(work)
