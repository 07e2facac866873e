"""Linux capabilities: names, moby's default set, and what CapAdd and CapDrop make of it (CRE15)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from wherry.api.errors import BadRequest

# In the kernel's numbering.
NAMES: tuple[str, ...] = (
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
)

DEFAULT: tuple[str, ...] = (
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FSETID",
    "CAP_FOWNER",
    "CAP_MKNOD",
    "CAP_NET_RAW",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETFCAP",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_KILL",
    "CAP_AUDIT_WRITE",
)

ALL = "ALL"
_KNOWN = frozenset(NAMES)


def normalise(names: Sequence[str] | None, field: str) -> list[str]:
    """``CAP_X`` for each name, whatever its case and prefix; ``ALL`` stays. ``field`` is CapAdd or CapDrop.

    Raises ``BadRequest`` for a name that the kernel does not have.
    """
    result = []
    for given in names or ():
        name = given.upper()
        if name != ALL:
            if not name.startswith("CAP_"):
                name = "CAP_" + name
            if name not in _KNOWN:
                raise BadRequest(f'invalid {field}: unknown capability: "{name}"')
        result.append(name)
    return result


def check_capabilities(names: Sequence[str] | None, field: str) -> None:
    """Raises ``BadRequest`` with moby's text for a name that the kernel does not have."""
    normalise(names, field)


def granted(add: Sequence[str] | None, drop: Sequence[str] | None, privileged: bool = False) -> list[str]:
    """The capabilities of a container, in the kernel's order, none that the engine could not give.

    Raises ``BadRequest`` for an unknown name.
    """
    adds = set(normalise(add, "CapAdd"))
    drops = set(normalise(drop, "CapDrop"))
    if privileged:
        wanted = set(NAMES)
    elif ALL in adds:
        wanted = set(NAMES) - drops
    elif ALL in drops:
        wanted = adds
    else:
        wanted = (set(DEFAULT) - drops) | adds
    available = bounding_set()
    return [name for name in NAMES if name in wanted and name in available]


@lru_cache(maxsize=1)
def bounding_set() -> frozenset[str]:
    """The engine's own bounding set: no container can have more."""
    return _own_set("CapBnd")


@lru_cache(maxsize=1)
def effective_set() -> frozenset[str]:
    """What the engine itself may do."""
    return _own_set("CapEff")


def _own_set(field: str) -> frozenset[str]:
    with open("/proc/self/status", encoding="ascii", errors="replace") as file:
        for line in file:
            if line.startswith(field + ":"):
                mask = int(line.split()[1], 16)
                return frozenset(name for number, name in enumerate(NAMES) if mask >> number & 1)
    return frozenset()
