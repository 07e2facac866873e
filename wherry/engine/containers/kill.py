"""ContainerKill, and the sending of signals that stop, restart and delete share (KIL1 to KIL5)."""

from __future__ import annotations

import signal
from contextlib import suppress

from wherry.api.errors import ApiError, BadRequest, Conflict, NotFound, ServerError
from wherry.engine.containers.container import Container
from wherry.engine.containers.pause import thaw
from wherry.engine.containers.registry import Containers
from wherry.engine.containers.restart import cancel_restart
from wherry.engine.containers.run import Run
from wherry.engine.oci.signals import InvalidSignal, parse_signal

KILL_GRACE = 10.0  # seconds that a killed process may take to end
LAST_GRACE = 2.0  # and once more after the last attempt


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
    work = containers.spawn(_kill(containers, container, number), f"kill of {container.short_id}")
    try:
        await containers.shielded(work)
    except ApiError as error:
        raise type(error)(prefix + error.message, status=error.status) from None


async def _kill(containers: Containers, container: Container, number: int) -> None:
    async with container.lock:
        state = container.state
        if not state.running:
            raise Conflict(f"container {container.id} is not running")
        if state.restarting:
            if _stops(container, number):
                state.manually_stopped = True
                cancel_restart(containers, container)
            return
        run = container.run
        if run is None or number != signal.SIGKILL:
            send(containers, container, number)
            return
    await kill_run(containers, container, run)


def send(containers: Containers, container: Container, number: int) -> bool:
    """Send a signal to the present run and say so; False when its process has gone. The caller holds the lock.

    The stop signal and SIGKILL count as a manual stop (KIL4) and reach a paused container too (KIL5).
    """
    run, state = container.run, container.state
    stops = _stops(container, number)
    if stops:
        state.manually_stopped = True
        containers.note(container)
    if run is None or not run.signal(number):
        return False
    run.killed = run.killed or number == signal.SIGKILL
    containers.emit(container, "kill", signal=str(number))
    if stops and state.paused:
        thaw(containers, container)
    return True


async def kill_run(containers: Containers, container: Container, run: Run) -> None:
    """SIGKILL to this run, and return when it is over. Raises ``ServerError`` if it will not end."""
    async with container.lock:
        if container.run is run:
            send(containers, container, signal.SIGKILL)
    if await run.until_over(KILL_GRACE):
        return
    with suppress(OSError):
        containers.cgroup(container).thaw()  # whoever froze it
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


def _stops(container: Container, number: int) -> bool:
    return number in (signal.SIGKILL, stop_signal(container))
