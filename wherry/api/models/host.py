"""How a container runs on its host: limits, mounts, namespaces and the rest of HostConfig."""

from __future__ import annotations

from typing import Any, ClassVar

from msgspec import field

from wherry.api.models.common import UNSET, GoInt, GoUint, Int64, Model, StringMap, Uint16, Uint32, UnsetType
from wherry.api.models.networks import PortMap


class RestartPolicy(Model, kw_only=True):
    """``name``: "" or no, always, unless-stopped, on-failure; the count is for on-failure only, 0 for no limit."""

    GO: ClassVar = "container.RestartPolicy"

    name: str = ""
    maximum_retry_count: GoInt = 0


class LogConfig(Model, kw_only=True):
    """The logging driver and its options, such as ``{"max-size": "10m", "max-file": "3"}``."""

    GO: ClassVar = "container.LogConfig"

    type: str = ""
    config: StringMap | None = None


class WeightDevice(Model, kw_only=True):
    """A block device's relative weight, 10 to 1000."""

    GO: ClassVar = "blkiodev.WeightDevice"

    path: str = ""
    weight: Uint16 = 0


class ThrottleDevice(Model, kw_only=True):
    """A block device's limit, in bytes or operations a second."""

    GO: ClassVar = "blkiodev.ThrottleDevice"

    path: str = ""
    rate: GoUint = 0


class DeviceMapping(Model, kw_only=True):
    """A device of the host in the container; permissions are letters of ``rwm``."""

    GO: ClassVar = "container.DeviceMapping"

    path_on_host: str = ""
    path_in_container: str = ""
    cgroup_permissions: str = ""


class DeviceRequest(Model, kw_only=True):
    """Devices asked of a device driver, such as GPUs. ``count`` -1 for all; ``capabilities`` is an OR of ANDs."""

    GO: ClassVar = "container.DeviceRequest"

    driver: str = ""
    count: GoInt = 0
    device_ids: list[str] | None = None
    capabilities: list[list[str]] | None = None
    options: StringMap | None = None


class Ulimit(Model, kw_only=True):
    """A resource limit by name, such as nofile; -1 for unlimited."""

    GO: ClassVar = "units.Ulimit"

    name: str = ""
    hard: Int64 = 0
    soft: Int64 = 0


class Resources(Model, kw_only=True):
    """Limits of a container; 0, empty and null mean none.

    Memory values are bytes; ``memory_swap`` is memory and swap together, -1 for unlimited. ``nano_cpus`` is 1e-9
    CPUs, ``cpu_period`` and ``cpu_quota`` microseconds, ``cpu_shares`` a weight. ``pids_limit`` 0 and -1: unlimited.
    """

    GO: ClassVar = "container.Resources"

    cpu_shares: Int64 = 0
    memory: Int64 = 0
    nano_cpus: Int64 = 0
    cgroup_parent: str = ""
    blkio_weight: Uint16 = 0
    blkio_weight_device: list[WeightDevice] | None = None
    blkio_device_read_bps: list[ThrottleDevice] | None = None
    blkio_device_write_bps: list[ThrottleDevice] | None = None
    blkio_device_read_iops: list[ThrottleDevice] | None = None
    blkio_device_write_iops: list[ThrottleDevice] | None = None
    cpu_period: Int64 = 0
    cpu_quota: Int64 = 0
    cpu_realtime_period: Int64 = 0
    cpu_realtime_runtime: Int64 = 0
    cpuset_cpus: str = ""
    cpuset_mems: str = ""
    devices: list[DeviceMapping] | None = None
    device_cgroup_rules: list[str] | None = None
    device_requests: list[DeviceRequest] | None = None
    kernel_memory: Int64 | UnsetType = UNSET  # ignored since 1.42
    kernel_memory_tcp: Int64 | UnsetType = UNSET
    memory_reservation: Int64 = 0
    memory_swap: Int64 = 0
    memory_swappiness: Int64 | None = None
    oom_kill_disable: bool | None = None
    pids_limit: Int64 | None = None
    ulimits: list[Ulimit] | None = None
    cpu_count: Int64 = 0
    cpu_percent: Int64 = 0
    io_maximum_iops: GoUint = 0
    io_maximum_bandwidth: GoUint = 0


class BindOptions(Model, kw_only=True):
    """Options of a bind mount; ``propagation``: [r]private, [r]shared, [r]slave."""

    GO: ClassVar = "mount.BindOptions"

    propagation: str | UnsetType = UNSET
    non_recursive: bool | UnsetType = UNSET
    create_mountpoint: bool | UnsetType = UNSET
    read_only_non_recursive: bool | UnsetType = UNSET  # since 1.44
    read_only_force_recursive: bool | UnsetType = UNSET  # since 1.44


class DriverConfig(Model, kw_only=True):
    """The driver of a volume that the mount makes."""

    GO: ClassVar = "mount.Driver"

    name: str | UnsetType = UNSET
    options: StringMap | UnsetType = UNSET


class VolumeOptions(Model, kw_only=True):
    """Options of a volume mount; ``no_copy``: leave the image's content out of a new volume."""

    GO: ClassVar = "mount.VolumeOptions"

    no_copy: bool | UnsetType = UNSET
    labels: StringMap | UnsetType = UNSET
    driver_config: DriverConfig | UnsetType = UNSET
    subpath: str | UnsetType = UNSET  # since 1.45


class TmpfsOptions(Model, kw_only=True):
    """Options of a tmpfs mount: its size in bytes, 0 for unlimited, and its permission bits (decimal on the wire)."""

    GO: ClassVar = "mount.TmpfsOptions"

    size_bytes: Int64 | UnsetType = UNSET
    mode: Uint32 | UnsetType = UNSET
    options: list[list[str]] | UnsetType = UNSET  # since 1.46


class Mount(Model, kw_only=True):
    """A mount asked for. ``type``: bind, volume, tmpfs; ``source`` a host path or a volume's name."""

    GO: ClassVar = "mount.Mount"

    type: str | UnsetType = UNSET
    source: str | UnsetType = UNSET
    target: str | UnsetType = UNSET
    read_only: bool | UnsetType = UNSET
    consistency: str | UnsetType = UNSET
    bind_options: BindOptions | UnsetType = UNSET
    volume_options: VolumeOptions | UnsetType = UNSET
    tmpfs_options: TmpfsOptions | UnsetType = UNSET
    cluster_options: dict[str, Any] | UnsetType = UNSET


class HostConfig(Resources, kw_only=True):
    """How a container runs on this host.

    ``shm_size`` is bytes, ``console_size`` height and width. ``binds`` are ``source:target[:mode]``, ``tmpfs`` maps
    a path to mount options. ``network_mode``: default, bridge, none, host, ``container:ID`` or a network's name.
    """

    GO: ClassVar = "container.HostConfig"
    STRING_OR_LIST: ClassVar = ("CapAdd", "CapDrop")

    binds: list[str] | None = None
    container_id_file: str = ""
    log_config: LogConfig = field(default_factory=LogConfig)
    network_mode: str = ""
    port_bindings: PortMap | None = None
    restart_policy: RestartPolicy = field(default_factory=RestartPolicy)
    auto_remove: bool = False
    volume_driver: str = ""
    volumes_from: list[str] | None = None
    mounts: list[Mount] | UnsetType = UNSET
    console_size: tuple[GoUint, GoUint] = (0, 0)
    annotations: StringMap | UnsetType = UNSET
    cap_add: list[str] | None = None
    cap_drop: list[str] | None = None
    cgroupns_mode: str = ""
    dns: list[str] | None = None
    dns_options: list[str] | None = None
    dns_search: list[str] | None = None
    extra_hosts: list[str] | None = None
    group_add: list[str] | None = None
    ipc_mode: str = ""
    cgroup: str = ""
    links: list[str] | None = None
    oom_score_adj: GoInt = 0
    pid_mode: str = ""
    privileged: bool = False
    publish_all_ports: bool = False
    readonly_rootfs: bool = False
    security_opt: list[str] | None = None
    storage_opt: StringMap | UnsetType = UNSET
    tmpfs: StringMap | UnsetType = UNSET
    uts_mode: str = ""
    userns_mode: str = ""
    shm_size: Int64 = 0
    sysctls: StringMap | UnsetType = UNSET
    runtime: str = ""
    isolation: str = ""
    masked_paths: list[str] | None = None
    readonly_paths: list[str] | None = None
    init: bool | UnsetType = UNSET
