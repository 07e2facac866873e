"""The operations on volumes."""

from __future__ import annotations

from wherry.api.errors import ApiError, BadRequest, Conflict, NotFound, ServerError, Unavailable
from wherry.api.models import volumes as models
from wherry.api.operation import Body, Operation, Reply
from wherry.api.query import Filters, Query

_ERRORS: dict[int, type[ApiError]] = {404: NotFound, 500: ServerError}


class VolumeListQuery(Query, kw_only=True, frozen=True):
    """``filters``: dangling, driver, label, name."""

    filters: Filters | None = None


class VolumeUpdateQuery(Query, kw_only=True, frozen=True):
    """The version of the volume that the caller has seen. Without a cluster moby does not look at it."""

    version: int | None = None


class VolumeDeleteQuery(Query, kw_only=True, frozen=True):
    """``force``: no error when it is not there."""

    force: bool | None = None


class VolumePruneQuery(Query, kw_only=True, frozen=True):
    """``filters``: label, label!, all."""

    filters: Filters | None = None


VolumeList = Operation(
    id="VolumeList",
    method="GET",
    path="/volumes",
    tag="Volume",
    query=VolumeListQuery,
    reply=Reply.JSON,
    returns=models.VolumeListResponse,
    errors={400: BadRequest, 500: ServerError},
)
VolumeCreate = Operation(
    id="VolumeCreate",
    method="POST",
    path="/volumes/create",
    tag="Volume",
    body=Body.JSON,
    body_type=models.VolumeCreateRequest,
    body_required=True,
    reply=Reply.JSON,
    returns=models.Volume,
    success=(201,),
    errors={400: BadRequest, 409: Conflict, 500: ServerError},
)
VolumeInspect = Operation(
    id="VolumeInspect",
    method="GET",
    path="/volumes/{name}",
    tag="Volume",
    reply=Reply.JSON,
    returns=models.Volume,
    errors=_ERRORS,
)
VolumeUpdate = Operation(
    id="VolumeUpdate",
    method="PUT",
    path="/volumes/{name}",
    tag="Volume",
    query=VolumeUpdateQuery,
    body=Body.JSON,
    body_type=models.VolumeUpdateRequest,
    errors={400: BadRequest, 503: Unavailable, **_ERRORS},
)
VolumeDelete = Operation(
    id="VolumeDelete",
    method="DELETE",
    path="/volumes/{name}",
    tag="Volume",
    query=VolumeDeleteQuery,
    success=(204,),
    errors={409: Conflict, **_ERRORS},
)
VolumePrune = Operation(
    id="VolumePrune",
    method="POST",
    path="/volumes/prune",
    tag="Volume",
    query=VolumePruneQuery,
    reply=Reply.JSON,
    returns=models.VolumePruneResponse,
    errors={400: BadRequest, 409: Conflict, 500: ServerError},
)

ALL = (VolumeList, VolumeCreate, VolumeInspect, VolumeUpdate, VolumeDelete, VolumePrune)
