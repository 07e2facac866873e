"""Readings of a container's control group in the API's own words, whatever the version of the groups."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from wherry.api.models.stats import BlkioStats, CpuStats, MemoryStats, PidsStats

_TICK = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
UNLIMITED = 1 << 62  # v1 says "no limit" by a number near the largest


@dataclass(slots=True)
class CgroupStats:
    """One reading; ``cpu`` has the machine's own use in it."""

    cpu: CpuStats = field(default_factory=CpuStats)
    memory: MemoryStats = field(default_factory=MemoryStats)
    pids: PidsStats = field(default_factory=PidsStats)
    blkio: BlkioStats = field(default_factory=BlkioStats)


def ticks(count: int) -> int:
    """Nanoseconds of so many clock ticks."""
    return count * _TICK


def system_cpu() -> tuple[int, int]:
    """The machine's CPU time in nanoseconds (idle included, guests not) and its number of online CPUs."""
    total, cpus = 0, 0
    with open("/proc/stat", encoding="ascii") as file:
        for line in file:
            if not line.startswith("cpu"):
                break
            if line.startswith("cpu "):
                total = sum(int(value) for value in line.split()[1:8])
            else:
                cpus += 1
    return total * _TICK, cpus


def machine_memory() -> int:
    """The machine's memory in bytes: what a container without a limit is shown to have (STT5)."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def flat(path: Path) -> dict[str, int]:
    """A file of ``name number`` lines; empty when it is not there."""
    result = {}
    for line in text(path).splitlines():
        name, _, value = line.partition(" ")
        if value.isdigit():
            result[name] = int(value)
    return result


def number(path: Path) -> int:
    """A file of one number; 0 when it is not there, ``UNLIMITED`` for ``max``."""
    value = text(path).strip()
    if value == "max":
        return UNLIMITED
    return int(value) if value.isdigit() else 0


def text(path: Path) -> str:
    """A small file's text; empty when it is not there."""
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            return file.read()
    except OSError:
        return ""


def limit(value: int) -> int:
    """A memory limit as the API shows it."""
    memory = machine_memory()
    return value if 0 < value < memory else memory
