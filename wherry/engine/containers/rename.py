"""ContainerRename (REN1, REN2)."""

from __future__ import annotations

from wherry.api.errors import BadRequest, Conflict
from wherry.engine.containers.container import Container
from wherry.engine.containers.create import rewrite_description
from wherry.engine.containers.names import check_name
from wherry.engine.containers.network import renamed
from wherry.engine.containers.registry import Containers


async def rename(containers: Containers, reference: str, name: str | None) -> None:
    """Give a container, in any state, another name; the old one is free at once.

    Raises ``BadRequest`` for an empty, invalid or same name, ``Conflict`` for one that is taken.
    """
    new = (name or "").strip()
    if not new:
        raise BadRequest("Neither old nor new names may be empty")
    if not new.startswith("/"):
        new = f"/{new}"
    container = containers.find(reference)
    await containers.shielded(containers.spawn(_rename(containers, container, new), f"rename of {container.short_id}"))


async def _rename(containers: Containers, container: Container, new: str) -> None:
    async with container.lock:
        containers.find(container.id)
        old = container.name
        if new == f"/{old}":
            raise BadRequest("Renaming a container with the same name as its current name")
        try:
            check_name(new)
            containers.rename(container, new.removeprefix("/"))
        except (BadRequest, Conflict) as error:
            raise type(error)(f"Error when allocating new name: {error.message}") from None
        await renamed(containers, container)
        await rewrite_description(containers.layout, container)
    containers.emit(container, "rename", oldName=f"/{old}")
