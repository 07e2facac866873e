"""Whether resource limits make sense, at create and at update (CRE12, CRE13, UPD1).

What contradicts itself is refused; what this machine cannot do is dropped with a warning.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from wherry.api.errors import BadRequest
from wherry.api.models.containers import Resources
from wherry.engine.oci.cgroups import CgroupSetup

MINIMUM_MEMORY = 6 * 1024 * 1024
CPU_SHARES = (2, 262_144)  # what the kernel takes

_Lacking = Callable[[object, bool, str], bool]


def check_resources(resources: Resources, setup: CgroupSetup, *, update: bool = False) -> list[str]:
    """Check and complete the limits in place; the warnings. Raises ``BadRequest``."""
    warnings: list[str] = []

    def lacking(given: object, supported: bool, text: str) -> bool:
        if given and not supported:
            warnings.append(text)
            return True
        return False

    _check_memory(resources, setup, lacking, update=update)
    if resources.oom_kill_disable and not resources.memory and not update:
        warnings.append(
            "OOM killer is disabled for the container, but no memory limit is set, this can result in the system "
            "running out of resources."
        )
    _check_pids(resources, setup, lacking, update=update)
    _check_cpu(resources, setup, lacking)
    _check_cpusets(resources, setup, lacking)
    _check_block(resources, setup, lacking)
    return warnings


def _check_memory(resources: Resources, setup: CgroupSetup, lacking: _Lacking, *, update: bool) -> None:
    if resources.memory and resources.memory < MINIMUM_MEMORY:
        raise BadRequest("Minimum memory limit allowed is 6MB")
    if lacking(
        resources.memory,
        setup.memory,
        "Your kernel does not support memory limit capabilities or the cgroup is not mounted. Limitation discarded.",
    ):
        resources.memory, resources.memory_swap = 0, -1
    if (
        resources.memory
        and resources.memory_swap != -1
        and lacking(
            not setup.swap,
            setup.swap,
            "Your kernel does not support swap limit capabilities or the cgroup is not mounted. Memory limited without swap.",
        )
    ):
        resources.memory_swap = -1
    if resources.memory and 0 < resources.memory_swap < resources.memory:
        raise BadRequest("Minimum memoryswap limit should be larger than memory limit, see usage")
    if not resources.memory and resources.memory_swap > 0 and not update:
        raise BadRequest("You should always set the Memory limit when using Memoryswap limit, see usage")
    if resources.memory and not resources.memory_swap and not update:
        resources.memory_swap = 2 * resources.memory
    _check_swappiness(resources, setup, lacking)
    if resources.memory_reservation:
        if lacking(
            True,
            setup.memory,
            "Your kernel does not support memory soft limit capabilities or the cgroup is not mounted. Limitation discarded.",
        ):
            resources.memory_reservation = 0
        elif resources.memory_reservation < MINIMUM_MEMORY:
            raise BadRequest("Minimum memory reservation allowed is 6MB")
        elif resources.memory and resources.memory < resources.memory_reservation:
            raise BadRequest("Minimum memory limit can not be less than memory reservation limit, see usage")
    if resources.oom_kill_disable and lacking(
        True,
        setup.version == 1 and setup.memory,
        "Your kernel does not support OomKillDisable. OomKillDisable discarded.",
    ):
        resources.oom_kill_disable = None


def _check_swappiness(resources: Resources, setup: CgroupSetup, lacking: _Lacking) -> None:
    if resources.memory_swappiness == -1:  # the command line's word for "not given"
        resources.memory_swappiness = None
    if resources.memory_swappiness is None:
        return
    if lacking(
        True,
        setup.version == 1 and setup.memory,
        "Your kernel does not support memory swappiness capabilities or the cgroup is not mounted. Memory swappiness discarded.",
    ):
        resources.memory_swappiness = None
    elif not 0 <= resources.memory_swappiness <= 100:
        raise BadRequest(f"Invalid value: {resources.memory_swappiness}, valid memory swappiness range is 0-100")


def _check_pids(resources: Resources, setup: CgroupSetup, lacking: _Lacking, *, update: bool) -> None:
    if resources.pids_limit is None:
        return
    if resources.pids_limit <= 0:
        if not update:
            resources.pids_limit = None
    elif lacking(
        True,
        setup.pids,
        "Your kernel does not support PIDs limit capabilities or the cgroup is not mounted. PIDs limit discarded.",
    ):
        resources.pids_limit = None


def _check_cpu(resources: Resources, setup: CgroupSetup, lacking: _Lacking) -> None:
    cpus = len(os.sched_getaffinity(0))
    if resources.nano_cpus:
        if resources.cpu_period:
            raise BadRequest("Conflicting options: Nano CPUs and CPU Period cannot both be set")
        if resources.cpu_quota:
            raise BadRequest("Conflicting options: Nano CPUs and CPU Quota cannot both be set")
        if not 0 < resources.nano_cpus <= cpus * 1_000_000_000:
            raise BadRequest(f"Range of CPUs is from 0.01 to {cpus:.2f}, as there are only {cpus} CPUs available")
        if lacking(
            True,
            setup.cpu,
            "Your kernel does not support CPU cfs period/quota or the cgroup is not mounted. CPUs discarded.",
        ):
            resources.nano_cpus = 0
    if lacking(
        resources.cpu_shares,
        setup.cpu,
        "Your kernel does not support CPU shares or the cgroup is not mounted. Shares discarded.",
    ):
        resources.cpu_shares = 0
    if resources.cpu_shares:
        resources.cpu_shares = min(max(resources.cpu_shares, CPU_SHARES[0]), CPU_SHARES[1])
    if lacking(
        resources.cpu_period or resources.cpu_quota,
        setup.cpu,
        "Your kernel does not support CPU CFS scheduler or the cgroup is not mounted. CFS settings discarded.",
    ):
        resources.cpu_period = resources.cpu_quota = 0
    if resources.cpu_period and not 1000 <= resources.cpu_period <= 1_000_000:
        raise BadRequest("CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)")
    if 0 < resources.cpu_quota < 1000:
        raise BadRequest("CPU cfs quota can not be less than 1ms (i.e. 1000)")
    period, runtime = resources.cpu_realtime_period, resources.cpu_realtime_runtime
    if period and runtime and runtime > period:
        raise BadRequest("cpu real-time runtime cannot be higher than cpu real-time period")


def _check_cpusets(resources: Resources, setup: CgroupSetup, lacking: _Lacking) -> None:
    if lacking(
        resources.cpuset_cpus or resources.cpuset_mems,
        setup.cpuset,
        "Your kernel does not support cpuset or the cgroup is not mounted. Cpuset discarded.",
    ):
        resources.cpuset_cpus = resources.cpuset_mems = ""
    for name, option, wanted, available in (
        ("CPUs", "cpuset cpus", resources.cpuset_cpus, setup.available_cpus),
        ("memory nodes", "cpuset mems", resources.cpuset_mems, setup.available_mems),
    ):
        if not wanted:
            continue
        try:
            missing = parse_cpuset(wanted) - parse_cpuset(available)
        except ValueError:
            raise BadRequest(f"Invalid value {wanted} for {option}: invalid format: {wanted}") from None
        if missing:
            raise BadRequest(f"Requested {name} are not available - requested {wanted}, available: {available}")


def parse_cpuset(text: str) -> set[int]:
    """``0-2,7`` as a set. Raises ``ValueError``."""
    numbers: set[int] = set()
    for part in text.strip().split(","):
        first, dash, last = part.partition("-")
        low = int(first)
        high = int(last) if dash else low
        if not 0 <= low <= high < 8192:
            raise ValueError(text)
        numbers.update(range(low, high + 1))
    return numbers


_THROTTLES = (
    ("blkio_device_read_bps", "BPS Block I/O read limit", "Block I/O BPS read limit"),
    ("blkio_device_write_bps", "BPS Block I/O write limit", "Block I/O BPS write limit"),
    ("blkio_device_read_iops", "IOPS Block read limit", "Block I/O IOPS read limit"),
    ("blkio_device_write_iops", "IOPS Block write limit", "Block I/O IOPS write limit"),
)


def _check_block(resources: Resources, setup: CgroupSetup, lacking: _Lacking) -> None:
    if lacking(
        resources.blkio_weight,
        setup.blkio_weight,
        "Your kernel does not support Block I/O weight or the cgroup is not mounted. Weight discarded.",
    ):
        resources.blkio_weight = 0
    if resources.blkio_weight and not 10 <= resources.blkio_weight <= 1000:
        raise BadRequest("Range of blkio weight is from 10 to 1000")
    if lacking(
        resources.blkio_weight_device,
        setup.blkio_weight,
        "Your kernel does not support Block I/O weight_device or the cgroup is not mounted. Weight-device discarded.",
    ):
        resources.blkio_weight_device = []
    for field, lack, discarded in _THROTTLES:
        text = f"Your kernel does not support {lack} or the cgroup is not mounted. {discarded} discarded."
        if lacking(getattr(resources, field), setup.blkio, text):
            setattr(resources, field, [])
