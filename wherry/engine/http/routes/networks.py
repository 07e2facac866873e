"""The operations on networks: the predefined ones can be read; making more is not there yet."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wherry.api.errors import NotImplementedYet
from wherry.api.models.networks import NetworkContainer, NetworkPruneResponse
from wherry.engine.http.call import Call

if TYPE_CHECKING:
    from wherry.engine.engine import Engine

NOT_YET = "networks of your own are not there yet: use bridge, host, none or container:<id>"


async def list_networks(engine: Engine, call: Call) -> object:
    return engine.networks.list(call.query.filters)


async def inspect_network(engine: Engine, call: Call) -> object:
    network = engine.networks.inspect(call.params["id"])
    network.containers = {}
    for container in engine.containers:
        endpoint = container.spec.networks.get(network.name)
        if endpoint is None or not container.state.pid or not endpoint.endpoint_id:
            continue
        network.containers[container.id] = NetworkContainer(
            name=container.name,
            endpoint_id=endpoint.endpoint_id,
            mac_address=endpoint.mac_address,
            ipv4_address=f"{endpoint.ip_address}/{endpoint.ip_prefix_len}" if endpoint.ip_address else "",
        )
    return network


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
