"""What follows from an exit: another run, or the container's removal. The engine hands it every exit (exit.py)."""

from __future__ import annotations

import asyncio

from wherry.engine.containers.container import Container
from wherry.engine.containers.delete import remove_container
from wherry.engine.containers.registry import Containers
from wherry.engine.containers.start import start_again


def follow(containers: Containers, container: Container) -> None:
    """Called with the container's lock held, in the same step in which its run ended."""
    if container.state.restarting:
        container.restart_timer = containers.spawn(
            _start_later(containers, container, container.restart_delay),
            f"restart of {container.short_id}",
            waits=True,
        )
    elif container.host_config.auto_remove and not container.keep:
        containers.spawn(
            remove_container(containers, container, volumes=True), f"automatic removal of {container.short_id}"
        )


async def _start_later(containers: Containers, container: Container, delay: float) -> None:
    await asyncio.sleep(delay)
    # a task of its own: the wait may be cancelled, a start that has begun may not
    container.restart_timer = None
    containers.spawn(start_again(containers, container), f"restart of {container.short_id}")
