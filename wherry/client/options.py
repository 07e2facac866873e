"""The settings of a container that go by name. For type checkers: nothing of this is needed to run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias, TypedDict

if TYPE_CHECKING:
    from wherry.api.models.containers import HealthConfig, PortBinding
    from wherry.api.models.host import (
        DeviceMapping,
        DeviceRequest,
        LogConfig,
        Mount,
        RestartPolicy,
        ThrottleDevice,
        Ulimit,
        WeightDevice,
    )
    from wherry.api.models.images import AuthConfig

    PortPlace: TypeAlias = int | str | tuple[str, int] | tuple[str, str] | PortBinding | None
    PortPlaces: TypeAlias = PortPlace | Sequence[PortPlace]


class ResourceOptions(TypedDict, total=False):
    """Limits, by the names of ``Resources``.

    ``memory``, ``memory_swap`` (memory and swap together, -1 for no limit) and ``memory_reservation`` are bytes, or a
    text such as ``64m`` or ``1.5g``. ``nano_cpus`` is 1e-9 CPUs; ``cpu_period`` and ``cpu_quota`` are microseconds.
    """

    cpu_shares: int
    memory: int | str
    nano_cpus: int
    cgroup_parent: str
    blkio_weight: int
    blkio_weight_device: Sequence[WeightDevice]
    blkio_device_read_bps: Sequence[ThrottleDevice]
    blkio_device_write_bps: Sequence[ThrottleDevice]
    blkio_device_read_iops: Sequence[ThrottleDevice]
    blkio_device_write_iops: Sequence[ThrottleDevice]
    cpu_period: int
    cpu_quota: int
    cpu_realtime_period: int
    cpu_realtime_runtime: int
    cpuset_cpus: str
    cpuset_mems: str
    devices: Sequence[DeviceMapping]
    device_cgroup_rules: Sequence[str]
    device_requests: Sequence[DeviceRequest]
    kernel_memory: int | str
    kernel_memory_tcp: int | str
    memory_reservation: int | str
    memory_swap: int | str
    memory_swappiness: int
    oom_kill_disable: bool
    pids_limit: int
    ulimits: Sequence[Ulimit]
    cpu_count: int
    cpu_percent: int
    io_maximum_iops: int
    io_maximum_bandwidth: int | str
    restart_policy: RestartPolicy | str


class UpdateOptions(ResourceOptions, total=False):
    """What ``update`` changes. ``restart_policy`` is a ``RestartPolicy``, or a text such as ``on-failure:3``."""


class CreateOptions(ResourceOptions, total=False):
    """All settings of a container, by the names of ``ContainerConfig`` and ``HostConfig``.

    ``env`` is a mapping (None removes a variable of the image) or a list of ``KEY=value``. ``ports`` maps a port of the
    container (``80`` or ``"80/tcp"``) to one of the host: 8080, ``"127.0.0.1:8080"``, ``("127.0.0.1", 8080)``, None
    for any free one, or a list of these. ``exposed_ports`` and ``volumes`` (paths of anonymous volumes) are lists of
    texts; ``binds`` are ``source:target[:mode]``. ``shm_size`` is bytes or a text such as ``64m``. ``restart_policy`` is
    a ``RestartPolicy``, or a text such as ``on-failure:3``.
    """

    env: Mapping[str, str | None] | Sequence[str]
    entrypoint: Sequence[str]
    user: str
    working_dir: str
    hostname: str
    domainname: str
    labels: Mapping[str, str]
    tty: bool
    open_stdin: bool
    stdin_once: bool
    attach_stdin: bool
    attach_stdout: bool
    attach_stderr: bool
    exposed_ports: Sequence[str] | Mapping[str, Any]
    healthcheck: HealthConfig
    args_escaped: bool
    volumes: Sequence[str] | Mapping[str, Any]
    network_disabled: bool
    mac_address: str
    on_build: Sequence[str]
    stop_signal: str
    stop_timeout: int
    shell: Sequence[str]

    binds: Sequence[str]
    container_id_file: str
    log_config: LogConfig
    network_mode: str
    port_bindings: Mapping[str, Sequence[PortBinding] | None]
    ports: Mapping[Any, PortPlaces]  # str or int; a checker takes a dict[str, …] for no Mapping[str | int, …]
    auto_remove: bool
    volume_driver: str
    volumes_from: Sequence[str]
    mounts: Sequence[Mount]
    console_size: tuple[int, int]
    annotations: Mapping[str, str]
    cap_add: Sequence[str]
    cap_drop: Sequence[str]
    cgroupns_mode: str
    dns: Sequence[str]
    dns_options: Sequence[str]
    dns_search: Sequence[str]
    extra_hosts: Sequence[str]
    group_add: Sequence[str]
    ipc_mode: str
    cgroup: str
    links: Sequence[str]
    oom_score_adj: int
    pid_mode: str
    privileged: bool
    publish_all_ports: bool
    readonly_rootfs: bool
    security_opt: Sequence[str]
    storage_opt: Mapping[str, str]
    tmpfs: Mapping[str, str]
    uts_mode: str
    userns_mode: str
    shm_size: int | str
    sysctls: Mapping[str, str]
    runtime: str
    isolation: str
    masked_paths: Sequence[str]
    readonly_paths: Sequence[str]
    init: bool


class BuildOptions(TypedDict, total=False):
    """The parameters of ImageBuild, by their names in the API.

    ``t``: names for the image. ``dockerfile``: a path in the context, or one outside of it when the context is a
    directory. ``buildargs`` with None for a value: taken from nowhere, only noted as unused. ``cachefrom``: images whose
    steps may be taken. ``pull``: ask the registry for the base images though they are here. ``rm``: remove the
    containers of steps that succeeded (as by default), ``forcerm``: of all. ``q``: say nothing but the id.
    ``remote``: a URL to build from instead of a context. ``extrahosts``: ``name:address`` each. ``memory``, ``memswap``
    and ``shmsize`` are bytes, ``cpuperiod`` and ``cpuquota`` microseconds. ``squash``, ``outputs`` and ``version="2"``
    need an engine with BuildKit or experimental features. ``auth``: credentials by registry; without it all that the docker
    configuration has.
    """

    t: str | Sequence[str]
    dockerfile: str
    extrahosts: str | Sequence[str]
    remote: str
    q: bool
    nocache: bool
    cachefrom: str | Sequence[str]
    pull: bool
    rm: bool
    forcerm: bool
    memory: int
    memswap: int
    cpushares: int
    cpusetcpus: str
    cpusetmems: str
    cpuperiod: int
    cpuquota: int
    cgroupparent: str
    ulimits: Sequence[Ulimit]
    securityopt: str | Sequence[str]
    buildargs: Mapping[str, str | None]
    shmsize: int
    squash: bool
    labels: Mapping[str, str]
    networkmode: str
    platform: str
    target: str
    outputs: str
    version: str
    auth: Mapping[str, AuthConfig]
