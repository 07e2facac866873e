"""ContainerDelete and automatic removal (DEL1 to DEL7)."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from wherry.api.errors import Conflict, NotFound, ServerError, in_words
from wherry.engine.blocking import in_thread
from wherry.engine.containers.container import Container
from wherry.engine.containers.create import forget
from wherry.engine.containers.kill import kill_run
from wherry.engine.containers.links import unlink
from wherry.engine.containers.registry import Containers
from wherry.engine.containers.restart import cancel_restart
from wherry.engine.containers.shm import release_shared_memory

log = logging.getLogger(__name__)

ROOM = 10.0  # seconds that a full disk may take to have room for the end of a removal

# what to do first, by what the container is doing (DEL1)
_FIRST = {
    "paused": "Unpause and then stop the container",
    "restarting": "Stop the container",
    "running": "Stop the container",
}


async def delete(containers: Containers, reference: str, *, volumes: bool, force: bool, link: bool) -> None:
    """Remove a container; with ``force`` a running one is killed first, with ``volumes`` its anonymous volumes go too. With
    ``link`` only the link of this name goes.

    Raises ``Conflict`` when it runs or is being removed already, ``ServerError`` when its files cannot be removed: it is
    dead then, and the call can be repeated.
    """
    container = containers.find(reference)
    if link:
        unlink(containers, reference)
        return
    work = containers.spawn(
        _delete(containers, container, reference, volumes, force), f"removal of {container.short_id}"
    )
    await containers.shielded(work)


async def _delete(containers: Containers, container: Container, reference: str, volumes: bool, force: bool) -> None:
    with _claim(container, reference):
        while True:  # until it is gone: it may be started again after each kill
            async with container.lock:
                state = container.state
                if state.running and not force:
                    raise Conflict(
                        f"You cannot remove a {state.status} container {container.id}. {_FIRST[state.status]} before "
                        "attempting removal or force remove"
                    )
                run = container.run
                if state.running and run is None:
                    state.manually_stopped = True
                    cancel_restart(containers, container)
                if not state.running:
                    await _remove(containers, container, volumes or container.host_config.auto_remove)
                    return
            if run is not None:
                await kill_run(containers, container, run)


async def remove_container(containers: Containers, container: Container, *, volumes: bool) -> None:
    """Remove a container that does not run.

    Raises ``Conflict`` when it does, or another removal is under way, ``NotFound`` when it is gone, ``ServerError`` when
    its files cannot be removed.
    """
    with _claim(container, container.id):
        async with container.lock:
            if container.state.running:
                raise Conflict(f"cannot remove container {container.id}: it was started again")
            await _remove(containers, container, volumes)


@contextmanager
def _claim(container: Container, reference: str) -> Iterator[None]:
    if container.being_removed:
        raise Conflict(f"removal of container {reference} is already in progress")
    container.being_removed = True
    try:
        yield
    finally:
        container.being_removed = False


async def _remove(containers: Containers, container: Container, volumes: bool) -> None:
    """With the lock held: first the directories go to the trash, then the row, then waiters are answered and ``destroy``
    is announced (DEL7). The runtime's own clean-up may still be under way behind it."""
    if containers.by_id(container.id) is not container:
        raise NotFound(f"No such container: {container.id}")
    container.state.removing = True
    container.state.remove_volumes = volumes
    containers.note(container)
    try:
        await in_thread(_take_away, containers, container)
        try:
            forget(containers, container, volumes=volumes)
        except OSError:  # a full disk: what was taken away makes room once it is deleted
            await in_thread(containers.parts.trash.wait, ROOM)
            forget(containers, container, volumes=volumes)
    except Exception as error:
        container.state.removing = False
        container.state.dead = True
        container.state.error = in_words(error)
        failure = ServerError(f"container {container.id}: driver failed to remove root filesystem: {in_words(error)}")
        container.announce_failed_removal(failure)
        containers.note(container)
        raise failure from error
    try:
        if containers.parts.images.find(container.spec.image_id) is None:
            containers.parts.images.collect()
    except Exception:
        log.exception("what %s used could not be removed", container.short_id)
    container.output.end()
    container.announce_removal()
    containers.emit(container, "destroy")


def _take_away(containers: Containers, container: Container) -> None:
    parts = containers.parts
    release_shared_memory(containers, container)
    parts.rootfs.remove(container.id)
    parts.trash.discard(parts.layout.container(container.id))
