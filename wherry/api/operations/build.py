"""The operations that build images."""

from __future__ import annotations

from msgspec import field

from wherry.api.errors import BadRequest, ServerError
from wherry.api.models import images as models
from wherry.api.operation import Body, Operation, Reply
from wherry.api.query import Filters, Query


class ImageBuildQuery(Query, kw_only=True, frozen=True):
    """``buildargs`` and ``labels`` are JSON maps, ``cachefrom``, ``outputs`` and ``ulimits`` JSON lists.

    Sizes are bytes, ``cpuperiod`` and ``cpuquota`` microseconds.
    """

    dockerfile: str | None = None
    t: list[str] | None = None
    extrahosts: list[str] | None = None
    remote: str | None = None
    q: bool | None = None
    nocache: bool | None = None
    cachefrom: str | None = None
    pull: str | None = None
    rm: bool | None = None
    forcerm: bool | None = None
    memory: int | None = None
    memswap: int | None = None
    cpushares: int | None = None
    cpusetcpus: str | None = None
    cpusetmems: str | None = None
    cpuperiod: int | None = None
    cpuquota: int | None = None
    cgroupparent: str | None = None
    ulimits: str | None = None
    securityopt: list[str] | None = None
    buildargs: str | None = None
    shmsize: int | None = None
    squash: bool | None = None
    labels: str | None = None
    networkmode: str | None = None
    platform: str | None = None
    target: str | None = None
    outputs: str | None = None
    version: str | None = None


class BuildPruneQuery(Query, kw_only=True, frozen=True):
    """``keep_storage``: bytes of the cache that stay."""

    keep_storage: int | None = field(default=None, name="keep-storage")
    all: bool | None = None
    filters: Filters | None = None


ImageBuild = Operation(
    id="ImageBuild",
    method="POST",
    path="/build",
    tag="Image",
    query=ImageBuildQuery,
    body=Body.STREAM,
    headers=("X-Registry-Config",),
    reply=Reply.JSON_STREAM,
    returns=models.ProgressMessage,
    errors={400: BadRequest, 500: ServerError},
)
BuildPrune = Operation(
    id="BuildPrune",
    method="POST",
    path="/build/prune",
    tag="Image",
    query=BuildPruneQuery,
    reply=Reply.JSON,
    returns=models.BuildPruneResponse,
    errors={400: BadRequest, 500: ServerError},
)

ALL = (ImageBuild, BuildPrune)
