"""ContainerInspect: a container's row and present run as the API shows them (INS1 to INS8). Takes no lock."""

from __future__ import annotations

import copy

import msgspec
from msgspec import UNSET

from wherry.api.errors import ApiError
from wherry.api.models.common import GraphDriverData
from wherry.api.models.containers import ContainerInspect, ContainerState, Health, MountPoint
from wherry.api.models.networks import EndpointSettings, NetworkSettings, PortMap
from wherry.engine.blocking import in_thread
from wherry.engine.containers.container import Container
from wherry.engine.containers.container import MountPoint as OwnMount
from wherry.engine.containers.links import shown_links
from wherry.engine.containers.process import apparmor_profile
from wherry.engine.containers.registry import Containers
from wherry.engine.containers.times import rfc3339nano


async def inspect(
    containers: Containers, reference: str, *, size: bool = False, version: tuple[int, int] = (1, 43)
) -> ContainerInspect:
    """All about a container; with ``size`` the bytes of its own layer and of its whole filesystem."""
    container = containers.find(reference)
    spec, state = container.spec, container.state
    directory = containers.layout.container(spec.id)
    started = bool(state.started_at)
    running_execs = [exec_id for exec_id, instance in container.execs.items() if instance.running]
    driver, data = _graph_driver(containers, container)
    result = ContainerInspect(
        id=spec.id,
        created=rfc3339nano(spec.created),
        path=spec.path,
        args=spec.args,
        state=ContainerState(
            status=state.status,
            running=state.running,
            paused=state.paused,
            restarting=state.restarting,
            oom_killed=state.oom_killed,
            dead=state.dead,
            pid=state.pid,
            exit_code=state.exit_code,
            error=state.error,
            started_at=rfc3339nano(state.started_at),
            finished_at=rfc3339nano(state.finished_at),
            health=container.health if isinstance(container.health, Health) else UNSET,
        ),
        image=spec.image_id,
        resolv_conf_path=str(directory / "resolv.conf") if started else "",
        hostname_path=str(directory / "hostname") if started else "",
        hosts_path=str(directory / "hosts") if started else "",
        log_path=str(containers.layout.log(spec.id)) if started and spec.host_config.log_config.type != "none" else "",
        name=f"/{spec.name}",
        restart_count=state.restart_count,
        driver=driver,
        platform="linux",
        app_armor_profile=apparmor_profile(spec.host_config.security_opt),
        exec_ids=running_execs or None,
        host_config=msgspec.structs.replace(spec.host_config, links=shown_links(containers, container)),
        graph_driver=GraphDriverData(name=driver, data=data),
        mounts=mount_points(container),
        config=spec.config,
        network_settings=_network_settings(container, version),
    )
    if size:
        result.size_rw, result.size_root_fs = await in_thread(sizes, containers, container)
    return result


def sizes(containers: Containers, container: Container) -> tuple[int, int]:
    """Bytes of the container's own layer, and of its whole filesystem; -1 and 0 where they cannot be told (LST11).

    Walks the tree: call it in a thread.
    """
    rootfs = containers.parts.rootfs
    try:
        own = rootfs.size(container.id)
        return own, own + containers.parts.images.layers_size(rootfs.layers(container.id))
    except (OSError, LookupError, ApiError):
        return -1, 0


def mount_points(container: Container) -> list[MountPoint]:
    """The mounts as list and inspect show them."""
    return [_mount_point(point) for point in container.spec.mounts if point.type != "tmpfs" or point.from_mounts]


def _mount_point(point: OwnMount) -> MountPoint:
    volume = point.type == "volume"
    return MountPoint(
        type=point.type,
        name=point.name if volume else UNSET,
        source=point.source,
        destination=point.destination,
        driver=point.driver if volume else UNSET,
        mode=point.mode,
        rw=point.rw,
        propagation=point.propagation,
    )


def port_map(container: Container) -> PortMap:
    """The ports that are published now, and the exposed ones without a binding; empty while not running (INS5)."""
    return container.state.ports if container.state.pid else {}


def endpoints(container: Container, version: tuple[int, int] = (1, 43)) -> dict[str, EndpointSettings]:
    """The networks by name, with what the present run has of them."""
    result = {}
    for name, asked in container.spec.networks.items():
        shown = copy.copy(container.state.endpoints.get(name, asked))
        if version < (1, 45) and name not in ("bridge", "host", "none"):  # INS1
            given = shown.aliases or []
            shown.aliases = given if container.short_id in given else [*given, container.short_id]
        if version < (1, 44):
            shown.dns_names = UNSET
        shown.gw_priority = UNSET  # of a version that the engine does not speak
        result[name] = shown
    return result


def _network_settings(container: Container, version: tuple[int, int]) -> NetworkSettings:
    state = container.state
    settings = NetworkSettings(
        sandbox_id=container.id if state.sandbox else "",
        sandbox_key=state.sandbox,
        ports=port_map(container),
        networks=endpoints(container, version),
    )
    bridge = container.state.endpoints.get("bridge")
    if bridge is not None:
        settings.endpoint_id = bridge.endpoint_id
        settings.gateway = bridge.gateway
        settings.ip_address = bridge.ip_address
        settings.ip_prefix_len = bridge.ip_prefix_len
        settings.mac_address = bridge.mac_address
        settings.ipv6_gateway = bridge.ipv6_gateway
        settings.global_ipv6_address = bridge.global_ipv6_address
        settings.global_ipv6_prefix_len = bridge.global_ipv6_prefix_len
    return settings


def _graph_driver(containers: Containers, container: Container) -> tuple[str, dict[str, str]]:
    try:
        return containers.parts.rootfs.paths(container.id).graph_driver()
    except OSError:
        return "overlay2", {}
