"""What the engine does not have: a sentence that says so, never a 404 or silence."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wherry.api.errors import NotFound, NotImplementedYet, Unavailable
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


async def no_plugin(engine: Engine, call: Call) -> object:
    """404, because the docker command asks for a plugin last when it looks for an object of any kind."""
    raise NotFound(f'plugin "{call.params["name"]}" not found')


async def no_swarm_here(engine: Engine, call: Call) -> object:
    raise Unavailable(REASONS["Swarm"])


async def not_there(engine: Engine, call: Call) -> object:
    raise NotImplementedYet(REASONS[call.operation.tag])


_OWN = {
    "PluginList": no_plugins,
    "PluginInspect": no_plugin,
    "SwarmInit": no_swarm_here,
    "SwarmJoin": no_swarm_here,
}
HANDLERS = {
    operation: _OWN.get(operation.id) or (outside_swarm if operation.tag in _SWARM else not_there)
    for operation in OUTLINES
}
