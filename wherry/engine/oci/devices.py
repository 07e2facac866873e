"""Devices of a container: nodes to make, and what the devices cgroup allows."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from wherry.engine.oci.errors import RuntimeFailure

if TYPE_CHECKING:
    from wherry.api.models.containers import HostConfig

_NOT_PASSED = frozenset({"pts", "shm", "fd", "mqueue", ".lxc", ".lxd-mounts", ".udev", "console", "ptmx"})
_DEFAULT_RULES: tuple[tuple[str, int, int | None, str], ...] = (
    ("c", 1, 3, "rwm"),  # null
    ("c", 1, 5, "rwm"),  # zero
    ("c", 1, 7, "rwm"),  # full
    ("c", 1, 8, "rwm"),  # random
    ("c", 1, 9, "rwm"),  # urandom
    ("c", 5, 0, "rwm"),  # tty
    ("c", 5, 1, "rwm"),  # console
    ("c", 5, 2, "rwm"),  # ptmx
    ("c", 136, None, "rwm"),  # pts/*
)


def devices_of(host: HostConfig) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The nodes (``linux.devices``) and the rules that allow them, of ``HostConfig.Devices`` or, privileged, of all.

    Raises ``RuntimeFailure`` with moby's text for a device that is not there.
    """
    if host.privileged:
        return [node for path in _host_devices() for node in _nodes(path, path)], []
    nodes: list[dict[str, Any]] = []
    rules: list[dict[str, Any]] = []
    for given in host.devices or ():
        source = given.path_on_host
        found = list(_nodes(source, given.path_in_container or source))
        if not found:
            raise RuntimeFailure(
                f'error gathering device information while adding custom device "{source}": '
                + ("not a device node" if os.path.lexists(source) else "no such file or directory")
            )
        for node in found:
            nodes.append(node)
            rules.append(_rule(node["type"], node["major"], node["minor"], given.cgroup_permissions or "rwm"))
    return nodes, rules


def device_cgroup_rules(host: HostConfig, rules: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """``linux.resources.devices``: nothing but the default ones, ``rules`` and HostConfig.DeviceCgroupRules.

    Raises ``RuntimeFailure`` for a rule that cannot be read.
    """
    if host.privileged:
        return [{"allow": True, "access": "rwm"}]
    result: list[dict[str, Any]] = [
        {"allow": False, "access": "rwm"},
        {"allow": True, "type": "c", "access": "m"},
        {"allow": True, "type": "b", "access": "m"},
    ]
    result += [_rule(*rule) for rule in _DEFAULT_RULES]
    result += rules
    result += [_parse_rule(text) for text in host.device_cgroup_rules or ()]
    return result


def _rule(kind: str, major: int | None, minor: int | None, access: str) -> dict[str, Any]:
    rule: dict[str, Any] = {"allow": True, "type": kind, "access": access}
    if major is not None:
        rule["major"] = major
    if minor is not None:
        rule["minor"] = minor
    return rule


def _parse_rule(text: str) -> dict[str, Any]:
    try:
        kind, numbers, access = text.split(" ")
        major, minor = (None if part == "*" else int(part) for part in numbers.split(":"))
    except ValueError:
        raise RuntimeFailure(f"invalid device cgroup rule format: '{text}'") from None
    if kind not in ("a", "b", "c") or not access or set(access) - set("rwm"):
        raise RuntimeFailure(f"invalid device cgroup rule format: '{text}'")
    return _rule(kind, major, minor, access)


def _nodes(source: str, target: str) -> Iterator[dict[str, Any]]:
    """The node at a host path, or all below it when it is a directory."""
    try:
        status = os.stat(source)
    except OSError:
        return
    if stat.S_ISDIR(status.st_mode):
        for entry in sorted(os.listdir(source)):
            if entry not in _NOT_PASSED:
                yield from _nodes(os.path.join(source, entry), os.path.join(target, entry))
        return
    if stat.S_ISCHR(status.st_mode):
        kind = "c"
    elif stat.S_ISBLK(status.st_mode):
        kind = "b"
    else:
        return
    yield {
        "type": kind,
        "path": target,
        "major": os.major(status.st_rdev),
        "minor": os.minor(status.st_rdev),
        "fileMode": stat.S_IMODE(status.st_mode),
        "uid": status.st_uid,
        "gid": status.st_gid,
    }


def _host_devices() -> list[str]:
    with os.scandir("/dev") as entries:
        return sorted(entry.path for entry in entries if entry.name not in _NOT_PASSED and not entry.is_symlink())
