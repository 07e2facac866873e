"""RUN: a step in a container of its own, its output sent on as it comes."""

from __future__ import annotations

import asyncio
import copy
import logging
from contextlib import suppress

from wherry.api.errors import ApiError, NotFound, ServerError
from wherry.api.models.containers import ContainerConfig, HealthConfig
from wherry.engine.build.progress import ContainerOutput
from wherry.engine.build.state import Build
from wherry.engine.containers.attach import Attacher, AttachOptions
from wherry.engine.containers.create import CreateRequest, create
from wherry.engine.containers.delete import delete
from wherry.engine.containers.start import start
from wherry.engine.containers.wait import arm

log = logging.getLogger(__name__)


class StepFailed(ServerError):
    """The command of a step ended with ``code``, not 0."""

    def __init__(self, command: list[str], code: int) -> None:
        super().__init__(f"The command '{' '.join(command)}' returned a non-zero code: {code}")
        self.code = code


async def run(build: Build, config: ContainerConfig, command: list[str], env: list[str], *, plain: bool) -> str:
    """Run ``command`` on the image of ``config``; returns the container's id, whose files are the step's result.

    ``plain``: without the image's entrypoint, and its command should there be none.
    Raises ``StepFailed``, ``ApiError``. The container is the caller's to remove (``build.kept``).
    """
    containers = build.containers
    config = copy.deepcopy(config)
    config.cmd, config.env = list(command), env
    if plain:
        config.entrypoint = [""]
    config.healthcheck = HealthConfig(test=["NONE"])
    config.hostname = ""
    request = CreateRequest(
        config=config,
        host_config=copy.deepcopy(build.options.host_config),
        version=build.options.version,
        for_build=True,
    )
    made = asyncio.ensure_future(create(containers, request))
    try:
        id, warnings = await asyncio.shield(made)
    except asyncio.CancelledError:
        # whatever came of it is known to whoever cleans up
        await asyncio.wait([made])
        if not made.cancelled() and made.exception() is None:
            build.kept.append(made.result()[0])
        raise
    build.kept.append(id)
    for warning in warnings:
        build.progress.say(f" ---> [Warning] {warning}\n")
    build.progress.say(f" ---> Running in {id[:12]}\n")
    container = containers.find(id)
    output = ContainerOutput(build.progress)
    options = AttachOptions(stream=True, stdout=True, stderr=True)
    attacher = Attacher(containers, container, options, output)  # type: ignore[arg-type]
    attacher.listen()
    try:
        exit = arm(container, "next-exit")
        await start(containers, id)
        code = await exit
        await attacher.finished.wait()
    finally:
        attacher.close()
    output.finish()
    await build.progress.drain()
    if code:
        raise StepFailed(command, code)
    if container.cleaning is not None:
        await asyncio.wait({container.cleaning})  # its root is at rest from here on
    return id


async def remove(build: Build, *, say: bool) -> None:
    """Remove the containers of steps."""
    while build.kept:
        id = build.kept.pop()
        try:
            await delete(build.containers, id, volumes=True, force=True, link=False)
        except NotFound:
            continue
        except ApiError as error:
            log.warning("the container %s of a build's step could not be removed: %s", id[:12], error.message)
            if say:
                build.progress.say(f"Error removing intermediate container {id[:12]}: {error.message}\n")
            continue
        if say:
            build.progress.say(f"Removing intermediate container {id[:12]}\n")


def keep(build: Build) -> None:
    """Let the containers of steps live on as anybody's."""
    for id in build.kept:
        with suppress(NotFound):
            container = build.containers.find(id)
            container.spec.for_build = False
            build.containers.save(container)
    build.kept.clear()
