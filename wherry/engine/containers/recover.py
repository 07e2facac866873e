"""Starting is recovering: rows against the kernel (AUT5, DESIGN "crash-only").

Each container's row says what an earlier engine meant; the kernel says what is. What lives is adopted, what ended
meanwhile has its exit code recorded, what was half begun is undone, and what no row owns is removed.
"""

from __future__ import annotations

import logging
import os
import shutil
import signal
import time
from contextlib import suppress

from wherry.engine.blocking import in_thread
from wherry.engine.containers import rotation
from wherry.engine.containers.container import Container
from wherry.engine.containers.delete import remove_container
from wherry.engine.containers.exit import clean_up, exited, watch_process
from wherry.engine.containers.network import disconnect
from wherry.engine.containers.registry import Containers
from wherry.engine.containers.restart import should_restart
from wherry.engine.containers.run import Run
from wherry.engine.containers.settings import log_limits
from wherry.engine.containers.start import start_again
from wherry.engine.oci.conmon import Attachment
from wherry.engine.oci.errors import RuntimeFailure
from wherry.engine.oci.process import Pidfd
from wherry.engine.store.database import Database
from wherry.engine.store.layout import Layout

log = logging.getLogger(__name__)

UNKNOWN = 137


def open_database(layout: Layout) -> Database:
    """The engine's database. Refuses to begin a new one beside containers whose rows it would lose."""
    if not layout.database.exists() and any(layout.containers.iterdir()):
        raise RuntimeError(
            f"{layout.database} is gone but {layout.containers} holds containers: run `wherry fsck` to rebuild their rows, "
            "or move that directory away"
        )
    return Database(layout.database)


async def recover(containers: Containers) -> None:
    """Bring every row and everything of ours in the kernel into agreement; ready for calls at return."""
    parts = containers.parts
    parts.trash.recover()
    rows = containers.load()
    known = {container.id for container in rows}
    for lost in await in_thread(parts.rootfs.recover, known):
        log.warning("a root filesystem without a container was moved to %s", lost)
    _set_unknown_aside(containers, known)
    parts.images.recover()
    parts.volumes.recover()
    alive: list[Container] = []
    ended: list[Container] = []
    for container in rows:
        if container.state.run_id:
            (alive if await _adopt(containers, container) else ended).append(container)
    await parts.networks.start()
    await parts.networks.recover({container.id for container in alive})
    await _remove_unowned(containers, {container.id for container in alive})
    for container in ended:
        await _record_end(containers, container)
    for container in rows:
        await _follow_policy(containers, container)
    if containers.exits is not None:
        containers.exits.scan()


def _set_unknown_aside(containers: Containers, known: set[str]) -> None:
    for directory in list(containers.layout.containers.iterdir()):
        if directory.name not in known:
            log.warning("a container without a row was moved to %s", containers.parts.trash.set_aside(directory))


async def _adopt(containers: Containers, container: Container) -> bool:
    """Take a running container over; False when it does not run, or was only half started."""
    state = container.state
    if not state.pid:
        return False
    try:
        process = Pidfd(state.pid, state.pid_start)
    except OSError:
        return False
    bundle = containers.layout.bundle(container.id)
    run = Run(bundle, process, state.conmon_pid)
    try:
        max_size, max_file, compress = log_limits(container.host_config)
        rotation.begin(
            containers, container, run, max_size=max_size, max_file=max_file, compress=compress, adopted=True
        )
        container.output.position = None
        run.attachment = await Attachment.connect(bundle, container.output.feed, run.drained.set)
    except OSError:
        log.warning("the monitor of %s is gone: it runs on without log and exit code", container.short_id)
        run.drained.set()
    container.run = run
    state.running = True
    state.restarting = False
    if run.attachment is not None:
        container.attachable.set()
    containers.spawn(watch_process(containers, container, run), f"watch of {container.short_id}")
    if containers.exits is not None and (code := containers.exits.read(container.id)) is not None:
        exited(containers, container.id, code)
    return True


async def _remove_unowned(containers: Containers, alive: set[str]) -> None:
    """Runtime containers, bundles and exit files that no live container owns. Monitors die with their container."""
    layout = containers.layout
    for runtime in containers.parts.runtimes.values():
        for container_id in runtime.list():
            if container_id not in alive:
                with suppress(RuntimeFailure):
                    await runtime.delete(container_id, force=True)
    for bundle in list(layout.bundles.iterdir()):
        if bundle.name in alive:
            continue
        _kill_monitor(bundle / "conmon.pid", bundle.name)
        if containers.by_id(bundle.name) is None:
            shutil.rmtree(bundle, ignore_errors=True)
    for file in list(layout.exits.iterdir()):
        if containers.by_id(file.name) is None:
            file.unlink(missing_ok=True)


def _kill_monitor(pid_file: object, container_id: str) -> None:
    """End a monitor that still waits, if the pid in its file is really a monitor of this container."""
    try:
        pid = int(open(str(pid_file), "rb").read())
        command = open(f"/proc/{pid}/cmdline", "rb").read()
    except (OSError, ValueError):
        return
    if b"conmon" in command and container_id.encode() in command:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


async def _record_end(containers: Containers, container: Container) -> None:
    """A run that ended, or a start that was cut off, while no engine looked."""
    state = container.state
    begun = bool(state.pid)
    code = containers.exits.read(container.id) if containers.exits is not None else None
    await disconnect(containers, container)
    await clean_up(containers, container, containers.layout.bundle(container.id))
    if begun:
        state.exit_code = UNKNOWN if code is None else code
        state.finished_at = time.time_ns()
    was_restarting = state.restarting
    state.running = state.restarting = state.paused = False
    state.pid = state.pid_start = state.conmon_pid = 0
    state.run_id = state.sandbox = ""
    state.ports = {}
    containers.save(container)
    if begun:
        container.ended_unseen = True
        containers.emit(container, "die", exitCode=str(state.exit_code), execDuration="0")
    elif was_restarting:
        container.ended_unseen = True


async def _follow_policy(containers: Containers, container: Container) -> None:
    """Automatic removal, and restart policies at the engine's start (AUT5)."""
    state = container.state
    if state.removing:
        state.removing = False
        await remove_container(containers, container, volumes=container.host_config.auto_remove)
        return
    if container.run is not None:
        return
    if state.restarting and not state.run_id:
        container.ended_unseen = True
    if container.host_config.auto_remove and (container.ended_unseen or state.started_at):
        await remove_container(containers, container, volumes=True)
        return
    if not state.started_at or not should_restart(container, state.exit_code, engine_start=True):
        if state.restarting:
            state.running = state.restarting = False
            containers.save(container)
        return
    state.running = state.restarting = True
    containers.save(container)
    containers.spawn(start_again(containers, container), f"restart of {container.short_id}")
