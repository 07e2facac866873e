"""What the kernel and the file system hold, counted before and after."""

from __future__ import annotations

import os
from dataclasses import dataclass, fields
from pathlib import Path


@dataclass(frozen=True)
class Holdings:
    """Things that a container leaves on a machine when an engine forgets one; each a sorted tuple of names."""

    mounts: tuple[str, ...]
    network_namespaces: tuple[str, ...]
    links: tuple[str, ...]
    processes: tuple[str, ...]
    cgroups: tuple[str, ...]
    files: tuple[str, ...]

    def more_than(self, before: Holdings) -> dict[str, list[str]]:
        """What is there now and was not before."""
        found = {
            field.name: sorted(set(getattr(self, field.name)) - set(getattr(before, field.name)))
            for field in fields(self)
        }
        return {name: extra for name, extra in found.items() if extra}


def holdings(root: Path, mark: str) -> Holdings:
    """Of an engine on ``root``; ``mark`` is a part of the names of its control groups and processes."""
    mounts = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    return Holdings(
        mounts=tuple(sorted(mount for mount in mounts if mount.startswith(str(root)))),
        network_namespaces=tuple(sorted(_network_namespaces())),
        links=tuple(sorted(os.listdir("/sys/class/net"))),
        processes=tuple(sorted(_processes(str(root), mark))),
        cgroups=tuple(sorted(_cgroups(mark))),
        files=tuple(sorted(_files(root))),
    )


def _network_namespaces() -> set[str]:
    found = set()
    for process in Path("/proc").glob("[0-9]*"):
        try:
            found.add(os.readlink(process / "ns/net"))
        except OSError:
            continue
    return found


def _processes(root: str, mark: str) -> list[str]:
    """Processes whose command line, or whose control group, names the engine; apart from the engine itself."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            groups = (process / "cgroup").read_text()
        except OSError:
            continue
        if (root in command and " serve " not in command) or (mark and mark in groups):
            found.append(f"{process.name} {command[:60]}")
    return found


def _cgroups(mark: str) -> list[str]:
    found = []
    for directory, names, _ in os.walk("/sys/fs/cgroup"):
        if mark and mark in directory:
            found += [os.path.join(directory, name) for name in names]
    return found


def _files(root: Path) -> list[str]:
    """Files and directories below the roots, apart from the database, the log and what lies in the trash."""
    found = []
    for top in ("data", "exec"):
        for directory, names, files in os.walk(root / top):
            if f"{os.sep}trash" in directory:
                names.clear()
            found += [os.path.join(directory, name) for name in (*names, *files) if not name.startswith("state.db")]
    return found
