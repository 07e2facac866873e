"""Which handler answers which operation. A handler decodes, calls a verb, encodes; whatever decides lies below."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING

from wherry.api.operation import Operation
from wherry.engine.http.call import Call
from wherry.engine.http.routes import (
    absent,
    builds,
    containers,
    execs,
    images,
    networks,
    registries,
    streams,
    system,
    volumes,
)

if TYPE_CHECKING:
    from wherry.engine.engine import Engine

Handler = Callable[[Call], Awaitable[object]]
EngineHandler = Callable[["Engine", Call], Awaitable[object]]

_MODULES = (absent, builds, containers, execs, images, networks, registries, streams, system, volumes)


def handlers(engine: Engine) -> dict[Operation | str, Handler]:
    """Operation (or its id) → handler, for every operation of the API."""
    return {
        operation: partial(handler, engine) for module in _MODULES for operation, handler in module.HANDLERS.items()
    }
