"""A container's groups in the hierarchies of cgroup v1, one a controller."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from functools import cached_property
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

FREEZE_SECONDS = 10.0
_BLKIO = (
    ("io_service_bytes_recursive", "blkio.bfq.io_service_bytes_recursive", "blkio.throttle.io_service_bytes_recursive"),
    ("io_serviced_recursive", "blkio.bfq.io_serviced_recursive", "blkio.throttle.io_serviced_recursive"),
    ("io_queue_recursive", "blkio.bfq.io_queued_recursive", ""),
    ("io_service_time_recursive", "blkio.bfq.io_service_time_recursive", ""),
    ("io_wait_time_recursive", "blkio.bfq.io_wait_time_recursive", ""),
    ("io_merged_recursive", "blkio.bfq.io_merged_recursive", ""),
    ("io_time_recursive", "blkio.bfq.time_recursive", ""),
    ("sectors_recursive", "blkio.bfq.sectors_recursive", ""),
)


class CgroupV1:
    """The groups at ``path`` below the ``mounts`` of the controllers. A missing controller reads as nothing.

    ``hierarchies`` are further places where a runtime makes groups.
    """

    def __init__(self, mounts: Mapping[str, Path], path: str, hierarchies: Sequence[Path] = ()) -> None:
        self._mounts = mounts
        self._path = path
        self._hierarchies = hierarchies

    @cached_property
    def _groups(self) -> dict[str, Path]:
        return {name: Path(f"{mount}{self._path}") for name, mount in self._mounts.items()}

    def _file(self, controller: str, name: str) -> Path:
        mount = self._mounts.get(controller)
        return Path(f"{mount}{self._path}/{name}" if mount else "/nonexistent")

    def exists(self) -> bool:
        return any(group.exists() for group in self._groups.values())

    def pids(self) -> list[int]:
        """Every process, those of groups below included."""
        for controller in ("pids", "memory", "devices", "cpu"):
            group = self._groups.get(controller)
            if group and group.exists():
                return sorted(
                    int(pid)
                    for directory, _, _ in os.walk(group)
                    for pid in read.text(Path(directory, "cgroup.procs")).split()
                )
        return []

    def freeze(self) -> None:
        """Stop every process; returns when all are. Blocks, 10 s at most. Raises ``OSError``; then all run."""
        state = self._file("freezer", "freezer.state")
        end = time.monotonic() + FREEZE_SECONDS
        try:
            while True:
                # written again each time: a process forked meanwhile can leave the group half frozen
                state.write_text("FROZEN")
                if read.text(state).strip() == "FROZEN":
                    return
                if time.monotonic() > end:
                    raise TimeoutError(f"the processes did not freeze within {FREEZE_SECONDS:g} s")
                time.sleep(0.005)
        except OSError:
            with suppress(OSError):
                state.write_text("THAWED")
            raise

    def thaw(self) -> None:
        """Let every process go on. Raises ``OSError``."""
        self._file("freezer", "freezer.state").write_text("THAWED")

    def frozen(self) -> bool:
        return read.text(self._file("freezer", "freezer.state")).strip() == "FROZEN"

    def oom_killed(self) -> bool:
        """Whether the kernel ended a process of the group for want of memory (INS7)."""
        return read.flat(self._file("memory", "memory.oom_control")).get("oom_kill", 0) > 0

    def stats(self) -> CgroupStats:
        """A reading of all controllers; some 0.3 ms."""
        return CgroupStats(self._cpu(), self._memory(), self._pids(), self._blkio())

    def _cpu(self) -> CpuStats:
        system, cpus = read.system_cpu()
        times = read.flat(self._file("cpuacct", "cpuacct.stat"))
        throttled = read.flat(self._file("cpu", "cpu.stat"))
        return CpuStats(
            cpu_usage=CpuUsage(
                total_usage=read.number(self._file("cpuacct", "cpuacct.usage")),
                percpu_usage=[int(value) for value in read.text(self._file("cpuacct", "cpuacct.usage_percpu")).split()][
                    :cpus
                ],
                usage_in_kernelmode=read.ticks(times.get("system", 0)),
                usage_in_usermode=read.ticks(times.get("user", 0)),
            ),
            system_cpu_usage=system,
            online_cpus=cpus,
            throttling_data=ThrottlingData(
                periods=throttled.get("nr_periods", 0),
                throttled_periods=throttled.get("nr_throttled", 0),
                throttled_time=throttled.get("throttled_time", 0),
            ),
        )

    def _memory(self) -> MemoryStats:
        if "memory" not in self._mounts:
            return MemoryStats()
        return MemoryStats(
            usage=read.number(self._file("memory", "memory.usage_in_bytes")),
            max_usage=read.number(self._file("memory", "memory.max_usage_in_bytes")),
            failcnt=read.number(self._file("memory", "memory.failcnt")) or UNSET,
            stats=read.flat(self._file("memory", "memory.stat")),
            limit=read.limit(read.number(self._file("memory", "memory.limit_in_bytes"))),
        )

    def _pids(self) -> PidsStats:
        if "pids" not in self._mounts:
            return PidsStats()
        most = read.number(self._file("pids", "pids.max"))
        return PidsStats(
            current=read.number(self._file("pids", "pids.current")), limit=most if 0 < most < read.UNLIMITED else UNSET
        )

    def _blkio(self) -> BlkioStats:
        if "blkio" not in self._mounts:
            return BlkioStats()
        return BlkioStats(
            **{
                name: self._entries(file) or (self._entries(fallback) if fallback else [])
                for name, file, fallback in _BLKIO
            }
        )

    def _entries(self, name: str) -> list[BlkioStatEntry]:
        """Lines of ``major:minor Operation value``, or without an operation."""
        result = []
        for line in read.text(self._file("blkio", name)).splitlines():
            words = line.split()
            if len(words) < 2 or ":" not in words[0] or not words[-1].isdigit():
                continue
            major, _, minor = words[0].partition(":")
            operation = words[1] if len(words) == 3 else ""
            result.append(BlkioStatEntry(major=int(major), minor=int(minor), op=operation, value=int(words[-1])))
        return result

    def kill(self) -> None:
        """End every process at once; returns before they are gone."""
        kill_all(self.pids())
        if self.frozen():
            self.thaw()

    def remove(self) -> bool:
        """Remove the groups, which must be without processes; True when none is left."""
        left = False
        for group in {Path(f"{mount}{self._path}") for mount in (*self._mounts.values(), *self._hierarchies)}:
            left |= not remove_tree(group)
        return not left


def remove_tree(group: Path) -> bool:
    """Remove a group and those below it; False when something holds them."""
    if not group.exists():
        return True
    for directory, _, _ in os.walk(group, topdown=False):
        with suppress(OSError):
            os.rmdir(directory)
    return not group.exists()


def kill_all(pids: Iterable[int]) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
