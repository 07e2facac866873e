"""Pull and push between an image store and a registry, honest or hostile; whatever fails leaves nothing behind."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import images as support
from tests.support.images import Store, config_of, digest, docker_archive, import_, load, tar
from tests.support.registry import Asked, FakeRegistry, Reply, fake_registry, refusal
from wherry.api.errors import ApiError, BadRequest, NotFound, ServerError
from wherry.engine.images.platform import host_platform
from wherry.engine.images.reference import Reference
from wherry.engine.images.registry import manifest as kinds
from wherry.engine.images.registry.auth import NOBODY
from wherry.engine.images.registry.hosts import Registries
from wherry.engine.images.registry.pull import pull, wanted
from wherry.engine.images.registry.push import push

A, B, C, D = (tar([(name, name.encode() * 5000)]) for name in "abcd")
Messages = list[dict[str, Any]]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with support.store(tmp_path) as made:
        yield made


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("download", "push"):
        monkeypatch.setattr(f"wherry.engine.images.registry.{module}.retry_delay", lambda attempt: 0.0)


def run(work: Callable[[FakeRegistry], Awaitable[Any]]) -> Any:
    async def bounded() -> Any:
        async with asyncio.timeout(60), fake_registry() as fake:
            return await work(fake)

    return asyncio.run(bounded())


async def fetch(
    store: Store, name: str, *, registries: Registries | None = None, platform: str = "", tag: str = ""
) -> Messages:
    made = pull(store.images, registries or Registries(), wanted(name, tag), platform, NOBODY)
    return [message async for message in made]


async def send(store: Store, name: str) -> Messages:
    repository, _, tag = name.rpartition(":")
    made = push(store.images, Registries(), Reference(repository, tag), NOBODY)
    return [message async for message in made]


def words(messages: Messages) -> list[str]:
    shown = [
        f"{message['id']}: {message['status']}" if "id" in message else message.get("status", "")
        for message in messages
    ]
    return [text for text in shown if "Extracting" not in text and "Downloading" not in text and text]


def short(data: bytes) -> str:
    return digest(data)[7:19]


# --- pull -----------------------------------------------------------------------------------------------------------


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

    run(work)


def test_by_digest_and_all_tags(store: Store) -> None:
    async def work(fake: FakeRegistry) -> None:
        first, second = fake.add_image([A], "one"), fake.add_image([A, B], "two")
        name = f"{fake.domain}/app"
        said = words(await fetch(store, name, tag=first["digest"]))
        assert said[0] == f"{first['digest']}: Pulling from app"
        assert said[-1] == f"Status: Downloaded newer image for {name}@{first['digest']}"
        image = store.images.get(f"{name}@{first['digest']}")
        assert (image.repo_tags, len(image.repo_digests)) == ([], 1)
        fake.hooks.append(lambda a: Reply(body=b'{"tags": ["one", "two"]}') if a.path.endswith("tags/list") else None)
        said = words(await fetch(store, name))
        assert sum(text.endswith("Already exists") for text in said) == 1
        assert store.images.get(f"{name}:one").id == image.id
        assert store.images.get(f"{name}:two").repo_digests == [f"{name}@{second['digest']}"]

    run(work)


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

    run(work)


def test_a_single_image_for_another_platform_comes_with_a_warning(store: Store) -> None:
    async def work(fake: FakeRegistry) -> None:
        fake.add_image([A], "latest", architecture="amd64")
        said = words(await fetch(store, f"{fake.domain}/app", tag="latest", platform="linux/s390x"))
        assert "does not match the specified platform: wanted linux/s390x, actual: linux/amd64" in said[-1]

    run(work)


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

    run(work)


def test_a_layer_that_is_there_twice_is_fetched_once(store: Store) -> None:
    async def work(fake: FakeRegistry) -> None:
        fake.add_image([A, B, A], "latest")
        await fetch(store, f"{fake.domain}/app", tag="latest")
        assert len(fake.requests("GET", "/blobs/")) == 3
        assert len(store.images.get(f"{fake.domain}/app").layer_ids) == 3

    run(work)


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

    run(work)


# --- hostile registries ---------------------------------------------------------------------------------------------


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
    fake.blobs[digest(gzip.compress(B))] = gzip.compress(C)[: len(gzip.compress(B))].ljust(len(gzip.compress(B)), b"x")
    return "latest"


def truncated_layer(fake: FakeRegistry) -> str:
    name = digest(gzip.compress(B))
    fake.hooks.append(lambda a: Reply(body=fake.blobs[name], cut=10) if a.path.endswith(name) else None)
    return "latest"


def other_content(fake: FakeRegistry) -> str:
    """Layers whose digests are right, of another image than the configuration says."""
    content = honest(fake)
    content["layers"][1] = fake.add_blob(gzip.compress(C), kinds.DOCKER_LAYER)
    fake.add_manifest(content, "latest")
    return "latest"


def missing_layer(fake: FakeRegistry) -> str:
    content = honest(fake)
    content["layers"].pop()
    fake.add_manifest(content, "latest")
    return "latest"


def absent_blob(fake: FakeRegistry) -> str:
    del fake.blobs[digest(gzip.compress(B))]
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

    run(work)


def test_a_pull_that_is_given_up_leaves_nothing(store: Store) -> None:
    async def work(fake: FakeRegistry) -> None:
        fake.add_image([A, B, C], "latest")
        slow = digest(gzip.compress(C))
        fake.hooks.append(lambda a: Reply(body=fake.blobs[slow], hold=0.2) if a.path.endswith(slow) else None)
        messages = pull(store.images, Registries(), wanted(f"{fake.domain}/app", "latest"), "", NOBODY)
        async for message in messages:
            if message["status"] == "Pull complete":
                break
        await messages.aclose()  # type: ignore[attr-defined]
        await asyncio.sleep(0.05)
        assert store.content() == set()
        assert store.images.all() == []

    run(work)


def test_what_there_is_not(store: Store) -> None:
    async def work(fake: FakeRegistry) -> None:
        name = f"{fake.domain}/app"
        with pytest.raises(NotFound, match=f"manifest for {name}:latest not found: manifest unknown: manifest unknown"):
            await fetch(store, name, tag="latest")
        with pytest.raises(NotFound, match=f"repository {name} not found: name unknown"):
            await fetch(store, name)

    run(work)


# --- push -----------------------------------------------------------------------------------------------------------


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

    run(work)


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

    run(work)


@pytest.mark.parametrize("pack", ["plain", "gzip", "zstd"])
def test_what_was_loaded_goes_as_gzip_or_as_it_came(store: Store, pack: str) -> None:
    async def work(fake: FakeRegistry) -> None:
        await load(store.images, docker_archive([A, B], [f"{fake.domain}/app:v1"], pack=pack))
        await send(store, f"{fake.domain}/app:v1")
        document = kinds.read_document(*fake.manifests["v1"], "")
        assert document.media_type == (kinds.OCI_MANIFEST if pack == "zstd" else kinds.DOCKER_MANIFEST)
        assert all(layer.digest in fake.blobs for layer in document.layers)

    run(work)


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

    run(work)


def test_an_upload_that_breaks_is_begun_again(store: Store) -> None:
    async def work(fake: FakeRegistry) -> None:
        await import_(store.images, A, repo=f"{fake.domain}/mine", tag="v1")
        broken = [Reply(500), Reply(502)]
        fake.hooks.append(lambda a: broken.pop() if a.method == "PATCH" and broken else None)
        said = words(await send(store, f"{fake.domain}/mine:v1"))
        assert sum("Retrying" in text for text in said) == 2
        assert "v1" in fake.manifests

    run(work)


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

    run(work)


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

    run(work)
