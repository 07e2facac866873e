"""A registry in this process, as honest or as hostile as a test wants it, and images to put into it."""

from __future__ import annotations

import asyncio
import hashlib
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.support.images import PACK, Store, config_of, digest
from wherry.engine.images.reference import Reference
from wherry.engine.images.registry import manifest as kinds
from wherry.engine.images.registry.auth import NOBODY, Credentials
from wherry.engine.images.registry.hosts import Endpoint, Registries
from wherry.engine.images.registry.pull import pull, wanted
from wherry.engine.images.registry.push import push
from wherry.engine.images.registry.repository import Registry, Repository

REASONS = {200: "OK", 201: "Created", 202: "Accepted", 206: "Partial Content", 307: "Temporary Redirect"}


@dataclass
class Asked:
    """A request as it came."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes

    @property
    def path(self) -> str:
        return urlsplit(self.target).path

    @property
    def query(self) -> dict[str, list[str]]:
        return parse_qs(urlsplit(self.target).query)

    @property
    def authorization(self) -> str:
        return self.headers.get("authorization", "")


@dataclass
class Reply:
    """``cut``: close the connection after so many bytes of the body. ``hold``: send it in pieces, so many seconds apart."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    cut: int | None = None
    hold: float = 0.0


Hook = Callable[[Asked], Reply | None]


class FakeRegistry:
    """Speaks the distribution protocol from memory. ``hooks`` are asked first and may answer anything."""

    def __init__(self, port: int, *, scheme: str = "http") -> None:
        self.port = port
        self.url = f"{scheme}://127.0.0.1:{port}"
        self.domain = f"127.0.0.1:{port}"
        self.asked: list[Asked] = []
        self.hooks: list[Hook] = []
        self.blobs: dict[str, bytes] = {}
        self.manifests: dict[str, tuple[str, bytes]] = {}
        self.uploads: dict[str, bytes] = {}
        self.sending = 0
        self.most_sending = 0

    def requests(self, method: str, part: str) -> list[Asked]:
        return [asked for asked in self.asked if asked.method == method and part in asked.target]

    # content

    def add_blob(self, data: bytes, media_type: str = "", **more: Any) -> dict[str, Any]:
        self.blobs[digest(data)] = data
        return {"mediaType": media_type, "digest": digest(data), "size": len(data), **more}

    def add_manifest(self, content: dict[str, Any], tag: str = "") -> dict[str, Any]:
        """Store a manifest or index under its digest, and a tag; returns its descriptor."""
        data = json.dumps(content).encode()
        media_type = content.get("mediaType", "")
        for key in filter(None, (digest(data), tag)):
            self.manifests[key] = (media_type, data)
        return {"mediaType": media_type, "digest": digest(data), "size": len(data)}

    def add_image(
        self, layers: Sequence[bytes], tag: str = "", *, pack: str = "gzip", oci: bool = False, **config: Any
    ) -> dict[str, Any]:
        """An image of uncompressed layers, lowest first; returns its manifest's descriptor."""
        suffix = {"plain": "", "gzip": "+gzip", "zstd": "+zstd"}[pack]
        layer_type = f"{kinds.OCI_LAYER}{suffix}" if oci or pack != "gzip" else kinds.DOCKER_LAYER
        content = {
            "schemaVersion": 2,
            "mediaType": kinds.OCI_MANIFEST if oci else kinds.DOCKER_MANIFEST,
            "config": self.add_blob(config_of(layers, **config), kinds.OCI_CONFIG if oci else kinds.DOCKER_CONFIG),
            "layers": [self.add_blob(PACK[pack](layer), layer_type) for layer in layers],
        }
        return self.add_manifest(content, tag)

    # protocol

    def answer(self, asked: Asked) -> Reply:
        for hook in self.hooks:
            reply = hook(asked)
            if reply is not None:
                return reply
        parts = asked.path.split("/")
        if asked.path == "/v2/":
            return Reply(body=b"{}")
        if "manifests" in parts:
            return self._manifest(asked, parts[-1])
        if "uploads" in parts:
            return self._upload(asked)
        if "blobs" in parts:
            data = self.blobs.get(parts[-1])
            return self.blob_reply(asked, data) if data is not None else refusal(404, "BLOB_UNKNOWN")
        return refusal(404, "NAME_UNKNOWN", "repository name not known to registry")

    def blob_reply(self, asked: Asked, data: bytes) -> Reply:
        begin = int(asked.headers.get("range", "bytes=0-")[6:-1])
        if not begin:
            return Reply(body=data)
        return Reply(206, data[begin:], {"Content-Range": f"bytes {begin}-{len(data) - 1}/{len(data)}"})

    def _manifest(self, asked: Asked, name: str) -> Reply:
        if asked.method == "PUT":
            media_type = asked.headers["content-type"]
            self.manifests[name] = self.manifests[digest(asked.body)] = (media_type, asked.body)
            return Reply(201, headers={"Docker-Content-Digest": digest(asked.body)})
        if name not in self.manifests:
            return refusal(404, "MANIFEST_UNKNOWN", "manifest unknown")
        media_type, data = self.manifests[name]
        return Reply(body=data, headers={"Content-Type": media_type, "Docker-Content-Digest": digest(data)})

    def _upload(self, asked: Asked) -> Reply:
        if asked.method == "POST":
            mount = asked.query.get("mount", [""])[0]
            if mount in self.blobs and asked.query.get("from"):
                return Reply(201, headers={"Location": f"/v2/x/blobs/{mount}"})
            self.uploads[str(len(self.uploads))] = b""
            return Reply(202, headers={"Location": f"{asked.path}{len(self.uploads) - 1}?state=a"})
        name = asked.path.rpartition("/")[2]
        self.uploads[name] += asked.body
        if asked.method == "PATCH":
            return Reply(202, headers={"Location": f"{asked.path}?state=b"})
        wanted = asked.query["digest"][0]
        if digest(self.uploads[name]) != wanted:
            return refusal(400, "DIGEST_INVALID", "provided digest did not match uploaded content")
        self.blobs[wanted] = self.uploads.pop(name)
        return Reply(201)

    # connections

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await self._one(reader, writer):
                pass
        except (OSError, asyncio.IncompleteReadError, ValueError, asyncio.LimitOverrunError):
            pass
        finally:
            writer.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        start = await reader.readexactly(1)
        if start == b"\x16":  # a TLS handshake
            writer.write(b"HTTP/1.0 400 Bad Request\r\n\r\n")
            return False
        head = (start + await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = head.strip().split("\r\n")
        method, target, _ = first.split(" ")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        asked = Asked(method, target, headers, body)
        self.asked.append(asked)
        reply = self.answer(asked)
        fields = {"Content-Length": str(len(reply.body)), **reply.headers}
        text = "".join(f"{name}: {value}\r\n" for name, value in fields.items() if value)
        writer.write(f"HTTP/1.1 {reply.status} {REASONS.get(reply.status, 'Word')}\r\n{text}\r\n".encode())
        if method == "HEAD":
            return True
        data = reply.body if reply.cut is None else reply.body[: reply.cut]
        self.sending += 1
        self.most_sending = max(self.most_sending, self.sending)
        try:
            step = max(1, len(data) // 10) if reply.hold else len(data) or 1
            for place in range(0, len(data), step):
                writer.write(data[place : place + step])
                await writer.drain()
                await asyncio.sleep(reply.hold)
        finally:
            self.sending -= 1
        return reply.cut is None


def refusal(status: int, code: str, message: str = "", **headers: str) -> Reply:
    body = json.dumps({"errors": [{"code": code, "message": message, "detail": None}]}).encode()
    fields = {name.replace("_", "-"): value for name, value in headers.items()}
    return Reply(status, body, {"Content-Type": "application/json", **fields})


@asynccontextmanager
async def fake_registry(tls: ssl.SSLContext | None = None) -> AsyncIterator[FakeRegistry]:
    """One on a free port of 127.0.0.1."""
    made: list[FakeRegistry] = []
    server = await asyncio.start_server(
        lambda reader, writer: made[0].serve(reader, writer), "127.0.0.1", 0, ssl=tls, limit=1 << 20
    )
    made.append(FakeRegistry(server.sockets[0].getsockname()[1], scheme="https" if tls else "http"))
    try:
        yield made[0]
    finally:
        server.close()


def basic(username: str, password: str) -> Hook:
    """Let in who has the password."""
    import base64

    wanted = "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode()

    def hook(asked: Asked) -> Reply | None:
        if asked.authorization == wanted:
            return None
        return refusal(401, "UNAUTHORIZED", "authentication required", WWW_Authenticate='Basic realm="here"')

    return hook


def sha512(data: bytes) -> str:
    return f"sha512:{hashlib.sha512(data).hexdigest()}"


# the calling side

ANN = Credentials("ann", "secret")
"""Whom ``basic("ann", "secret")`` and ``token_server`` let in."""


def bounded(work: Callable[[], Awaitable[Any]], seconds: float = 20) -> Any:
    """Run it to its end, in time."""

    async def within() -> Any:
        async with asyncio.timeout(seconds):
            return await work()

    return asyncio.run(within())


async def repository(fake: FakeRegistry, credentials: Credentials = NOBODY, actions: str = "pull") -> Repository:
    registry = await Registry.connect(Registries(), Endpoint(fake.url), credentials)
    return Repository(registry, "some/thing", actions)


async def blob(place: Repository, name: str) -> bytes:
    answer, _ = await place.blob(name)
    return await answer.read(1 << 20, "the blob")


def token_server(fake: FakeRegistry, tokens: FakeRegistry, *, expires: int = 300) -> None:
    """``fake`` wants tokens that ``tokens`` gives to ann."""

    def guard(asked: Asked) -> Reply | None:
        if asked.authorization == "Bearer good":
            return None
        scope = f'Bearer realm="{tokens.url}/token",service="fake"'
        return refusal(401, "UNAUTHORIZED", "authentication required", WWW_Authenticate=scope)

    def give(asked: Asked) -> Reply | None:
        if asked.path != "/token":
            return None
        if asked.authorization == ANN.basic or asked.body.startswith(b"grant_type=refresh_token"):
            answer = {"token": "good", "expires_in": expires, "refresh_token": "again"}
            return Reply(body=json.dumps(answer).encode())
        return refusal(401, "UNAUTHORIZED", "incorrect username or password")

    fake.hooks.append(guard)
    tokens.hooks.append(give)


Messages = list[dict[str, Any]]


def with_registry(work: Callable[[FakeRegistry], Awaitable[Any]]) -> Any:
    """Run it with a registry, to its end, in time."""

    async def inner() -> Any:
        async with fake_registry() as fake:
            return await work(fake)

    return bounded(inner, 60)


async def fetch(
    store: Store, name: str, *, registries: Registries | None = None, platform: str = "", tag: str = ""
) -> Messages:
    """Pull; all its messages."""
    made = pull(store.images, registries or Registries(), wanted(name, tag), platform, NOBODY)
    return [message async for message in made]


async def send(store: Store, name: str) -> Messages:
    """Push; all its messages."""
    repository, _, tag = name.rpartition(":")
    made = push(store.images, Registries(), Reference(repository, tag), NOBODY)
    return [message async for message in made]


def words(messages: Messages) -> list[str]:
    """What was said, but for the steps in between."""
    shown = [
        f"{message['id']}: {message['status']}" if "id" in message else message.get("status", "")
        for message in messages
    ]
    return [text for text in shown if "Extracting" not in text and "Downloading" not in text and text]


def short(data: bytes) -> str:
    return digest(data)[7:19]
