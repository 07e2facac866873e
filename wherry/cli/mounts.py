"""``--mount`` and ``-v`` of ``wherry run`` and ``wherry create``, as the API has them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import click

from wherry.cli.common import pairs_from, parse_size

if TYPE_CHECKING:
    from wherry.api.models.host import Mount

KINDS = ("bind", "volume", "tmpfs")
FLAGS = ("readonly", "bind-nonrecursive", "volume-nocopy")
KEYS = (
    *("type", "source", "target", "readonly", "consistency"),
    *("bind-propagation", "bind-nonrecursive"),
    *("volume-nocopy", "volume-driver", "volume-opt", "volume-label"),
    *("tmpfs-size", "tmpfs-mode"),
)
ALIASES = {"src": "source", "dst": "target", "destination": "target", "ro": "readonly"}
_TRUE, _FALSE = ("true", "t", "1"), ("false", "f", "0")


def volumes_from(volumes: tuple[str, ...]) -> tuple[list[str], dict[str, Any] | None]:
    """``-v`` options as binds, and the paths of anonymous volumes."""
    binds = [volume if volume.startswith("/") else _from_here(volume) for volume in volumes if ":" in volume]
    anonymous: dict[str, Any] = {volume: {} for volume in volumes if ":" not in volume}
    return binds, anonymous or None


def _from_here(text: str) -> str:
    """What begins with ``.`` or ``./`` as an absolute path; any other name is a volume's."""
    path, colon, rest = text.partition(":")
    return f"{os.path.abspath(path)}{colon}{rest}" if path == "." or path.startswith("./") else text


def mount_from(text: str) -> Mount:
    """A mount from docker's form of it: fields ``KEY=VALUE`` with commas between, quoted as in CSV; a volume without type.

    >>> mount_from("type=tmpfs,target=/run,tmpfs-size=1m").tmpfs_options.size_bytes
    1048576
    """
    from msgspec import UNSET

    from wherry.api.models.host import BindOptions, DriverConfig, Mount, TmpfsOptions, VolumeOptions

    values = _values(text)
    kind = values.get("type", ["volume"])[-1].lower()
    if kind not in KINDS:
        raise _wrong(f"type={kind}: there are {', '.join(KINDS)}")
    if not values.get("target", [""])[-1]:
        raise _wrong(f"{text!r} has no target=")
    for key in values:
        prefix, dash, _ = key.partition("-")
        if dash and prefix != kind:
            raise _wrong(f"{key} is nothing for a mount of type {kind}")

    def value(key: str) -> Any:
        return values[key][-1] if key in values else UNSET

    def flag(key: str) -> Any:
        return (key in values and _flag(key, values[key][-1])) or UNSET

    mount = Mount(type=kind, target=value("target"), read_only=flag("readonly"), consistency=value("consistency"))
    if "source" in values:
        mount.source = _from_here(value("source"))
    if any(key.startswith("bind-") for key in values):
        mount.bind_options = BindOptions(propagation=value("bind-propagation"), non_recursive=flag("bind-nonrecursive"))
    if any(key.startswith("volume-") for key in values):
        mount.volume_options = VolumeOptions(no_copy=flag("volume-nocopy"))
        if "volume-label" in values:
            mount.volume_options.labels = pairs_from(values["volume-label"])
        if "volume-driver" in values or "volume-opt" in values:
            options = pairs_from(values["volume-opt"]) if "volume-opt" in values else UNSET
            mount.volume_options.driver_config = DriverConfig(name=value("volume-driver"), options=options)
    if any(key.startswith("tmpfs-") for key in values):
        mount.tmpfs_options = TmpfsOptions()
        if "tmpfs-size" in values:
            mount.tmpfs_options.size_bytes = parse_size(value("tmpfs-size"), "--mount") or 0  # unlimited
        if "tmpfs-mode" in values:
            mount.tmpfs_options.mode = _mode(value("tmpfs-mode"))
    return mount


def _values(text: str) -> dict[str, list[str]]:
    """The values of each key; a flag by itself is true."""
    import csv

    try:
        (fields,) = csv.reader([text], strict=True)
    except (csv.Error, ValueError):
        raise _wrong(f"{text!r} is no list of KEY=VALUE with commas between") from None
    values: dict[str, list[str]] = {}
    for field in fields:
        name, equals, value = field.partition("=")
        key = ALIASES.get(name.lower(), name.lower())
        if key not in KEYS:
            raise _wrong(f"no key {name!r}; there are {', '.join(KEYS)}")
        if not equals and key not in FLAGS:
            raise _wrong(f"{name} needs a value: {name}=…")
        values.setdefault(key, []).append(value if equals else "true")
    return values


def _flag(key: str, text: str) -> bool:
    if text.lower() not in _TRUE + _FALSE:
        raise _wrong(f"{key}={text}: it is true or false")
    return text.lower() in _TRUE


def _mode(text: str) -> int:
    try:
        return int(text, 8)
    except ValueError:
        raise _wrong(f"tmpfs-mode={text}: write permissions as 1777 or 0700") from None


def _wrong(message: str) -> click.BadParameter:
    return click.BadParameter(message, param_hint="--mount")
