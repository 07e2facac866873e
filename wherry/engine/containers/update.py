"""ContainerUpdate: limits and restart policy of a container, running or not (UPD1 to UPD4)."""

from __future__ import annotations

import msgspec

from wherry.api.errors import BadRequest, Conflict, ServerError
from wherry.api.models.containers import ContainerUpdateRequest, ContainerUpdateResponse, HostConfig, Resources
from wherry.engine.containers.container import Container
from wherry.engine.containers.create import write_description
from wherry.engine.containers.registry import Containers
from wherry.engine.containers.restart import cancel_restart
from wherry.engine.containers.settings import check_resources, check_restart_policy
from wherry.engine.oci.errors import RuntimeFailure
from wherry.engine.oci.resources import resources as oci_resources

_CHANGEABLE = (
    "cpu_shares", "memory", "nano_cpus", "blkio_weight", "cpu_period", "cpu_quota", "cpu_realtime_period",
    "cpu_realtime_runtime", "cpuset_cpus", "cpuset_mems", "memory_reservation", "memory_swap", "pids_limit",
)  # fmt: skip


async def update(
    containers: Containers, reference: str, request: ContainerUpdateRequest | None
) -> ContainerUpdateResponse:
    """Change what the request names; 0, empty and null stay as they are (UPD2).

    Raises ``BadRequest``, ``Conflict`` where it contradicts the container's settings, ``ServerError`` when the runtime
    refuses: the settings are the old ones again then.
    """
    container = containers.find(reference)
    request = request or ContainerUpdateRequest()
    policy = request.restart_policy if request.restart_policy and request.restart_policy.name else None
    check_restart_policy(policy, auto_remove=False)
    warnings = check_resources(request, containers.parts.cgroups, update=True)
    async with container.lock:
        state = container.state
        if state.removing or state.dead:
            raise ServerError(
                f'Cannot update container {container.id}: container is marked for removal and cannot be "update"'
            )
        host = container.host_config
        if policy is not None and host.auto_remove and policy.name != "no":
            raise Conflict(
                f"Cannot update container {container.id}: Restart policy cannot be updated because AutoRemove is enabled "
                "for the container"
            )
        before = msgspec.structs.replace(host)
        try:
            _merge(container, host, request)
        except BadRequest as error:
            _restore(host, before)
            raise Conflict(f"Cannot update container {container.id}: {error.message}") from None
        if policy is not None:
            host.restart_policy = policy
        if state.running and not state.restarting:
            try:
                await containers.runtime(container).update(container.id, oci_resources(host))
            except RuntimeFailure as error:
                _restore(host, before)
                raise ServerError(f"Cannot update container {container.id}: {error.message}") from error
        containers.save(container)
        write_description(containers.layout, container)
        if policy is not None and policy.name == "no" and state.restarting:
            cancel_restart(containers, container)
    containers.emit(container, "update")
    return ContainerUpdateResponse(warnings=warnings or None)


def _merge(container: Container, host: HostConfig, wanted: Resources) -> None:
    if wanted.nano_cpus and (host.cpu_period or host.cpu_quota):
        raise BadRequest(
            "Conflicting options: Nano CPUs cannot be updated as CPU Period or CPU Quota has already been set"
        )
    if (wanted.cpu_period or wanted.cpu_quota) and host.nano_cpus:
        raise BadRequest("Conflicting options: CPU Period or Quota cannot be updated as NanoCPUs has already been set")
    if wanted.memory and not wanted.memory_swap and 0 < host.memory_swap < wanted.memory:
        raise BadRequest(
            "Memory limit should be smaller than already set memoryswap limit, update the memoryswap at the same time"
        )
    for name in _CHANGEABLE:
        value = getattr(wanted, name)
        if name == "pids_limit":
            if value is not None:
                host.pids_limit = value if value > 0 else None
        elif value:
            setattr(host, name, value)


def _restore(host: HostConfig, before: HostConfig) -> None:
    for name in HostConfig.__struct_fields__:
        setattr(host, name, getattr(before, name))
