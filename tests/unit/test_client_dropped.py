"""What callers leave behind: streams broken off, clients dropped without ``close``, loops that follow one another."""

from __future__ import annotations

import asyncio
import gc
import os
import socket
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from client_fake import MULTIPLEXED, FakeEngine, Peer, Received

import wherry
from wherry.wire.frames import encode_frame


class Open:
    """A route that answers with a piece and says nothing more; ``ended`` is set once its client has gone."""

    def __init__(self, content_type: str, piece: bytes) -> None:
        self.content_type = content_type
        self.piece = piece
        self.ended = threading.Event()

    def __call__(self, peer: Peer, request: Received) -> None:
        peer.chunked({"Content-Type": self.content_type})
        if self.piece:
            peer.chunk(self.piece)
        if peer.socket.recv(1) == b"":
            self.ended.set()


async def ends(stream: Open) -> bool:
    """Whether the engine sees the end of its client, while the loop goes on."""
    return await asyncio.to_thread(stream.ended.wait, 5)


CALLS: list[tuple[str, Callable[[wherry.AsyncClient], Awaitable[Any]]]] = [
    ("POST /images/create", lambda docker: docker.images.pull("busybox", auth=wherry.AuthConfig())),
    ("POST /build", lambda docker: docker.images.build(b"a context", auth={})),
    ("POST /containers/web/wait", lambda docker: docker.containers.wait("web")),
    ("POST /containers/prune", lambda docker: docker.containers.prune()),
]


@pytest.mark.parametrize(("route", "call"), CALLS, ids=[route for route, _ in CALLS])
def test_a_cancelled_call_ends_its_connection(
    fake: FakeEngine, route: str, call: Callable[[wherry.AsyncClient], Awaitable[Any]]
) -> None:
    """Its task is kept, and with it all that the traceback holds: nothing is left to the collector."""
    stream = fake.routes[route] = Open("application/json", b'{"status":"begun"}\n' if "wait" not in route else b"")

    async def main() -> None:
        async with wherry.connect_async(fake.url) as docker:
            task = asyncio.ensure_future(call(docker))
            await asyncio.sleep(0.2)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert await ends(stream)

    asyncio.run(main())


def test_a_stream_left_by_break_ends(fake: FakeEngine) -> None:
    stream = fake.routes["GET /containers/web/logs"] = Open(MULTIPLEXED, encode_frame(1, b"one"))

    async def main() -> None:
        async with wherry.connect_async(fake.url) as docker:
            async for _ in await docker.containers.logs("web", follow=True):
                break
            gc.collect()
            assert await ends(stream)

    with pytest.warns(ResourceWarning, match="unclosed"):
        asyncio.run(main())


def test_a_stream_waited_for_and_dropped_ends(fake: FakeEngine) -> None:
    """The loop has its reader."""
    stream = fake.routes["GET /containers/web/logs"] = Open(MULTIPLEXED, b"")

    async def main() -> None:
        async with wherry.connect_async(fake.url) as docker:
            logs = await docker.containers.logs("web", follow=True)
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(anext(logs), 0.1)
            del logs
            gc.collect()
            assert await ends(stream)

    with pytest.warns(ResourceWarning, match="unclosed"):
        asyncio.run(main())


def test_clients_dropped_without_close_keep_no_descriptors(fake: FakeEngine) -> None:
    async def main() -> None:
        await wherry.connect_async(fake.url).containers.inspect("web")
        gc.collect()
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(10):
            await wherry.connect_async(fake.url).containers.inspect("web")
        gc.collect()
        for _ in range(100):  # the engine's side is in this process too
            if len(os.listdir("/proc/self/fd")) <= before:
                return
            await asyncio.sleep(0.05)
        pytest.fail("descriptors are left")

    with pytest.warns(ResourceWarning, match="unclosed"):
        asyncio.run(main())


def test_a_loop_forgets_what_another_has_closed(fake: FakeEngine) -> None:
    """A loop that still knew the descriptor would never look for bytes of the next one of this number."""

    async def call(client: wherry.AsyncClient, *, close: bool) -> None:
        await asyncio.wait_for(client.containers.inspect("web"), 5)
        if close:
            await client.close()

    first, second = asyncio.new_event_loop(), asyncio.new_event_loop()
    client = wherry.connect_async(fake.url)
    try:
        first.run_until_complete(call(client, close=False))
        number = client.transport._idle[0].stream._socket.fileno()  # type: ignore[union-attr]
        second.run_until_complete(call(client, close=True))
        held = []
        while (taken := socket.socket(socket.AF_UNIX)).fileno() < number:
            held.append(taken)
        taken.close()
        again = wherry.connect_async(fake.url)
        first.run_until_complete(call(again, close=True))
        for each in held:
            each.close()
    finally:
        first.close()
        second.close()


def test_bytes_read_before_a_cancellation_are_read_by_the_next(fake: FakeEngine) -> None:
    more = threading.Event()

    def archive(peer: Peer, request: Received) -> None:
        peer.chunked()
        peer.chunk(b"first")
        more.wait(5)
        peer.chunk(b"second")
        peer.chunk(b"")

    fake.routes["GET /images/busybox/get"] = archive

    async def main() -> None:
        async with wherry.connect_async(fake.url) as docker, await docker.images.get("busybox") as image:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(image.read(11), 0.1)
            more.set()
            assert await image.read(11) == b"firstsecond"

    asyncio.run(main())


def test_an_upload_broken_off_within_a_write_is_not_finished(fake: FakeEngine) -> None:
    """The next chunk would be taken for the rest of the one that was cut."""

    async def main() -> None:
        async with wherry.connect_async(fake.url) as docker:
            upload = await docker.containers.put_archive_writer("web", "/srv")
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0):
                    await upload.write(bytes(64 << 20))
            with pytest.raises(wherry.WherryError, match="broken off within a write"):
                await upload.write(b"more")
            with pytest.raises(wherry.WherryError, match="broken off within a write"):
                await upload.finish()

    asyncio.run(main())
    assert fake.received == []


def test_an_archive_goes_to_a_path(fake: FakeEngine, docker: Any, tmp_path: Path) -> None:
    fake.routes["GET /images/busybox/get"] = (200, b"archive")
    assert docker.images.get("busybox").write_to(tmp_path / "busybox.tar") == 7
    assert (tmp_path / "busybox.tar").read_bytes() == b"archive"
