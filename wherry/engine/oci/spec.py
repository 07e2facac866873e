"""The OCI runtime specification (1.0, ``config.json``) of one run of a container."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wherry.engine.oci import capabilities
from wherry.engine.oci.devices import device_cgroup_rules, devices_of
from wherry.engine.oci.errors import RuntimeFailure
from wherry.engine.oci.limits import oom_score_adj, rlimits
from wherry.engine.oci.resources import resources

if TYPE_CHECKING:
    from wherry.api.models.containers import HostConfig

MASKED_PATHS = (
    "/proc/asound",
    "/proc/acpi",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
)
READONLY_PATHS = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")

BPF_ANNOTATION = "run.oci.seccomp_bpf_data"
INIT_PATH = "/sbin/docker-init"
DEFAULT_SHM_SIZE = 64 << 20

_SAFE = ["nosuid", "noexec", "nodev"]
_PROPAGATION = {"shared": 2, "rshared": 2, "slave": 1, "rslave": 1}
HOST, PRIVATE = "host", ""


@dataclass(frozen=True, slots=True)
class OciMount:
    """A mount, its source a host path for ``type`` bind; ``options`` as mount(8) writes them."""

    source: str
    destination: str
    type: str = "bind"
    options: Sequence[str] = ("rbind", "rprivate")


@dataclass(slots=True)
class SpecInput:
    """What a specification is made of. Paths of namespaces: None = the host's, "" = a new one, else a path to join."""

    id: str
    args: Sequence[str]
    env: Sequence[str]
    rootfs: Path
    host_config: HostConfig
    cgroup_path: str
    cwd: str = "/"
    uid: int = 0
    gid: int = 0
    groups: Sequence[int] = ()
    home: str = ""  # becomes HOME where env has none
    tty: bool = False
    console_size: tuple[int, int] | None = None  # height, width
    hostname: str = ""
    domainname: str = ""
    mounts: Sequence[OciMount] = ()  # binds, volumes, hosts files; in any order
    shm_path: str = ""  # a host directory for /dev/shm, where it is shared with others; else a tmpfs of its own
    netns: str | None = ""
    ipcns: str | None = ""
    pidns: str | None = ""
    utsns: str | None = ""
    cgroupns: str | None = None
    seccomp: Mapping[str, Any] | str = field(default_factory=dict)  # linux.seccomp, or base64 of BPF, or empty for none
    no_new_privileges: bool = False
    apparmor: str = ""
    selinux: str = ""
    init: str = ""  # the host's path of a static init to run in front of args


def build_spec(given: SpecInput, warnings: list[str] | None = None) -> dict[str, Any]:
    """The ``config.json`` of a run, ready for JSON. What the machine cannot give is left out and said in ``warnings``.

    Raises ``RuntimeFailure`` (a missing device) and ``BadRequest`` (an unknown capability).
    """
    warnings = [] if warnings is None else warnings
    host = given.host_config
    privileged = host.privileged
    args = list(given.args)
    if given.init:
        args = [INIT_PATH, "--", *args]
    devices, rules = devices_of(host)
    linux: dict[str, Any] = {
        "namespaces": _namespaces(given),
        "cgroupsPath": given.cgroup_path,
        "resources": resources(host) | {"devices": device_cgroup_rules(host, rules)},
        "devices": devices,
    }
    if not privileged:
        linux["maskedPaths"] = list(MASKED_PATHS if host.masked_paths is None else host.masked_paths)
        linux["readonlyPaths"] = list(READONLY_PATHS if host.readonly_paths is None else host.readonly_paths)
    mounts = _mounts(given)
    propagation = max(
        (_PROPAGATION[option] for mount in given.mounts for option in mount.options if option in _PROPAGATION),
        default=0,
    )
    if propagation:
        linux["rootfsPropagation"] = "rshared" if propagation == 2 else "rslave"
    sysctls = _sysctls(given)
    if sysctls:
        linux["sysctl"] = sysctls
    if given.selinux:
        linux["mountLabel"] = given.selinux

    annotations = dict(host.annotations) if isinstance(host.annotations, Mapping) else {}
    check_annotations(annotations)
    if isinstance(given.seccomp, str):
        annotations[BPF_ANNOTATION] = given.seccomp
    elif given.seccomp:
        linux["seccomp"] = given.seccomp

    spec: dict[str, Any] = {
        "ociVersion": "1.0.0",
        "process": _process(given, args, warnings),
        "root": {"path": str(given.rootfs), "readonly": bool(host.readonly_rootfs)},
        "mounts": mounts,
        "linux": linux,
    }
    if given.utsns == PRIVATE and given.hostname:
        spec["hostname"] = given.hostname
    if annotations:
        spec["annotations"] = annotations
    return spec


def check_annotations(annotations: Mapping[str, str]) -> None:
    """Raises ``RuntimeFailure`` for annotations by which a client would steer the runtime itself."""
    for name in annotations:
        if name.startswith("run.oci."):
            raise RuntimeFailure(f"invalid annotation {name}: run.oci.* belongs to the engine")


def _process(given: SpecInput, args: list[str], warnings: list[str]) -> dict[str, Any]:
    host = given.host_config
    env = list(given.env)
    if given.home and not any(entry.startswith("HOME=") for entry in env):
        env.append("HOME=" + given.home)
    process: dict[str, Any] = {
        "terminal": given.tty,
        "user": {"uid": given.uid, "gid": given.gid, "additionalGids": list(given.groups)},
        "args": args,
        "env": env,
        "cwd": given.cwd or "/",
        "capabilities": capability_sets(capabilities.granted(host.cap_add, host.cap_drop, host.privileged), given.uid),
        "noNewPrivileges": given.no_new_privileges,
        "oomScoreAdj": oom_score_adj(host.oom_score_adj or 0, warnings),
    }
    if given.tty and given.console_size and all(given.console_size):
        process["consoleSize"] = {"height": given.console_size[0], "width": given.console_size[1]}
    limits = rlimits(host.ulimits or (), warnings)
    if limits:
        process["rlimits"] = limits
    if given.apparmor:
        process["apparmorProfile"] = given.apparmor
    if given.selinux:
        process["selinuxLabel"] = given.selinux
    return process


def capability_sets(names: list[str], uid: int) -> dict[str, list[str]]:
    """The sets of a process: a user other than root only gets the bounding set, as its execve would leave it."""
    if uid:
        return {"bounding": names}
    return {"bounding": names, "effective": names, "permitted": names}


def _namespaces(given: SpecInput) -> list[dict[str, str]]:
    result = [{"type": "mount"}]
    for kind, path in (
        ("network", given.netns),
        ("uts", given.utsns),
        ("pid", given.pidns),
        ("ipc", given.ipcns),
        ("cgroup", given.cgroupns),
    ):
        if path is None:
            continue
        result.append({"type": kind, "path": path} if path else {"type": kind})
    return result


def _mounts(given: SpecInput) -> list[dict[str, Any]]:
    host = given.host_config
    own = [OciMount(m.source, _clean(m.destination), m.type, m.options) for m in given.mounts]
    tmpfs = host.tmpfs if isinstance(host.tmpfs, Mapping) else {}
    for destination, text in tmpfs.items():
        own.append(OciMount("tmpfs", _clean(destination), "tmpfs", tmpfs_options(text)))
    if given.init:
        own.append(OciMount(given.init, INIT_PATH, "bind", ("bind", "ro")))
    taken = {mount.destination for mount in own}

    result = []
    for mount in _default_mounts(given):
        if mount.destination in taken or ("/dev" in taken and mount.destination.startswith("/dev/")):
            continue
        options = list(mount.options)
        if host.readonly_rootfs and mount.destination.startswith("/sys") and "ro" not in options:
            options.append("ro")
        result.append(_mount(mount, options))
    # A mount below another one must come behind it.
    for mount in sorted(own, key=lambda mount: mount.destination.count("/") if mount.destination != "/" else 0):
        result.append(_mount(mount, list(mount.options)))
    return result


def _mount(mount: OciMount, options: list[str]) -> dict[str, Any]:
    return {"destination": mount.destination, "type": mount.type, "source": mount.source, "options": options}


def _default_mounts(given: SpecInput) -> list[OciMount]:
    host = given.host_config
    writable = host.privileged and not host.readonly_rootfs
    sys_options = _SAFE if writable else [*_SAFE, "ro"]
    cgroup_options = [*_SAFE, "relatime"] if host.privileged else [*_SAFE, "relatime", "ro"]
    mounts = [
        OciMount("proc", "/proc", "proc", _SAFE),
        OciMount("tmpfs", "/dev", "tmpfs", ("nosuid", "strictatime", "mode=755", "size=65536k")),
        OciMount(
            "devpts", "/dev/pts", "devpts", ("nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5")
        ),
        OciMount("sysfs", "/sys", "sysfs", sys_options),
        OciMount("cgroup", "/sys/fs/cgroup", "cgroup", cgroup_options),
    ]
    if given.ipcns is None and os.path.isdir("/dev/mqueue"):
        mounts.append(OciMount("/dev/mqueue", "/dev/mqueue", "bind", ("rbind", *_SAFE)))
    else:
        mounts.append(OciMount("mqueue", "/dev/mqueue", "mqueue", _SAFE))
    if given.shm_path:
        mounts.append(OciMount(given.shm_path, "/dev/shm", "bind", ("rbind", "rprivate")))
    elif given.ipcns is None:
        mounts.append(OciMount("/dev/shm", "/dev/shm", "bind", ("rbind", "rprivate")))
    elif host.ipc_mode != "none":
        size = host.shm_size or DEFAULT_SHM_SIZE
        mounts.append(OciMount("shm", "/dev/shm", "tmpfs", (*_SAFE, "mode=1777", f"size={size}")))
    return mounts


def tmpfs_options(options: str) -> list[str]:
    """The options of ``HostConfig.Tmpfs``: moby's safe ones, each unless the opposite was asked."""
    given = [option for option in options.split(",") if option]
    opposite = {"noexec": "exec", "nosuid": "suid", "nodev": "dev"}
    safe = [option for option in ("noexec", "nosuid", "nodev") if opposite[option] not in given and option not in given]
    return safe + given


def _sysctls(given: SpecInput) -> dict[str, str]:
    host = given.host_config
    result: dict[str, str] = {}
    if given.netns is not None and not host.privileged:
        result["net.ipv4.ip_unprivileged_port_start"] = "0"
        result["net.ipv4.ping_group_range"] = "0 2147483647"
    if given.domainname and given.utsns == PRIVATE:
        result["kernel.domainname"] = given.domainname
    if isinstance(host.sysctls, Mapping):
        result |= host.sysctls
    return result


def _clean(path: str) -> str:
    return posixpath.normpath("/" + path.lstrip("/"))


def build_exec_process(
    *,
    args: Sequence[str],
    env: Sequence[str],
    granted: Sequence[str],
    cwd: str = "/",
    uid: int = 0,
    gid: int = 0,
    groups: Sequence[int] = (),
    home: str = "",
    tty: bool = False,
    console_size: tuple[int, int] | None = None,
    no_new_privileges: bool = False,
    oom_score: int = 0,
    apparmor: str = "",
    selinux: str = "",
    ulimits: Sequence[Any] = (),
) -> dict[str, Any]:
    """The OCI ``process`` of an exec; ``granted`` are its capabilities (EXE5), the rest as in ``SpecInput``."""
    env = list(env)
    if home and not any(entry.startswith("HOME=") for entry in env):
        env.append("HOME=" + home)
    process: dict[str, Any] = {
        "terminal": tty,
        "user": {"uid": uid, "gid": gid, "additionalGids": list(groups)},
        "args": list(args),
        "env": env,
        "cwd": cwd or "/",
        "capabilities": capability_sets(list(granted), uid),
        "noNewPrivileges": no_new_privileges,
        "oomScoreAdj": oom_score_adj(oom_score, []),
    }
    if tty and console_size and all(console_size):
        process["consoleSize"] = {"height": console_size[0], "width": console_size[1]}
    limits = rlimits(ulimits, [])
    if limits:
        process["rlimits"] = limits
    if apparmor:
        process["apparmorProfile"] = apparmor
    if selinux:
        process["selinuxLabel"] = selinux
    return process
