"""ContainerUpdate: limits and restart policy of a container, running or not (UPD1 to UPD4)."""

from __future__ import annotations

from typing import Any

import msgspec

from wherry.api.errors import BadRequest, Conflict, ServerError
from wherry.api.models.containers import (
    ContainerUpdateRequest,
    ContainerUpdateResponse,
    HostConfig,
    Resources,
    RestartPolicy,
)
from wherry.engine.containers.container import Container
from wherry.engine.containers.create import rewrite_description
from wherry.engine.containers.limits import check_resources
from wherry.engine.containers.registry import Containers
from wherry.engine.containers.restart import cancel_restart
from wherry.engine.containers.settings import check_restart_policy
from wherry.engine.oci.errors import RuntimeFailure
from wherry.engine.oci.resources import resources as oci_resources

NO_PIDS_LIMIT = 1 << 22  # the kernel's own bound: crun can neither update to -1 nor to 0
_CHANGEABLE = (
    "cpu_shares", "memory", "nano_cpus", "blkio_weight", "cpu_period", "cpu_quota", "cpu_realtime_period",
    "cpu_realtime_runtime", "cpuset_cpus", "cpuset_mems", "memory_reservation", "memory_swap",
)  # fmt: skip


async def update(
    containers: Containers, reference: str, request: ContainerUpdateRequest | None
) -> ContainerUpdateResponse:
    """Change what the request names; 0, empty and null stay as they are (UPD2).

    Raises ``BadRequest``, ``Conflict`` where it contradicts the container's settings, ``ServerError`` when the runtime
    refuses: the settings are the old ones then.
    """
    container = containers.find(reference)
    request = request or ContainerUpdateRequest()
    policy = request.restart_policy if request.restart_policy.name else None
    check_restart_policy(policy, auto_remove=False)
    warnings = check_resources(request, containers.parts.cgroups, update=True)
    work = _update(containers, container, request, policy)
    await containers.shielded(containers.spawn(work, f"update of {container.short_id}"))
    return ContainerUpdateResponse(warnings=warnings or None)


async def _update(
    containers: Containers, container: Container, request: ContainerUpdateRequest, policy: RestartPolicy | None
) -> None:
    prefix = f"Cannot update container {container.id}: "
    async with container.lock:
        state = container.state
        if state.removing or state.dead:
            raise ServerError(f'{prefix}container is marked for removal and cannot be "update"')
        try:
            settings = merged(container.host_config, request, policy)
        except BadRequest as error:
            raise Conflict(f"{prefix}{error.message}") from None
        if container.run is not None:
            try:
                limits = oci_resources(settings)
                if request.pids_limit is not None and settings.pids_limit is None:
                    limits["pids"] = {"limit": NO_PIDS_LIMIT}
                await containers.runtime(container).update(container.id, limits)
            except RuntimeFailure as error:
                raise ServerError(f"{prefix}{error.message}") from error
        before, container.spec.host_config = container.spec.host_config, settings
        try:
            containers.save(container)
        except OSError:
            container.spec.host_config = before
            raise
        await rewrite_description(containers.layout, container)
        if policy is not None and policy.name == "no" and state.restarting:
            cancel_restart(containers, container)
    containers.emit(container, "update")


def merged(host: HostConfig, wanted: Resources, policy: RestartPolicy | None) -> HostConfig:
    """The settings with what the request changes. Raises ``BadRequest`` for a contradiction between the two."""
    conflict = "Conflicting options: {} cannot be updated as {} has already been set"
    for given, name, present, other in (
        (wanted.nano_cpus, "Nano CPUs", host.cpu_period, "CPU Period"),
        (wanted.nano_cpus, "Nano CPUs", host.cpu_quota, "CPU Quota"),
        (wanted.cpu_period, "CPU Period", host.nano_cpus, "NanoCPUs"),
        (wanted.cpu_quota, "CPU Quota", host.nano_cpus, "NanoCPUs"),
    ):
        if given and present > 0:
            raise BadRequest(conflict.format(name, other))
    if wanted.memory and not wanted.memory_swap and 0 < host.memory_swap < wanted.memory:
        raise BadRequest(
            "Memory limit should be smaller than already set memoryswap limit, update the memoryswap at the same time"
        )
    if policy is not None and host.auto_remove and policy.name != "no":
        raise BadRequest("Restart policy cannot be updated because AutoRemove is enabled for the container")
    changes: dict[str, Any] = {name: value for name in _CHANGEABLE if (value := getattr(wanted, name))}
    if wanted.pids_limit is not None:
        changes["pids_limit"] = wanted.pids_limit if wanted.pids_limit > 0 else None
    if policy is not None:
        changes["restart_policy"] = policy
    return msgspec.structs.replace(host, **changes)
