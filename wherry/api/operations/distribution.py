"""What a registry says, through the engine."""

from __future__ import annotations

from wherry.api.errors import Forbidden, NotFound, ServerError, Unauthorized
from wherry.api.models import images as models
from wherry.api.operation import Operation, Reply

DistributionInspect = Operation(
    id="DistributionInspect",
    method="GET",
    path="/distribution/{name}/json",
    tag="Distribution",
    headers=("X-Registry-Auth",),
    reply=Reply.JSON,
    returns=models.DistributionInspect,
    errors={401: Unauthorized, 403: Forbidden, 404: NotFound, 500: ServerError},
)

ALL = (DistributionInspect,)
