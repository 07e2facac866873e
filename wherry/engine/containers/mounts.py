"""The mounts of a container: Binds, Mounts, Tmpfs and image volumes become one checked list (CRE21 to CRE24)."""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Iterable
from typing import TypeVar

from msgspec import UnsetType

from wherry.api.errors import BadRequest, ServerError
from wherry.api.models.containers import ContainerConfig, HostConfig, Mount
from wherry.engine.containers.container import MountPoint

T = TypeVar("T")

_VOLUME_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]+")
_CLASSES = (
    {"ro", "rw"},
    {"z", "Z"},
    {"shared", "rshared", "slave", "rslave", "private", "rprivate"},
    {"nocopy"},
    {"consistent", "cached", "delegated", "default"},
)
PROPAGATIONS = _CLASSES[2]
MOUNT_TYPES = ("bind", "volume", "tmpfs")


def mount_points(config: ContainerConfig, host: HostConfig, version: tuple[int, int]) -> list[MountPoint]:
    """Every mount that the request asks for, checked; volumes have their names, not yet their directories.

    Raises ``BadRequest`` (or ``ServerError`` where the reference answers so) for what cannot be mounted.
    """
    points: list[MountPoint] = []
    for bind in host.binds or []:
        _add(points, parse_bind(bind))
    mounts = host.mounts if isinstance(host.mounts, list) else None
    for mount in mounts or []:
        _add(points, from_mount(mount, version))
    tmpfs = host.tmpfs if isinstance(host.tmpfs, dict) else None
    for destination, options in (tmpfs or {}).items():
        _check_destination(destination, destination)
        _add(points, MountPoint(type="tmpfs", destination=_clean(destination), tmpfs_options=options, mode=options))
    taken = {point.destination for point in points}
    for destination in config.volumes or {}:
        _check_destination(destination, destination)
        if _clean(destination) not in taken:
            _add(points, MountPoint(type="volume", destination=_clean(destination), driver="local", anonymous=True))
    return sorted(points, key=lambda point: point.destination.count("/") if point.destination != "/" else 0)


def parse_bind(text: str) -> MountPoint:
    """``[source:]destination[:mode]``: an absolute source is a host path, any other a volume's name."""
    parts = text.split(":")
    if len(parts) > 3 or not all(parts):
        raise ServerError(f"invalid volume specification: '{text}'")
    if len(parts) == 1:
        _check_destination(parts[0], text)
        return MountPoint(type="volume", destination=_clean(parts[0]), driver="local", anonymous=True)
    mode = parts[2] if len(parts) == 3 else ""
    if len(parts) == 2 and not parts[1].startswith("/") and parts[0].startswith("/") and _valid_mode(parts[1]):
        # "/destination:mode" is an anonymous volume with a mode
        parts, mode = ["", parts[0]], parts[1]
    source, destination = parts[0], parts[1]
    options = _parse_mode(mode)
    _check_destination(destination, text)
    read_only = "ro" in options
    propagation = next((option for option in options if option in PROPAGATIONS), "")
    if source.startswith("/"):
        if "nocopy" in options:
            raise ServerError(f"invalid mode: {mode}")
        return MountPoint(
            type="bind",
            source=posixpath.normpath(source),
            destination=_clean(destination),
            mode=mode,
            rw=not read_only,
            propagation=propagation or "rprivate",
            create_source=True,
        )
    if propagation:
        raise ServerError(f"invalid mode: {mode}")
    if source:
        check_volume_name(source)
    return MountPoint(
        type="volume",
        name=source,
        destination=_clean(destination),
        driver="local",
        mode=mode or "z",
        rw=not read_only,
        anonymous=not source,
        no_copy="nocopy" in options,
    )


def from_mount(mount: Mount, version: tuple[int, int]) -> MountPoint:
    """An entry of ``HostConfig.Mounts``."""

    def refuse(text: str) -> BadRequest:
        return BadRequest(f'invalid mount config for type "{mount.type}": {text}')

    if mount.type not in MOUNT_TYPES:
        raise BadRequest(f'invalid mount config for type "{mount.type}": mount type unknown')
    if not mount.target:
        raise refuse("field Target must not be empty")
    if not mount.target.startswith("/"):
        raise refuse(f"invalid mount path: '{mount.target}' mount path must be absolute")
    if _clean(mount.target) == "/":
        raise refuse("destination can't be '/'")
    options = {
        "bind": _given(mount.bind_options),
        "volume": _given(mount.volume_options),
        "tmpfs": _given(mount.tmpfs_options),
    }
    if version >= (1, 42):
        for kind, value in options.items():
            if value is not None and kind != mount.type:
                raise refuse(f"field {kind.capitalize()}Options must not be specified")
    point = MountPoint(type=mount.type, destination=_clean(mount.target), rw=not mount.read_only, from_mounts=True)
    if mount.type == "bind":
        if not mount.source:
            raise refuse("field Source must not be empty")
        if not mount.source.startswith("/"):
            raise refuse(f"invalid mount path: '{mount.source}' mount path must be absolute")
        point.source = posixpath.normpath(mount.source)
        bind = _given(mount.bind_options)
        point.propagation = (bind.propagation if bind else "") or "rprivate"
        if point.propagation not in PROPAGATIONS:
            raise refuse(f"invalid propagation mode: {point.propagation}")
        point.create_source = bool(bind and bind.create_mountpoint)
        if not point.create_source and not os.path.lexists(point.source):
            raise refuse(f"bind source path does not exist: {mount.source}")
    elif mount.type == "volume":
        volume = _given(mount.volume_options)
        point.name = mount.source or ""
        point.anonymous = not point.name
        point.no_copy = bool(volume and volume.no_copy)
        point.driver = "local"
        point.mode = "z"
        if point.name:
            check_volume_name(point.name)
    else:
        if mount.source:
            raise refuse("field Source must not be specified")
        tmpfs = _given(mount.tmpfs_options)
        words = []
        if tmpfs and tmpfs.size_bytes:
            words.append(f"size={tmpfs.size_bytes}")
        if tmpfs and tmpfs.mode:
            words.append(f"mode={tmpfs.mode:o}")
        point.tmpfs_options = ",".join(words)
    return point


def check_volume_name(name: str) -> None:
    if not _VOLUME_NAME.fullmatch(name):
        raise BadRequest(
            f'create {name}: "{name}" includes invalid characters for a local volume name, only "[a-zA-Z0-9][a-zA-Z0-9_.-]" '
            "are allowed. If you intended to pass a host directory, use absolute path"
        )


def _given(value: T | UnsetType) -> T | None:
    return None if isinstance(value, UnsetType) else value


def _valid_mode(mode: str) -> bool:
    try:
        _parse_mode(mode)
    except ServerError:
        return False
    return True


def _parse_mode(mode: str) -> set[str]:
    options = mode.split(",") if mode else []
    for option in options:
        if not any(option in words for words in _CLASSES):
            raise ServerError(f"invalid mode: {mode}")
    for words in _CLASSES:
        if sum(option in words for option in options) > 1:
            raise ServerError(f"invalid mode: {mode}")
    return set(options)


def _check_destination(destination: str, text: str) -> None:
    if not destination.startswith("/"):
        raise ServerError(
            f"invalid volume specification: '{text}': invalid mount config for type \"bind\": "
            f"invalid mount path: '{destination}' mount path must be absolute"
        )
    if _clean(destination) == "/":
        raise ServerError(f"invalid volume specification: '{text}': invalid specification: destination can't be '/'")


def _clean(path: str) -> str:
    cleaned = posixpath.normpath(path)
    return cleaned[1:] if cleaned.startswith("//") else cleaned


def _add(points: list[MountPoint], point: MountPoint) -> None:
    if any(other.destination == point.destination for other in points):
        raise BadRequest(f"Duplicate mount point: {point.destination}")
    points.append(point)


def destinations(points: Iterable[MountPoint]) -> set[str]:
    return {point.destination for point in points}
