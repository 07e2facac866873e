"""The operations on volumes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wherry.api.errors import Unavailable
from wherry.api.models.volumes import VolumeCreateRequest
from wherry.engine.http.call import Call
from wherry.engine.http.respond import Answer

if TYPE_CHECKING:
    from wherry.engine.engine import Engine


async def list_volumes(engine: Engine, call: Call) -> object:
    return engine.volumes.list(call.query.filters, in_use=engine.containers.volume_users)


async def create(engine: Engine, call: Call) -> object:
    body: VolumeCreateRequest = call.body or VolumeCreateRequest()
    if body.cluster_volume_spec and call.version >= (1, 42):
        raise Unavailable(
            'This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" to connect this node to '
            "swarm and try again."
        )
    return Answer(201, engine.volumes.create(body.name, body.labels, body.driver_opts, body.driver))


async def inspect(engine: Engine, call: Call) -> object:
    return engine.volumes.get(call.params["name"])


async def update(engine: Engine, call: Call) -> object:
    """Cluster volumes only, and there is no cluster."""
    raise Unavailable("volume update only valid for cluster volumes, but swarm is unavailable")


async def delete(engine: Engine, call: Call) -> None:
    engine.volumes.remove(call.params["name"], force=bool(call.query.force), in_use=engine.containers.volume_users)


async def prune(engine: Engine, call: Call) -> object:
    in_use = engine.containers.volume_users
    return await engine.volumes.prune(call.query.filters, in_use=in_use, named=call.version < (1, 42))


HANDLERS = {
    "VolumeList": list_volumes,
    "VolumeCreate": create,
    "VolumeInspect": inspect,
    "VolumeUpdate": update,
    "VolumeDelete": delete,
    "VolumePrune": prune,
}
