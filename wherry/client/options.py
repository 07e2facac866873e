"""The settings of a container that go by name. For type checkers: nothing of this is needed to run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypedDict


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
