"""The engine itself: its version, what it found on the machine, and what it uses."""

from __future__ import annotations

from typing import Any

from msgspec import field

from wherry.api.models.common import UNSET, Model, PlainModel, StringMap, UnsetType
from wherry.api.models.containers import ContainerSummary
from wherry.api.models.images import AuthConfig, BuildCache, ImageSummary
from wherry.api.models.volumes import Volume


class VersionPlatform(Model, kw_only=True):
    """The name of the product."""

    name: str = ""


class ComponentVersion(Model, kw_only=True):
    """A part of the engine; the keys of ``details`` are its own."""

    name: str = ""
    version: str = ""
    details: StringMap | UnsetType | None = UNSET


class SystemVersion(Model, kw_only=True):
    """The versions of the engine, its API and its parts."""

    platform: VersionPlatform = field(default_factory=VersionPlatform)
    components: list[ComponentVersion] | UnsetType = UNSET
    version: str = ""
    api_version: str = ""
    min_api_version: str = field(default="", name="MinAPIVersion")
    git_commit: str = ""
    go_version: str = ""
    os: str = ""
    arch: str = ""
    kernel_version: str | UnsetType = UNSET
    experimental: bool | UnsetType = UNSET
    build_time: str | UnsetType = UNSET


class PluginsInfo(Model, kw_only=True):
    """The drivers there are, by kind."""

    volume: list[str] | None = None
    network: list[str] | None = None
    authorization: list[str] | None = None
    log: list[str] | None = None


class IndexInfo(Model, kw_only=True):
    """A registry the engine knows."""

    name: str = ""
    mirrors: list[str] | None = None
    secure: bool = False
    official: bool = False


class RegistryServiceConfig(Model, kw_only=True):
    """How the engine treats registries."""

    allow_nondistributable_artifacts_cidrs: list[str] | UnsetType | None = field(
        default=UNSET, name="AllowNondistributableArtifactsCIDRs"
    )
    allow_nondistributable_artifacts_hostnames: list[str] | UnsetType | None = UNSET
    insecure_registry_cidrs: list[str] | None = field(default=None, name="InsecureRegistryCIDRs")
    index_configs: dict[str, IndexInfo] | None = None
    mirrors: list[str] | None = None


class Runtime(PlainModel, kw_only=True):
    """An OCI runtime: its path and arguments."""

    path: str | UnsetType = UNSET
    runtime_args: list[str] | UnsetType | None = field(default=UNSET, name="runtimeArgs")
    runtime_type: str | UnsetType = field(default=UNSET, name="runtimeType")
    options: dict[str, Any] | UnsetType = UNSET
    status: StringMap | UnsetType = UNSET


class PeerNode(Model, kw_only=True):
    """A manager of a swarm."""

    node_id: str = ""
    addr: str = ""


class SwarmInfo(Model, kw_only=True):
    """The engine's place in a swarm; ``local_node_state`` is inactive outside one."""

    node_id: str = ""
    node_addr: str = ""
    local_node_state: str = ""
    control_available: bool = False
    error: str = ""
    remote_managers: list[PeerNode] | None = None
    nodes: int | UnsetType = UNSET
    managers: int | UnsetType = UNSET
    cluster: dict[str, Any] | UnsetType = UNSET
    warnings: list[str] | UnsetType = UNSET


class Commit(Model, kw_only=True):
    """The version of a program the engine uses, and the one it was built for."""

    id: str = field(default="", name="ID")
    expected: str = ""


class AddressPool(Model, kw_only=True):
    """A range (CIDR) from which networks get subnets of ``size`` bits."""

    base: str = ""
    size: int = 0


class SystemInfo(Model, kw_only=True):
    """What the engine found and holds. ``mem_total`` is bytes; ``warnings`` tells what the machine cannot do."""

    id: str = field(default="", name="ID")
    containers: int = 0
    containers_running: int = 0
    containers_paused: int = 0
    containers_stopped: int = 0
    images: int = 0
    driver: str = ""
    driver_status: list[list[str]] | None = None
    system_status: list[list[str]] | UnsetType = UNSET
    plugins: PluginsInfo = field(default_factory=PluginsInfo)
    memory_limit: bool = False
    swap_limit: bool = False
    kernel_memory: bool | UnsetType = UNSET
    kernel_memory_tcp: bool | UnsetType = UNSET
    cpu_cfs_period: bool = False
    cpu_cfs_quota: bool = False
    cpu_shares: bool = field(default=False, name="CPUShares")
    cpu_set: bool = field(default=False, name="CPUSet")
    pids_limit: bool = False
    ipv4_forwarding: bool = False
    bridge_nf_iptables: bool = False
    bridge_nf_ip6tables: bool = False
    debug: bool = False
    n_fd: int = field(default=0, name="NFd")
    oom_kill_disable: bool = False
    n_goroutines: int = field(default=0, name="NGoroutines")
    system_time: str = ""
    logging_driver: str = ""
    cgroup_driver: str = ""
    cgroup_version: str | UnsetType = UNSET
    n_events_listener: int = field(default=0, name="NEventsListener")
    kernel_version: str = ""
    operating_system: str = ""
    os_version: str = field(default="", name="OSVersion")
    os_type: str = field(default="", name="OSType")
    architecture: str = ""
    index_server_address: str = ""
    registry_config: RegistryServiceConfig | None = None
    ncpu: int = field(default=0, name="NCPU")
    mem_total: int = 0
    generic_resources: list[dict[str, Any]] | None = None
    docker_root_dir: str = ""
    http_proxy: str = ""
    https_proxy: str = ""
    no_proxy: str = ""
    name: str = ""
    labels: list[str] | None = None
    experimental_build: bool = False
    server_version: str = ""
    runtimes: dict[str, Runtime] | None = None
    default_runtime: str = ""
    swarm: SwarmInfo = field(default_factory=SwarmInfo)
    live_restore_enabled: bool = False
    isolation: str = ""
    init_binary: str = ""
    containerd_commit: Commit = field(default_factory=Commit)
    runc_commit: Commit = field(default_factory=Commit)
    init_commit: Commit = field(default_factory=Commit)
    security_options: list[str] | None = None
    product_license: str | UnsetType = UNSET
    default_address_pools: list[AddressPool] | UnsetType = UNSET
    cdi_spec_dirs: list[str] | UnsetType | None = field(default=UNSET, name="CDISpecDirs")  # since 1.44
    warnings: list[str] | None = None


class SystemAuthResponse(Model, kw_only=True):
    """A successful login."""

    status: str = ""
    identity_token: str | UnsetType = UNSET


class SystemDataUsageResponse(Model, kw_only=True):
    """What uses space, in bytes; only the kinds that were asked for are filled."""

    layers_size: int = 0
    images: list[ImageSummary] | None = None
    containers: list[ContainerSummary] | None = None
    volumes: list[Volume] | None = None
    build_cache: list[BuildCache] | None = None
    builder_size: int | UnsetType = UNSET  # before 1.42


__all__ = [
    "AddressPool",
    "AuthConfig",
    "Commit",
    "ComponentVersion",
    "IndexInfo",
    "PeerNode",
    "PluginsInfo",
    "RegistryServiceConfig",
    "Runtime",
    "SwarmInfo",
    "SystemAuthResponse",
    "SystemDataUsageResponse",
    "SystemInfo",
    "SystemVersion",
    "VersionPlatform",
]
