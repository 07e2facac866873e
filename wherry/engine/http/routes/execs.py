"""The operations on exec instances."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wherry.api.models.exec import ExecStartConfig
from wherry.engine.containers import exec as exec_verb
from wherry.engine.http.call import Call
from wherry.engine.http.respond import Answer
from wherry.engine.http.routes.streams import stream_type

if TYPE_CHECKING:
    from wherry.engine.engine import Engine


async def create(engine: Engine, call: Call) -> object:
    return Answer(201, {"Id": exec_verb.create(engine.containers, call.params["id"], call.body)})


async def start(engine: Engine, call: Call) -> object:
    options: ExecStartConfig = call.body or ExecStartConfig()
    instance = exec_verb.claim(engine.containers, call.params["id"])
    if options.detach:
        await exec_verb.start_detached(engine.containers, instance, options)
        return Answer(200)
    duplex = await call.hijack(stream_type(call.version, tty=options.tty))
    await exec_verb.start_attached(engine.containers, instance, options, duplex)
    return None


async def resize(engine: Engine, call: Call) -> object:
    await exec_verb.resize(engine.containers, call.params["id"], call.query.h, call.query.w)
    return None


async def inspect(engine: Engine, call: Call) -> object:
    return exec_verb.inspect(engine.containers, call.params["id"])


HANDLERS = {"ContainerExec": create, "ExecStart": start, "ExecResize": resize, "ExecInspect": inspect}
