"""Starting is recovering: rows against the kernel (AUT5, DESIGN "crash-only").

Each container's row says what an earlier engine meant; the kernel says what is. What lives is adopted, what ended
meanwhile has its exit code recorded, what was half begun is undone, and what no row owns is removed (``strays.py``).
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import time
from collections.abc import Collection
from contextlib import suppress

from wherry.api.errors import Conflict, NotFound
from wherry.engine.blocking import in_thread
from wherry.engine.containers import health, rotation, strays
from wherry.engine.containers.container import Container
from wherry.engine.containers.create import discard
from wherry.engine.containers.delete import delete, remove_container
from wherry.engine.containers.exit import UNKNOWN, clean_up, look, watch_process
from wherry.engine.containers.network import disconnect, reconcile
from wherry.engine.containers.registry import Containers
from wherry.engine.containers.restart import should_restart
from wherry.engine.containers.run import Run
from wherry.engine.containers.settings import log_limits
from wherry.engine.containers.start import start_again
from wherry.engine.oci.conmon import Attachment, oom_marked
from wherry.engine.oci.process import Pidfd
from wherry.engine.store.database import Database
from wherry.engine.store.layout import Layout
from wherry.engine.store.overlay import mounts_below, umount_lazily

log = logging.getLogger(__name__)

LAST_WORD = 3.0  # seconds that the monitor of a process which just ended may take to write the exit code


def open_database(layout: Layout) -> Database:
    """The engine's database. Refuses (``RuntimeError``) to begin a new one beside containers or volumes whose rows it
    would lose."""
    there = layout.database.exists() and layout.database.stat().st_size > 0
    for directory, what in ((layout.containers, "containers"), (layout.volumes, "volumes")):
        if not there and any(directory.iterdir()):
            raise RuntimeError(
                f"{layout.database} is gone, but {directory} holds {what}: run `wherry fsck` to rebuild their rows, "
                "or move that directory away"
            )
    try:
        return Database(layout.database)
    except sqlite3.DatabaseError as error:
        raise RuntimeError(f"{layout.database} cannot be read ({error}): run `wherry fsck`") from None


async def recover(containers: Containers) -> None:
    """Bring every row and everything of ours in the kernel into agreement; ready for calls at return."""
    parts = containers.parts
    parts.trash.recover()
    rows = containers.load()
    for lost in await in_thread(parts.rootfs.recover, {container.id for container in rows}):
        log.warning("a root filesystem without a container was moved to %s", lost)
    _set_unknown_aside(containers)
    parts.images.recover()
    parts.volumes.recover()
    begun = [container for container in rows if container.state.run_id]
    runs = dict(zip(begun, await _find_all(containers, begun), strict=True))
    alive = {container.id for container, run in runs.items() if run is not None}
    await strays.end_processes(containers, alive)
    await parts.networks.start()
    await parts.networks.recover(alive)
    # nothing of a run may end before all of the above: its end needs the networks
    for container, run in runs.items():
        if run is None:
            await _record_end(containers, container)
        else:
            _adopt(containers, container, run)
            await reconcile(containers, container)
    await strays.remove_files(containers, alive)
    await parts.volumes.adopt(_volume_users(containers, alive))
    for container in rows:
        if container.state.removing or not _whole(containers, container):
            await _finish_removal(containers, container)
        elif container.run is None:
            await _follow_policy(containers, container)
    if containers.exits is not None:
        containers.exits.scan()
    for container in rows:
        if container.spec.for_build and containers.by_id(container.id) is container:
            containers.spawn(_end_build(containers, container), f"end of the build step {container.short_id}")


async def _end_build(containers: Containers, container: Container) -> None:
    """A step whose build ended with the engine that it was for: nobody will ask for its result."""
    with suppress(Conflict, NotFound):
        await delete(containers, container.id, volumes=True, force=True, link=False)


def _volume_users(containers: Containers, alive: Collection[str]) -> dict[str, set[str]]:
    users: dict[str, set[str]] = {}
    for container in containers:
        for point in container.spec.mounts:
            if point.type == "volume" and container.id in alive:
                users.setdefault(point.name, set()).add(container.id)
    return users


def _set_unknown_aside(containers: Containers) -> None:
    for directory in list(containers.layout.containers.iterdir()):
        if containers.by_id(directory.name) is None:
            for point in mounts_below(directory):
                umount_lazily(point)
            log.warning("a container without a row was moved to %s", containers.parts.trash.set_aside(directory))


async def _find_all(containers: Containers, begun: list[Container]) -> list[Run | None]:
    """As ``_find``. Raises ``RuntimeError`` where one cannot be told to live or not: all go on as they are."""
    found = await asyncio.gather(*(_find(containers, container) for container in begun), return_exceptions=True)
    runs = [run for run in found if not isinstance(run, BaseException)]
    if len(runs) == len(begun):
        return runs
    for run in runs:
        if run is not None:
            run.close()
    failure = next(error for error in found if isinstance(error, BaseException))
    if not isinstance(failure, OSError):
        raise failure
    raise RuntimeError(
        f"the containers that run cannot be taken over: {failure.strerror}; they run on, untouched. "
        f"Each takes some four open files: raise the limit (`ulimit -n`)"
    ) from failure


async def _find(containers: Containers, container: Container) -> Run | None:
    """The run of a container that lives on, with its output flowing; None when it ended or was only half begun.

    Raises ``OSError`` when that cannot be told. Whatever is taken for dead here will be.
    """
    state = container.state
    if not state.pid:
        return None
    try:
        process = Pidfd(state.pid, state.pid_start)
    except ProcessLookupError:
        await _last_word(containers, container)
        return None
    run = Run(containers.layout.bundle(container.id), process, state.conmon_pid)
    max_size, max_file, compress = log_limits(container.host_config)
    rotation.begin(containers, container, run, max_size=max_size, max_file=max_file, compress=compress, adopted=True)
    try:
        run.attachment = await Attachment.connect(run.bundle, container.output.feed, run.drained.set)
    except (ConnectionRefusedError, FileNotFoundError):  # the monitor is gone: its watcher says so
        run.drained.set()
    except OSError:
        run.close()
        raise
    return run


async def _last_word(containers: Containers, container: Container) -> None:
    """Wait while the monitor of a process that has just ended writes what is left of its output, and its exit code."""
    for _ in range(int(LAST_WORD / 0.02)):
        if not strays.is_monitor(container.state.conmon_pid, container.id):
            return
        await asyncio.sleep(0.02)


def _adopt(containers: Containers, container: Container, run: Run) -> None:
    state = container.state
    container.run = run
    container.volumes_told = True
    state.running, state.restarting = True, False
    with suppress(OSError):
        state.paused = containers.cgroup(container).frozen()
    containers.note(container)
    if run.attachment is not None:
        container.attachable.set()
    health.begin(containers, container, run)
    containers.spawn(watch_process(containers, container, run), f"watch of {container.short_id}", waits=True)
    look(containers, container)


async def _record_end(containers: Containers, container: Container) -> None:
    """A run that ended, or a start that was cut off, while no engine looked."""
    state = container.state
    bundle = containers.layout.bundle(container.id)
    code = containers.exits.read(container.id) if containers.exits is not None else None
    ran = bool(state.pid)
    if ran:
        state.exit_code = UNKNOWN if code is None else code
        ended = containers.exits.ended_at(container.id) if containers.exits is not None else None
        state.finished_at = time.time_ns() if ended is None else max(ended, state.started_at)
        state.oom_killed = oom_marked(bundle)
    await disconnect(containers, container)
    state.running = state.restarting = state.paused = False
    state.pid = state.pid_start = state.conmon_pid = 0
    state.run_id = state.sandbox = ""
    state.ports = {}
    health.end(container)
    containers.note(container)
    await clean_up(containers, container, bundle)
    container.ended_unseen = True
    if ran:
        lasted = max(0, state.finished_at - state.started_at) // 1_000_000_000
        containers.emit(container, "die", exitCode=str(state.exit_code), execDuration=str(lasted))


def _whole(containers: Containers, container: Container) -> bool:
    """Whether its create came to its end, which writes the description last."""
    return bool(container.state.started_at) or (containers.layout.container(container.id) / "container.json").exists()


async def _finish_removal(containers: Containers, container: Container) -> None:
    """A removal, or a create, that was cut off: nobody waits for the container any more."""
    try:
        if container.state.removing:
            volumes = container.state.remove_volumes or container.host_config.auto_remove
            await remove_container(containers, container, volumes=volumes)
        else:
            await discard(containers, container)
    except Exception as error:
        log.error("the removal of %s could not be finished: %s", container.short_id, error)


async def _follow_policy(containers: Containers, container: Container) -> None:
    """Automatic removal, and restart policies at the engine's start (AUT5)."""
    state = container.state
    if container.host_config.auto_remove and (container.ended_unseen or state.started_at or state.error):
        state.removing = True
        await _finish_removal(containers, container)
    elif state.started_at and not state.dead and should_restart(container, state.exit_code, engine_start=True):
        state.running = state.restarting = True
        containers.note(container)
        containers.spawn(start_again(containers, container), f"restart of {container.short_id}")
    elif state.restarting:
        state.running = state.restarting = False
        containers.note(container)
