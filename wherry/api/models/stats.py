"""A container's resource usage: one sample, and the sample before it.

The names on the wire are lower case. A container that does not run answers with the defaults throughout (STT3).
"""

from __future__ import annotations

from msgspec import field

from wherry.api.models.common import UNSET, PlainModel, UnsetType


class PidsStats(PlainModel, kw_only=True):
    """The number of tasks, and its limit. Unset where the control group is not there."""

    current: int | UnsetType = UNSET
    limit: int | UnsetType = UNSET


class BlkioStatEntry(PlainModel, kw_only=True):
    """A value of a block device; ``op``: Read, Write, Sync, Async, Total …"""

    major: int = 0
    minor: int = 0
    op: str = ""
    value: int = 0


class BlkioStats(PlainModel, kw_only=True):
    """Block device I/O, a list of entries each: bytes, operations, and times in nanoseconds. Null where unknown."""

    io_service_bytes_recursive: list[BlkioStatEntry] | None = None
    io_serviced_recursive: list[BlkioStatEntry] | None = None
    io_queue_recursive: list[BlkioStatEntry] | None = None
    io_service_time_recursive: list[BlkioStatEntry] | None = None
    io_wait_time_recursive: list[BlkioStatEntry] | None = None
    io_merged_recursive: list[BlkioStatEntry] | None = None
    io_time_recursive: list[BlkioStatEntry] | None = None
    sectors_recursive: list[BlkioStatEntry] | None = None


class StorageStats(PlainModel, kw_only=True):
    """Of Windows only; empty elsewhere."""

    read_count_normalized: int | UnsetType = UNSET
    read_size_bytes: int | UnsetType = UNSET
    write_count_normalized: int | UnsetType = UNSET
    write_size_bytes: int | UnsetType = UNSET


class CpuUsage(PlainModel, kw_only=True):
    """CPU time in nanoseconds. ``percpu_usage`` is there with cgroup v1 only."""

    total_usage: int = 0
    percpu_usage: list[int] | UnsetType = UNSET
    usage_in_kernelmode: int = 0
    usage_in_usermode: int = 0


class ThrottlingData(PlainModel, kw_only=True):
    """How often the CPU limit bit, and for how many nanoseconds."""

    periods: int = 0
    throttled_periods: int = 0
    throttled_time: int = 0


class CpuStats(PlainModel, kw_only=True):
    """CPU use of the container, and of the whole machine in ``system_cpu_usage`` (nanoseconds)."""

    cpu_usage: CpuUsage = field(default_factory=CpuUsage)
    system_cpu_usage: int | UnsetType = UNSET
    online_cpus: int | UnsetType = UNSET
    throttling_data: ThrottlingData = field(default_factory=ThrottlingData)


class MemoryStats(PlainModel, kw_only=True):
    """Memory in bytes. ``usage`` includes the page cache; ``stats`` are the kernel's own counters (STT5).

    ``limit`` is the machine's memory where the container has no limit.
    """

    usage: int | UnsetType = UNSET
    max_usage: int | UnsetType = UNSET
    stats: dict[str, int] | UnsetType = UNSET
    failcnt: int | UnsetType = UNSET
    limit: int | UnsetType = UNSET
    commitbytes: int | UnsetType = UNSET  # of Windows, as the two below
    commitpeakbytes: int | UnsetType = UNSET
    privateworkingset: int | UnsetType = UNSET


class NetworkStats(PlainModel, kw_only=True):
    """Counters of one interface."""

    rx_bytes: int = 0
    rx_packets: int = 0
    rx_errors: int = 0
    rx_dropped: int = 0
    tx_bytes: int = 0
    tx_packets: int = 0
    tx_errors: int = 0
    tx_dropped: int = 0
    endpoint_id: str | UnsetType = UNSET
    instance_id: str | UnsetType = UNSET


class ContainerStatsResponse(PlainModel, kw_only=True):
    """A sample. ``networks`` is keyed by interface and unset where the container has no network of its own."""

    read: str = ""
    preread: str = ""
    pids_stats: PidsStats = field(default_factory=PidsStats)
    blkio_stats: BlkioStats = field(default_factory=BlkioStats)
    num_procs: int = 0
    storage_stats: StorageStats = field(default_factory=StorageStats)
    cpu_stats: CpuStats = field(default_factory=CpuStats)
    precpu_stats: CpuStats = field(default_factory=CpuStats)
    memory_stats: MemoryStats = field(default_factory=MemoryStats)
    name: str | UnsetType = UNSET
    id: str | UnsetType = UNSET
    networks: dict[str, NetworkStats] | UnsetType = UNSET
    os_type: str | UnsetType = UNSET  # since 1.48
