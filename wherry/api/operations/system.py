"""The operations on the engine itself."""

from __future__ import annotations

from wherry.api.errors import BadRequest, ServerError, Unauthorized
from wherry.api.models import system as models
from wherry.api.models.events import EventMessage
from wherry.api.operation import Body, Operation, Reply
from wherry.api.query import Filters, Query


class SystemEventsQuery(Query, kw_only=True, frozen=True):
    """``since`` and ``until`` are seconds since the epoch with an optional fraction (EVT3)."""

    since: str | None = None
    until: str | None = None
    filters: Filters | None = None


class SystemDataUsageQuery(Query, kw_only=True, frozen=True):
    """``type``: container, image, volume, build-cache; all of them when absent."""

    type: list[str] | None = None


SystemAuth = Operation(
    id="SystemAuth",
    method="POST",
    path="/auth",
    tag="System",
    body=Body.JSON,
    body_type=models.AuthConfig,
    reply=Reply.JSON,
    returns=models.SystemAuthResponse,
    success=(200, 204),
    errors={401: Unauthorized, 500: ServerError},
)
SystemInfo = Operation(
    id="SystemInfo",
    method="GET",
    path="/info",
    tag="System",
    reply=Reply.JSON,
    returns=models.SystemInfo,
    errors={500: ServerError},
)
SystemVersion = Operation(
    id="SystemVersion",
    method="GET",
    path="/version",
    tag="System",
    reply=Reply.JSON,
    returns=models.SystemVersion,
    errors={500: ServerError},
)
SystemPing = Operation(
    id="SystemPing",
    method="GET",
    path="/_ping",
    tag="System",
    reply=Reply.TEXT,
    errors={500: ServerError},
)
SystemPingHead = Operation(
    id="SystemPingHead",
    method="HEAD",
    path="/_ping",
    tag="System",
    reply=Reply.EMPTY,
    errors={500: ServerError},
)
SystemEvents = Operation(
    id="SystemEvents",
    method="GET",
    path="/events",
    tag="System",
    query=SystemEventsQuery,
    reply=Reply.JSON_STREAM,
    returns=EventMessage,
    errors={400: BadRequest, 500: ServerError},
)
SystemDataUsage = Operation(
    id="SystemDataUsage",
    method="GET",
    path="/system/df",
    tag="System",
    query=SystemDataUsageQuery,
    reply=Reply.JSON,
    returns=models.SystemDataUsageResponse,
    errors={400: BadRequest, 500: ServerError},
)

ALL = (
    SystemAuth,
    SystemInfo,
    SystemVersion,
    SystemPing,
    SystemPingHead,
    SystemEvents,
    SystemDataUsage,
)
