"""The operations on containers."""

from __future__ import annotations

from msgspec import field

from wherry.api.errors import ApiError, BadRequest, Conflict, Forbidden, NotFound, ServerError
from wherry.api.models import containers as models
from wherry.api.models.stats import ContainerStatsResponse
from wherry.api.operation import Body, Operation, Reply
from wherry.api.query import Filters, Query

_ERRORS: dict[int, type[ApiError]] = {404: NotFound, 500: ServerError}
_BAD: dict[int, type[ApiError]] = {400: BadRequest, **_ERRORS}
_TAKEN: dict[int, type[ApiError]] = {409: Conflict, **_ERRORS}
_BOTH: dict[int, type[ApiError]] = {**_BAD, **_TAKEN}


class ContainerListQuery(Query, kw_only=True, frozen=True):
    """``limit``: the newest so many, in any state; ``filters``: see LST4."""

    all: bool | None = None
    limit: int | None = None
    size: bool | None = None
    filters: Filters | None = None


class ContainerCreateQuery(Query, kw_only=True, frozen=True):
    """``platform`` is ``os[/arch[/variant]]``."""

    name: str | None = None
    platform: str | None = None


class ContainerInspectQuery(Query, kw_only=True, frozen=True):
    """``size``: with the bytes it uses."""

    size: bool | None = None


class ContainerTopQuery(Query, kw_only=True, frozen=True):
    """``ps_args``: the options of ps, ``-ef`` when absent."""

    ps_args: str | None = field(default=None, name="ps_args")


class ContainerLogsQuery(Query, kw_only=True, frozen=True):
    """``since`` and ``until`` are seconds since the epoch with an optional fraction; ``tail`` a number or all."""

    follow: bool | None = None
    stdout: bool | None = None
    stderr: bool | None = None
    since: str | None = None
    until: str | None = None
    timestamps: bool | None = None
    details: bool | None = None  # undocumented, but the docker command sends it (LOG4)
    tail: str | None = None


class ContainerStatsQuery(Query, kw_only=True, frozen=True):
    """``stream`` is true unless given (STT1)."""

    stream: bool = True
    one_shot: bool | None = field(default=None, name="one-shot")


class ContainerResizeQuery(Query, kw_only=True, frozen=True):
    """Height and width in characters."""

    h: int
    w: int


class ContainerStartQuery(Query, kw_only=True, frozen=True):
    """``detach_keys`` for later attaches; ``checkpoint`` is refused (STA6)."""

    detach_keys: str | None = None
    checkpoint: str | None = None
    checkpoint_dir: str | None = field(default=None, name="checkpoint-dir")


class ContainerStopQuery(Query, kw_only=True, frozen=True):
    """``t``: seconds until it is killed, -1 for never (STP2)."""

    signal: str | None = None
    t: int | None = None


class ContainerRestartQuery(Query, kw_only=True, frozen=True):
    """As in stop."""

    signal: str | None = None
    t: int | None = None


class ContainerKillQuery(Query, kw_only=True, frozen=True):
    """``signal``: a name or a number, KILL when absent (KIL2)."""

    signal: str | None = None


class ContainerRenameQuery(Query, kw_only=True, frozen=True):
    """The new name."""

    name: str


class ContainerAttachQuery(Query, kw_only=True, frozen=True):
    """``logs``: what was written before; ``stream``: what is written from now on; and which of the streams."""

    detach_keys: str | None = None
    logs: bool | None = None
    stream: bool | None = None
    stdin: bool | None = None
    stdout: bool | None = None
    stderr: bool | None = None


class ContainerAttachWebsocketQuery(Query, kw_only=True, frozen=True):
    """As in attach."""

    detach_keys: str | None = None
    logs: bool | None = None
    stream: bool | None = None
    stdin: bool | None = None
    stdout: bool | None = None
    stderr: bool | None = None


class ContainerWaitQuery(Query, kw_only=True, frozen=True):
    """``condition``: not-running (when absent), next-exit or removed (WAI2)."""

    condition: str | None = None


class ContainerDeleteQuery(Query, kw_only=True, frozen=True):
    """``v``: with its anonymous volumes; ``link``: the link of that name, not the container."""

    v: bool | None = None
    force: bool | None = None
    link: bool | None = None


class ContainerArchiveInfoQuery(Query, kw_only=True, frozen=True):
    """``path`` in the container, relative ones from its root."""

    path: str


class ContainerArchiveQuery(Query, kw_only=True, frozen=True):
    """``path`` in the container, relative ones from its root."""

    path: str


class PutContainerArchiveQuery(Query, kw_only=True, frozen=True):
    """``path``: a directory of the container (ARC7, ARC8 tell what the options do)."""

    path: str
    no_overwrite_dir_non_dir: bool | None = None
    copy_uid_gid: bool | None = field(default=None, name="copyUIDGID")


class ContainerPruneQuery(Query, kw_only=True, frozen=True):
    """``filters``: until, label, label! (PRU1)."""

    filters: Filters | None = None


ContainerList = Operation(
    id="ContainerList",
    method="GET",
    path="/containers/json",
    tag="Container",
    query=ContainerListQuery,
    reply=Reply.JSON,
    returns=list[models.ContainerSummary],
    errors={400: BadRequest, 404: NotFound, 500: ServerError},
)
ContainerCreate = Operation(
    id="ContainerCreate",
    method="POST",
    path="/containers/create",
    tag="Container",
    query=ContainerCreateQuery,
    body=Body.JSON,
    body_type=models.ContainerCreateRequest,
    body_required=True,
    reply=Reply.JSON,
    returns=models.ContainerCreateResponse,
    success=(201,),
    errors=_BOTH,
)
ContainerInspect = Operation(
    id="ContainerInspect",
    method="GET",
    path="/containers/{id}/json",
    tag="Container",
    query=ContainerInspectQuery,
    reply=Reply.JSON,
    returns=models.ContainerInspect,
    errors=_ERRORS,
)
ContainerTop = Operation(
    id="ContainerTop",
    method="GET",
    path="/containers/{id}/top",
    tag="Container",
    query=ContainerTopQuery,
    reply=Reply.JSON,
    returns=models.ContainerTopResponse,
    errors=_TAKEN,
)
ContainerLogs = Operation(
    id="ContainerLogs",
    method="GET",
    path="/containers/{id}/logs",
    tag="Container",
    query=ContainerLogsQuery,
    reply=Reply.FRAMES,
    errors=_BOTH,
)
ContainerChanges = Operation(
    id="ContainerChanges",
    method="GET",
    path="/containers/{id}/changes",
    tag="Container",
    reply=Reply.JSON,
    returns=list[models.FilesystemChange] | None,
    errors=_ERRORS,
)
ContainerExport = Operation(
    id="ContainerExport",
    method="GET",
    path="/containers/{id}/export",
    tag="Container",
    reply=Reply.BYTES,
    errors=_TAKEN,
)
ContainerStats = Operation(
    id="ContainerStats",
    method="GET",
    path="/containers/{id}/stats",
    tag="Container",
    query=ContainerStatsQuery,
    reply=Reply.JSON_STREAM,
    returns=ContainerStatsResponse,
    errors=_BAD,
)
ContainerResize = Operation(
    id="ContainerResize",
    method="POST",
    path="/containers/{id}/resize",
    tag="Container",
    query=ContainerResizeQuery,
    errors=_BOTH,
)
ContainerStart = Operation(
    id="ContainerStart",
    method="POST",
    path="/containers/{id}/start",
    tag="Container",
    query=ContainerStartQuery,
    success=(204, 304),
    errors=_BOTH,
)
ContainerStop = Operation(
    id="ContainerStop",
    method="POST",
    path="/containers/{id}/stop",
    tag="Container",
    query=ContainerStopQuery,
    success=(204, 304),
    errors=_BAD,
)
ContainerRestart = Operation(
    id="ContainerRestart",
    method="POST",
    path="/containers/{id}/restart",
    tag="Container",
    query=ContainerRestartQuery,
    success=(204,),
    errors=_BAD,
)
ContainerKill = Operation(
    id="ContainerKill",
    method="POST",
    path="/containers/{id}/kill",
    tag="Container",
    query=ContainerKillQuery,
    success=(204,),
    errors=_BOTH,
)
ContainerUpdate = Operation(
    id="ContainerUpdate",
    method="POST",
    path="/containers/{id}/update",
    tag="Container",
    body=Body.JSON,
    body_type=models.ContainerUpdateRequest,
    body_required=True,
    reply=Reply.JSON,
    returns=models.ContainerUpdateResponse,
    errors=_BOTH,
)
ContainerRename = Operation(
    id="ContainerRename",
    method="POST",
    path="/containers/{id}/rename",
    tag="Container",
    query=ContainerRenameQuery,
    success=(204,),
    errors=_BOTH,
)
ContainerPause = Operation(
    id="ContainerPause",
    method="POST",
    path="/containers/{id}/pause",
    tag="Container",
    success=(204,),
    errors=_TAKEN,
)
ContainerUnpause = Operation(
    id="ContainerUnpause",
    method="POST",
    path="/containers/{id}/unpause",
    tag="Container",
    success=(204,),
    errors=_TAKEN,
)
ContainerAttach = Operation(
    id="ContainerAttach",
    method="POST",
    path="/containers/{id}/attach",
    tag="Container",
    query=ContainerAttachQuery,
    reply=Reply.HIJACK,
    success=(101, 200),
    errors=_BOTH,
)
ContainerAttachWebsocket = Operation(
    id="ContainerAttachWebsocket",
    method="GET",
    path="/containers/{id}/attach/ws",
    tag="Container",
    query=ContainerAttachWebsocketQuery,
    reply=Reply.WEBSOCKET,
    success=(101, 200),
    errors=_BOTH,
)
ContainerWait = Operation(
    id="ContainerWait",
    method="POST",
    path="/containers/{id}/wait",
    tag="Container",
    query=ContainerWaitQuery,
    reply=Reply.JSON,
    returns=models.ContainerWaitResponse,
    errors=_BAD,
)
ContainerDelete = Operation(
    id="ContainerDelete",
    method="DELETE",
    path="/containers/{id}",
    tag="Container",
    query=ContainerDeleteQuery,
    success=(204,),
    errors=_BOTH,
)
ContainerArchiveInfo = Operation(
    id="ContainerArchiveInfo",
    method="HEAD",
    path="/containers/{id}/archive",
    tag="Container",
    query=ContainerArchiveInfoQuery,
    errors=_BAD,
)
ContainerArchive = Operation(
    id="ContainerArchive",
    method="GET",
    path="/containers/{id}/archive",
    tag="Container",
    query=ContainerArchiveQuery,
    reply=Reply.BYTES,
    errors=_BAD,
)
PutContainerArchive = Operation(
    id="PutContainerArchive",
    method="PUT",
    path="/containers/{id}/archive",
    tag="Container",
    query=PutContainerArchiveQuery,
    body=Body.STREAM,
    body_required=True,
    errors={403: Forbidden, **_BAD},
)
ContainerPrune = Operation(
    id="ContainerPrune",
    method="POST",
    path="/containers/prune",
    tag="Container",
    query=ContainerPruneQuery,
    reply=Reply.JSON,
    returns=models.ContainerPruneResponse,
    errors={400: BadRequest, 409: Conflict, 500: ServerError},
)

ALL = (
    ContainerList,
    ContainerCreate,
    ContainerInspect,
    ContainerTop,
    ContainerLogs,
    ContainerChanges,
    ContainerExport,
    ContainerStats,
    ContainerResize,
    ContainerStart,
    ContainerStop,
    ContainerRestart,
    ContainerKill,
    ContainerUpdate,
    ContainerRename,
    ContainerPause,
    ContainerUnpause,
    ContainerAttach,
    ContainerAttachWebsocket,
    ContainerWait,
    ContainerDelete,
    ContainerArchiveInfo,
    ContainerArchive,
    PutContainerArchive,
    ContainerPrune,
)
