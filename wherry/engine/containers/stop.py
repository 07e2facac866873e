"""ContainerStop and ContainerRestart (STP1 to STP10)."""

from __future__ import annotations

import asyncio
import logging
import signal

from wherry.api.errors import ApiError, BadRequest, ServerError
from wherry.engine.containers.container import Container
from wherry.engine.containers.kill import KILL_GRACE, LAST_GRACE, send, stop_signal
from wherry.engine.containers.registry import Containers
from wherry.engine.containers.restart import stop_restarting
from wherry.engine.containers.start import start_container
from wherry.engine.oci.signals import InvalidSignal, parse_signal

log = logging.getLogger(__name__)

DEFAULT_TIMEOUT = 10  # seconds
UNSENT_GRACE = 2.0  # seconds to wait when the signal could not be sent


async def stop(containers: Containers, reference: str, signal_name: str | None, timeout: int | None) -> bool:
    """Stop a container; False when it was not running (304).

    ``timeout`` is in seconds until SIGKILL: None for the container's own, -1 for ever. The work goes on when the caller
    is cancelled (STP4). Raises ``BadRequest`` for a bad signal, ``ServerError`` when the process survives it all.
    """
    container = containers.find(reference)
    number = _number(signal_name, container)
    if not container.state.running:
        return False
    work = containers.spawn(stop_container(containers, container, number, timeout), f"stop {container.short_id}")
    await containers.shielded(work)
    return True


async def stop_container(containers: Containers, container: Container, number: int, timeout: int | None) -> None:
    """Signal, wait, SIGKILL, wait, then give up (STP3)."""
    if container.state.restarting and await stop_restarting(containers, container):
        return
    run = container.run
    if run is None:
        return
    container.state.manually_stopped = True
    containers.save(container)
    if timeout is None:
        own = container.config.stop_timeout
        timeout = own if isinstance(own, int) else DEFAULT_TIMEOUT
    sent = send(containers, container, number)
    patience: float | None = None if timeout < 0 else float(timeout)
    if not sent:
        patience = UNSENT_GRACE
    if not await run.until_over(patience):
        send(containers, container, signal.SIGKILL)
        if not await run.until_over(KILL_GRACE):
            run.signal(signal.SIGKILL)
            if not await run.until_over(LAST_GRACE):
                raise ServerError(
                    f"cannot stop container: {container.id}: tried to kill container, but did not receive an exit event"
                )
    containers.emit(container, "stop")


async def restart(containers: Containers, reference: str, signal_name: str | None, timeout: int | None) -> None:
    """Stop if running, then start (STP9); the container is not removed in between, whatever AutoRemove says."""
    container = containers.find(reference)
    number = _number(signal_name, container)
    work = containers.spawn(
        _restart(containers, container, reference, number, timeout), f"restart {container.short_id}"
    )
    await containers.shielded(work)


async def _restart(
    containers: Containers, container: Container, reference: str, number: int, timeout: int | None
) -> None:
    try:
        container.keep = True
        try:
            if container.state.running:
                await stop_container(containers, container, number, timeout)
            await start_container(containers, container)
        finally:
            container.keep = False
    except ApiError as error:
        raise type(error)(f"Cannot restart container {reference}: {error.message}", status=error.status) from None
    containers.emit(container, "restart")


def _number(text: str | None, container: Container) -> int:
    if not text:
        return stop_signal(container)
    try:
        return parse_signal(text)
    except InvalidSignal as error:
        raise BadRequest(str(error)) from None


async def stop_all(containers: Containers) -> None:
    """Stop every running container and remove all: what leaving an ephemeral engine does."""
    from wherry.engine.containers.delete import remove_container

    async def end(container: Container) -> None:
        container.keep = True
        if container.state.running:
            await stop_container(containers, container, stop_signal(container), None)
        await remove_container(containers, container, volumes=True)

    results = await asyncio.gather(*(end(container) for container in containers), return_exceptions=True)
    for result in results:
        if isinstance(result, Exception):
            log.warning("a container could not be stopped: %s", result)
