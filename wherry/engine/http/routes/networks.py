"""The operations on networks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wherry.api.errors import NotFound
from wherry.api.models.networks import NetworkCreateResponse
from wherry.engine.containers import membership
from wherry.engine.http.call import Call
from wherry.engine.http.respond import Answer

if TYPE_CHECKING:
    from wherry.engine.engine import Engine


async def list_networks(engine: Engine, call: Call) -> object:
    return engine.networks.list(call.query.filters)


async def inspect_network(engine: Engine, call: Call) -> object:
    names = {container.id: container.name for container in engine.containers}
    if call.query.scope not in (None, "", "local"):
        raise NotFound(f"network {call.params['id']} not found")
    return engine.networks.inspect(call.params["id"], names)


async def create(engine: Engine, call: Call) -> object:
    record = await engine.networks.create(call.body)
    return Answer(201, NetworkCreateResponse(id=record.id))


async def delete(engine: Engine, call: Call) -> object:
    await engine.networks.remove(call.params["id"])
    return None


async def connect(engine: Engine, call: Call) -> object:
    await membership.connect(engine.containers, call.params["id"], call.body)
    return None


async def disconnect(engine: Engine, call: Call) -> object:
    await membership.disconnect(engine.containers, call.params["id"], call.body)
    return None


async def prune(engine: Engine, call: Call) -> object:
    return await engine.networks.prune(call.query.filters)


HANDLERS = {
    "NetworkList": list_networks,
    "NetworkInspect": inspect_network,
    "NetworkCreate": create,
    "NetworkDelete": delete,
    "NetworkConnect": connect,
    "NetworkDisconnect": disconnect,
    "NetworkPrune": prune,
}
