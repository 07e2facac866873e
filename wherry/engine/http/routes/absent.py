"""What the engine does not have: a sentence that says so, never a 404 or silence."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wherry.api.errors import NotImplementedYet, Unavailable
from wherry.api.operations.outlines import OUTLINES, REASONS
from wherry.engine.http.call import Call

if TYPE_CHECKING:
    from wherry.engine.engine import Engine

_SWARM = frozenset(("Swarm", "Node", "Service", "Task", "Secret", "Config"))
NO_SWARM = (
    'This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" to connect this node to swarm and '
    "try again."
)


async def outside_swarm(engine: Engine, call: Call) -> object:
    """As a moby that is in no swarm."""
    raise Unavailable(NO_SWARM)


async def no_plugins(engine: Engine, call: Call) -> object:
    return []


async def not_there(engine: Engine, call: Call) -> object:
    raise NotImplementedYet(REASONS[call.operation.tag])


HANDLERS = {
    operation: outside_swarm if operation.tag in _SWARM else no_plugins if operation.id == "PluginList" else not_there
    for operation in OUTLINES
}
