"""ContainerPrune (PRU1 to PRU3)."""

from __future__ import annotations

from wherry.api.errors import ApiError, BadRequest, Conflict
from wherry.api.models.containers import ContainerPruneResponse
from wherry.engine.blocking import in_thread
from wherry.engine.containers.delete import remove_container
from wherry.engine.containers.registry import Containers
from wherry.engine.filters import check_keys, match_labels, parse_until


async def prune(containers: Containers, filters: dict[str, list[str]] | None) -> ContainerPruneResponse:
    """Remove every container that does not run and that the filters (label, label!, until) let through.

    Raises ``BadRequest`` for a bad filter, ``Conflict`` when another prune is under way.
    """
    filters = {key: values for key, values in (filters or {}).items() if values}
    check_keys(filters, {"label", "label!", "until"})
    until = filters.get("until") or []
    if len(until) > 1:
        raise BadRequest("more than one until filter specified")
    before = parse_until(until[0]) if until else None
    if containers.pruning:
        raise Conflict("a prune operation is already running")
    containers.pruning = True
    deleted: list[str] = []
    reclaimed = 0
    try:
        for container in containers:
            if container.state.running or container.state.removing or container.spec.for_build:
                continue
            if before is not None and container.spec.created > before:
                continue
            if not match_labels(container.config.labels or {}, filters):
                continue
            try:
                size = await in_thread(containers.parts.rootfs.size, container.id)
                # work of its own: a client that leaves ends the prune, not a removal in its middle
                removal = remove_container(containers, container, volumes=False)
                await containers.shielded(containers.spawn(removal, f"prune of {container.short_id}"))
            except (ApiError, OSError):
                continue
            deleted.append(container.id)
            reclaimed += size
    finally:
        containers.pruning = False
    containers.events.emit("container", "prune", "", {"reclaimed": str(reclaimed)})
    return ContainerPruneResponse(containers_deleted=deleted or None, space_reclaimed=reclaimed)
