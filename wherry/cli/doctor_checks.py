"""The checks of ``wherry doctor``. Each yields findings from /proc, /sys and programs' own words."""

from __future__ import annotations

import ctypes
import enum
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

WANTED_CONTROLLERS = {"cpu", "memory", "pids", "cpuset", "freezer", "devices", "blkio"}
WANTED_CONTROLLERS_V2 = {"cpu", "memory", "pids", "cpuset", "io"}
# Capability numbers that a root in a container or sandbox often lacks, and what is missing then.
CAPABILITIES = {
    12: ("NET_ADMIN", True, "no networks can be made"),
    21: ("SYS_ADMIN", True, "no namespaces and mounts can be made"),
    24: ("SYS_RESOURCE", False, "limits cannot be raised above this process's own, nor the OOM score lowered"),
    19: ("SYS_PTRACE", False, "processes of other users cannot be looked into"),
    27: ("MKNOD", False, "images with device files cannot be unpacked whole"),
}


class Level(enum.Enum):
    GOOD = "good"
    WARNING = "warning"
    BAD = "bad"


@dataclass(frozen=True)
class Finding:
    """One thing about the machine; ``advice`` says what to do, ``packages`` names Debian packages that would mend it."""

    level: Level
    subject: str
    text: str
    advice: str = ""
    packages: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        return asdict(self) | {"level": self.level.value}


def output_of(*command: str, seconds: float = 5) -> str | None:
    """What a program says; None when it is not there, fails or hangs."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def first_line(text: str | None) -> str:
    return (text or "").splitlines()[0] if text else ""


def check_python() -> Iterator[Finding]:
    level = Level.GOOD if sys.version_info >= (3, 11) else Level.BAD
    yield Finding(level, "Python", f"{platform.python_version()}, kernel {platform.release()}")


def check_root() -> Iterator[Finding]:
    if os.geteuid() == 0:
        yield Finding(Level.GOOD, "root", "yes")
    else:
        yield Finding(Level.BAD, "root", f"no, user id {os.geteuid()}", "run the engine as root, for example with sudo")


def check_capabilities() -> Iterator[Finding]:
    status = Path("/proc/self/status").read_text()
    bounding = int(status.split("CapBnd:")[1].split()[0], 16)
    missing = {number: words for number, words in CAPABILITIES.items() if not bounding >> number & 1}
    if not missing:
        yield Finding(Level.GOOD, "capabilities", "all that an engine asks for")
    for name, needed, effect in missing.values():
        yield Finding(Level.BAD if needed else Level.WARNING, "capabilities", f"CAP_{name} is not there: {effect}")


def check_runtimes() -> Iterator[Finding]:
    found = []
    for name in ("crun", "runc"):
        if (path := find_program(name)) and (said := first_line(output_of(path, "--version"))):
            found.append(f"{said} ({path})")
    if not found:
        advice = "install crun (or runc): it makes the containers"
        yield Finding(Level.BAD, "OCI runtime", "neither crun nor runc", advice, ("crun",))
    elif not found[0].startswith("crun"):
        advice = "install crun: it starts containers in half the time"
        yield Finding(Level.WARNING, "OCI runtime", found[0], advice, ("crun",))
    else:
        yield Finding(Level.GOOD, "OCI runtime", "; ".join(found))


def find_program(name: str) -> str | None:
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/local/sbin:/usr/sbin:/sbin:/usr/bin:/bin")


def check_monitor() -> Iterator[Finding]:
    path = find_program("conmon")
    if path is None:
        advice = "install conmon: it keeps output and exit code when the engine is gone"
        yield Finding(Level.BAD, "monitor", "conmon is not there", advice, ("conmon",))
    else:
        yield Finding(Level.GOOD, "monitor", f"{first_line(output_of(path, '--version'))} ({path})")


def check_tar() -> Iterator[Finding]:
    said = first_line(output_of("tar", "--version"))
    if "GNU tar" in said:
        yield Finding(Level.GOOD, "tar", said)
    else:
        yield Finding(
            Level.BAD, "tar", said or "not there", "install GNU tar: copies out of containers use it", ("tar",)
        )


def mounts() -> list[tuple[str, str, str]]:
    """(mount point, file system, options) of all mounts, later ones over earlier ones."""
    found = []
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, point, kind, options, *_ = line.split()
        found.append((point, kind, options))
    return found


def check_cgroups() -> Iterator[Finding]:
    there = mounts()
    v1 = {
        option for _, kind, options in there if kind == "cgroup" for option in options.split(",")
    } & WANTED_CONTROLLERS
    unified = [point for point, kind, _ in there if kind == "cgroup2"]
    if v1:
        version = "version 1" + (", hybrid" if unified else "")
        missing = WANTED_CONTROLLERS - v1
        text = f"{version}, controllers {' '.join(sorted(v1))}"
    elif unified:
        controllers = set(Path(unified[0], "cgroup.controllers").read_text().split())
        missing = WANTED_CONTROLLERS_V2 - controllers
        text = f"version 2, controllers {' '.join(sorted(controllers))}"
    else:
        yield Finding(
            Level.WARNING,
            "cgroups",
            "no control groups are mounted: no limits, no statistics, no pause",
            "without systemd, cgroupfs-mount mounts them",
            ("cgroupfs-mount",),
        )
        return
    if missing:
        advice = f"limits of {' '.join(sorted(missing))} become warnings"
        yield Finding(Level.WARNING, "cgroups", text, advice)
    else:
        yield Finding(Level.GOOD, "cgroups", text)


def filesystem_of(path: Path) -> str:
    """The kind of file system that holds a path, or the nearest parent that is there."""
    path = existing(path)
    best, kind = "", "unknown"
    for point, filesystem, _ in mounts():
        if (path == Path(point) or Path(point) in path.parents) and len(point) >= len(best):
            best, kind = point, filesystem
    return kind


def existing(path: Path) -> Path:
    path = path.absolute()
    while not path.exists():
        path = path.parent
    return path


def check_overlay(data_root: Path) -> Iterator[Finding]:
    kind = filesystem_of(data_root)
    where = f"{data_root} on {kind}"
    if kind == "overlay":
        where += ", an overlay itself (a container or sandbox)"
    works = overlay_works(data_root)
    if works is None:
        known = "overlay" in Path("/proc/filesystems").read_text()
        level = Level.GOOD if known and kind != "overlay" else Level.WARNING
        yield Finding(level, "overlayfs", f"{where}; not tried without root")
    elif works:
        yield Finding(Level.GOOD, "overlayfs", f"works below {where}")
    else:
        advice = "root file systems are copies then: slower, and larger; a data root on ext4, xfs or tmpfs mends it"
        yield Finding(Level.WARNING, "overlayfs", f"cannot be mounted below {where}", advice)


def overlay_works(data_root: Path) -> bool | None:
    """Mount one, in a mount namespace that ends with the trial; None when that cannot be tried."""
    if os.geteuid() != 0 or not shutil.which("unshare"):
        return None
    with tempfile.TemporaryDirectory(prefix=".wherry-doctor-", dir=existing(data_root)) as scratch:
        paths = {name: Path(scratch, name) for name in ("lower", "upper", "work", "merged")}
        for path in paths.values():
            path.mkdir()
        options = f"lowerdir={paths['lower']},upperdir={paths['upper']},workdir={paths['work']}"
        command = ("unshare", "--mount", "mount", "-t", "overlay", "overlay", "-o", options, str(paths["merged"]))
        return output_of(*command) is not None


def check_nftables() -> Iterator[Finding]:
    try:
        ctypes.CDLL("libnftables.so.1")
    except OSError:
        advice = "install libnftables1: published ports need it"
        yield Finding(Level.BAD, "nftables", "libnftables.so.1 is not there", advice, ("libnftables1",))
        return
    said = output_of("nft", "--version") if shutil.which("nft") else None
    yield Finding(Level.GOOD, "nftables", said or "libnftables, without the nft command")


def check_forward() -> Iterator[Finding]:
    """Who else decides what is forwarded: an accept of ours cannot override another's drop."""
    nft = find_program("nft")
    if os.geteuid() != 0 or nft is None:
        yield Finding(
            Level.WARNING, "FORWARD", "not looked at: that takes root and the nft command", packages=("nftables",)
        )
        return
    ruleset = output_of(nft, "list", "ruleset") or ""
    rulers = sorted(rulers_of(ruleset))
    if not rulers:
        yield Finding(Level.GOOD, "FORWARD", "no other rules forwarding here")
    for ruler in rulers:
        advice = "Wherry's accepts go, tagged, into DOCKER-USER, or else into FORWARD; nothing else there is touched"
        yield Finding(Level.WARNING, "FORWARD", ruler, advice)


def rulers_of(ruleset: str) -> Iterator[str]:
    """
    >>> list(rulers_of("table ip filter {\\n\\tchain FORWARD {\\n\\t\\ttype filter hook forward priority filter; policy drop;"))
    ['table ip filter, chain FORWARD: policy drop']
    """
    table = chain = ""
    for line in ruleset.splitlines():
        words = line.split()
        if words[:1] == ["table"]:
            table = " ".join(words[1:3])
            if words[-2:-1] == ["firewalld"]:
                yield "firewalld is there (table firewalld)"
        elif words[:1] == ["chain"]:
            chain = words[1]
            if chain == "DOCKER-USER":
                yield f"a dockerd is or was there (chain DOCKER-USER in table {table})"
            elif chain == "ufw-before-forward":
                yield f"ufw is there (chain {chain} in table {table})"
        elif "hook forward" in line and "policy drop" in line:
            yield f"table {table}, chain {chain}: policy drop"


def check_ip_forward() -> Iterator[Finding]:
    on = Path("/proc/sys/net/ipv4/ip_forward").read_text().strip() == "1"
    text = "on" if on else "off; the engine turns it on with its first network"
    yield Finding(Level.GOOD, "ip_forward", text)


def check_selinux() -> Iterator[Finding]:
    enforce = Path("/sys/fs/selinux/enforce")
    if not enforce.exists():
        yield Finding(Level.GOOD, "SELinux", "not active")
    elif enforce.read_text().strip() == "1":
        advice = "containers run without labels of their own; bind mounts may need one (chcon -t container_file_t)"
        yield Finding(Level.WARNING, "SELinux", "enforcing", advice)
    else:
        yield Finding(Level.GOOD, "SELinux", "permissive")


def check_space(data_root: Path) -> Iterator[Finding]:
    usage = shutil.disk_usage(existing(data_root))
    free = usage.free / 1e9
    level = Level.GOOD if free >= 2 else Level.WARNING
    yield Finding(level, "free space", f"{free:.1f} GB below {data_root}", "" if free >= 2 else "images need room")


def check_engines(sockets: Sequence[str] = ("/run/wherry/wherry.sock", "/var/run/docker.sock")) -> Iterator[Finding]:
    for path in sockets:
        if Path(path).is_socket():
            yield Finding(Level.GOOD, "engines", f"{path}: {engine_at(path)}")


def engine_at(path: str) -> str:
    import wherry

    try:
        with wherry.connect(f"unix://{path}", timeouts=wherry.Timeouts(connect=2, head=5)) as client:
            version = client.system.version()
            return f"answers, version {version.version}, API {version.api_version}"
    except wherry.WherryError as error:
        return f"does not answer ({error})"
