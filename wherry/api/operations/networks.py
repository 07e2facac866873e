"""The operations on networks."""

from __future__ import annotations

from wherry.api.errors import ApiError, BadRequest, Conflict, Forbidden, NotFound, ServerError
from wherry.api.models import networks as models
from wherry.api.operation import Body, Operation, Reply
from wherry.api.query import Filters, Query

_ERRORS: dict[int, type[ApiError]] = {403: Forbidden, 404: NotFound, 500: ServerError}


class NetworkListQuery(Query, kw_only=True, frozen=True):
    """``filters``: dangling, driver, id, label, name, scope, type."""

    filters: Filters | None = None


class NetworkInspectQuery(Query, kw_only=True, frozen=True):
    """``scope``: swarm, global or local; ``verbose`` for swarm networks."""

    verbose: bool | None = None
    scope: str | None = None


class NetworkPruneQuery(Query, kw_only=True, frozen=True):
    """``filters``: until, label, label!."""

    filters: Filters | None = None


NetworkList = Operation(
    id="NetworkList",
    method="GET",
    path="/networks",
    tag="Network",
    query=NetworkListQuery,
    reply=Reply.JSON,
    returns=list[models.Network],
    errors={400: BadRequest, 500: ServerError},
)
NetworkInspect = Operation(
    id="NetworkInspect",
    method="GET",
    path="/networks/{id}",
    tag="Network",
    query=NetworkInspectQuery,
    reply=Reply.JSON,
    returns=models.Network,
    errors={400: BadRequest, 404: NotFound, 500: ServerError},
)
NetworkDelete = Operation(
    id="NetworkDelete",
    method="DELETE",
    path="/networks/{id}",
    tag="Network",
    success=(204,),
    errors=_ERRORS,
)
NetworkCreate = Operation(
    id="NetworkCreate",
    method="POST",
    path="/networks/create",
    tag="Network",
    body=Body.JSON,
    body_type=models.NetworkCreateRequest,
    body_required=True,
    reply=Reply.JSON,
    returns=models.NetworkCreateResponse,
    success=(201,),
    errors={400: BadRequest, 409: Conflict, **_ERRORS},
)
NetworkConnect = Operation(
    id="NetworkConnect",
    method="POST",
    path="/networks/{id}/connect",
    tag="Network",
    body=Body.JSON,
    body_type=models.NetworkConnectRequest,
    body_required=True,
    errors={400: BadRequest, **_ERRORS},
)
NetworkDisconnect = Operation(
    id="NetworkDisconnect",
    method="POST",
    path="/networks/{id}/disconnect",
    tag="Network",
    body=Body.JSON,
    body_type=models.NetworkDisconnectRequest,
    body_required=True,
    errors={400: BadRequest, **_ERRORS},
)
NetworkPrune = Operation(
    id="NetworkPrune",
    method="POST",
    path="/networks/prune",
    tag="Network",
    query=NetworkPruneQuery,
    reply=Reply.JSON,
    returns=models.NetworkPruneResponse,
    errors={400: BadRequest, 409: Conflict, 500: ServerError},
)

ALL = (
    NetworkList,
    NetworkInspect,
    NetworkDelete,
    NetworkCreate,
    NetworkConnect,
    NetworkDisconnect,
    NetworkPrune,
)
