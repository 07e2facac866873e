"""A container's group in the unified hierarchy of cgroup v2."""

from __future__ import annotations

import os
import select
import time
from pathlib import Path

from msgspec import UNSET

from wherry.api.models.stats import (
    BlkioStatEntry,
    BlkioStats,
    CpuStats,
    CpuUsage,
    MemoryStats,
    PidsStats,
    ThrottlingData,
)
from wherry.engine.oci import cgroup_stats as read
from wherry.engine.oci.cgroup_stats import CgroupStats
from wherry.engine.oci.cgroup_v1 import FREEZE_SECONDS, kill_all, remove_tree

NO_PIDS_LIMIT = (1 << 64) - 1
"""What moby says of v2's ``max``; in v1 it says nothing."""


class CgroupV2:
    """The group at ``path`` below the hierarchy's mount point ``root``. A missing controller reads as nothing."""

    def __init__(self, root: Path, path: str) -> None:
        self._group = Path(f"{root}{path}")

    def exists(self) -> bool:
        return self._group.exists()

    def pids(self) -> list[int]:
        """Every process, those of groups below included."""
        return sorted(
            int(pid)
            for directory, _, _ in os.walk(self._group)
            for pid in read.text(Path(directory, "cgroup.procs")).split()
        )

    def freeze(self) -> None:
        """Stop every process; returns when all are. Blocks, 10 s at most. Raises ``OSError``; then all run."""
        (self._group / "cgroup.freeze").write_text("1")
        end = time.monotonic() + FREEZE_SECONDS
        events = os.open(self._group / "cgroup.events", os.O_RDONLY | os.O_CLOEXEC)
        try:
            poll = select.poll()
            poll.register(events, select.POLLPRI)
            while not self.frozen():
                if time.monotonic() > end:
                    self.thaw()
                    raise TimeoutError(f"the processes did not freeze within {FREEZE_SECONDS:g} s")
                poll.poll(50)
        finally:
            os.close(events)

    def thaw(self) -> None:
        """Let every process go on. Raises ``OSError``."""
        (self._group / "cgroup.freeze").write_text("0")

    def frozen(self) -> bool:
        return read.flat(self._group / "cgroup.events").get("frozen", 0) == 1

    def oom_killed(self) -> bool:
        """Whether the kernel ended a process of the group for want of memory (INS7)."""
        return read.flat(self._group / "memory.events").get("oom_kill", 0) > 0

    def stats(self) -> CgroupStats:
        """A reading of all controllers; some 0.2 ms."""
        return CgroupStats(self._cpu(), self._memory(), self._pids(), self._blkio())

    def _cpu(self) -> CpuStats:
        system, cpus = read.system_cpu()
        values = read.flat(self._group / "cpu.stat")
        return CpuStats(
            cpu_usage=CpuUsage(
                total_usage=values.get("usage_usec", 0) * 1000,
                usage_in_kernelmode=values.get("system_usec", 0) * 1000,
                usage_in_usermode=values.get("user_usec", 0) * 1000,
            ),
            system_cpu_usage=system,
            online_cpus=cpus,
            throttling_data=ThrottlingData(
                periods=values.get("nr_periods", 0),
                throttled_periods=values.get("nr_throttled", 0),
                throttled_time=values.get("throttled_usec", 0) * 1000,
            ),
        )

    def _memory(self) -> MemoryStats:
        if not (self._group / "memory.current").exists():
            return MemoryStats()
        return MemoryStats(
            usage=read.number(self._group / "memory.current"),
            stats=read.flat(self._group / "memory.stat"),
            failcnt=read.flat(self._group / "memory.events").get("oom", 0) or UNSET,
            limit=read.limit(read.number(self._group / "memory.max")),
        )

    def _pids(self) -> PidsStats:
        if not (self._group / "pids.current").exists():
            return PidsStats()
        most = read.number(self._group / "pids.max")
        return PidsStats(
            current=read.number(self._group / "pids.current"), limit=most if most < read.UNLIMITED else NO_PIDS_LIMIT
        )

    def _blkio(self) -> BlkioStats:
        """``io.stat``: lines of ``major:minor rbytes=1 wbytes=2 rios=3 wios=4 …``."""
        sizes: list[BlkioStatEntry] = []
        counts: list[BlkioStatEntry] = []
        for line in read.text(self._group / "io.stat").splitlines():
            device, *pairs = line.split()
            major, _, minor = device.partition(":")
            if not (major.isdigit() and minor.isdigit()):
                continue
            values = dict(pair.split("=", 1) for pair in pairs if "=" in pair)
            for key, op, into in (
                ("rbytes", "read", sizes),
                ("wbytes", "write", sizes),
                ("rios", "read", counts),
                ("wios", "write", counts),
            ):
                if values.get(key, "").isdigit():
                    into.append(BlkioStatEntry(major=int(major), minor=int(minor), op=op, value=int(values[key])))
        return BlkioStats(io_service_bytes_recursive=sizes, io_serviced_recursive=counts)

    def kill(self) -> None:
        """End every process at once; returns before they are gone."""
        try:
            (self._group / "cgroup.kill").write_text("1")
        except OSError:  # before Linux 5.14
            kill_all(self.pids())

    def remove(self) -> bool:
        """Remove the group, which must be without processes; True when it is gone."""
        return remove_tree(self._group)
