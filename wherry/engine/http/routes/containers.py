"""The operations on containers that answer with a value."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wherry.api.errors import BadRequest
from wherry.api.models.containers import ContainerConfig, ContainerCreateResponse, HostConfig
from wherry.api.models.networks import EndpointSettings
from wherry.engine.containers import create as create_verb
from wherry.engine.containers import (
    delete,
    files,
    inspect,
    kill,
    pause,
    prune,
    rename,
    resize,
    start,
    stop,
    top,
    update,
)
from wherry.engine.containers import list as list_verb
from wherry.engine.http.call import Call
from wherry.engine.http.respond import Answer

if TYPE_CHECKING:
    from wherry.engine.engine import Engine

_NOT_MODIFIED = Answer(304)


async def list_containers(engine: Engine, call: Call) -> object:
    query = call.query
    return await list_verb.list_containers(
        engine.containers, all=bool(query.all), limit=query.limit or 0, size=bool(query.size), filters=query.filters
    )


async def create(engine: Engine, call: Call) -> object:
    body = call.body
    if refusal := body.refusal():
        raise BadRequest(refusal)
    config = ContainerConfig(**{name: getattr(body, name) for name in ContainerConfig.__struct_fields__})
    networking = body.networking_config
    endpoints = (networking.endpoints_config if networking else None) or {}
    container_id, warnings = await create_verb.create(
        engine.containers,
        create_verb.CreateRequest(
            config=config,
            host_config=body.host_config or HostConfig(),
            endpoints={name: endpoint or EndpointSettings() for name, endpoint in endpoints.items()},
            name=call.query.name,
            platform=call.query.platform,
            version=call.version,
        ),
    )
    return Answer(201, ContainerCreateResponse(id=container_id, warnings=warnings))


async def inspect_container(engine: Engine, call: Call) -> object:
    return await inspect.inspect(engine.containers, call.params["id"], size=bool(call.query.size), version=call.version)


async def start_container(engine: Engine, call: Call) -> object:
    # a longer body, or one of unknown length, is the HostConfig of an ancient API (STA1)
    if call.content_length is None or call.content_length > 7:
        raise BadRequest(
            "starting container with non-empty request body was deprecated since API v1.22 and removed in v1.24"
        )
    done = await start.start(engine.containers, call.params["id"], call.query.checkpoint)
    return None if done else _NOT_MODIFIED


async def stop_container(engine: Engine, call: Call) -> object:
    signal = call.query.signal if call.version >= (1, 42) else None
    done = await stop.stop(engine.containers, call.params["id"], signal, call.query.t)
    return None if done else _NOT_MODIFIED


async def restart_container(engine: Engine, call: Call) -> object:
    signal = call.query.signal if call.version >= (1, 42) else None
    await stop.restart(engine.containers, call.params["id"], signal, call.query.t)
    return None


async def kill_container(engine: Engine, call: Call) -> object:
    await kill.kill(engine.containers, call.params["id"], call.query.signal)
    return None


async def pause_container(engine: Engine, call: Call) -> object:
    await pause.pause(engine.containers, call.params["id"])
    return None


async def unpause_container(engine: Engine, call: Call) -> object:
    await pause.unpause(engine.containers, call.params["id"])
    return None


async def rename_container(engine: Engine, call: Call) -> object:
    await rename.rename(engine.containers, call.params["id"], call.query.name)
    return None


async def resize_container(engine: Engine, call: Call) -> object:
    resize.resize(engine.containers, call.params["id"], call.query.h, call.query.w)
    return None


async def update_container(engine: Engine, call: Call) -> object:
    return await update.update(engine.containers, call.params["id"], call.body)


async def delete_container(engine: Engine, call: Call) -> object:
    query = call.query
    await delete.delete(
        engine.containers, call.params["id"], volumes=bool(query.v), force=bool(query.force), link=bool(query.link)
    )
    return None


async def prune_containers(engine: Engine, call: Call) -> object:
    return await prune.prune(engine.containers, call.query.filters)


async def top_container(engine: Engine, call: Call) -> object:
    return await top.top(engine.containers, call.params["id"], call.query.ps_args)


async def changes_container(engine: Engine, call: Call) -> object:
    found = await files.changes(engine.containers, call.params["id"])
    return found if found is not None else Answer(200, b"null\n", headers={"Content-Type": "application/json"})  # CHG1


HANDLERS = {
    "ContainerList": list_containers,
    "ContainerCreate": create,
    "ContainerInspect": inspect_container,
    "ContainerStart": start_container,
    "ContainerStop": stop_container,
    "ContainerRestart": restart_container,
    "ContainerKill": kill_container,
    "ContainerPause": pause_container,
    "ContainerUnpause": unpause_container,
    "ContainerRename": rename_container,
    "ContainerResize": resize_container,
    "ContainerUpdate": update_container,
    "ContainerDelete": delete_container,
    "ContainerPrune": prune_containers,
    "ContainerTop": top_container,
    "ContainerChanges": changes_container,
}
