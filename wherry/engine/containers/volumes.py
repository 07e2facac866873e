"""The volumes of a run: what their options mount is there while it lasts, and events tell of it."""

from __future__ import annotations

from collections.abc import Iterator

from wherry.engine.containers.container import Container, MountPoint
from wherry.engine.containers.registry import Containers


async def acquire_volumes(containers: Containers, container: Container) -> None:
    """Have the container's volumes mounted. Event ``mount`` for each. Raises ``ServerError``.

    What a failure leaves is given back by ``release_volumes``.
    """
    points = list(_volumes(container))
    for point in points:
        await containers.parts.volumes.acquire(point.name, container.id)
    container.volumes_told = bool(points)
    for point in points:
        attributes = {
            "container": container.id,
            "destination": point.destination,
            "driver": point.driver,
            "propagation": point.propagation,
            "read/write": "true" if point.rw else "false",
        }
        containers.events.emit("volume", "mount", point.name, attributes)


def announce_unmount(containers: Containers, container: Container) -> None:
    """Event ``unmount`` for each volume of the run that ends; the work itself comes behind it."""
    if container.volumes_told:
        container.volumes_told = False
        for point in _volumes(container):
            containers.events.emit("volume", "unmount", point.name, {"container": container.id, "driver": point.driver})


async def release_volumes(containers: Containers, container: Container) -> None:
    """Give back what ``acquire_volumes`` took."""
    for point in _volumes(container):
        await containers.parts.volumes.release(point.name, container.id)


def _volumes(container: Container) -> Iterator[MountPoint]:
    return (point for point in container.spec.mounts if point.type == "volume")
