"""The operations that build images."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wherry.api.models.images import BuildPruneResponse
from wherry.engine.http.call import Call
from wherry.engine.http.routes.registries import while_there
from wherry.engine.images.registry.auth import read_config_header

if TYPE_CHECKING:
    from wherry.engine.engine import Engine


async def build_image(engine: Engine, call: Call) -> None:
    # the builder is 2 MiB of the engine's memory, which an engine that builds nothing does without
    from wherry.engine.build.builder import build
    from wherry.engine.build.options import from_query

    options = from_query(call.query, call.version)
    credentials = read_config_header(call.headers.get("x-registry-config"))
    await while_there(call, build(engine.containers, engine.registries, call.stream(), options, credentials))


async def prune(engine: Engine, call: Call) -> object:
    """The builder's cache is images, which ``docker image prune`` removes: nothing of its own is there to prune."""
    return BuildPruneResponse()


HANDLERS = {"ImageBuild": build_image, "BuildPrune": prune}
