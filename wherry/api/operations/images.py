"""The operations on images, but for building them (``build``)."""

from __future__ import annotations

from msgspec import field

from wherry.api.errors import ApiError, BadRequest, Conflict, NotFound, ServerError
from wherry.api.models import images as models
from wherry.api.models.common import IdResponse
from wherry.api.operation import Body, Operation, Reply
from wherry.api.query import Filters, Query

_ERRORS: dict[int, type[ApiError]] = {400: BadRequest, 404: NotFound, 500: ServerError}
_TAKEN: dict[int, type[ApiError]] = {409: Conflict, **_ERRORS}


class ImageListQuery(Query, kw_only=True, frozen=True):
    """``all``: with the images that others were made from."""

    all: bool | None = None
    filters: Filters | None = None
    shared_size: bool | None = field(default=None, name="shared-size")
    digests: bool | None = None


class ImageCreateQuery(Query, kw_only=True, frozen=True):
    """``from_image`` and ``tag``: a pull. ``from_src``: an import, ``-`` from the body; ``changes`` are Dockerfile
    instructions for it."""

    from_image: str | None = None
    from_src: str | None = None
    repo: str | None = None
    tag: str | None = None
    message: str | None = None
    changes: list[str] | None = None
    platform: str | None = None


class ImagePushQuery(Query, kw_only=True, frozen=True):
    """All tags without ``tag``."""

    tag: str | None = None


class ImageTagQuery(Query, kw_only=True, frozen=True):
    """The new reference, in two parts."""

    repo: str | None = None
    tag: str | None = None


class ImageDeleteQuery(Query, kw_only=True, frozen=True):
    """``noprune``: leave the untagged parents."""

    force: bool | None = None
    noprune: bool | None = None


class ImageSearchQuery(Query, kw_only=True, frozen=True):
    """``term`` to look for in the registry."""

    term: str
    limit: int | None = None
    filters: Filters | None = None


class ImagePruneQuery(Query, kw_only=True, frozen=True):
    """``filters``: dangling, until, label, label!."""

    filters: Filters | None = None


class ImageCommitQuery(Query, kw_only=True, frozen=True):
    """``pause`` the container meanwhile, unless told not to; ``changes`` are Dockerfile instructions."""

    container: str | None = None
    repo: str | None = None
    tag: str | None = None
    comment: str | None = None
    author: str | None = None
    pause: bool = True
    changes: list[str] | None = None


class ImageGetAllQuery(Query, kw_only=True, frozen=True):
    """The references of the images."""

    names: list[str] | None = None


class ImageLoadQuery(Query, kw_only=True, frozen=True):
    """``quiet``: no progress."""

    quiet: bool | None = None


ImageList = Operation(
    id="ImageList",
    method="GET",
    path="/images/json",
    tag="Image",
    query=ImageListQuery,
    reply=Reply.JSON,
    returns=list[models.ImageSummary],
    errors={400: BadRequest, 500: ServerError},
)
ImageCreate = Operation(
    id="ImageCreate",
    method="POST",
    path="/images/create",
    tag="Image",
    query=ImageCreateQuery,
    body=Body.STREAM,
    headers=("X-Registry-Auth",),
    reply=Reply.JSON_STREAM,
    returns=models.ProgressMessage,
    errors=_ERRORS,
)
ImageInspect = Operation(
    id="ImageInspect",
    method="GET",
    path="/images/{name}/json",
    tag="Image",
    reply=Reply.JSON,
    returns=models.ImageInspect,
    errors=_ERRORS,
)
ImageHistory = Operation(
    id="ImageHistory",
    method="GET",
    path="/images/{name}/history",
    tag="Image",
    reply=Reply.JSON,
    returns=list[models.ImageHistoryResponseItem],
    errors=_ERRORS,
)
ImagePush = Operation(
    id="ImagePush",
    method="POST",
    path="/images/{name}/push",
    tag="Image",
    query=ImagePushQuery,
    headers=("X-Registry-Auth",),
    reply=Reply.JSON_STREAM,
    returns=models.ProgressMessage,
    errors=_ERRORS,
)
ImageTag = Operation(
    id="ImageTag",
    method="POST",
    path="/images/{name}/tag",
    tag="Image",
    query=ImageTagQuery,
    success=(201,),
    errors=_TAKEN,
)
ImageDelete = Operation(
    id="ImageDelete",
    method="DELETE",
    path="/images/{name}",
    tag="Image",
    query=ImageDeleteQuery,
    reply=Reply.JSON,
    returns=list[models.ImageDeleteResponseItem],
    errors=_TAKEN,
)
ImageSearch = Operation(
    id="ImageSearch",
    method="GET",
    path="/images/search",
    tag="Image",
    query=ImageSearchQuery,
    reply=Reply.JSON,
    returns=list[models.ImageSearchResponseItem],
    errors={400: BadRequest, 500: ServerError},
)
ImagePrune = Operation(
    id="ImagePrune",
    method="POST",
    path="/images/prune",
    tag="Image",
    query=ImagePruneQuery,
    reply=Reply.JSON,
    returns=models.ImagePruneResponse,
    errors={400: BadRequest, 409: Conflict, 500: ServerError},
)
ImageCommit = Operation(
    id="ImageCommit",
    method="POST",
    path="/commit",
    tag="Image",
    query=ImageCommitQuery,
    body=Body.JSON,
    body_type=models.ContainerConfig,
    reply=Reply.JSON,
    returns=IdResponse,
    success=(201,),
    errors=_TAKEN,
)
ImageGet = Operation(
    id="ImageGet",
    method="GET",
    path="/images/{name}/get",
    tag="Image",
    reply=Reply.BYTES,
    errors=_ERRORS,
)
ImageGetAll = Operation(
    id="ImageGetAll",
    method="GET",
    path="/images/get",
    tag="Image",
    query=ImageGetAllQuery,
    reply=Reply.BYTES,
    errors=_ERRORS,
)
ImageLoad = Operation(
    id="ImageLoad",
    method="POST",
    path="/images/load",
    tag="Image",
    query=ImageLoadQuery,
    body=Body.STREAM,
    reply=Reply.JSON_STREAM,
    returns=models.ProgressMessage,
    errors={400: BadRequest, 500: ServerError},
)

ALL = (
    ImageList,
    ImageCreate,
    ImageInspect,
    ImageHistory,
    ImagePush,
    ImageTag,
    ImageDelete,
    ImageSearch,
    ImagePrune,
    ImageCommit,
    ImageGet,
    ImageGetAll,
    ImageLoad,
)
