"""``/dev/shm`` that others may join: for ``IpcMode: shareable`` a tmpfs of the engine's, bound into every sharer."""

from __future__ import annotations

from pathlib import Path

from wherry.engine.containers.container import Container
from wherry.engine.containers.registry import Containers
from wherry.engine.store.overlay import mount, umount_lazily

_SAFE = 0x2 | 0x4 | 0x8  # nosuid, nodev, noexec


def _path(containers: Containers, container: Container) -> Path:
    return containers.layout.container(container.id) / "shm"


def shared_memory(containers: Containers, container: Container) -> str:
    """The host directory of the container's ``/dev/shm``; empty where it has one of its own. Mounts it if need be.

    Raises ``OSError``.
    """
    mode = container.host_config.ipc_mode
    if mode.startswith("container:"):
        donor = containers.find(mode.removeprefix("container:"))
        path = _path(containers, donor)
        return str(path) if path.is_mount() else ""
    if mode != "shareable":
        return ""
    path = _path(containers, container)
    path.mkdir(mode=0o700, exist_ok=True)
    if not path.is_mount():
        mount("shm", path, "tmpfs", _SAFE, f"mode=1777,size={container.host_config.shm_size}")
    return str(path)


def release_shared_memory(containers: Containers, container: Container) -> None:
    """Unmount it; containers that joined keep what they have."""
    path = _path(containers, container)
    if container.host_config.ipc_mode == "shareable" and path.exists():
        umount_lazily(path)
