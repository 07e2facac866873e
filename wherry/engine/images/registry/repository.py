"""One registry, and one repository of it: every request that a pull or a push makes."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncGenerator, Callable, Sequence
from urllib.parse import quote, urlencode, urlsplit

import msgspec

from wherry.engine.images.content import digest_of
from wherry.engine.images.registry.auth import Authorizer, Credentials, read_challenges
from wherry.engine.images.registry.errors import Interrupted, RegistryError, Unreachable, from_answer
from wherry.engine.images.registry.hosts import Endpoint, Registries
from wherry.engine.images.registry.manifest import ACCEPTED, LARGEST_MANIFEST, Document, read_document
from wherry.engine.images.registry.transport import Answer, join_url, origin_of

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_MOST_REDIRECTS = 10
_LARGEST_ERROR = 1 << 16
_LARGEST_TAGS = 1 << 20
_MOST_TAGS = 10_000

Body = bytes | Callable[[], AsyncGenerator[bytes, None]]


class Registry:
    """A registry that answered. ``close`` it when done."""

    def __init__(self, registries: Registries, endpoint: Endpoint, credentials: Credentials) -> None:
        self.endpoint = endpoint
        self.origin = origin_of(endpoint.url)
        self._transport = registries.transport()
        self.authorizer = Authorizer(self._transport, self.origin, credentials)

    @classmethod
    async def connect(cls, registries: Registries, endpoint: Endpoint, credentials: Credentials) -> Registry:
        """Find out whether a registry is there and what it asks for. Mirrors get no credentials.

        Raises ``Unreachable``, and other ``RegistryError`` where something else answers.
        """
        registry = cls(registries, endpoint, credentials if endpoint.own else Credentials())
        try:
            await registry._ping()
        except BaseException:
            registry.close()
            raise
        return registry

    async def _ping(self) -> None:
        url = f"{self.endpoint.url}/v2/"
        try:
            answer = await self._transport.request("GET", url)
        except RegistryError as error:
            raise Unreachable(f'Get "{url}": {error}') from None
        await answer.drain()
        if answer.status == 401:
            self.authorizer.challenged(read_challenges(answer.headers.get("www-authenticate")))
        elif answer.status >= 500:
            raise Unreachable(f'Get "{url}": received unexpected HTTP status: {answer.status} {answer.reason}')

    def close(self) -> None:
        self._transport.close()

    async def call(
        self,
        method: str,
        target: str,
        *,
        scopes: Sequence[str] = (),
        headers: Sequence[tuple[str, str]] = (),
        body: Body = b"",
        length: int | None = None,
    ) -> Answer:
        """A request to a path of the registry or to a URL that it gave; only the registry itself sees credentials.

        GET and HEAD follow redirects. Raises ``RegistryError`` for every answer of status 400 and above.
        """
        url = join_url(self.endpoint.url, target)
        again = True
        redirects = 0
        while True:
            ours = origin_of(url) == self.origin
            if not ours and self.origin.scheme == "https" and origin_of(url).scheme != "https":
                raise RegistryError(f"the registry leads away from TLS, to {origin_of(url)}: refused")
            granted = await self.authorizer.field(scopes) if ours else []
            sent = body if isinstance(body, bytes) else body()
            answer = await self._transport.request(method, url, [*headers, *granted], sent, length=length)
            if answer.status in _REDIRECTS and method in ("GET", "HEAD"):
                location = answer.headers.get("location")
                await answer.drain()
                redirects += 1
                if redirects > _MOST_REDIRECTS or not location:
                    raise RegistryError(f"the registry's redirects lead nowhere ({redirects} followed)")
                url = join_url(url, location)
                continue
            if answer.status < 400:
                return answer
            challenges = read_challenges(answer.headers.get("www-authenticate"))
            said = b"" if method == "HEAD" else await _error_body(answer)
            if answer.status == 401 and ours and again and challenges and not redirects:
                again = False
                self.authorizer.challenged(challenges)
                continue
            raise from_answer(answer.status, answer.reason, said, challenges if ours else ())


async def _error_body(answer: Answer) -> bytes:
    try:
        return await answer.read(_LARGEST_ERROR, "the answer")
    except RegistryError:
        return b""


class _Tags(msgspec.Struct):
    tags: list[str] | None = None


class Repository:
    """``name`` is the path in the registry, ``library/busybox``; ``actions`` is ``pull`` or ``pull,push``."""

    def __init__(self, registry: Registry, name: str, actions: str = "pull") -> None:
        self.registry = registry
        self.name = name
        self._scopes = (f"repository:{name}:{actions}",)
        self._base = f"/v2/{quote(name)}"

    # manifests

    async def manifest(self, reference: str, *, size: int | None = None) -> Document:
        """The manifest or index of a tag or digest, checked against the digest.

        ``size``: what whoever referred to it said. Raises ``RegistryError``.
        """
        accept = [("Accept", ", ".join(ACCEPTED))]
        path = f"{self._base}/manifests/{quote(reference, safe=':')}"
        answer = await self.registry.call("GET", path, scopes=self._scopes, headers=accept)
        data = await answer.read(LARGEST_MANIFEST, "the manifest")
        if answer.content_length is not None and len(data) != answer.content_length:
            raise Interrupted("the manifest ended early")
        if size is not None and len(data) != size:
            raise RegistryError(f"the manifest {reference} has {len(data)} bytes where {size} were announced")
        digest = digest_of(data)
        said = answer.headers.get("docker-content-digest")
        wanted = reference if ":" in reference else said if said.startswith("sha256:") else digest
        if not digest_matches(data, wanted):
            raise RegistryError(f"manifest verification failed for digest {wanted}")
        return read_document(answer.headers.get("content-type"), data, reference if ":" in reference else digest)

    async def put_manifest(self, reference: str, media_type: str, data: bytes) -> None:
        """Store a manifest under a tag or digest. Raises ``RegistryError``, also where the registry made another of it."""
        path = f"{self._base}/manifests/{quote(reference, safe=':')}"
        headers = [("Content-Type", media_type)]
        answer = await self.registry.call("PUT", path, scopes=self._scopes, headers=headers, body=data)
        await answer.drain()
        said = answer.headers.get("docker-content-digest")
        if said and not digest_matches(data, said):
            raise RegistryError(f"the registry stored {said[:100]!r} instead of the manifest that it was given")

    async def tags(self) -> list[str]:
        """Every tag. Raises ``RegistryError``."""
        found: list[str] = []
        target: str | None = f"{self._base}/tags/list"
        while target is not None:
            answer = await self.registry.call("GET", target, scopes=self._scopes)
            data = await answer.read(_LARGEST_TAGS, "the list of tags")
            try:
                page = msgspec.json.decode(data, type=_Tags).tags or []
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                raise RegistryError("the registry's list of tags cannot be read") from None
            found += page
            if len(found) > _MOST_TAGS:
                raise RegistryError(f"the repository has more than {_MOST_TAGS} tags: name one")
            target = _next_page(answer) if page else None
        return found

    # blobs

    async def has_blob(self, digest: str) -> int | None:
        """A blob's size in bytes; None where the repository has none. Raises ``RegistryError``."""
        try:
            answer = await self.registry.call("HEAD", f"{self._base}/blobs/{digest}", scopes=self._scopes)
        except RegistryError as error:
            if error.status == 404:
                return None
            raise
        await answer.drain()
        length = answer.headers.get("content-length")
        return int(length) if length.isdecimal() else 0

    async def blob(self, digest: str, offset: int = 0) -> tuple[Answer, int]:
        """A blob from ``offset`` on, and where the answer really begins: 0 where the registry gives whole ones only."""
        headers = [("Accept-Encoding", "identity")]
        if offset:
            headers.append(("Range", f"bytes={offset}-"))
        answer = await self.registry.call("GET", f"{self._base}/blobs/{digest}", scopes=self._scopes, headers=headers)
        if answer.status == 206:
            begins = answer.headers.get("content-range").removeprefix("bytes ").partition("-")[0]
            if not offset or begins != str(offset):
                answer.close()
                raise RegistryError(f"the registry gave another part of {digest} than asked for")
            return answer, offset
        if answer.status != 200:
            answer.close()
            raise RegistryError(f"received unexpected HTTP status: {answer.status} {answer.reason}")
        return answer, 0

    async def begin_upload(self, *, mount: str = "", origin: str = "") -> str | None:
        """Where to upload a blob to; None when it was ``mount``ed from the repository ``origin`` instead."""
        scopes: tuple[str, ...] = self._scopes
        target = f"{self._base}/blobs/uploads/"
        if mount:
            scopes = (*scopes, f"repository:{origin}:pull")
            target += "?" + urlencode({"mount": mount, "from": origin})
        answer = await self.registry.call("POST", target, scopes=scopes)
        await answer.drain()
        if mount and answer.status == 201:
            return None
        return self._location(answer)

    async def upload(
        self, location: str, digest: str, size: int, body: Callable[[], AsyncGenerator[bytes, None]]
    ) -> None:
        """Send a blob's bytes and have the registry check them. Raises ``RegistryError``."""
        headers = [("Content-Type", "application/octet-stream")]
        answer = await self.registry.call(
            "PATCH", location, scopes=self._scopes, headers=headers, body=body if size else b"", length=size
        )
        await answer.drain()
        location = self._location(answer)
        target = f"{location}{'&' if '?' in location else '?'}{urlencode({'digest': digest})}"
        answer = await self.registry.call("PUT", target, scopes=self._scopes, headers=headers)
        await answer.drain()

    def _location(self, answer: Answer) -> str:
        location = answer.headers.get("location")
        if answer.status not in (201, 202) or not location:
            raise RegistryError(f"the registry takes no upload: {answer.status} {answer.reason}")
        return join_url(answer.url, location)


def digest_matches(data: bytes, digest: str) -> bool:
    """Whether ``data`` is what ``digest`` says, by SHA-256 or SHA-512."""
    algorithm, _, digits = digest.partition(":")
    return algorithm in ("sha256", "sha384", "sha512") and hashlib.new(algorithm, data).hexdigest() == digits


def _next_page(answer: Answer) -> str | None:
    """The ``Link`` to the next page of a list, on the same registry."""
    link = answer.headers.get("link")
    if 'rel="next"' not in link:
        return None
    parts = urlsplit(link.partition("<")[2].partition(">")[0])
    return f"{parts.path}?{parts.query}" if parts.path.startswith("/v2/") else None
