"""The options of a ``local`` volume: ``type``, ``device`` and ``o`` are a mount at use, ``size`` is a quota."""

from __future__ import annotations

import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from wherry.api.errors import BadRequest

KNOWN = ("type", "device", "o", "size")
_NEEDS = (("device", ("type",)), ("type", ("device",)), ("o", ("device", "type")))

MS_RDONLY, MS_REMOUNT, MS_BIND, MS_REC = 1, 32, 4096, 16384
PROPAGATION = 1 << 17 | 1 << 18 | 1 << 19 | 1 << 20  # unbindable, private, slave, shared

# The words of mount(8) that are flags of mount(2), each with whether it takes its flag away; all others are the
# filesystem's own.
_FLAGS: dict[str, tuple[bool, int]] = {
    "ro": (False, MS_RDONLY),
    "rw": (True, MS_RDONLY),
    "nosuid": (False, 2),
    "suid": (True, 2),
    "nodev": (False, 4),
    "dev": (True, 4),
    "noexec": (False, 8),
    "exec": (True, 8),
    "sync": (False, 16),
    "async": (True, 16),
    "remount": (False, MS_REMOUNT),
    "mand": (False, 64),
    "nomand": (True, 64),
    "dirsync": (False, 128),
    "noatime": (False, 1024),
    "atime": (True, 1024),
    "nodiratime": (False, 2048),
    "diratime": (True, 2048),
    "bind": (False, MS_BIND),
    "rbind": (False, MS_BIND | MS_REC),
    "unbindable": (False, 1 << 17),
    "runbindable": (False, 1 << 17 | MS_REC),
    "private": (False, 1 << 18),
    "rprivate": (False, 1 << 18 | MS_REC),
    "slave": (False, 1 << 19),
    "rslave": (False, 1 << 19 | MS_REC),
    "shared": (False, 1 << 20),
    "rshared": (False, 1 << 20 | MS_REC),
    "relatime": (False, 1 << 21),
    "norelatime": (True, 1 << 21),
    "strictatime": (False, 1 << 24),
    "nostrictatime": (True, 1 << 24),
}
_SIZE = re.compile(r"(\d+(?:\.\d+)?) ?([kmgtp])?(?:i?b)?", re.ASCII | re.IGNORECASE)
_NETWORK = ("nfs", "nfs4", "cifs", "smb3")


@dataclass(frozen=True, slots=True)
class MountOptions:
    """What is mounted at use, as mount(2) takes it. ``data`` may hold a password."""

    device: str
    fstype: str
    flags: int
    data: str

    @property
    def remote(self) -> bool:
        """Whether another machine may keep the mount waiting."""
        return self.fstype in _NETWORK


def check(options: Mapping[str, str], *, quota: bool) -> None:
    """Raises ``BadRequest`` for options that a ``local`` volume cannot have; ``quota``: whether sizes can be held."""
    for name in options:
        if name not in KNOWN:
            raise BadRequest(f'invalid option: "{name}"')
    if options.get("type") == "cifs" and options.get("device"):
        try:
            port = urlsplit(options["device"]).port
        except ValueError as error:
            raise BadRequest(f"error parsing mount device url: {error}") from None
        if port is not None:
            raise BadRequest("port not allowed in CIFS device URL, include 'port' in 'o='")
    if "size" in options and parse_size(options["size"]) > 0:
        if not quota:
            raise BadRequest("quota size requested but no quota support")
        if mount_options(options) is not None:
            raise BadRequest(
                "a quota size is for volumes in the engine's own data root: give the size of a mounted one in 'o='"
            )
    for name, others in _NEEDS:
        for other in others:
            if name in options and other not in options:
                raise BadRequest(f'missing required option: "{other}"')


def parse_size(text: str) -> int:
    """Bytes of ``10m``, ``1.5GB``, ``2GiB``; all units are powers of 1024. Raises ``BadRequest``."""
    match = _SIZE.fullmatch(text)
    if match is None:
        raise BadRequest(f"invalid size: '{text}'")
    return int(float(match[1]) * 1024 ** ("kmgtp".index(match[2].lower()) + 1 if match[2] else 0))


def quota_size(options: Mapping[str, str] | None) -> int:
    """The bytes that the volume may hold, 0 for no limit."""
    return parse_size(options["size"]) if options and "size" in options else 0


def mount_options(options: Mapping[str, str] | None) -> MountOptions | None:
    """What is mounted at use, of checked options; None where nothing is."""
    if not options or not (options.get("type") or options.get("device")):
        return None
    flags, data = 0, []
    for word in options.get("o", "").split(","):
        if word in ("", "defaults"):
            continue
        if word not in _FLAGS:
            data.append(word)
            continue
        clears, flag = _FLAGS[word]
        flags = flags & ~flag if clears else flags | flag
    return MountOptions(options.get("device", ""), options.get("type", ""), flags, ",".join(data))


def resolve(options: MountOptions) -> MountOptions:
    """The names of servers as addresses: the kernel looks none up. May block. Raises ``OSError``."""
    device, words = options.device, options.data.split(",")
    if options.fstype not in ("nfs", "cifs"):
        return options
    for index, word in enumerate(words):
        if word.startswith("addr="):
            words[index] = f"addr={_address(word.removeprefix('addr='))}"
            return MountOptions(device, options.fstype, options.flags, ",".join(words))
    if options.fstype == "cifs" and (host := urlsplit(device).hostname):
        device = device.replace(host, _address(host), 1)
    return MountOptions(device, options.fstype, options.flags, options.data)


def without_password(text: str) -> str:
    """Options that may be shown."""
    return re.sub(r"(^|,)password=[^,]*", r"\1password=********", text)


def _address(name: str) -> str:
    if not name:
        return name
    return str(socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)[0][4][0])
