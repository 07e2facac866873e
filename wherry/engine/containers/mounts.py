"""The mounts of a container: Binds, Mounts, Tmpfs, VolumesFrom and image volumes become one checked list (CRE21 to
CRE24)."""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Callable, Sequence
from typing import NoReturn, TypeVar

import msgspec
from msgspec import UNSET, UnsetType

from wherry.api.errors import BadRequest, NotFound, ServerError
from wherry.api.models.containers import ContainerConfig, HostConfig, Mount
from wherry.engine.containers.container import MountPoint
from wherry.engine.containers.propagation import within

T = TypeVar("T")

_VOLUME_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]+")
_CLASSES = (
    {"ro", "rw"},
    {"z", "Z"},
    {"shared", "rshared", "slave", "rslave", "private", "rprivate"},
    {"nocopy"},
    {"consistent", "cached", "delegated"},
)
PROPAGATIONS = _CLASSES[2]
MOUNT_TYPES = ("bind", "volume", "tmpfs")
VOLUME_MODE = "z"  # what is shown of a volume whose request names no mode

OthersMounts = Callable[[str], Sequence[MountPoint]]
"""Gives the mounts of another container by its name or id."""


def mount_points(
    config: ContainerConfig,
    host: HostConfig,
    version: tuple[int, int],
    others: OthersMounts = lambda reference: (),
    *,
    data_root: str = "",
) -> list[MountPoint]:
    """Every mount that the request asks for, checked; volumes have their names, not yet their directories.

    ``data_root`` is the engine's own: binds that show it propagate, so that none keeps a mount in there alive.

    Raises ``BadRequest`` (or ``ServerError`` where the reference answers so) for what cannot be mounted, and what
    ``others`` raises for an unknown container of VolumesFrom.
    """
    points: list[MountPoint] = []
    for bind in host.binds or []:
        _add(points, parse_bind(bind, host.volume_driver))
    for mount in host.mounts or []:
        _add(points, from_mount(mount, version))
    for point in points:
        if point.type == "bind":
            _finish_bind(point, version, data_root)
    tmpfs = host.tmpfs if isinstance(host.tmpfs, dict) else None
    for destination, options in (tmpfs or {}).items():
        _check_destination(destination, _refuse_bare(destination))
        _add(points, MountPoint(type="tmpfs", destination=_clean(destination), tmpfs_options=options, mode=options))
    taken = {point.destination for point in points}
    for text in host.volumes_from or []:
        for point in _volumes_from(text, others):
            if point.destination not in taken:
                taken.add(point.destination)
                points.append(point)
    for given in config.volumes or {}:
        destination = posixpath.join("/", given)  # images may have a relative one, as moby
        _check_destination(destination, _refuse_bare(given))
        if _clean(destination) not in taken:
            driver = host.volume_driver or "local"
            point = MountPoint(type="volume", destination=_clean(destination), driver=driver, anonymous=True)
            point.from_config = True
            taken.add(point.destination)
            points.append(point)
    return sorted(points, key=lambda point: point.destination.count("/") if point.destination != "/" else 0)


def check_mounts(host: HostConfig, version: tuple[int, int]) -> None:
    """``HostConfig.Mounts`` alone, which is checked before the image is looked for (CRE1). Raises ``BadRequest``."""
    for mount in host.mounts or []:
        from_mount(mount, version)


def _finish_bind(point: MountPoint, version: tuple[int, int], data_root: str) -> None:
    """What the version and the engine's own place have to say of a bind."""
    if version >= (1, 44) and not point.read_only_below:
        point.read_only_below = "try"
    if data_root and (within(point.source, data_root) or within(data_root, point.source)):
        if point.propagation_is_ours:
            point.propagation = "rslave"
        elif point.propagation not in ("rslave", "rshared"):
            raise BadRequest(
                'invalid mount config: must use either propagation mode "rslave" or "rshared" when mount source is '
                f'within the daemon root, daemon root: "{data_root}", bind mount source: "{point.source}", '
                f'propagation: "{point.propagation}"'
            )


def _volumes_from(text: str, others: OthersMounts) -> list[MountPoint]:
    """``container[:mode]``: the volumes and binds of another container, none of its tmpfs."""
    reference, colon, mode = text.partition(":")
    if not reference:
        raise ServerError(f"malformed volumes-from specification: '{text}'")
    if colon and not _valid_mode(mode):
        raise ServerError(f"invalid mode: {mode}")
    if _parse_mode(mode) & (PROPAGATIONS | {"nocopy"}):  # the mounts are taken as they are
        raise ServerError(f"invalid mode: {mode}")
    read_only = "ro" in mode.split(",")
    try:
        found = others(reference)
    except NotFound as error:  # a 404 would make the docker command pull the image
        raise BadRequest(error.message) from None
    return [
        msgspec.structs.replace(point, rw=point.rw and not read_only, no_copy=True)
        for point in found
        if point.type != "tmpfs"
    ]


def parse_bind(text: str, driver: str = "") -> MountPoint:
    """``[source:]destination[:mode]``: an absolute source is a host path, any other a volume's name (CRE21)."""
    source, destination, mode = "", text, ""
    parts = text.split(":")
    if not parts[0] or len(parts) > 3:
        raise ServerError(f"invalid volume specification: '{text}'")
    if len(parts) == 2:
        source, destination = parts
        if _valid_mode(destination):  # "/destination:rw": an anonymous volume cannot have a mode
            raise ServerError(f"invalid volume specification: '{text}'")
    elif len(parts) == 3:
        source, destination, mode = parts
    options = _parse_mode(mode)
    kind = "bind" if source.startswith("/") else "volume"

    def refuse(reason: str) -> NoReturn:
        raise ServerError(f"invalid volume specification: '{text}': invalid mount config for type \"{kind}\": {reason}")

    _check_destination(destination, refuse)
    propagation = next((option for option in options if option in PROPAGATIONS), "")
    point = MountPoint(type=kind, destination=_clean(destination), mode=mode, rw="ro" not in options)
    if kind == "bind":
        if "nocopy" in options:
            refuse("field VolumeOptions must not be specified")
        point.source = _clean(source)
        point.propagation, point.propagation_is_ours = propagation or "rprivate", not propagation
        point.create_source = True
        return point
    if propagation:
        refuse("field BindOptions must not be specified")
    if source:
        check_volume_name(source)
    point.name = source
    point.anonymous = not source
    point.no_copy = "nocopy" in options
    point.driver = driver or "local"
    point.mode = mode or VOLUME_MODE
    return point


def from_mount(mount: Mount, version: tuple[int, int]) -> MountPoint:
    """An entry of ``HostConfig.Mounts``; what an earlier version of the API overlooks is taken out of it (CRE22)."""

    def refuse(reason: str) -> NoReturn:
        raise BadRequest(f'invalid mount config for type "{mount.type or ""}": {reason}')

    _check_options(mount, version)
    if not mount.target:
        refuse("field Target must not be empty")
    _check_destination(mount.target, refuse)
    if mount.type not in MOUNT_TYPES:
        refuse("mount type unknown")
    point = MountPoint(
        type=mount.type,
        destination=_clean(mount.target),
        rw=not mount.read_only,
        from_mounts=True,
    )
    if mount.type == "bind":
        _fill_bind(point, mount, refuse)
    elif mount.type == "volume":
        _fill_volume(point, mount, refuse)
    else:
        _fill_tmpfs(point, mount, refuse)
    return point


def _check_options(mount: Mount, version: tuple[int, int]) -> None:
    """Options of another type of mount, and options that the version does not have."""
    for field, kind in (("volume_options", "volume"), ("bind_options", "bind"), ("tmpfs_options", "tmpfs")):
        if _given(getattr(mount, field)) is None or mount.type == kind:
            continue
        if version >= (1, 42):
            raise BadRequest(f'{kind.capitalize()}Options must not be specified on mount type "{mount.type or ""}"')
        setattr(mount, field, UNSET)
    bind, volume, tmpfs = _given(mount.bind_options), _given(mount.volume_options), _given(mount.tmpfs_options)
    if bind is not None and version < (1, 42):
        bind.create_mountpoint = UNSET
    if bind is not None and version < (1, 44):
        if bind.read_only_force_recursive:
            raise BadRequest("BindOptions.ReadOnlyForceRecursive needs API v1.44 or newer")
        bind.read_only_non_recursive = bind.read_only_force_recursive = UNSET
    # Of versions that the engine does not speak: to overlook them would mount something else than was asked for.
    if volume is not None and volume.subpath:
        raise BadRequest("VolumeOptions.Subpath needs API v1.45 or newer")
    if tmpfs is not None and tmpfs.options:
        raise BadRequest("TmpfsOptions.Options needs API v1.46 or newer")


def _fill_bind(point: MountPoint, mount: Mount, refuse: Callable[[str], NoReturn]) -> None:
    if not mount.source:
        refuse("field Source must not be empty")
    bind = _given(mount.bind_options)
    asked = (bind.propagation if bind else "") or ""
    point.propagation, point.propagation_is_ours = asked or "rprivate", not asked
    point.recursive = not (bind and bind.non_recursive)
    if point.propagation not in PROPAGATIONS:
        refuse(f"invalid propagation mode: {point.propagation}")
    if not mount.source.startswith("/"):
        refuse(f"invalid mount path: '{mount.source}' mount path must be absolute")
    point.source = _clean(mount.source)
    point.create_source = bool(bind and bind.create_mountpoint)
    if bind and (bind.read_only_non_recursive or bind.read_only_force_recursive):
        if bind.read_only_non_recursive and bind.read_only_force_recursive:
            refuse("ReadOnlyNonRecursive and ReadOnlyForceRecursive exclude each other")
        if not mount.read_only:
            refuse("ReadOnlyNonRecursive and ReadOnlyForceRecursive need ReadOnly")
        point.read_only_below = "no" if bind.read_only_non_recursive else "must"
    try:
        os.stat(point.source)
    except FileNotFoundError:
        if not point.create_source:
            refuse(f"bind source path does not exist: {mount.source}")
    except (OSError, ValueError) as error:
        refuse(f"stat {mount.source}: {error}")


def _fill_volume(point: MountPoint, mount: Mount, refuse: Callable[[str], NoReturn]) -> None:
    volume = _given(mount.volume_options)
    driver = _given(volume.driver_config) if volume else None
    point.name = mount.source or ""
    point.anonymous = not point.name
    if point.anonymous and mount.read_only:
        refuse("must not set ReadOnly mode when using anonymous volumes")
    if point.name:
        check_volume_name(point.name)
    point.mode = VOLUME_MODE
    point.no_copy = bool(volume and volume.no_copy)
    point.driver = (driver.name if driver else "") or "local"
    point.volume_options = (driver.options if driver else None) or None
    point.volume_labels = (volume.labels if volume else None) or None


def _fill_tmpfs(point: MountPoint, mount: Mount, refuse: Callable[[str], NoReturn]) -> None:
    if mount.source:
        refuse("field Source must not be specified")
    tmpfs = _given(mount.tmpfs_options)
    words = []
    if tmpfs and tmpfs.size_bytes:
        if tmpfs.size_bytes < 0:
            refuse(f"invalid tmpfs size: {tmpfs.size_bytes}")
        words.append(f"size={tmpfs.size_bytes}")
    if tmpfs and tmpfs.mode:
        words.append(f"mode={tmpfs.mode:o}")
    point.tmpfs_options = ",".join(words)


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


def _check_destination(destination: str, refuse: Callable[[str], NoReturn]) -> None:
    if not destination.startswith("/"):
        refuse(f"invalid mount path: '{destination}' mount path must be absolute")
    if "\0" in destination:
        refuse("invalid mount path: it holds a zero byte")
    if _clean(destination) == "/":
        refuse("invalid specification: destination can't be '/'")


def _refuse_bare(destination: str) -> Callable[[str], NoReturn]:
    """For destinations that stand alone, in Tmpfs and Volumes."""

    def refuse(reason: str) -> NoReturn:
        raise BadRequest(f"invalid volume specification: '{destination}': {reason}")

    return refuse


def _clean(path: str) -> str:
    cleaned = posixpath.normpath(path)
    return cleaned[1:] if cleaned.startswith("//") else cleaned


def _add(points: list[MountPoint], point: MountPoint) -> None:
    if any(other.destination == point.destination for other in points):
        raise BadRequest(f"Duplicate mount point: {point.destination}")
    points.append(point)
