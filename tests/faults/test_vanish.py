"""Clients that vanish at any byte of an exchange: nothing of theirs stays in the engine.

The engine runs in this process, so that its tasks, subscribers and budgets can be counted.
"""

from __future__ import annotations

import asyncio
import gc
import io
import json
import os
import socket
import tarfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from scripts.make_images import busybox_archive
from tests.support.engines import Engine as Calls
from tests.support.engines import scratch_root
from tests.support.http import Http
from wherry.engine.engine import Engine

EVERY = 1 if os.environ.get("WHERRY_SOAK") else 29
"""Bytes from one place at which a client vanishes to the next."""


class InProcess(Calls):
    """An engine in this process, and raw calls to it from threads."""

    def __init__(self, engine: Engine, root: Any) -> None:
        self.engine = engine
        self.name = "wherry"
        self.root = root
        self.version = "1.43"
        self.socket_path = str(root / "engine.sock")
        self.http = Http(self.socket_path, "/v1.43")

    def holds(self) -> dict[str, Any]:
        """What the engine holds that clients may have left."""
        gc.collect()
        containers = self.engine.containers
        listed = list(containers)
        return {
            "connections": self.engine.http.connections,
            "bodies": self.engine.http.bodies.left,
            "tasks": len(asyncio.all_tasks()),
            "events": len(self.engine.events._subscriptions),
            "attached": containers.crowd._members,
            "listeners": sum(container.output.listeners for container in listed),
            "followers": sum(len(container.output._followers) for container in listed),
            "roots": sum(len(entry.holders) for entry in containers.parts.rootfs._entries.values()),
            "containers": len(listed),
            "files": len(os.listdir("/proc/self/fd")),
        }


@asynccontextmanager
async def in_process() -> AsyncIterator[InProcess]:
    with scratch_root("vanish") as root:
        engine = Engine(data_root=root / "data", exec_root=root / "exec")
        await engine.start()
        try:
            await engine.serve(f"unix://{root / 'engine.sock'}")
            calls = InProcess(engine, root)
            await asyncio.to_thread(calls.load, busybox_archive())
            yield calls
        finally:
            await engine.close(stop_containers=True)


def message(method: str, target: str, body: bytes = b"", *fields: str, chunked: bool = False) -> bytes:
    framing = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {len(body)}"
    sent = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body) if chunked else body
    return "\r\n".join([f"{method} /v1.43{target} HTTP/1.1", "Host: docker", framing, *fields, "", ""]).encode() + sent


def archive() -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        entry = tarfile.TarInfo("vanished")
        entry.size = 100
        tar.addfile(entry, io.BytesIO(b"v" * 100))
    return out.getvalue()[:2048]


JSON = "Content-Type: application/json"
UPGRADE = ("Connection: Upgrade", "Upgrade: tcp")
CREATE = json.dumps({"Image": "busybox", "Cmd": ["true"], "Labels": {"vanish": "1"}}).encode()
PULL = "/containers/idle"

EXCHANGES: dict[str, Callable[[InProcess], bytes]] = {
    "create": lambda _: message("POST", "/containers/create", CREATE, JSON),
    "create in chunks": lambda _: message("POST", "/containers/create", CREATE, JSON, chunked=True),
    "upload": lambda _: message("PUT", f"{PULL}/archive?path=/tmp", archive()),
    "upload in chunks": lambda _: message("PUT", f"{PULL}/archive?path=/tmp", archive(), chunked=True),
    "load": lambda _: message("POST", "/images/load", archive()),
    "attach": lambda _: message("POST", f"{PULL}/attach?stream=1&stdin=1&stdout=1&logs=1", b"", *UPGRADE) + b"input",
    "websocket": lambda _: (
        message(
            "GET",
            f"{PULL}/attach/ws?stream=1&stdin=1&stdout=1",
            b"",
            "Connection: Upgrade",
            "Upgrade: websocket",
            "Sec-WebSocket-Version: 13",
            "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
        )
        + b"\x82\x83abcd123"
    ),
    "exec": lambda calls: message("POST", f"/exec/{_exec(calls)}/start", b'{"Tty":false}', JSON, *UPGRADE) + b"input",
    "logs": lambda _: message("GET", f"{PULL}/logs?stdout=1&follow=1"),
    "events": lambda _: message("GET", "/events?since=1"),
    "stats": lambda _: message("GET", f"{PULL}/stats"),
    "wait": lambda _: message("POST", f"{PULL}/wait"),
    "archive": lambda _: message("GET", f"{PULL}/archive?path=/bin"),
    "export": lambda _: message("GET", f"{PULL}/export"),
}


def _exec(calls: InProcess) -> str:
    body = {"Cmd": ["cat"], "AttachStdin": True, "AttachStdout": True}
    return str(calls.http.post("/containers/idle/exec", json=body).json["Id"])


def vanish(calls: InProcess, make: Callable[[InProcess], bytes], every: int) -> int:
    """Send the message up to each place, and be gone; at the end of it also after the first bytes of the answer."""
    whole = make(calls)
    places = [*range(1, len(whole), every), len(whole), len(whole)]
    for number, place in enumerate(places):
        data = make(calls) if place == len(whole) else whole[:place]
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(20)
            sock.connect(calls.socket_path)
            sock.sendall(data)
            if number == len(places) - 1:
                sock.recv(100)
    return len(places)


@pytest.mark.timeout(1200)
def test_nothing_stays_of_clients_that_vanish() -> None:
    async def test() -> None:
        async with in_process() as calls:
            await asyncio.to_thread(_begin, calls)
            for make in EXCHANGES.values():  # what is made once, at first use, is no leak
                await asyncio.to_thread(vanish, calls, make, 10**6)
            await _settled(calls, None)
            before = calls.holds()
            for name, make in EXCHANGES.items():
                await asyncio.to_thread(vanish, calls, make, EVERY)
                await _settled(calls, before, name)
            top = await asyncio.to_thread(calls.http.get, "/containers/idle/top", query={"ps_args": "-o pid,args"})
            assert not [process for process in top.json["Processes"] if "cat" in process[-1]], (
                "their commands have ended"
            )
            answer = await asyncio.to_thread(calls.http.get, "/containers/idle/json")
            assert (answer.status, answer.json["State"]["Status"]) == (200, "running")

    asyncio.run(test())


def test_thousand_connections_come_and_go() -> None:
    async def test() -> None:
        async with in_process() as calls:
            await asyncio.to_thread(_begin, calls)
            await _settled(calls, None)
            before = calls.holds()
            await asyncio.to_thread(_flood, calls.socket_path)
            await _settled(calls, before, "a thousand connections")

    asyncio.run(test())


def _flood(path: str) -> None:
    for _ in range(5):
        opened = []
        for number in range(200):
            sock = socket.socket(socket.AF_UNIX)
            sock.connect(path)
            if number % 3 == 1:
                sock.sendall(b"GET /_pi")
            elif number % 3 == 2:
                sock.sendall(message("GET", "/events"))
            opened.append(sock)
        for sock in opened:
            sock.close()


def _begin(calls: InProcess) -> None:
    calls.run("sh", "-c", "while :; do echo tick; sleep 0.2; done", name="idle", OpenStdin=True)


def _remove_made(calls: InProcess) -> None:
    for container in calls.http.get("/containers/json", query={"all": 1, "filters": {"label": ["vanish"]}}).json:
        assert calls.http.delete(f"/containers/{container['Id']}", query={"force": 1}).status == 204


async def _settled(calls: InProcess, before: dict[str, Any] | None, what: str = "") -> None:
    """Wait until the engine holds what it held before; the first time, until it holds the same for a while."""
    same = 0
    last: dict[str, Any] = {}
    over: dict[str, Any] = {}
    for _ in range(400):
        await asyncio.to_thread(_remove_made, calls)
        await asyncio.sleep(0.05)
        now = calls.holds()
        if before is None:
            same = same + 1 if now == last else 0
            if same >= 20:
                return
            last = now
            continue
        over = {key: (before[key], value) for key, value in now.items() if _more(key, before[key], value)}
        if not over:
            return
    raise AssertionError(f"left by {what} (before, now): {over or last}")


def _more(key: str, before: int, now: int) -> bool:
    if key == "bodies":
        return now != before
    return now > before + (2 if key in ("files", "tasks", "connections") else 0)  # this test's own look-ups
