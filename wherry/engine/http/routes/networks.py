"""The operations on networks: the predefined ones can be read; making more is not there yet."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wherry.api.errors import NotImplementedYet
from wherry.api.models.networks import NetworkPruneResponse
from wherry.engine.http.call import Call

if TYPE_CHECKING:
    from wherry.engine.engine import Engine

NOT_YET = "networks of your own are not there yet: use bridge, host, none or container:<id>"


async def list_networks(engine: Engine, call: Call) -> object:
    return engine.networks.list(call.query.filters)


async def inspect_network(engine: Engine, call: Call) -> object:
    names = {container.id: container.name for container in engine.containers}
    return engine.networks.inspect(call.params["id"], names)


async def prune(engine: Engine, call: Call) -> object:
    return NetworkPruneResponse()


async def not_yet(engine: Engine, call: Call) -> object:
    raise NotImplementedYet(NOT_YET)


HANDLERS = {
    "NetworkList": list_networks,
    "NetworkInspect": inspect_network,
    "NetworkPrune": prune,
    "NetworkCreate": not_yet,
    "NetworkDelete": not_yet,
    "NetworkConnect": not_yet,
    "NetworkDisconnect": not_yet,
}
