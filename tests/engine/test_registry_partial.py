"""Pulls that did not come to their end: what they had received is taken up by the next one, whoever was killed between."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator

import pytest

from tests.faults.machine import CrashEngine, crash_engine
from tests.support.http import eventually
from tests.support.images import Store, digest, gzipped, tar
from tests.support.registry import Asked, FakeRegistry, Reply, fake_registry, fetch, with_registry, words
from wherry.api.errors import ServerError
from wherry.engine.images.partial import Partials
from wherry.engine.images.registry.auth import NOBODY
from wherry.engine.images.registry.hosts import Registries
from wherry.engine.images.registry.pull import pull, wanted

pytestmark = pytest.mark.usefixtures("no_waiting")

SMALL = tar([("small", b"small" * 1000)])
LARGE = tar([("large", os.urandom(3_000_000))])
PACKED = gzipped(LARGE)
NAME = digest(PACKED)


def add(fake: FakeRegistry) -> None:
    fake.add_image([SMALL, LARGE], "latest")


def cut_at(fake: FakeRegistry, count: int) -> None:
    """From now on the large layer breaks off after so many bytes, and again at once when it is asked for once more."""

    def hook(asked: Asked) -> Reply | None:
        if not asked.path.endswith(NAME):
            return None
        reply = fake.blob_reply(asked, PACKED)
        reply.cut = count if "range" not in asked.headers else 0
        return reply

    fake.hooks[:] = [hook]


def ranges(fake: FakeRegistry) -> list[str | None]:
    return [asked.headers.get("range") for asked in fake.requests("GET", NAME)]


def kept(store: Store) -> dict[str, int]:
    store.trash.wait(10)
    return {path.name: path.stat().st_size for path in store.layout.partial.iterdir()}


def test_the_next_pull_asks_for_what_is_missing(store: Store) -> None:
    async def work(fake: FakeRegistry) -> None:
        add(fake)
        cut_at(fake, 1_500_000)
        with pytest.raises(ServerError):
            await fetch(store, f"{fake.domain}/app", tag="latest")
        assert kept(store) == {NAME.replace(":", "-"): 1_500_000}
        assert store.images.all() == []
        fake.hooks.clear()
        fake.asked.clear()
        store.restart()
        said = words(await fetch(store, f"{fake.domain}/app", tag="latest"))
        assert ranges(fake) == ["bytes=1500000-"]
        assert said[-1].startswith("Status: Downloaded newer image")
        assert kept(store) == {}

    with_registry(work)


def test_a_pull_that_is_given_up_is_gone_on_with(store: Store) -> None:
    async def work(fake: FakeRegistry) -> None:
        add(fake)
        fake.hooks[:] = [lambda a: Reply(body=PACKED, hold=0.05) if a.path.endswith(NAME) else None]
        messages = pull(store.images, Registries(), wanted(f"{fake.domain}/app", "latest"), "", NOBODY)
        async for message in messages:
            if message.get("progressDetail", {}).get("current", 0) > 1_000_000:
                break
        await messages.aclose()  # type: ignore[attr-defined]
        (size,) = kept(store).values()
        assert 1_000_000 < size < len(PACKED)
        fake.hooks.clear()
        fake.asked.clear()
        await fetch(store, f"{fake.domain}/app", tag="latest")
        assert ranges(fake) == [f"bytes={size}-"]

    with_registry(work)


def test_what_came_whole_is_not_asked_for_again(store: Store) -> None:
    async def work(fake: FakeRegistry) -> None:
        other = tar([("other", os.urandom(200_000))])
        fake.add_image([LARGE, other], "latest")
        large, slow = (digest(gzipped(layer)) for layer in (LARGE, other))
        fake.hooks[:] = [lambda a: Reply(body=fake.blobs[slow], hold=10) if a.path.endswith(slow) else None]
        messages = pull(store.images, Registries(), wanted(f"{fake.domain}/app", "latest"), "", NOBODY)
        async for message in messages:
            if message["status"] == "Pull complete":
                break
        await messages.aclose()  # type: ignore[attr-defined]
        assert large.replace(":", "-") in kept(store)
        fake.hooks.clear()
        await fetch(store, f"{fake.domain}/app", tag="latest")
        assert len(fake.requests("GET", large)) == 1
        assert store.content() == {entry for entry in store.content() if not entry.startswith("partial")}

    with_registry(work)


def test_a_damaged_remainder_is_fetched_anew_and_a_registry_s_lie_is_not_kept(store: Store) -> None:
    async def work(fake: FakeRegistry) -> None:
        add(fake)
        path = store.layout.partial / NAME.replace(":", "-")
        path.write_bytes(b"x" * 1_000_000)
        await fetch(store, f"{fake.domain}/app", tag="latest")
        assert ranges(fake) == ["bytes=1000000-", None]
        store.images.remove(f"{fake.domain}/app", in_use=lambda id: ())
        path.write_bytes(b"x" * (len(PACKED) + 1))
        await fetch(store, f"{fake.domain}/app", tag="latest")
        store.images.remove(f"{fake.domain}/app", in_use=lambda id: ())
        fake.blobs[NAME] = b"y" * len(PACKED)
        with pytest.raises(ServerError, match="verification failed"):
            await fetch(store, f"{fake.domain}/app", tag="latest")
        assert store.content() == set()

    with_registry(work)


def test_two_images_that_need_one_layer_do_not_share_a_file(store: Store) -> None:
    """The same archive at another place in the stack is another layer, and fetched by itself meanwhile."""

    async def work(fake: FakeRegistry) -> None:
        fake.add_image([LARGE], "one")
        fake.add_image([SMALL, LARGE], "two")
        fake.hooks[:] = [lambda a: Reply(body=PACKED, hold=0.02) if a.path.endswith(NAME) else None]
        both = (fetch(store, f"{fake.domain}/app", tag=tag) for tag in ("one", "two"))
        await asyncio.gather(*both)
        assert ranges(fake) == [None, None]
        assert len(store.images.all()) == 2
        assert kept(store) == {}

    with_registry(work)


def test_what_is_kept_is_bounded_and_prune_takes_it(store: Store) -> None:
    partials = Partials(store.layout, store.trash)
    names = [f"sha256:{number:064x}" for number in range(5)]
    for number, name in enumerate(names):
        path = partials.claim(name)
        assert path is not None
        assert partials.claim(name) is None
        path.write_bytes(bytes(100_000))
        os.utime(path, (time.time() - 10 * number,) * 2)
        partials.release(name, keep=True)
    assert len(kept(store)) == 5
    assert partials.clean(most=4) == 100_000
    assert partials.clean(largest=250_000) == 200_000
    assert partials.clean(oldest=5) == 100_000
    assert list(kept(store)) == [names[0].replace(":", "-")]
    assert store.images.prune({"label": ["a"]}, in_use=lambda id: ()).space_reclaimed == 0
    assert store.images.prune({"dangling": ["true"]}, in_use=lambda id: ()).space_reclaimed == 100_000
    assert kept(store) == {}


@pytest.fixture
def crashing() -> Iterator[CrashEngine]:
    with crash_engine() as engine:
        yield engine


def test_an_engine_that_is_killed_goes_on_where_it_was(crashing: CrashEngine) -> None:
    partial = crashing.layout.partial / NAME.replace(":", "-")

    async def work() -> None:
        async with fake_registry() as fake:
            add(fake)
            fake.hooks[:] = [lambda a: Reply(body=PACKED, hold=0.2) if a.path.endswith(NAME) else None]
            target = f"/images/create?fromImage={fake.domain}/app&tag=latest"
            reader, writer = await asyncio.open_unix_connection(crashing.socket_path)
            writer.write(f"POST {target} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n".encode())
            await reader.readuntil(b"\r\n\r\n")
            for _ in range(200):
                if partial.exists() and partial.stat().st_size:
                    break
                await asyncio.sleep(0.05)
            await asyncio.to_thread(crashing.crash)
            writer.close()
            size = partial.stat().st_size
            assert 0 < size < len(PACKED)
            fake.hooks.clear()
            fake.asked.clear()
            await asyncio.to_thread(crashing.boot)
            answer = await asyncio.to_thread(crashing.http.post, target)
            assert b"Downloaded newer image" in answer.body, answer
            assert ranges(fake) == [f"bytes={size}-"]

    asyncio.run(work())
    eventually(lambda: not partial.exists())
