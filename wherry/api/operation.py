"""What an operation of the API is: a value that both ends read.

The client encodes a call from it, the engine routes and decodes by it, tests and documentation walk over it.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Any

import msgspec

from wherry.api.errors import ApiError


class Body(Enum):
    """What a request carries after its head."""

    NONE = "none"
    JSON = "json"
    STREAM = "stream"  # raw bytes of any length, such as a tar archive


class Reply(Enum):
    """What a successful answer carries after its head."""

    EMPTY = "empty"
    JSON = "json"
    TEXT = "text"
    JSON_STREAM = "json-stream"  # JSON values, one a line, as long as the operation runs
    BYTES = "bytes"  # raw bytes, such as a tar archive
    FRAMES = "frames"  # stdout and stderr, multiplexed or raw as the Content-Type says
    HIJACK = "hijack"  # the connection becomes a byte stream in both directions
    WEBSOCKET = "websocket"


class Operation(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """One operation of the Docker Engine API.

    ``id``, ``method``, ``path`` and ``tag`` are the published description's own. ``query`` is a ``Query`` struct or
    None, ``body_type`` and ``returns`` msgspec types for JSON. ``success`` lists the statuses that are no errors
    (304 among them where the API has it).
    """

    id: str
    method: str
    path: str
    tag: str
    query: type[Any] | None = None
    body: Body = Body.NONE
    body_type: Any = None
    body_required: bool = False
    headers: tuple[str, ...] = ()
    reply: Reply = Reply.EMPTY
    returns: Any = None
    success: tuple[int, ...] = (200,)
    errors: Mapping[int, type[ApiError]] = {}
