"""What an image runs on, in Go's words: ``linux/amd64``, ``linux/arm/v7``."""

from __future__ import annotations

import json
import os
import re
from typing import NamedTuple

from wherry.api.errors import BadRequest

_COMPONENT = re.compile(r"[A-Za-z0-9_-]+", re.ASCII)
_SAME = {"x86_64": "amd64", "x86-64": "amd64", "aarch64": "arm64", "i386": "386", "i686": "386", "armhf": "arm"}
_MACHINES = {**_SAME, "armv7l": "arm", "armv6l": "arm"}
_VARIANTS = {"armv7l": "v7", "armv6l": "v6"}
_SYSTEMS = frozenset({"linux", "windows", "darwin", "freebsd", "netbsd", "openbsd", "solaris", "plan9", "android"})
_ARCHITECTURES = frozenset(
    {"386", "amd64", "arm", "arm64", "loong64", "mips64", "mips64le", "ppc64", "ppc64le", "riscv64", "s390x", "wasm"}
)


class Platform(NamedTuple):
    """``variant`` is empty where there is none."""

    os: str
    architecture: str
    variant: str = ""

    def __str__(self) -> str:
        return "/".join(part for part in self if part)


def host_platform() -> Platform:
    """This machine's."""
    machine = os.uname().machine
    return Platform("linux", _MACHINES.get(machine, machine), _VARIANTS.get(machine, ""))


def parse_platform(text: str) -> Platform:
    """``os[/architecture[/variant]]`` or an architecture alone; the host's for what is left out.

    Raises ``BadRequest`` for text that is none.
    """
    host = host_platform()
    if not text:
        return host
    if "*" in text:
        raise BadRequest(f"{json.dumps(text)}: wildcards not yet supported: invalid argument")
    parts = text.lower().split("/")
    for part in parts:
        if not _COMPONENT.fullmatch(part):
            must = "platform specifier component must match"
            raise BadRequest(f"{json.dumps(part)} is an invalid component of {json.dumps(text)}: {must} {_PATTERN}")
    if len(parts) > 3:
        raise BadRequest(f"{json.dumps(text)}: cannot parse platform specifier: invalid argument")
    if len(parts) == 1:
        if parts[0] in _SYSTEMS:
            return host if parts[0] == host.os else Platform(parts[0], host.architecture, host.variant)
        architecture = _SAME.get(parts[0], parts[0])
        if architecture not in _ARCHITECTURES:
            raise BadRequest(f"{json.dumps(text)}: unknown operating system or architecture: invalid argument")
        return Platform(host.os, architecture)
    return Platform(parts[0], _SAME.get(parts[1], parts[1]), parts[2] if len(parts) == 3 else "")


_PATTERN = '"^[A-Za-z0-9_-]+$": invalid argument'
