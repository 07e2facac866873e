"""The operations on processes started in running containers."""

from __future__ import annotations

from wherry.api.errors import BadRequest, Conflict, NotFound, ServerError
from wherry.api.models import exec as models
from wherry.api.models.common import IdResponse
from wherry.api.operation import Body, Operation, Reply
from wherry.api.query import Query


class ExecResizeQuery(Query, kw_only=True, frozen=True):
    """Height and width in characters."""

    h: int
    w: int


ContainerExec = Operation(
    id="ContainerExec",
    method="POST",
    path="/containers/{id}/exec",
    tag="Exec",
    body=Body.JSON,
    body_type=models.ExecConfig,
    body_required=True,
    reply=Reply.JSON,
    returns=IdResponse,
    success=(201,),
    errors={400: BadRequest, 404: NotFound, 409: Conflict, 500: ServerError},
)
ExecStart = Operation(
    id="ExecStart",
    method="POST",
    path="/exec/{id}/start",
    tag="Exec",
    body=Body.JSON,
    body_type=models.ExecStartConfig,
    body_required=True,
    reply=Reply.HIJACK,
    success=(101, 200),
    errors={400: BadRequest, 404: NotFound, 409: Conflict, 500: ServerError},
)
ExecResize = Operation(
    id="ExecResize",
    method="POST",
    path="/exec/{id}/resize",
    tag="Exec",
    query=ExecResizeQuery,
    errors={400: BadRequest, 404: NotFound, 500: ServerError},
)
ExecInspect = Operation(
    id="ExecInspect",
    method="GET",
    path="/exec/{id}/json",
    tag="Exec",
    reply=Reply.JSON,
    returns=models.ExecInspect,
    errors={404: NotFound, 500: ServerError},
)

ALL = (ContainerExec, ExecStart, ExecResize, ExecInspect)
