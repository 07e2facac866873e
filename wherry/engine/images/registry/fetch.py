"""A file by its URL, over the same connections as registries: with their TLS settings and proxies, and no credentials."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from wherry.engine.images.registry.errors import RegistryError
from wherry.engine.images.registry.hosts import Registries
from wherry.engine.images.registry.transport import Answer, join_url, origin_of

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_MOST_REDIRECTS = 10
_LARGEST_WORDS = 4096


@asynccontextmanager
async def opened(registries: Registries, url: str) -> AsyncIterator[Answer]:
    """The answer to a GET, redirects followed but for those away from TLS.

    Raises ``RegistryError``, also for an answer of status 400 and above; its text names the URL.
    """
    transport = registries.transport()
    try:
        place = url
        for _ in range(_MOST_REDIRECTS + 1):
            answer = await transport.request("GET", place, [("Accept", "*/*"), ("Accept-Encoding", "identity")])
            location = answer.headers.get("location")
            if answer.status not in _REDIRECTS or not location:
                break
            answer.close()
            following = join_url(place, location)
            if origin_of(place).scheme == "https" and origin_of(following).scheme != "https":
                raise RegistryError(f"{url} leads away from TLS, to {origin_of(following)}: refused")
            place = following
        else:
            raise RegistryError(f"stopped after {_MOST_REDIRECTS} redirects")
        if answer.status >= 400:
            body = (
                await answer.read(_LARGEST_WORDS, "the answer")
                if (answer.content_length or 0) <= _LARGEST_WORDS
                else b""
            )
            words = "".join(char if char.isprintable() else " " for char in body.decode("utf-8", "replace")).strip()
            text = f"failed to GET {url} with status {answer.status} {answer.reason}: {words}"
            raise RegistryError(text, status=answer.status)
        yield answer
    except RegistryError as error:
        if error.status:
            raise
        raise RegistryError(f'Get "{url}": {error}') from error
    finally:
        transport.close()
