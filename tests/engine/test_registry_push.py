"""Images from a store to registries; what fails or is given up leaves nothing behind."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support import images as support
from tests.support.images import Store, digest, docker_archive, import_, load, tar
from tests.support.registry import (
    Asked,
    FakeRegistry,
    Reply,
    fake_registry,
    fetch,
    refusal,
    send,
    short,
    with_registry,
    words,
)
from wherry.api.errors import NotFound, ServerError
from wherry.engine.images.reference import Reference
from wherry.engine.images.registry import manifest as kinds
from wherry.engine.images.registry.auth import NOBODY
from wherry.engine.images.registry.hosts import Registries
from wherry.engine.images.registry.push import push

pytestmark = pytest.mark.usefixtures("no_waiting")

A, B, C, D = (tar([(name, name.encode() * 5000)]) for name in "abcd")


def test_an_image_made_here_is_pushed_and_pulled_with_the_same_digests(store: Store, tmp_path: Path) -> None:
    async def work(fake: FakeRegistry) -> None:
        name = f"{fake.domain}/mine"
        id = await import_(store.images, A, repo=name, tag="v1", changes=['CMD ["a"]'])
        messages = await send(store, f"{name}:v1")
        said = words(messages)
        assert said[0] == f"The push refers to repository [{name}]"
        assert said[1] == f"{short(A)}: Preparing"
        assert f"{short(A)}: Pushed" in said
        aux = messages[-1]["aux"]
        data = fake.manifests["v1"][1]
        assert aux == {"Tag": "v1", "Digest": digest(data), "Size": len(data)}
        assert said[-1] == f"v1: digest: {digest(data)} size: {len(data)}"
        assert store.images.get(id).repo_digests == [f"{name}@{digest(data)}"]
        assert store.actions[-1] == f"image push {name}"
        before = store.content()
        again = words(await send(store, f"{name}:v1"))
        assert f"{short(A)}: Layer already exists" in again
        assert again[-1] == said[-1]
        store.restart()
        assert store.content() == before
        assert await support.save(store.images, name + ":v1")
        with support.store(tmp_path / "second") as second:
            pulled = words(await fetch(second, name, tag="v1"))
            assert f"Digest: {digest(data)}" in pulled
            assert second.images.get(f"{name}:v1").id == id
            assert [row.diff_id for row in second.images.layers.values()] == [digest(A)]

    with_registry(work)


@pytest.mark.parametrize("pack", ["gzip", "zstd"])
def test_what_was_pulled_is_pushed_with_its_own_manifest(store: Store, pack: str) -> None:
    async def work(fake: FakeRegistry) -> None:
        top = fake.add_image([A, B], "latest", pack=pack, oci=True)
        async with fake_registry() as other:
            await fetch(store, f"{fake.domain}/app", tag="latest")
            store.images.tag(f"{fake.domain}/app", f"{other.domain}/copy")
            await send(store, f"{other.domain}/copy:latest")
            assert other.manifests["latest"] == fake.manifests["latest"]
            assert other.blobs == fake.blobs
            assert f"{other.domain}/copy@{top['digest']}" in store.images.get(f"{fake.domain}/app").repo_digests

    with_registry(work)


@pytest.mark.parametrize("pack", ["plain", "gzip", "zstd"])
def test_what_was_loaded_goes_as_gzip_or_as_it_came(store: Store, pack: str) -> None:
    async def work(fake: FakeRegistry) -> None:
        await load(store.images, docker_archive([A, B], [f"{fake.domain}/app:v1"], pack=pack))
        await send(store, f"{fake.domain}/app:v1")
        document = kinds.read_document(*fake.manifests["v1"], "")
        assert document.media_type == (kinds.OCI_MANIFEST if pack == "zstd" else kinds.DOCKER_MANIFEST)
        assert all(layer.digest in fake.blobs for layer in document.layers)

    with_registry(work)


def test_layers_are_mounted_from_a_repository_that_has_them(store: Store) -> None:
    async def work(fake: FakeRegistry) -> None:
        fake.add_image([A, B], "latest")
        await fetch(store, f"{fake.domain}/base", tag="latest")
        store.images.tag(f"{fake.domain}/base", f"{fake.domain}/other")
        fake.hooks.append(lambda a: Reply(404) if a.method == "HEAD" else None)
        said = words(await send(store, f"{fake.domain}/other:latest"))
        assert f"{short(A)}: Mounted from base" in said
        assert f"{short(B)}: Mounted from base" in said
        assert {asked.query["from"][0] for asked in fake.requests("POST", "mount")} == {"base"}

    with_registry(work)


def test_an_upload_that_breaks_is_begun_again(store: Store) -> None:
    async def work(fake: FakeRegistry) -> None:
        await import_(store.images, A, repo=f"{fake.domain}/mine", tag="v1")
        broken = [Reply(500), Reply(502)]
        fake.hooks.append(lambda a: broken.pop() if a.method == "PATCH" and broken else None)
        said = words(await send(store, f"{fake.domain}/mine:v1"))
        assert sum("Retrying" in text for text in said) == 2
        assert "v1" in fake.manifests

    with_registry(work)


def test_refused_pushes_are_told_and_all_tags_can_go(store: Store) -> None:
    async def work(fake: FakeRegistry) -> None:
        name = f"{fake.domain}/mine"
        with pytest.raises(NotFound, match=f"An image does not exist locally with the tag: {name}"):
            await send(store, f"{name}:v1")
        await import_(store.images, A, repo=name, tag="v1")
        with pytest.raises(NotFound, match=f"tag does not exist: {name}:v2"):
            await send(store, f"{name}:v2")
        store.images.tag(f"{name}:v1", name, "v2")
        denied = lambda a: refusal(403, "DENIED", "not yours") if a.method == "POST" else None  # noqa: E731
        fake.hooks.append(denied)
        with pytest.raises(ServerError, match="denied: not yours"):
            await send(store, f"{name}:v2")
        fake.hooks.clear()
        made = push(store.images, Registries(), Reference(name), NOBODY)
        assert len([message async for message in made if "aux" in message]) == 2
        assert {"v1", "v2"} <= set(fake.manifests)

    with_registry(work)


def test_a_push_that_is_given_up_leaves_nothing(store: Store) -> None:
    async def work(fake: FakeRegistry) -> None:
        name = f"{fake.domain}/mine"
        await import_(store.images, A, repo=name, tag="v1")
        before = store.content()

        def stuck(asked: Asked) -> Reply | None:
            return Reply(200, b"x" * 100, hold=1.0) if asked.method in ("HEAD", "POST") else None

        fake.hooks.append(stuck)
        messages = push(store.images, Registries(), Reference(name, "v1"), NOBODY)
        async for message in messages:
            if message["status"] == "Preparing":
                break
        await messages.aclose()  # type: ignore[attr-defined]
        assert len(store.content()) == len(before)

    with_registry(work)
