"""Agreeing on an API version.

The engine's newest version is in every answer's ``Api-Version``; its oldest it tells only when it refuses. The client
asks for its own version, an older one if the engine is older, and the engine's oldest if that is newer.
"""

from __future__ import annotations

import re

from wherry.api.errors import ConnectError
from wherry.api.operation import Operation
from wherry.api.version import CLIENT_VERSION, format_version, parse_version
from wherry.client.request import Request
from wherry.wire.http1 import Headers

OLDEST_VERSION = (1, 40)
"""The oldest version that the client runs against."""

# Engines below 1.52 answer to all the versions that the client may ask for.
_MAY_REFUSE = (1, 52)

_MINIMUM = re.compile(r"too old.*?version is ([0-9.]+)")

PING = Operation(id="SystemPingHead", method="HEAD", path="/_ping", tag="System")
PING_GET = Operation(id="SystemPing", method="GET", path="/_ping", tag="System")


def ping_request(method: str) -> Request:
    """An unversioned ping."""
    return Request(PING if method == "HEAD" else PING_GET, "/_ping")


def versioned_ping() -> Request:
    """A ping in the client's own version: refused by engines that have dropped it."""
    return Request(PING_GET, f"/v{format_version(CLIENT_VERSION)}/_ping")


def announced_version(headers: Headers, where: str) -> tuple[int, int]:
    """The newest version of the engine that sent these headers. Raises ``ConnectError`` if they are no engine's."""
    try:
        return parse_version(headers["api-version"])
    except (KeyError, ValueError):
        raise ConnectError(f"what answers at {where} is no Docker engine: it names no API version") from None


def choose_version(theirs: tuple[int, int], where: str) -> tuple[int, int]:
    """The version to ask for. Raises ``ConnectError`` for an engine that is too old."""
    if theirs < OLDEST_VERSION:
        raise ConnectError(
            f"the engine at {where} speaks API {format_version(theirs)}; "
            f"Wherry needs {format_version(OLDEST_VERSION)} or later"
        )
    return min(theirs, CLIENT_VERSION)


def may_refuse(theirs: tuple[int, int]) -> bool:
    """True for an engine so new that it may have dropped the client's version."""
    return theirs >= _MAY_REFUSE


def minimum_version(message: str) -> tuple[int, int] | None:
    """The engine's oldest version, from its words of refusal; None if they are about something else.

    >>> minimum_version("client version 1.43 is too old. Minimum supported API version is 1.44, please upgrade")
    (1, 44)
    """
    found = _MINIMUM.search(message)
    if found is None:
        return None
    try:
        return parse_version(found[1].strip("."))
    except ValueError:
        return None
