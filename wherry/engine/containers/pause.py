"""ContainerPause and ContainerUnpause: the freezer (PAU1, PAU2)."""

from __future__ import annotations

from wherry.api.errors import Conflict, ServerError, in_words
from wherry.engine.blocking import in_thread
from wherry.engine.containers.container import Container
from wherry.engine.containers.registry import Containers


async def pause(containers: Containers, reference: str) -> None:
    """Freeze every process. Raises ``Conflict`` when it does not run, is paused already or is restarting."""
    container = containers.find(reference)
    await containers.shielded(containers.spawn(_pause(containers, container), f"pause of {container.short_id}"))


async def _pause(containers: Containers, container: Container) -> None:
    async with container.lock:
        state = container.state
        run = container.run
        if not state.running or (run is not None and run.killed):
            raise Conflict(f"container {container.id} is not running")
        if state.paused:
            raise Conflict(f"container {container.id} is already paused")
        if state.restarting or run is None:
            raise Conflict(f"Container {container.id} is restarting, wait until the container is running")
        try:
            await in_thread(containers.cgroup(container).freeze)
        except OSError as error:
            raise ServerError(f"Cannot pause container {container.id}: {in_words(error)}") from error
        state.paused = True
        containers.note(container)
        containers.emit(container, "pause")


async def unpause(containers: Containers, reference: str) -> None:
    """Let the processes go on. Raises ``ServerError`` when it is not paused (PAU1)."""
    container = containers.find(reference)
    async with container.lock:
        if not container.state.paused:
            raise ServerError(f"Container {container.id} is not paused")
        thaw(containers, container)


def thaw(containers: Containers, container: Container) -> None:
    """Write to the freezer, mark and announce it. The caller holds the lock."""
    try:
        containers.cgroup(container).thaw()
    except OSError as error:
        raise ServerError(f"Cannot unpause container {container.id}: {in_words(error)}") from error
    container.state.paused = False
    containers.note(container)
    containers.emit(container, "unpause")
