"""Images from registries into a store; what fails or is given up leaves nothing behind."""

from __future__ import annotations

import asyncio

import pytest

from tests.support import images as support
from tests.support.images import Store, config_of, digest, gzipped, tar
from tests.support.registry import (
    FakeRegistry,
    Reply,
    fake_registry,
    fetch,
    refusal,
    short,
    with_registry,
    words,
)
from wherry.api.errors import BadRequest, NotFound, ServerError
from wherry.engine.images.platform import host_platform
from wherry.engine.images.registry import manifest as kinds
from wherry.engine.images.registry.auth import NOBODY
from wherry.engine.images.registry.hosts import Registries
from wherry.engine.images.registry.pull import pull, wanted

pytestmark = pytest.mark.usefixtures("no_waiting")

A, B, C, D = (tar([(name, name.encode() * 5000)]) for name in "abcd")


@pytest.mark.parametrize(("pack", "oci"), [("gzip", False), ("gzip", True), ("zstd", True), ("plain", True)])
def test_an_image_is_pulled(store: Store, pack: str, oci: bool) -> None:
    async def work(fake: FakeRegistry) -> None:
        top = fake.add_image([A, B], "latest", pack=pack, oci=oci)
        name = f"{fake.domain}/some/app"
        packed = [support.PACK[pack](layer) for layer in (A, B)]
        said = words(await fetch(store, name, tag="latest"))
        assert said[0] == "latest: Pulling from some/app"
        assert said[1:3] == [f"{short(data)}: Pulling fs layer" for data in packed]
        for data in packed:
            steps = [text.partition(": ")[2] for text in said if text.startswith(short(data))]
            assert steps == ["Pulling fs layer", "Verifying Checksum", "Download complete", "Pull complete"]
        assert said[-2:] == [f"Digest: {top['digest']}", f"Status: Downloaded newer image for {name}:latest"]
        image = store.images.get(name)
        assert image.id == digest(config_of([A, B]))
        assert image.repo_tags == [f"{name}:latest"]
        assert image.repo_digests == [f"{name}@{top['digest']}"]
        assert store.actions == [f"image pull {name}"]
        rows = [store.images.layers[layer] for layer in reversed(image.layer_ids)]
        assert [row.diff_id for row in rows] == [digest(A), digest(B)]
        if pack != "plain":
            assert [row.blob for row in rows] == [digest(data) for data in packed]
        again = words(await fetch(store, name, tag="latest"))
        assert again == [
            "latest: Pulling from some/app",
            f"Digest: {top['digest']}",
            f"Status: Image is up to date for {name}:latest",
        ]
        before = store.content()
        store.restart()
        assert store.content() == before
        assert store.images.get(f"{name}@{top['digest']}").id == image.id

    with_registry(work)


def test_by_digest_and_all_tags(store: Store) -> None:
    async def work(fake: FakeRegistry) -> None:
        first, second = fake.add_image([A], "one"), fake.add_image([A, B], "two")
        name = f"{fake.domain}/app"
        said = words(await fetch(store, name, tag=first["digest"]))
        assert said[0] == f"{name}@{first['digest']}: Pulling from app"
        assert said[-1] == f"Status: Downloaded newer image for {name}@{first['digest']}"
        image = store.images.get(f"{name}@{first['digest']}")
        assert (image.repo_tags, len(image.repo_digests)) == ([], 1)
        fake.hooks.append(lambda a: Reply(body=b'{"tags": ["one", "two"]}') if a.path.endswith("tags/list") else None)
        said = words(await fetch(store, name))
        assert sum(text.endswith("Already exists") for text in said) == 1
        assert store.images.get(f"{name}:one").id == image.id
        assert store.images.get(f"{name}:two").repo_digests == [f"{name}@{second['digest']}"]

    with_registry(work)


def test_an_index_gives_this_machine_s_image_or_the_one_asked_for(store: Store) -> None:
    async def work(fake: FakeRegistry) -> None:
        system, architecture, _ = host_platform()
        mine = fake.add_image([A], architecture=architecture)
        other = fake.add_image([B], architecture="s390x", variant="")
        entries = [
            {**other, "platform": {"os": "linux", "architecture": "s390x"}},
            {**mine, "platform": {"os": system, "architecture": architecture}},
        ]
        inner = fake.add_manifest({"schemaVersion": 2, "mediaType": kinds.OCI_INDEX, "manifests": entries})
        top = fake.add_manifest({"schemaVersion": 2, "mediaType": kinds.OCI_INDEX, "manifests": [inner]}, "latest")
        name = f"{fake.domain}/app"
        assert f"Digest: {top['digest']}" in words(await fetch(store, name, tag="latest"))
        assert store.images.get(name).file.diff_ids == [digest(A)]
        assert store.images.get(name).repo_digests == [f"{name}@{top['digest']}"]
        await fetch(store, name, tag="latest", platform="linux/s390x")
        assert store.images.get(name).file.diff_ids == [digest(B)]
        with pytest.raises(ServerError, match="no matching manifest for linux/mips"):
            await fetch(store, name, tag="latest", platform="linux/mips")
        with pytest.raises(BadRequest):
            await fetch(store, name, tag="latest", platform="a/b/c/d")

    with_registry(work)


def test_a_single_image_for_another_platform_comes_with_a_warning(store: Store) -> None:
    async def work(fake: FakeRegistry) -> None:
        fake.add_image([A], "latest", architecture="amd64")
        said = words(await fetch(store, f"{fake.domain}/app", tag="latest", platform="linux/s390x"))
        assert "does not match the specified platform: wanted linux/s390x, actual: linux/amd64" in said[-1]

    with_registry(work)


def test_three_layers_at_a_time_and_two_pulls_at_once_do_the_work_once(store: Store) -> None:
    async def work(fake: FakeRegistry) -> None:
        layers = [tar([(f"f{number}", bytes([number]) * 2000)]) for number in range(7)]
        fake.add_image(layers, "latest")
        fake.hooks.append(
            lambda a: Reply(body=fake.blobs[a.path.rpartition("/")[2]], hold=0.005) if "/blobs/" in a.path else None
        )
        registries = Registries()
        name = f"{fake.domain}/app"
        both = await asyncio.gather(*(fetch(store, name, tag="latest", registries=registries) for _ in range(2)))
        assert fake.most_sending == 3
        assert len(fake.requests("GET", "/blobs/")) == len(layers) + 1
        endings = sorted(messages[-1]["status"] for messages in both)
        assert endings == [
            f"Status: Downloaded newer image for {name}:latest",
            f"Status: Image is up to date for {name}:latest",
        ]
        assert "Waiting" in str(both)

    with_registry(work)


def test_what_images_pulled_at_once_stand_on_is_fetched_once(store: Store) -> None:
    async def work(fake: FakeRegistry) -> None:
        shared = digest(gzipped(A))
        for tag, top in (("one", B), ("two", C), ("three", None)):
            fake.add_image([A] if top is None else [A, top], tag)
        fake.hooks.append(lambda a: Reply(body=fake.blobs[shared], hold=0.02) if a.path.endswith(shared) else None)
        registries, name = Registries(), f"{fake.domain}/app"
        tags = ("one", "two", "three")
        said = await asyncio.gather(*(fetch(store, name, tag=tag, registries=registries) for tag in tags))
        assert len(fake.requests("GET", shared)) == 1
        assert sum(text.endswith("Already exists") for messages in said for text in words(messages)) == 2
        assert sum("Waiting" in str(messages) for messages in said) == 2
        assert all(store.images.get(f"{name}:{tag}") for tag in tags)

    with_registry(work)


def test_a_pull_that_waited_goes_on_when_the_other_fails(store: Store) -> None:
    async def work(fake: FakeRegistry) -> None:
        fake.add_image([A, B], "one")
        fake.add_image([A, C], "two")
        broken = digest(gzipped(B))
        fake.hooks.append(lambda a: Reply(404) if a.path.endswith(broken) else None)
        registries, name = Registries(), f"{fake.domain}/app"
        first, second = await asyncio.gather(
            *(fetch(store, name, tag=tag, registries=registries) for tag in ("one", "two")), return_exceptions=True
        )
        assert isinstance(first, ServerError)
        assert isinstance(second, list)
        assert store.images.get(f"{name}:two").file.diff_ids == [digest(A), digest(C)]

    with_registry(work)


def test_a_layer_that_is_there_twice_is_fetched_once(store: Store) -> None:
    async def work(fake: FakeRegistry) -> None:
        fake.add_image([A, B, A], "latest")
        await fetch(store, f"{fake.domain}/app", tag="latest")
        assert len(fake.requests("GET", "/blobs/")) == 3
        assert len(store.images.get(f"{fake.domain}/app").layer_ids) == 3

    with_registry(work)


def test_a_mirror_stands_in_for_docker_hub_and_is_passed_over_when_it_fails(store: Store) -> None:
    async def work(fake: FakeRegistry) -> None:
        fake.add_image([A], "latest")
        registries = Registries([fake.url])
        said = words(await fetch(store, "busybox", tag="latest", registries=registries))
        assert said[0] == "latest: Pulling from library/busybox"
        assert said[-1] == "Status: Downloaded newer image for busybox:latest"
        assert store.images.get("busybox").repo_tags == ["busybox:latest"]
        assert fake.requests("GET", "/v2/library/busybox/manifests/latest")
        async with fake_registry() as broken:
            broken.hooks.append(lambda a: refusal(500, "UNKNOWN") if "manifests" in a.path else None)
            both = Registries([broken.url, fake.url])
            said = words(await fetch(store, "busybox", tag="latest", registries=both))
            assert said[-1] == "Status: Image is up to date for busybox:latest"
            assert len(broken.requests("GET", "manifests")) == 3

    with_registry(work)


def test_a_pull_that_is_given_up_leaves_nothing(store: Store) -> None:
    async def work(fake: FakeRegistry) -> None:
        fake.add_image([A, B, C], "latest")
        slow = digest(gzipped(C))
        fake.hooks.append(lambda a: Reply(body=fake.blobs[slow], hold=0.2) if a.path.endswith(slow) else None)
        messages = pull(store.images, Registries(), wanted(f"{fake.domain}/app", "latest"), "", NOBODY)
        async for message in messages:
            if message["status"] == "Pull complete":
                break
        await messages.aclose()  # type: ignore[attr-defined]
        await asyncio.sleep(0.05)
        assert store.content() == set()
        assert store.images.all() == []

    with_registry(work)


def test_what_there_is_not(store: Store) -> None:
    async def work(fake: FakeRegistry) -> None:
        name = f"{fake.domain}/app"
        with pytest.raises(NotFound, match=f"manifest for {name}:latest not found: manifest unknown: manifest unknown"):
            await fetch(store, name, tag="latest")
        with pytest.raises(NotFound, match=f"repository {name} not found: name unknown"):
            await fetch(store, name)

    with_registry(work)
