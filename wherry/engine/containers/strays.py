"""What an engine that was killed has left running or lying about, and no container that lives owns.

Everything is told by paths and names that are this engine's alone: its runtimes' ``--root``, its control group, its
bundles and exit files.
"""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import signal
import time
from collections.abc import Collection
from contextlib import suppress

from wherry.engine.blocking import in_thread
from wherry.engine.containers.registry import Containers
from wherry.engine.containers.shm import release_shared_memory
from wherry.engine.oci.errors import RuntimeFailure
from wherry.engine.oci.runtime import Runtime

log = logging.getLogger(__name__)

GRACE = 3.0  # seconds that killed processes may take to leave their control group
_ID = 64


async def end_processes(containers: Containers, alive: Collection[str]) -> None:
    """End monitors, runtimes and containers but those ``alive`` (ids), with the runtimes' state and the groups."""
    await in_thread(_kill_tools, os.fsencode(containers.layout.runtime_root), alive)
    limit = asyncio.Semaphore(8)
    await asyncio.gather(
        *(
            _delete(runtime, container_id, limit)
            for runtime in containers.parts.runtimes.values()
            for container_id in runtime.list()
            if container_id not in alive
        )
    )
    await in_thread(_end_groups, containers, alive)


async def _delete(runtime: Runtime, container_id: str, limit: asyncio.Semaphore) -> None:
    async with limit:
        try:
            await runtime.delete(container_id, force=True)
        except RuntimeFailure as error:
            # a state that was only half written: its processes end with their control group
            log.warning("%s cannot delete %s: %s", runtime.name, container_id[:12], error.message)
            await in_thread(shutil.rmtree, runtime.root / container_id, ignore_errors=True)


def _end_groups(containers: Containers, alive: Collection[str]) -> None:
    groups = containers.parts.cgroups
    left = {container_id: groups.container(container_id) for container_id in groups.list() if container_id not in alive}
    left |= {
        container.id: containers.cgroup(container)
        for container in containers
        if container.host_config.cgroup_parent and container.id not in alive
    }
    deadline = time.monotonic() + GRACE
    while left:
        for container_id, group in list(left.items()):
            with suppress(OSError):
                group.kill()
            if group.remove():
                del left[container_id]
        if time.monotonic() > deadline:
            log.error("control groups left over: %s", ", ".join(left))
            return
        if left:
            time.sleep(0.01)


async def remove_files(containers: Containers, alive: Collection[str]) -> None:
    """Mounts of root filesystems, bundles and exit files but those of ``alive``."""
    layout = containers.layout
    for container in containers:
        if container.id not in alive:
            await in_thread(containers.parts.rootfs.unmount, container.id)
            release_shared_memory(containers, container)
    for bundle in list(layout.bundles.iterdir()):
        if bundle.name not in alive:
            await in_thread(shutil.rmtree, bundle, ignore_errors=True)
    for file in list(layout.exits.iterdir()):
        if file.name not in alive:
            file.unlink(missing_ok=True)


def is_monitor(pid: int, container_id: str) -> bool:
    """Whether the process is the monitor of this container, and lives."""
    return pid > 0 and os.fsencode(container_id) in _arguments(pid)


def _kill_tools(root: bytes, alive: Collection[str]) -> None:
    """Until none is left: a monitor may have started a runtime while we looked."""
    deadline = time.monotonic() + GRACE
    while left := [pid for pid, container_id in _tools(root) if container_id not in alive]:
        for pid in left:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if time.monotonic() > deadline:
            log.error("monitors or runtimes left over: %s", left)
            return
        time.sleep(0.01)


def _tools(root: bytes) -> list[tuple[int, str]]:
    """(pid, container id) of every monitor and runtime that works below ``root``, the runtimes' own."""
    found: list[tuple[int, str]] = []
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        arguments = _arguments(int(name))
        if any(argument.startswith(b"--root=" + root + b"/") for argument in arguments):
            found += [(int(name), argument.decode()) for argument in arguments if _is_id(argument)][:1]
    return found


def _arguments(pid: int) -> list[bytes]:
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return file.read().split(b"\0")
    except OSError:
        return []


def _is_id(argument: bytes) -> bool:
    return len(argument) == _ID and not argument.strip(b"0123456789abcdef")
