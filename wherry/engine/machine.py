"""What the engine says of itself and of the machine: version, info, data usage."""

from __future__ import annotations

import os
import platform
import time
from pathlib import Path
from typing import TYPE_CHECKING

import wherry
from wherry.api.errors import BadRequest
from wherry.api.models.system import (
    Commit,
    ComponentVersion,
    PluginsInfo,
    Runtime,
    SwarmInfo,
    SystemDataUsageResponse,
    SystemInfo,
    SystemVersion,
    VersionPlatform,
)
from wherry.api.version import MAX_VERSION, MIN_VERSION, format_version
from wherry.engine.containers import list as container_list
from wherry.engine.containers.platform import architecture
from wherry.engine.containers.times import rfc3339nano
from wherry.engine.oci.errors import RuntimeFailure
from wherry.engine.oci.runtime import find_init

if TYPE_CHECKING:
    from wherry.engine.engine import Engine


_USERS_OF_SPACE = ("container", "image", "volume", "build-cache")


def version(engine: Engine) -> SystemVersion:
    """SystemVersion."""
    runtime = engine.containers.parts.runtimes[engine.containers.parts.default_runtime]
    kernel = platform.release()
    details = {
        "ApiVersion": format_version(MAX_VERSION),
        "Arch": architecture(),
        "BuildTime": "",
        "Experimental": "false",
        "GitCommit": "",
        "GoVersion": "",
        "KernelVersion": kernel,
        "MinAPIVersion": format_version(MIN_VERSION),
        "Os": "linux",
    }
    return SystemVersion(
        platform=VersionPlatform(name=f"Wherry on Python {platform.python_version()}"),
        components=[
            ComponentVersion(name="Engine", version=wherry.__version__, details=details),
            ComponentVersion(name=runtime.name, version=runtime.version, details={"GitCommit": ""}),
        ],
        version=wherry.__version__,
        api_version=format_version(MAX_VERSION),
        min_api_version=format_version(MIN_VERSION),
        git_commit="",
        go_version="",
        os="linux",
        arch=architecture(),
        kernel_version=kernel,
        build_time="",
    )


async def info(engine: Engine) -> SystemInfo:
    """SystemInfo."""
    parts = engine.containers.parts
    setup = parts.cgroups
    states = [container.state.status for container in engine.containers]
    paused, running = states.count("paused"), states.count("running")
    release = _os_release()
    overlay = parts.rootfs.overlay
    return SystemInfo(
        id=engine.id,
        containers=len(states),
        containers_running=running,
        containers_paused=paused,
        containers_stopped=len(states) - running - paused,
        images=len(parts.images.all()),
        driver="overlay2" if overlay else "vfs",
        driver_status=_driver_status(engine.layout.data_root) if overlay else [],
        plugins=PluginsInfo(volume=["local"], network=["bridge", "host", "null"], log=["json-file", "local", "none"]),
        memory_limit=setup.memory,
        swap_limit=setup.swap,
        cpu_cfs_period=setup.cpu,
        cpu_cfs_quota=setup.cpu,
        cpu_shares=setup.cpu,
        cpu_set=setup.cpuset,
        pids_limit=setup.pids,
        ipv4_forwarding=_read("/proc/sys/net/ipv4/ip_forward") == "1",
        bridge_nf_iptables=_read("/proc/sys/net/bridge/bridge-nf-call-iptables") == "1",
        bridge_nf_ip6tables=_read("/proc/sys/net/bridge/bridge-nf-call-ip6tables") == "1",
        n_fd=len(os.listdir("/proc/self/fd")),
        oom_kill_disable=setup.version == 1 and setup.memory,
        n_events_listener=engine.events.listeners,
        system_time=rfc3339nano(time.time_ns()),
        logging_driver="json-file",
        cgroup_driver="cgroupfs",
        cgroup_version=str(setup.version),
        kernel_version=platform.release(),
        operating_system=release.get("PRETTY_NAME", "Linux"),
        os_version=release.get("VERSION_ID", ""),
        os_type="linux",
        architecture=platform.machine(),
        index_server_address="https://index.docker.io/v1/",
        registry_config=engine.registries.describe(),
        ncpu=len(os.sched_getaffinity(0)),
        mem_total=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        docker_root_dir=str(engine.layout.data_root),
        name=parts.hostname,
        labels=[],
        server_version=wherry.__version__,
        runtimes={name: Runtime(path=runtime.path) for name, runtime in parts.runtimes.items()},
        default_runtime=parts.default_runtime,
        swarm=SwarmInfo(local_node_state="inactive"),
        live_restore_enabled=True,
        init_binary=_init_binary(),
        containerd_commit=Commit(),
        runc_commit=_commit(parts.runtimes["runc"].version if "runc" in parts.runtimes else ""),
        init_commit=Commit(),
        security_options=["name=seccomp,profile=builtin", *(["name=cgroupns"] if setup.version == 2 else [])],
        warnings=engine.warnings or None,
    )


async def data_usage(engine: Engine, kinds: list[str] | None, version: tuple[int, int]) -> SystemDataUsageResponse:
    """SystemDataUsage: what images, containers and volumes take, in bytes. Raises ``BadRequest`` for another kind."""
    parts = engine.containers.parts
    wanted = set(_USERS_OF_SPACE)
    if kinds and version >= (1, 42):
        for kind in kinds:
            if kind not in _USERS_OF_SPACE:
                raise BadRequest(f"unknown object type: {kind}")
        wanted = set(kinds)
    result = SystemDataUsageResponse()
    if "image" in wanted:
        result.layers_size = parts.images.layers_size(
            {layer for image in parts.images.all() for layer in image.layer_ids}
        )
        result.images = parts.images.list(shared_size=True, in_use=engine.containers.using_image)
    if "container" in wanted:
        result.containers = await container_list.list_containers(engine.containers, all=True, size=True, filters=None)
    if "volume" in wanted:
        result.volumes = await parts.volumes.usage(in_use=engine.containers.volume_users)
    if "build-cache" in wanted:
        result.build_cache = []
    return result


def _commit(version: str) -> Commit:
    return Commit(id=version, expected=version)


def _driver_status(data_root: Path) -> list[list[str]]:
    return [
        ["Backing Filesystem", _filesystem(data_root)],
        ["Supports d_type", "true"],
        ["Using metacopy", "false"],
        ["Native Overlay Diff", "true"],
        ["userxattr", "false"],
    ]


def _filesystem(path: Path) -> str:
    """The kind of filesystem that ``path`` is on, in the API's words."""
    best, kind = "", "unknown"
    for line in _read("/proc/self/mounts").splitlines():
        place, name = line.split()[1:3]
        if len(place) >= len(best) and path.is_relative_to(place):
            best, kind = place, name
    return {"ext2": "extfs", "ext3": "extfs", "ext4": "extfs", "overlay": "overlayfs"}.get(kind, kind)


def _init_binary() -> str:
    try:
        return os.path.basename(find_init())
    except RuntimeFailure:
        return ""


def _os_release() -> dict[str, str]:
    for path in ("/etc/os-release", "/usr/lib/os-release"):
        try:
            lines = Path(path).read_text().splitlines()
        except OSError:
            continue
        pairs = (line.partition("=") for line in lines if "=" in line)
        return {key: value.strip("\"'") for key, _, value in pairs}
    return {}


def _read(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""
