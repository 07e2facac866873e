"""ContainerKill, and the sending of signals that stop, restart and delete share (KIL1 to KIL5)."""

from __future__ import annotations

import signal

from wherry.api.errors import ApiError, BadRequest, Conflict, NotFound, ServerError
from wherry.engine.containers.container import Container
from wherry.engine.containers.pause import thaw
from wherry.engine.containers.registry import Containers
from wherry.engine.containers.restart import stop_restarting
from wherry.engine.oci.signals import InvalidSignal, parse_signal

KILL_GRACE = 10.0  # seconds until the process is killed by its pid
LAST_GRACE = 2.0


async def kill(containers: Containers, reference: str, text: str | None) -> None:
    """Send a signal, SIGKILL if none is named; SIGKILL returns once the container is gone (KIL3).

    Raises ``BadRequest`` for a bad signal, ``NotFound``, ``Conflict`` when it does not run.
    """
    prefix = f"Cannot kill container: {reference}: "
    try:
        number = parse_signal(text) if text else int(signal.SIGKILL)
    except InvalidSignal as error:
        raise BadRequest(f"{prefix}{error}") from None
    try:
        container = containers.find(reference)
    except NotFound as error:
        raise NotFound(prefix + error.message) from None
    state = container.state
    if not state.running:
        raise Conflict(f"{prefix}container {container.id} is not running")
    if state.restarting and await stop_restarting(containers, container):
        return
    try:
        if number == signal.SIGKILL:
            await kill_and_wait(containers, container)
        else:
            send(containers, container, number)
    except ApiError as error:
        raise type(error)(prefix + error.message, status=error.status) from None


def send(containers: Containers, container: Container, number: int) -> bool:
    """Send a signal to a running container and say so; False when its process has gone.

    The stop signal and SIGKILL count as a manual stop (KIL4) and reach a paused container too (KIL5).
    """
    run = container.run
    state = container.state
    stops = number in (signal.SIGKILL, stop_signal(container))
    if stops:
        state.manually_stopped = True
        containers.save(container)
    if run is None or not run.signal(number):
        return False
    if stops and state.paused:
        thaw(containers, container)
    containers.emit(container, "kill", signal=str(number))
    return True


async def kill_and_wait(containers: Containers, container: Container) -> None:
    """SIGKILL, and return when the container has stopped. Raises ``ServerError`` if it will not."""
    run = container.run
    if run is None:
        return
    send(containers, container, signal.SIGKILL)
    if await run.until_over(KILL_GRACE):
        return
    run.signal(signal.SIGKILL)
    if not await run.until_over(LAST_GRACE):
        raise ServerError("tried to kill container, but did not receive an exit event")


def stop_signal(container: Container) -> int:
    """The container's own stop signal, SIGTERM by default."""
    text = container.config.stop_signal
    try:
        return parse_signal(text) if text else int(signal.SIGTERM)
    except InvalidSignal:
        return int(signal.SIGTERM)
