"""Hostile registries: the cases of images.md, refused with a word, and nothing is left of what they gave."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support import images as support
from tests.support.images import Store, digest, gzipped, tar
from tests.support.registry import Asked, FakeRegistry, Reply, fake_registry, fetch, refusal, send, with_registry
from wherry.api.errors import ApiError
from wherry.engine.images.registry import manifest as kinds
from wherry.engine.images.registry import transport
from wherry.engine.images.registry.hosts import Registries

pytestmark = pytest.mark.usefixtures("no_waiting")

A, B, C = (tar([(name, name.encode() * 5000)]) for name in "abc")


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


def fails(store: Store, prepare: Callable[[FakeRegistry], object], why: str, *, tag: str = "latest") -> None:
    """A pull from a registry that is prepared so is refused, and leaves nothing."""

    async def work(fake: FakeRegistry) -> None:
        honest(fake)
        prepare(fake)
        with pytest.raises(ApiError, match=why):
            await fetch(store, f"{fake.domain}/app", tag=tag)
        assert store.content() == set()
        assert store.images.all() == []

    with_registry(work)


@pytest.mark.parametrize(
    ("realm", "why"),
    [
        ("", "names no server for tokens"),
        ("ftp://127.0.0.1/token", "names no server for tokens"),
        ("file:///etc/passwd", "names no server for tokens"),
        ("http://[", "names no server for tokens"),
        ("http://127.0.0.1:0/token", "."),
        ("http://127.0.0.1/a b", "."),
        ("unix:///run/docker.sock", "names no server for tokens"),
    ],
)
def test_a_realm_that_is_no_server_for_tokens(store: Store, realm: str, why: str) -> None:
    challenge = f'Bearer realm="{realm}",service="x"'
    fails(store, lambda fake: fake.hooks.append(lambda a: refusal(401, "X", WWW_Authenticate=challenge)), why)


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (b'{"token": "a\\r\\nX-Stolen: b"}', "invalid"),
        (b'{"token": 7}', "unable to decode token response"),
        (b'{"token": null}', "did not include a token"),
        (b"{}", "did not include a token"),
        (b"[" * 100_000, "unable to decode token response"),
        (b"<html>", "unable to decode token response"),
        (b'{"token": "' + b"a" * (2 << 20) + b'"}', "is larger than"),
        (b'{"token": "good", "expires_in": -1e308}', "unauthorized"),
    ],
)
def test_a_token_that_is_none(store: Store, answer: bytes, why: str) -> None:
    def prepare(fake: FakeRegistry) -> None:
        challenge = f'Bearer realm="{fake.url}/token",service="x"'
        fake.hooks.append(lambda a: Reply(body=answer) if a.path == "/token" else None)
        fake.hooks.append(lambda a: refusal(401, "UNAUTHORIZED", WWW_Authenticate=challenge))

    fails(store, prepare, why)


def endless(part: str, **reply: Any) -> Callable[[FakeRegistry], object]:
    """A registry whose answer for ``part`` comes in small drops that never end."""
    return lambda fake: fake.hooks.append(
        lambda a: Reply(body=b" " * 10_000, hold=0.3, **reply) if part in a.path else None
    )


@pytest.mark.parametrize(
    ("prepare", "why"),
    [
        (endless("/manifests/"), "the manifest did not come within"),
        (endless("/manifests/", status=404), "404"),
        (endless("/v2/"), "did not come within"),
    ],
)
def test_answers_that_drip(
    store: Store, monkeypatch: pytest.MonkeyPatch, prepare: Callable[[FakeRegistry], object], why: str
) -> None:
    monkeypatch.setattr(transport, "WHOLE", 0.5)
    fails(store, prepare, why)


def test_a_blob_that_drips(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wherry.engine.images.registry.download.PATIENCE", 0.05)

    def prepare(fake: FakeRegistry) -> None:
        name = digest(gzipped(B))
        fake.hooks.append(lambda a: Reply(body=fake.blobs[name], hold=0.03) if a.path.endswith(name) else None)

    fails(store, prepare, "hardly comes")


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (b"HTTP/1.1 200 OK\r\n" + b"X: " + b"a" * 2_000_000, "longer than 65536 bytes"),
        (b"HTTP/1.1 200 OK\r\n" + b"X: a\r\n" * 200_000, "longer than 65536 bytes"),
        (b"HTTP/1.1 100 Continue\r\n\r\n" * 1000, "did not begin within"),
        (b"\0" * 100_000, "longer than 65536 bytes"),
        (b"", "closed|Get"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", "malformed|closed|Get"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"f" * 100_000, "malformed|closed|Get"),
        (b"SSH-2.0-OpenSSH_9.2p1\r\n", "malformed|closed|Get"),
    ],
)
def test_what_is_hardly_http(store: Store, monkeypatch: pytest.MonkeyPatch, answer: bytes, why: str) -> None:
    monkeypatch.setattr(transport, "WHOLE", 0.3)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if await reader.readexactly(1) == b"\x16":  # no TLS
                return
            await reader.readuntil(b"\r\n\r\n")
            writer.write(answer)
            await writer.drain()
            if b"100 Continue" in answer:
                await reader.read()
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass
        finally:
            writer.close()

    async def work() -> None:
        async with asyncio.timeout(30), await asyncio.start_server(serve, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            with pytest.raises(ApiError, match=why):
                await fetch(store, f"127.0.0.1:{port}/app", tag="latest")

    asyncio.run(work())
    assert store.content() == set()


@pytest.mark.parametrize(
    ("tags", "why"),
    [
        (["../../../etc"], "invalid tag format"),
        (["a\nb"], "invalid tag format"),
        (["latest", ""], "invalid tag format"),
        ([f"t{number}" for number in range(10_001)], "more than 10000 tags"),
        ([7], "cannot be read"),
    ],
)
def test_tags_that_are_none(store: Store, tags: list[Any], why: str) -> None:
    body = json.dumps({"tags": tags}).encode()
    fails(
        store, lambda fake: fake.hooks.append(lambda a: Reply(body=body) if "/tags/" in a.path else None), why, tag=""
    )


def test_pages_of_tags_without_end(store: Store) -> None:
    link = {"Link": '</v2/app/tags/list?last=a>; rel="next"'}
    page = json.dumps({"tags": [f"t{number}" for number in range(500)]}).encode()
    fails(
        store,
        lambda fake: fake.hooks.append(lambda a: Reply(body=page, headers=link) if "/tags/" in a.path else None),
        "more than 10000 tags",
        tag="",
    )


def test_a_mirror_that_lies_about_a_digest_is_passed_over(store: Store) -> None:
    async def work(fake: FakeRegistry) -> None:
        top = fake.add_image([A], "latest")
        async with fake_registry() as liar:
            other = liar.add_image([B], "latest")
            liar.manifests[top["digest"]] = liar.manifests[other["digest"]]
            await fetch(store, "busybox", tag=top["digest"], registries=Registries([liar.url, fake.url]))
            assert store.images.get(f"busybox@{top['digest']}").file.diff_ids == [digest(A)]
            assert len(store.images.all()) == 1

    with_registry(work)


def at(method: str, part: str, reply: Reply) -> Callable[[Asked], Reply | None]:
    return lambda asked: reply if asked.method == method and part in asked.path else None


@pytest.mark.parametrize(
    ("trick", "why"),
    [
        (
            at("PUT", "manifests", Reply(201, headers={"Docker-Content-Digest": f"sha256:{'0' * 64}"})),
            "stored 'sha256:0000",
        ),
        (at("POST", "", Reply(202, headers={"Location": "file:///etc/passwd"})), "neither http nor https"),
        (at("POST", "", Reply(202, headers={"Location": "http://["})), "invalid URL"),
        (at("POST", "", Reply(202)), "takes no upload"),
        (at("POST", "", Reply(200)), "takes no upload"),
        (at("HEAD", "", Reply(307, headers={"Location": "/v2/round"})), "redirects lead nowhere"),
    ],
)
def test_a_registry_that_takes_a_push_and_lies(store: Store, trick: Any, why: str) -> None:
    async def work(fake: FakeRegistry) -> None:
        name = f"{fake.domain}/mine"
        await support.import_(store.images, A, repo=name, tag="v1")
        before = {entry for entry in store.content() if not entry.startswith("blobs")}
        fake.hooks.append(trick)
        with pytest.raises(ApiError, match=why):
            await send(store, f"{name}:v1")
        assert {entry for entry in store.content() if not entry.startswith("blobs")} == before
        assert store.images.get(f"{name}:v1").repo_digests == []

    with_registry(work)
