"""ContainerResize (RES1)."""

from __future__ import annotations

from wherry.api.errors import Conflict
from wherry.engine.containers.registry import Containers
from wherry.engine.oci.conmon import resize as resize_terminal


def resize(containers: Containers, reference: str, height: int, width: int) -> None:
    """Set the terminal's size, in characters; without effect on a container that has none.

    Raises ``Conflict`` when the container is not running.
    """
    container = containers.find(reference)
    run = container.run
    if not container.state.running or run is None:
        raise Conflict(f"container {container.id} is not running")
    if container.tty:
        resize_terminal(run.bundle, height, width)
    containers.emit(container, "resize", height=str(height), width=str(width))
