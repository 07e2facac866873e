"""Control groups: what the machine gives, and where the engine's own are.

All containers of an engine are below one group, ``/wherry-<tag>/<container id>``, at the root of each hierarchy: beside
what a service manager rules, so that neither it nor a restart of the engine's unit touches running containers. The
runtime makes the groups of a container, and its ``delete`` removes them.
"""

from __future__ import annotations

import errno
import logging
import os
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from posixpath import normpath

from wherry.engine.oci.cgroup_v1 import CgroupV1
from wherry.engine.oci.cgroup_v2 import CgroupV2

__all__ = ["Cgroup", "CgroupSetup", "detect"]

log = logging.getLogger(__name__)

Cgroup = CgroupV1 | CgroupV2
_V1_WANTED = ("memory", "cpu", "cpuacct", "cpuset", "pids", "blkio", "devices", "freezer")
_V2_WANTED = ("cpuset", "cpu", "io", "memory", "pids")


@dataclass(slots=True)
class CgroupSetup:
    """What limits the machine can give. ``version`` is 1 (also on hybrid machines), 2, or 0 for none at all.

    ``mounts`` tells each controller's hierarchy; with version 2 all are the same. ``parent`` is the engine's own group.
    """

    version: int = 0
    hybrid: bool = False
    parent: str = ""
    mounts: dict[str, Path] = field(default_factory=dict)
    hierarchies: list[Path] = field(default_factory=list)  # all that a runtime makes groups in
    memory: bool = False
    swap: bool = False
    cpu: bool = False
    cpuset: bool = False
    pids: bool = False
    blkio: bool = False
    blkio_weight: bool = False
    freezer: bool = False
    available_cpus: str = ""
    available_mems: str = ""
    warnings: list[str] = field(default_factory=list)

    def path(self, container_id: str, parent: str = "") -> str:
        """A container's group, as ``linux.cgroupsPath`` and below every hierarchy; ``parent`` as in ``CgroupParent``."""
        given = normpath("/" + parent.lstrip("/")).rstrip("/") if parent else self.parent
        return f"{given}/{container_id}"

    def container(self, container_id: str, parent: str = "") -> Cgroup:
        """A container's group, whether it exists or not."""
        path = self.path(container_id, parent)
        if self.version == 2:
            return CgroupV2(self.mounts.get("memory", Path("/sys/fs/cgroup")), path)
        return CgroupV1(self.mounts, path, self.hierarchies)

    def list(self) -> list[str]:
        """The ids of all containers that have a group in any hierarchy."""
        found = set()
        for mount in self.hierarchies:
            with suppress(OSError), os.scandir(f"{mount}{self.parent}") as entries:
                found |= {entry.name for entry in entries if entry.is_dir()}
        return sorted(found)

    def remove_parent(self) -> None:
        """Remove the engine's own group where it is empty."""
        for mount in self.hierarchies:
            with suppress(OSError):
                os.rmdir(f"{mount}{self.parent}")


def detect(tag: str, mountinfo: Path = Path("/proc/self/mountinfo")) -> CgroupSetup:
    """Find out what the machine gives; what is missing is in ``warnings``."""
    unified, controllers, hierarchies = _mounts(mountinfo.read_text(errors="replace"))
    setup = CgroupSetup(parent=f"/wherry-{tag}", hierarchies=hierarchies)
    if controllers:
        setup.version, setup.hybrid = 1, unified is not None
        _look_v1(setup, unified, controllers)
    elif unified is not None:
        setup.version = 2
        _look_v2(setup, unified)
    else:
        setup.warnings.append(
            "no control groups are mounted: no limits, pause or stats. Where no init system mounts them: "
            "apt-get install cgroupfs-mount"
        )
        return setup
    for given, text in (
        (setup.memory, "No memory limit support"),
        (setup.swap or not setup.memory, "No swap limit support"),
        (setup.cpu, "No cpu cfs quota, cfs period and shares support"),
        (setup.cpuset, "No cpuset support"),
        (setup.pids, "No pids limit support"),
        (setup.blkio, "No blkio throttle support"),
        (setup.freezer, "No freezer: containers cannot be paused"),
    ):
        if not given:
            setup.warnings.append(f"WARNING: {text}")
    return setup


def _mounts(text: str) -> tuple[Path | None, dict[str, Path], list[Path]]:
    """The mount point of the unified hierarchy, of each controller of the old ones, and of them all."""
    every: list[Path] = []
    unified: Path | None = None
    controllers: dict[str, Path] = {}
    for line in text.splitlines():
        left, _, right = line.partition(" - ")
        place, kind, options = left.split()[4:5], right.split()[:1], right.split()[2:3]
        if not (place and kind and options):
            continue
        path = Path(place[0].encode().decode("unicode_escape"))
        if kind[0] in ("cgroup", "cgroup2"):
            every.append(path)
        if kind == ["cgroup2"]:
            unified = unified or path
        elif kind == ["cgroup"]:
            for name in options[0].split(","):
                if name in _V1_WANTED:
                    controllers.setdefault(name, path)
    return unified, controllers, every


def _look_v1(setup: CgroupSetup, unified: Path | None, mounts: dict[str, Path]) -> None:
    setup.mounts = mounts
    setup.memory = "memory" in mounts
    setup.swap = setup.memory and (mounts["memory"] / "memory.memsw.limit_in_bytes").exists()
    setup.cpu = "cpu" in mounts
    setup.cpuset = "cpuset" in mounts
    setup.pids = "pids" in mounts
    setup.blkio = "blkio" in mounts
    setup.blkio_weight = setup.blkio and any(
        (mounts["blkio"] / name).exists() for name in ("blkio.weight", "blkio.bfq.weight")
    )
    setup.freezer = "freezer" in mounts
    if setup.cpuset:
        setup.available_cpus = _read(mounts["cpuset"] / "cpuset.cpus")
        setup.available_mems = _read(mounts["cpuset"] / "cpuset.mems")
    left = _read(unified / "cgroup.controllers") if unified else ""
    if left:
        setup.warnings.append(
            f"the controllers {left} are on the cgroup v2 side of a hybrid set-up, which crun refuses: "
            "mount them as v1 (apt-get install cgroupfs-mount; cgroupfs-mount), or use runc"
        )


def _look_v2(setup: CgroupSetup, root: Path) -> None:
    present = _read(root / "cgroup.controllers").split()
    enabled = _enable(root, [name for name in _V2_WANTED if name in present])
    own = root / setup.parent.lstrip("/")
    with suppress(OSError):
        own.mkdir(exist_ok=True)
    _enable(own, enabled)
    setup.mounts = dict.fromkeys([*enabled, "memory"], root)
    setup.memory = "memory" in enabled
    setup.swap = (own / "memory.swap.max").exists()
    setup.cpu = "cpu" in enabled
    setup.cpuset = "cpuset" in enabled
    setup.pids = "pids" in enabled
    setup.blkio = "io" in enabled
    setup.blkio_weight = any((own / name).exists() for name in ("io.weight", "io.bfq.weight"))
    setup.freezer = (own / "cgroup.freeze").exists()
    setup.available_cpus = _read(root / "cpuset.cpus.effective")
    setup.available_mems = _read(root / "cpuset.mems.effective")


def _enable(group: Path, names: list[str]) -> list[str]:
    """Give the controllers to the groups below ``group``; returns those that are."""
    control = group / "cgroup.subtree_control"
    for name in names:
        if name in _read(control).split():
            continue
        try:
            control.write_text(f"+{name}")
        except OSError as error:
            if error.errno == errno.EBUSY and (group / "cgroup.type").exists() and _empty_root(group):
                with suppress(OSError):
                    control.write_text(f"+{name}")
                continue
            log.warning("cgroup controller %s cannot be enabled in %s: %s", name, group, error.strerror)
    return [name for name in names if name in _read(control).split()]


def _empty_root(group: Path) -> bool:
    """In a container of one's own the visible root holds processes, and a group with processes may not hand controllers
    on: they move to a leaf beside ours."""
    leaf = group / "init"
    try:
        leaf.mkdir(exist_ok=True)
        for pid in _read(group / "cgroup.procs").split():
            with suppress(ProcessLookupError):
                (leaf / "cgroup.procs").write_text(pid)
    except OSError as error:
        log.warning("processes cannot be moved out of %s: %s", group, error)
        return False
    return True


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
