"""HostConfig's limits as the OCI specification's ``linux.resources``."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, Any

from wherry.engine.oci.errors import RuntimeFailure

if TYPE_CHECKING:
    from collections.abc import Sequence

    from wherry.api.models.containers import Resources, ThrottleDevice

CPU_PERIOD = 100_000  # µs; the kernel's default


def resources(host: Resources) -> dict[str, Any]:
    """``linux.resources`` without devices; only what is asked for is in it. Sizes are bytes, times µs.

    Raises ``RuntimeFailure`` when a block device of a throttle is not there.
    """
    result: dict[str, Any] = {}
    memory = _without_zero(
        limit=host.memory,
        swap=host.memory_swap,
        reservation=host.memory_reservation,
        disableOOMKiller=bool(host.oom_kill_disable),
    )
    if host.memory_swappiness is not None and 0 <= host.memory_swappiness <= 100:
        memory["swappiness"] = host.memory_swappiness
    period, quota = host.cpu_period, host.cpu_quota
    if host.nano_cpus:
        period, quota = CPU_PERIOD, host.nano_cpus * CPU_PERIOD // 1_000_000_000
    cpu = _without_zero(
        shares=host.cpu_shares,
        period=period,
        quota=quota,
        realtimePeriod=host.cpu_realtime_period,
        realtimeRuntime=host.cpu_realtime_runtime,
        cpus=host.cpuset_cpus,
        mems=host.cpuset_mems,
    )
    block = _without_zero(
        weight=host.blkio_weight,
        weightDevice=[_device(entry.path) | {"weight": entry.weight} for entry in host.blkio_weight_device or ()],
        throttleReadBpsDevice=_throttles(host.blkio_device_read_bps),
        throttleWriteBpsDevice=_throttles(host.blkio_device_write_bps),
        throttleReadIOPSDevice=_throttles(host.blkio_device_read_iops),
        throttleWriteIOPSDevice=_throttles(host.blkio_device_write_iops),
    )
    if memory:
        result["memory"] = memory
    if cpu:
        result["cpu"] = cpu
    if host.pids_limit is not None and host.pids_limit != 0:
        result["pids"] = {"limit": host.pids_limit if host.pids_limit > 0 else -1}
    if block:
        result["blockIO"] = block
    return result


def _without_zero(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value}


def _throttles(entries: Sequence[ThrottleDevice] | None) -> list[dict[str, int]]:
    return [_device(entry.path) | {"rate": entry.rate} for entry in entries or ()]


def _device(path: str) -> dict[str, int]:
    try:
        status = os.stat(path)
    except OSError as error:
        raise RuntimeFailure(f"stat {path}: {(error.strerror or '').lower()}") from error
    if not stat.S_ISBLK(status.st_mode):
        raise RuntimeFailure(f"{path} is not a block device")
    return {"major": os.major(status.st_rdev), "minor": os.minor(status.st_rdev)}
