"""The settings of a container that go by name. For type checkers: nothing of this is needed to run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypedDict

if TYPE_CHECKING:
    from wherry.api.models.host import Ulimit
    from wherry.api.models.images import AuthConfig


class CreateOptions(TypedDict, total=False):
    """The frequent settings of a container, by the names of ``ContainerConfig`` and ``HostConfig``.

    ``env`` is a mapping (None removes a variable of the image) or a list of ``KEY=value``. ``ports`` maps a port of the
    container (``80`` or ``"80/tcp"``) to one of the host: 8080, ``"127.0.0.1:8080"``, ``("127.0.0.1", 8080)``, None
    for any free one, or a list of these. ``memory`` is bytes, ``nano_cpus`` 1e-9 CPUs. All the others are there in
    ``config`` and ``host_config``.
    """

    env: Mapping[str, str | None] | Sequence[str]
    entrypoint: Sequence[str]
    user: str
    working_dir: str
    hostname: str
    labels: Mapping[str, str]
    tty: bool
    open_stdin: bool
    stdin_once: bool
    stop_signal: str
    stop_timeout: int
    auto_remove: bool
    binds: Sequence[str]
    tmpfs: Mapping[str, str]
    ports: Mapping[str | int, Any]
    publish_all_ports: bool
    network_mode: str
    extra_hosts: Sequence[str]
    memory: int
    nano_cpus: int
    pids_limit: int
    cap_add: Sequence[str]
    cap_drop: Sequence[str]
    privileged: bool
    readonly_rootfs: bool
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
    extrahosts: Sequence[str]
    remote: str
    q: bool
    nocache: bool
    cachefrom: Sequence[str]
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
    securityopt: Sequence[str]
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
