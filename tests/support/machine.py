"""What the kernel and the file system hold, counted before and after."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import time
from collections import Counter
from dataclasses import dataclass, fields
from pathlib import Path


@dataclass(frozen=True)
class Holdings:
    """Things that a container leaves on a machine when an engine forgets one; each a sorted tuple of names."""

    mounts: tuple[str, ...]  # those of network namespaces too
    links: tuple[str, ...]
    processes: tuple[str, ...]
    cgroups: tuple[str, ...]
    files: tuple[str, ...]
    descriptors: tuple[str, ...]  # of the engine itself

    def more_than(self, before: Holdings) -> dict[str, list[str]]:
        """What is there now and was not before."""
        found = {
            field.name: sorted(set(getattr(self, field.name)) - set(getattr(before, field.name)))
            for field in fields(self)
        }
        return {name: extra for name, extra in found.items() if extra}


def holdings(root: Path, pid: int) -> Holdings:
    """Of the engine with this process id on the scratch roots ``root``; what others hold does not count."""
    mark = mark_of(root)
    mounts = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    return Holdings(
        mounts=tuple(sorted(mount for mount in mounts if mount.startswith(str(root)))),
        links=tuple(sorted(link for link in os.listdir("/sys/class/net") if mark in link)),
        processes=tuple(sorted(_processes(str(root), mark))),
        cgroups=tuple(sorted(_cgroups(mark))),
        files=tuple(sorted(_files(root))),
        descriptors=tuple(sorted(_descriptors(pid))),
    )


def left_by_ended(root: Path, within: float = 5.0) -> dict[str, list[str]]:
    """What an engine that ended with all of its containers left in the kernel, after a moment; mounts are taken away."""
    deadline = time.monotonic() + within
    while (left := _left(root)) and time.monotonic() < deadline:
        time.sleep(0.05)
    for mount in reversed(left.get("mounts", [])):
        subprocess.run(["umount", "-l", mount], check=False)
    return left


def _left(root: Path) -> dict[str, list[str]]:
    mark = mark_of(root)
    mounts = {line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()}
    left = {
        "mounts": sorted(mount for mount in mounts if mount.startswith(str(root))),
        "links": [link for link in os.listdir("/sys/class/net") if mark in link],
        "processes": _processes(str(root), mark),
        "cgroups": _cgroups(mark),
    }
    return {name: things for name, things in left.items() if things}


def mark_of(root: Path) -> str:
    """The id in the names of the engine's kernel objects."""
    return hashlib.sha256(str(root / "data").encode()).hexdigest()[:8]


def _descriptors(pid: int) -> list[str]:
    """What the process has open, numbered within its kind: ``socket 3``, ``pidfd 1``."""
    kinds: Counter[str] = Counter()
    found = []
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        try:
            kind = re.sub(r"\d{3,}", "N", os.readlink(descriptor))
        except OSError:
            continue
        kinds[kind] += 1
        found.append(f"{kind} {kinds[kind]}")
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
        if not command:  # a zombie, which somebody else has yet to reap
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
