"""Containers: what they are made from, what they are, and what the verbs on them answer."""

from __future__ import annotations

from typing import ClassVar

from msgspec import field

from wherry.api.models.common import (
    UNSET,
    EmptyObjects,
    GoInt,
    GraphDriverData,
    Int64,
    Model,
    StringMap,
    UnsetType,
)
from wherry.api.models.host import (
    BindOptions,
    DeviceMapping,
    DeviceRequest,
    DriverConfig,
    HostConfig,
    LogConfig,
    Mount,
    Resources,
    RestartPolicy,
    ThrottleDevice,
    TmpfsOptions,
    Ulimit,
    VolumeOptions,
    WeightDevice,
)
from wherry.api.models.networks import EndpointSettings, NetworkingConfig, NetworkSettings, PortBinding, PortMap


class HealthConfig(Model, kw_only=True):
    """A health check. Times are nanoseconds, 0 or unset for the default (HEA1).

    ``test``: ``[]`` inherit, ``["NONE"]`` off, ``["CMD", …]`` a command, ``["CMD-SHELL", text]`` by the shell.
    """

    GO: ClassVar = "container.HealthConfig"

    test: list[str] | UnsetType = UNSET
    interval: Int64 | UnsetType = UNSET
    timeout: Int64 | UnsetType = UNSET
    start_period: Int64 | UnsetType = UNSET
    start_interval: Int64 | UnsetType = UNSET  # since 1.44
    retries: GoInt | UnsetType = UNSET


class ContainerConfig(Model, kw_only=True):
    """What runs in a container, the same on any host.

    ``env`` entries are ``KEY=value``; ``KEY`` alone removes the variable (CRE6). ``cmd``, ``entrypoint`` and
    ``shell`` are read from a string too, which becomes a list of one (P6). ``stop_timeout`` is in seconds.
    """

    GO: ClassVar = "container.Config"
    STRING_OR_LIST: ClassVar = ("Cmd", "Entrypoint", "Shell")

    hostname: str = ""
    domainname: str = ""
    user: str = ""
    attach_stdin: bool = False
    attach_stdout: bool = False
    attach_stderr: bool = False
    exposed_ports: EmptyObjects | UnsetType = UNSET
    tty: bool = False
    open_stdin: bool = False
    stdin_once: bool = False
    env: list[str] | None = None
    cmd: list[str] | None = None
    healthcheck: HealthConfig | UnsetType = UNSET
    args_escaped: bool | UnsetType = UNSET
    image: str = ""
    volumes: EmptyObjects | None = None
    working_dir: str = ""
    entrypoint: list[str] | None = None
    network_disabled: bool | UnsetType = UNSET
    mac_address: str | UnsetType = UNSET
    on_build: list[str] | None = None
    labels: StringMap | None = None
    stop_signal: str | UnsetType = UNSET
    stop_timeout: GoInt | UnsetType = UNSET
    shell: list[str] | UnsetType = UNSET


class ContainerCreateRequest(ContainerConfig, kw_only=True):
    """The body of ContainerCreate: a configuration, with what belongs to the host beside it."""

    GO: ClassVar = "runconfig.ContainerConfigWrapper"

    host_config: HostConfig | None = None
    networking_config: NetworkingConfig | None = None

    def refusal(self) -> str:
        """Why the body is no request at all, empty where it is one (P5)."""
        for name in ContainerConfig.__struct_fields__:
            if getattr(self, name) != getattr(_EMPTY_CONFIG, name):
                return ""
        return "Config cannot be empty in order to create a container"


_EMPTY_CONFIG = ContainerConfig()


class ContainerCreateResponse(Model, kw_only=True):
    """The new container's id; ``warnings`` is a list, never null (CRE1)."""

    id: str = ""
    warnings: list[str] = field(default_factory=list)


class HealthcheckResult(Model, kw_only=True):
    """One probe: its times, exit code (-1 for a time-out) and the first 4096 bytes of its output."""

    start: str = ""
    end: str = ""
    exit_code: int = 0
    output: str = ""


class Health(Model, kw_only=True):
    """A container's health: starting, healthy, unhealthy or none, with the last five probes."""

    status: str = ""
    failing_streak: int = 0
    log: list[HealthcheckResult] | None = None


class ContainerState(Model, kw_only=True):
    """A container's state (INS2). ``running`` is true while paused and restarting too.

    Times are RFC 3339 with nanoseconds, ``0001-01-01T00:00:00Z`` for never.
    """

    status: str = ""
    running: bool = False
    paused: bool = False
    restarting: bool = False
    oom_killed: bool = field(default=False, name="OOMKilled")
    dead: bool = False
    pid: int = 0
    exit_code: int = 0
    error: str = ""
    started_at: str = ""
    finished_at: str = ""
    health: Health | UnsetType = UNSET


class MountPoint(Model, kw_only=True):
    """A mount of a container as it is."""

    type: str | UnsetType = UNSET
    name: str | UnsetType = UNSET
    source: str = ""
    destination: str = ""
    driver: str | UnsetType = UNSET
    mode: str = ""
    rw: bool = False
    propagation: str = ""


class ContainerInspect(Model, kw_only=True):
    """All about a container. ``size_rw`` and ``size_root_fs`` are bytes, there only when asked for."""

    id: str = ""
    created: str = ""
    path: str = ""
    args: list[str] | None = None
    state: ContainerState = field(default_factory=ContainerState)
    image: str = ""
    resolv_conf_path: str = ""
    hostname_path: str = ""
    hosts_path: str = ""
    log_path: str = ""
    name: str = ""
    restart_count: int = 0
    driver: str = ""
    platform: str = ""
    mount_label: str = ""
    process_label: str = ""
    app_armor_profile: str = ""
    exec_ids: list[str] | None = None
    host_config: HostConfig = field(default_factory=HostConfig)
    graph_driver: GraphDriverData = field(default_factory=GraphDriverData)
    size_rw: int | UnsetType = field(default=UNSET, name="SizeRw")
    size_root_fs: int | UnsetType = UNSET
    mounts: list[MountPoint] = field(default_factory=list)
    config: ContainerConfig = field(default_factory=ContainerConfig)
    network_settings: NetworkSettings = field(default_factory=NetworkSettings)


class PortSummary(Model, kw_only=True):
    """A port in the list: exposed only, where ``ip`` and ``public_port`` are unset (LST9)."""

    ip: str | UnsetType = UNSET
    private_port: int = 0
    public_port: int | UnsetType = UNSET
    type: str = ""


class SummaryHostConfig(Model, kw_only=True):
    """The part of HostConfig that the list shows."""

    network_mode: str | UnsetType = UNSET
    annotations: StringMap | UnsetType = UNSET  # since 1.46


class SummaryNetworkSettings(Model, kw_only=True):
    """The part of NetworkSettings that the list shows."""

    networks: dict[str, EndpointSettings] | None = None


class ContainerSummary(Model, kw_only=True):
    """A container in the list. ``created`` is seconds since the epoch, the sizes are bytes."""

    id: str = ""
    names: list[str] | None = None
    image: str = ""
    image_id: str = ""
    command: str = ""
    created: int = 0
    ports: list[PortSummary] | None = None
    size_rw: int | UnsetType = field(default=UNSET, name="SizeRw")
    size_root_fs: int | UnsetType = UNSET
    labels: StringMap | None = None
    state: str = ""
    status: str = ""
    host_config: SummaryHostConfig = field(default_factory=SummaryHostConfig)
    network_settings: SummaryNetworkSettings | None = None
    mounts: list[MountPoint] | None = None


class ContainerTopResponse(Model, kw_only=True):
    """The processes of a container: a row of texts for each, under ``titles``."""

    processes: list[list[str]] | None = None
    titles: list[str] | None = None


class FilesystemChange(Model, kw_only=True):
    """A changed path; ``kind``: 0 modified, 1 added, 2 deleted."""

    path: str = ""
    kind: int = 0


class ContainerUpdateRequest(Resources, kw_only=True):
    """The body of ContainerUpdate; what is 0, empty or null stays as it is (UPD2)."""

    GO: ClassVar = "container.UpdateConfig"

    restart_policy: RestartPolicy = field(default_factory=RestartPolicy)


class ContainerUpdateResponse(Model, kw_only=True):
    """``warnings`` is null when there is none (UPD4)."""

    warnings: list[str] | None = None


class ContainerWaitExitError(Model, kw_only=True):
    """What went wrong while waiting."""

    message: str = ""


class ContainerWaitResponse(Model, kw_only=True):
    """A container's exit code."""

    status_code: int = 0
    error: ContainerWaitExitError | UnsetType | None = UNSET


class ContainerPruneResponse(Model, kw_only=True):
    """The ids of the removed containers, null when none was, and the bytes won."""

    containers_deleted: list[str] | None = None
    space_reclaimed: int = 0


__all__ = [
    "BindOptions",
    "ContainerConfig",
    "ContainerCreateRequest",
    "ContainerCreateResponse",
    "ContainerInspect",
    "ContainerPruneResponse",
    "ContainerState",
    "ContainerSummary",
    "ContainerTopResponse",
    "ContainerUpdateRequest",
    "ContainerUpdateResponse",
    "ContainerWaitExitError",
    "ContainerWaitResponse",
    "DeviceMapping",
    "DeviceRequest",
    "DriverConfig",
    "EndpointSettings",
    "FilesystemChange",
    "Health",
    "HealthConfig",
    "HealthcheckResult",
    "HostConfig",
    "LogConfig",
    "Mount",
    "MountPoint",
    "NetworkSettings",
    "NetworkingConfig",
    "PortBinding",
    "PortMap",
    "PortSummary",
    "Resources",
    "RestartPolicy",
    "SummaryHostConfig",
    "SummaryNetworkSettings",
    "ThrottleDevice",
    "TmpfsOptions",
    "Ulimit",
    "VolumeOptions",
    "WeightDevice",
]
