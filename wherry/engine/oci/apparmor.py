"""AppArmor where the kernel has it: the profile that a caller names. The engine brings none of its own."""

from __future__ import annotations

from pathlib import Path

UNCONFINED = "unconfined"

_ENABLED = Path("/sys/module/apparmor/parameters/enabled")
_POLICY = Path("/sys/kernel/security/apparmor")


def available(enabled: Path = _ENABLED, policy: Path = _POLICY) -> bool:
    """Whether the kernel confines by profiles, and this engine can see them."""
    try:
        return enabled.read_text().startswith("Y") and policy.is_dir()
    except OSError:
        return False


def profile(named: str | None) -> str:
    """What a process is to be confined by, given the option ``apparmor`` (CRE28); empty for nothing.

    As in moby a name is overlooked where the kernel has no AppArmor.
    """
    return named if named and named != UNCONFINED and available() else ""
