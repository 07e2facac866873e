"""Registries from the wire: options, progress, broken downloads, tags, what else they are asked; fakes on loopback."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.images import digest
from tests.support.registry import (
    ANN,
    Asked,
    FakeRegistry,
    Reply,
    basic,
    blob,
    bounded,
    fake_registry,
    refusal,
    repository,
    sha512,
    token_server,
)
from wherry.api.errors import ApiError, BadRequest, NotFound, ServerError, Unauthorized
from wherry.engine.images.partial import Partials
from wherry.engine.images.registry import ask
from wherry.engine.images.registry.auth import NOBODY, Credentials
from wherry.engine.images.registry.download import Download
from wherry.engine.images.registry.errors import Interrupted, RegistryError
from wherry.engine.images.registry.hosts import Endpoint, InvalidOption, Registries
from wherry.engine.images.registry.manifest import LARGEST_MANIFEST, Descriptor
from wherry.engine.images.registry.progress import Progress, bar
from wherry.engine.store.layout import Layout
from wherry.engine.store.trash import Trash


@pytest.mark.parametrize(
    ("current", "total", "shown"),
    [
        (0, 0, ""),
        (512, 1024, f"[{'=' * 25}>{' ' * 25}]     512B/1.024kB"),
        (1024, 1024, f"[{'=' * 50}>]  1.024kB/1.024kB"),
        (3_500_000, 2, f"[{'=' * 50}>]    3.5MB"),
    ],
)
def test_the_bar_is_moby_s(current: int, total: int, shown: str) -> None:
    assert bar(current, total) == shown


def test_a_slow_reader_gets_the_newest_step_only_and_every_word() -> None:
    async def work() -> None:
        progress = Progress()

        async def busy() -> None:
            for count in range(1000):
                progress.update("Downloading", "a", count, 1000, last=True)
            progress.step("Download complete", "a")
            raise ServerError("at the end")

        messages: list[Any] = []

        async def read() -> None:
            async for message in progress.during(busy):
                messages.append(message)

        with pytest.raises(ServerError, match="at the end"):
            await read()
        assert [message["status"] for message in messages] == ["Downloading", "Download complete"]
        assert messages[0]["progressDetail"] == {"current": 999, "total": 1000}

    bounded(work)


# --- options --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text", ["ftp://a", "a.example", "http://a/path", "https://u:p@a", "http://", "http://a?b", "http://[::"]
)
def test_a_mirror_that_can_be_none_is_refused(text: str) -> None:
    with pytest.raises(InvalidOption, match="invalid mirror"):
        Registries([text])


@pytest.mark.parametrize("text", ["a b", "a/b/c", "", "-x", "10.0.0.0/99"])
def test_an_insecure_registry_that_can_be_none_is_refused(text: str) -> None:
    with pytest.raises(InvalidOption, match="insecure registry"):
        Registries((), [text])


def test_mirrors_come_first_for_pulls_from_docker_hub_alone() -> None:
    async def work() -> None:
        registries = Registries(["http://127.0.0.1:5000/"], ["plain.example:5000", "10.1.0.0/16"])
        hub = Endpoint("https://registry-1.docker.io")
        assert await registries.endpoints("docker.io", pulling=True) == [
            Endpoint("http://127.0.0.1:5000", own=False),
            hub,
        ]
        assert await registries.endpoints("docker.io", pulling=False) == [hub]
        for domain, both in {
            "127.0.0.1:5000": True,
            "[::1]:5000": True,
            "localhost:5000": True,
            "plain.example:5000": True,
            "10.1.2.3": True,
            "10.2.2.3": False,
        }.items():
            urls = [endpoint.url for endpoint in await registries.endpoints(domain, pulling=True)]
            assert urls == [f"https://{domain}", f"http://{domain}"][: 1 + both], domain
        shown = registries.describe()
        assert shown.mirrors == ["http://127.0.0.1:5000/"]
        assert shown.insecure_registry_cidrs == ["127.0.0.0/8", "10.1.0.0/16"]
        assert shown.index_configs is not None
        assert not shown.index_configs["plain.example:5000"].secure

    bounded(work)


# --- content --------------------------------------------------------------------------------------------------------


async def download(
    fake: FakeRegistry, tmp_path: Path, data: bytes, *, size: int | None = None, name: str = "", keep: bool = False
) -> bytes:
    layout = Layout(tmp_path / "data", tmp_path / "run")
    layout.make()
    trash = Trash(layout)
    partials = Partials(layout, trash)
    wanted = Descriptor(digest=name or digest(data), size=len(data) if size is None else size)
    made = Download(layout, partials, await repository(fake), wanted)
    try:
        await made.run(lambda count: None, lambda seconds: None)
        return made.path.read_bytes()
    finally:
        made.end(keep=keep)
        trash.close()
        assert list(layout.tmp.iterdir()) == []
        assert keep or list(layout.partial.iterdir()) == []


@pytest.fixture
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wherry.engine.images.registry.download.retry_delay", lambda attempt: 0.0)


DATA = bytes(range(256)) * 10_000


@pytest.mark.usefixtures("no_waiting")
def test_a_download_goes_on_where_it_broke_off(tmp_path: Path) -> None:
    async def work() -> None:
        async with fake_registry() as fake:
            fake.blobs[digest(DATA)] = DATA

            def breaking(asked: Asked) -> Reply | None:
                if "blobs" not in asked.path:
                    return None
                reply = fake.blob_reply(asked, DATA)
                reply.cut = 700_000
                return reply if len(fake.requests("GET", "blobs")) < 4 else None

            fake.hooks.append(breaking)
            assert await download(fake, tmp_path, DATA) == DATA
            ranges = [asked.headers.get("range") for asked in fake.requests("GET", "blobs")]
            assert ranges == [None, "bytes=700000-", "bytes=1400000-", "bytes=2100000-"]

    bounded(work)


@pytest.mark.usefixtures("no_waiting")
def test_a_registry_without_ranges_gives_all_of_it_again(tmp_path: Path) -> None:
    async def work() -> None:
        async with fake_registry() as fake:

            def breaking(asked: Asked) -> Reply | None:
                if "blobs" not in asked.path:
                    return None
                return Reply(body=DATA, cut=500_000 if len(fake.requests("GET", "blobs")) == 1 else None)

            fake.hooks.append(breaking)
            assert await download(fake, tmp_path, DATA) == DATA

    bounded(work)


@pytest.mark.usefixtures("no_waiting")
def test_a_download_that_never_gets_on_is_given_up(tmp_path: Path) -> None:
    async def work() -> None:
        async with fake_registry() as fake:
            fake.hooks.append(lambda a: Reply(body=DATA, cut=0) if "blobs" in a.path else None)
            with pytest.raises(Interrupted):
                await download(fake, tmp_path, DATA)
            assert len(fake.requests("GET", "blobs")) == 5

    bounded(work)


@pytest.mark.usefixtures("no_waiting")
@pytest.mark.parametrize(
    ("reply", "message"),
    [
        (Reply(body=b"a" * 100), "verification failed"),
        (Reply(body=b"a" * 101), "has 101 bytes where 100 were announced"),
        (Reply(body=b"a" * 99), "has 99 bytes where 100 were announced"),
        (Reply(body=b"a" * 5000, headers={"Content-Length": ""}), "more than the 100 bytes"),
        (Reply(206, b"a" * 100, {"Content-Range": "bytes 7-106/200"}), "another part"),
        (Reply(204), "unexpected HTTP status: 204"),
        (refusal(404, "BLOB_UNKNOWN", "blob unknown to registry"), "blob unknown: blob unknown to registry"),
        (Reply(404, b"<html>"), "unexpected HTTP status: 404"),
        (Reply(headers={"Content-Length": "99999999999999999999999999"}), "were announced|malformed"),
        (Reply(headers={"Content-Length": "-1"}), "malformed"),
    ],
)
def test_blobs_that_are_not_what_was_announced_are_refused(tmp_path: Path, reply: Reply, message: str) -> None:
    async def work() -> None:
        async with fake_registry() as fake:
            fake.hooks.append(lambda a: reply if "blobs" in a.path else None)
            with pytest.raises(RegistryError, match=message):
                await download(fake, tmp_path, b"b" * 100)

    bounded(work)


def test_sha512_is_known(tmp_path: Path) -> None:
    async def work() -> None:
        async with fake_registry() as fake:
            fake.blobs[sha512(DATA)] = DATA
            assert await download(fake, tmp_path, DATA, name=sha512(DATA)) == DATA

    bounded(work)


def test_an_endless_manifest_is_refused() -> None:
    async def work() -> None:
        async with fake_registry() as fake:
            big = b"{" + b" " * LARGEST_MANIFEST
            fake.hooks.append(lambda a: Reply(body=big, headers={"Content-Length": ""}) if "manif" in a.path else None)
            with pytest.raises(RegistryError, match="the manifest is larger than"):
                await (await repository(fake)).manifest("latest")

    bounded(work)


def test_an_idle_connection_that_was_closed_is_made_anew() -> None:
    async def work() -> None:
        async with fake_registry() as fake:
            fake.blobs[digest(b"x")] = b"x"
            place = await repository(fake)
            fake.hooks.append(lambda a: None)
            for _ in range(3):
                # the server says nothing of closing, and does
                fake.hooks[0] = lambda a: Reply(body=b"x", cut=1) if "blobs" in a.path else None
                assert await blob(place, digest(b"x")) == b"x"
                await asyncio.sleep(0.01)

    bounded(work)


def test_tags_are_listed_page_by_page() -> None:
    async def work() -> None:
        async with fake_registry() as fake, fake_registry() as other:

            def pages(asked: Asked) -> Reply | None:
                if not asked.path.endswith("/tags/list"):
                    return None
                last = asked.query.get("last", ["0"])[0]
                if last == "2":
                    return Reply(body=b'{"tags": ["d"]}', headers={"Link": f'<{other.url}/x>; rel="next"'})
                link = f'</v2/some/thing/tags/list?last={int(last) + 1}>; rel="next"'
                return Reply(body=json.dumps({"tags": ["abc"[int(last)]]}).encode(), headers={"Link": link})

            fake.hooks.append(pages)
            assert await (await repository(fake)).tags() == ["a", "b", "d"]
            assert other.asked == []

    bounded(work)


# --- what else registries are asked ---------------------------------------------------------------------------------


def test_login_says_yes_or_no() -> None:
    async def work() -> None:
        async with fake_registry() as fake, fake_registry() as tokens:
            assert await ask.login(Registries(), fake.domain, ANN) == ""
            fake.hooks.append(basic("ann", "secret"))
            assert await ask.login(Registries(), f"http://{fake.domain}/v1/", ANN) == ""
            wrong = Credentials("ann", "wrong")
            with pytest.raises(Unauthorized, match=r"login attempt to http://.* failed with status: 401 Unauthorized"):
                await ask.login(Registries(), fake.domain, wrong)
            fake.hooks.clear()
            token_server(fake, tokens)
            assert await ask.login(Registries(), fake.domain, ANN) == "again"
            with pytest.raises(Unauthorized, match="unauthorized: incorrect username or password"):
                await ask.login(Registries(), fake.domain, wrong)
            gone = fake.domain
        with pytest.raises(ServerError, match="Get "):
            await ask.login(Registries(), gone, ANN)
        with pytest.raises(BadRequest):
            await ask.login(Registries(), "a b", ANN)

    bounded(work)


def test_search_asks_an_index_and_says_where_there_is_none() -> None:
    async def work() -> None:
        async with fake_registry() as fake:
            with pytest.raises(ServerError, match="has no search"):
                await ask.search(Registries(), f"{fake.domain}/box", None, {}, NOBODY)
            found = [{"name": "a", "star_count": 7, "is_official": True}, {"name": "b", "star_count": "x"}]
            results = json.dumps({"results": found}).encode()
            fake.hooks.append(lambda a: Reply(body=results) if a.path == "/v1/search" else None)
            items = await ask.search(Registries(), f"{fake.domain}/box", 5, {}, NOBODY)
            assert [(item.name, item.star_count) for item in items] == [("a", 7), ("b", 0)]
            assert fake.asked[-1].query == {"q": ["box"], "n": ["5"]}
            for filters in ({"stars": ["3"]}, {"is-official": ["true"]}):
                (item,) = await ask.search(Registries(), f"{fake.domain}/box", 5, filters, NOBODY)
                assert item.name == "a"
            for filters in ({"stars": ["x"]}, {"other": ["x"]}, {"is-official": ["x"]}):
                with pytest.raises(BadRequest, match="invalid filter"):
                    await ask.search(Registries(), f"{fake.domain}/box", 5, filters, NOBODY)
            with pytest.raises(BadRequest, match="outside the range"):
                await ask.search(Registries(), "box", 101, {}, NOBODY)

    bounded(work)


def test_distribution_inspect_tells_digest_and_platforms() -> None:
    async def work() -> None:
        async with fake_registry() as fake:
            entry = fake.add_image([b""], "one", oci=True)
            index = {
                "schemaVersion": 2,
                "mediaType": "application/vnd.oci.image.index.v1+json",
                "manifests": [{**entry, "platform": {"os": "linux", "architecture": "arm", "variant": "v7"}}],
            }
            listed = fake.add_manifest(index, "latest")
            found = await ask.inspect(Registries(), f"{fake.domain}/x", NOBODY)
            assert (found.descriptor.digest, found.descriptor.size) == (listed["digest"], listed["size"])
            assert found.platforms is not None
            assert [(p.os, p.architecture, p.variant) for p in found.platforms] == [("linux", "arm", "v7")]
            found = await ask.inspect(Registries(), f"{fake.domain}/x:one", NOBODY)
            assert found.platforms is not None
            assert [(p.os, p.architecture) for p in found.platforms] == [("linux", "amd64")]
            with pytest.raises(NotFound, match="manifest unknown"):
                await ask.inspect(Registries(), f"{fake.domain}/x:none", NOBODY)
            fake.hooks.append(basic("ann", "secret"))
            with pytest.raises(Unauthorized):
                await ask.inspect(Registries(), f"{fake.domain}/x", NOBODY)
            for text in ("Nope", "a" * 64):
                with pytest.raises(ApiError):
                    await ask.inspect(Registries(), text, NOBODY)

    bounded(work)
