"""ContainerDelete and automatic removal (DEL1 to DEL7)."""

from __future__ import annotations

import logging

from wherry.api.errors import Conflict, ServerError
from wherry.engine.blocking import in_thread
from wherry.engine.containers.container import Container
from wherry.engine.containers.create import remove_anonymous_volumes
from wherry.engine.containers.kill import kill_and_wait
from wherry.engine.containers.registry import Containers
from wherry.engine.containers.restart import stop_restarting
from wherry.engine.containers.shm import release_shared_memory

log = logging.getLogger(__name__)


async def delete(containers: Containers, reference: str, *, volumes: bool, force: bool, link: bool) -> None:
    """Remove a container; with ``force`` a running one is killed first, with ``volumes`` its anonymous volumes go too.

    Raises ``Conflict`` when it runs or is being removed already, ``ServerError`` when its files cannot be removed: it is
    dead then, and the call can be repeated.
    """
    container = containers.find(reference)
    if link:
        raise ServerError("Conflict, cannot remove the default link name of the container")
    if container.state.removing:
        raise Conflict(f"removal of container {reference} is already in progress")
    state = container.state
    if state.running:
        if not force:
            if state.paused:
                hint = "You cannot remove a paused container {}. Unpause and then stop the container before attempting removal or force remove"  # noqa: E501
            elif state.restarting:
                hint = "You cannot remove a restarting container {}. Stop the container before attempting removal or force remove"
            else:
                hint = "You cannot remove a running container {}. Stop the container before attempting removal or force remove"
            raise Conflict(hint.format(container.id))
        container.keep = True
        if state.restarting:
            await stop_restarting(containers, container)
    work = containers.spawn(_remove(containers, container, volumes), f"removal of {container.short_id}")
    await containers.shielded(work)


async def _remove(containers: Containers, container: Container, volumes: bool) -> None:
    try:
        if container.state.running:
            await kill_and_wait(containers, container)
    finally:
        container.keep = False
    await remove_container(containers, container, volumes=volumes)


async def remove_container(containers: Containers, container: Container, *, volumes: bool) -> None:
    """Remove a container that is not running: first the directories go to the trash, then the row, then waiters are
    answered and ``destroy`` is announced (DEL7). The runtime's own clean-up may still be under way behind it."""
    async with container.lock:
        if containers.by_id(container.id) is None:
            return
        if container.state.running:
            raise Conflict(f"cannot remove container {container.id}: it was started again")
        container.state.removing = True
        containers.save(container)
        try:
            await in_thread(_take_away, containers, container)
        except OSError as error:
            container.state.removing = False
            container.state.dead = True
            container.state.error = str(error)
            containers.save(container)
            failure = ServerError(f"container {container.id}: driver failed to remove root filesystem: {error}")
            container.announce_failed_removal(failure)
            raise failure from error
        containers.forget(container)
        if containers.parts.images.find(container.spec.image_id) is None:
            containers.parts.images.collect()
        if volumes:
            remove_anonymous_volumes(containers, container)
    container.output.end()
    container.announce_removal()
    containers.emit(container, "destroy")


def _take_away(containers: Containers, container: Container) -> None:
    parts = containers.parts
    release_shared_memory(containers, container)
    parts.rootfs.remove(container.id)
    parts.trash.discard(parts.layout.container(container.id))
