"""ContainerStop and ContainerRestart (STP1 to STP10)."""

from __future__ import annotations

import asyncio
import logging

from wherry.api.errors import ApiError, BadRequest
from wherry.engine.containers.container import Container
from wherry.engine.containers.delete import remove_container
from wherry.engine.containers.kill import kill_run, send, stop_signal
from wherry.engine.containers.registry import Containers
from wherry.engine.containers.restart import cancel_restart
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
    work = containers.spawn(stop_container(containers, container, number, timeout), f"stop of {container.short_id}")
    try:
        return bool(await containers.shielded(work))
    except ApiError as error:
        raise type(error)(f"cannot stop container: {reference}: {error.message}", status=error.status) from None


async def stop_container(containers: Containers, container: Container, number: int, timeout: int | None) -> bool:
    """Signal, wait, SIGKILL, wait, then give up (STP3); False when it was not running.

    The lock is held for the signals, never for the waits: kill, delete and another stop work meanwhile.
    """
    async with container.lock:
        state = container.state
        if not state.running:
            return False
        state.manually_stopped = True
        run = container.run
        if run is None:
            cancel_restart(containers, container)
            containers.emit(container, "stop")
            return True
        containers.note(container)
        sent = send(containers, container, number)
    if timeout is None:
        own = container.config.stop_timeout
        timeout = own if isinstance(own, int) else DEFAULT_TIMEOUT
    patience = None if timeout < 0 else float(timeout)
    if not await run.until_over(patience if sent else UNSENT_GRACE):
        await kill_run(containers, container, run)
    containers.emit(container, "stop")
    return True


async def restart(containers: Containers, reference: str, signal_name: str | None, timeout: int | None) -> None:
    """Stop if running, then start (STP9); the container is not removed in between, whatever AutoRemove says."""
    container = containers.find(reference)
    number = _number(signal_name, container)
    work = containers.spawn(_restart(containers, container, number, timeout), f"restart of {container.short_id}")
    try:
        await containers.shielded(work)
    except ApiError as error:
        raise type(error)(f"Cannot restart container {reference}: {error.message}", status=error.status) from None


async def _restart(containers: Containers, container: Container, number: int, timeout: int | None) -> None:
    container.keep += 1
    try:
        await stop_container(containers, container, number, timeout)
    finally:
        container.keep -= 1
    await start_container(containers, container)
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

    async def end(container: Container) -> None:
        container.keep += 1  # the removal is ours
        await stop_container(containers, container, stop_signal(container), None)
        await remove_container(containers, container, volumes=True)

    results = await asyncio.gather(*(end(container) for container in containers), return_exceptions=True)
    for result in results:
        if isinstance(result, Exception):
            log.warning("a container could not be stopped and removed: %s", result)
