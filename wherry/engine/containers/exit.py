"""What happens when a container's process ends, in order (AUT1).

The monitor's exit file and the end of its output together make an exit. Then: the network is given back, the state is
set, waiters are answered, ``die`` is announced. The runtime's own clean-up and the unmount come after the answer;
``aftermath.py`` does what follows: another run, or the container's removal.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from wherry.engine.blocking import in_thread
from wherry.engine.containers import health
from wherry.engine.containers.container import Container
from wherry.engine.containers.network import disconnect
from wherry.engine.containers.registry import Containers
from wherry.engine.containers.restart import next_delay, should_restart
from wherry.engine.containers.run import Run
from wherry.engine.containers.shm import release_shared_memory
from wherry.engine.containers.volumes import announce_unmount, release_volumes
from wherry.engine.oci.conmon import oom_marked
from wherry.engine.oci.errors import RuntimeFailure
from wherry.engine.oci.process import is_there

log = logging.getLogger(__name__)

DRAIN = 2.0  # seconds that the last output may take after the exit
ORPHAN_GRACE = 2.0  # seconds that an exit code may take to be seen when the process and its monitor are gone
MONITOR_GRACE = 60.0  # seconds that the monitor of a dead process may take to write it
UNKNOWN = 137  # the exit code when the monitor died with it


def exited(containers: Containers, container_id: str, code: int) -> None:
    """An exit file appeared."""
    container = containers.by_id(container_id)
    if container is None or container.run is None or container.run.exiting:
        return
    run = container.run
    run.exiting = True
    run.exit_code = code
    containers.spawn(_finish(containers, container, run), f"exit of {container.short_id}")


def look(containers: Containers, container: Container) -> bool:
    """Look for the exit file by ourselves; False when nobody can say whether there is one now."""
    try:
        code = None if containers.exits is None else containers.exits.read(container.id)
    except OSError:  # no descriptor is left, perhaps
        return False
    if code is not None:
        exited(containers, container.id, code)
    return True


async def watch_process(containers: Containers, container: Container, run: Run) -> None:
    """Notice a process that ended without its monitor writing the exit code: the monitor was killed, or hangs."""
    ended = asyncio.ensure_future(run.process.wait())
    drained = asyncio.ensure_future(run.drained.wait())
    try:
        await asyncio.wait({ended, drained}, return_when=asyncio.FIRST_COMPLETED)
        if run.alive and not is_there(run.conmon_pid):
            log.warning("the monitor of %s is gone: it runs on without log and exit code", container.short_id)
        await ended
    finally:
        ended.cancel()
        drained.cancel()
    now = time.monotonic()
    patience, deadline = now + MONITOR_GRACE, now + ORPHAN_GRACE
    while not run.exiting and time.monotonic() < min(deadline, patience):
        await asyncio.sleep(0.05)
        if not look(containers, container) or is_there(run.conmon_pid):  # it lives and has its work to do
            deadline = time.monotonic() + ORPHAN_GRACE
    if not run.exiting and not run.over.is_set():
        log.warning("the monitor of %s is gone: its exit code is unknown", container.short_id)
        exited(containers, container.id, UNKNOWN)


async def _finish(containers: Containers, container: Container, run: Run) -> None:
    with suppress(TimeoutError):
        await asyncio.wait_for(run.drained.wait(), DRAIN)
    async with container.lock:
        if container.run is run:
            await _end_run(containers, container, run, UNKNOWN if run.exit_code is None else run.exit_code)


async def _end_run(containers: Containers, container: Container, run: Run, code: int) -> None:
    """The transition from running to not running; called with the container's lock held.

    Whatever fails here is told and passed over: the process is gone, and nobody may wait for it any more.
    """
    state = container.state
    with _told(container):
        state.oom_killed = oom_marked(run.bundle) or containers.cgroup(container).oom_killed()
    with _told(container):
        await disconnect(containers, container)
    with _told(container):  # before anyone is answered: the next user of a volume finds it as the last one left it
        await release_volumes(containers, container)
    announce_unmount(containers, container)
    ran_for = run.age
    container.run = None
    health.end(container)
    container.attachable.clear()
    run.close()
    restart = not containers.closing and not container.keep and should_restart(container, code)
    state.running = state.restarting = restart
    state.paused = False
    state.pid = state.pid_start = state.conmon_pid = 0
    state.run_id = state.sandbox = ""
    state.ports = {}
    state.exit_code = code
    state.finished_at = time.time_ns()
    state.error = ""
    if restart:
        state.restart_count += 1
        next_delay(container, ran_for)
    containers.note(container)
    container.cleaning = containers.spawn(
        clean_up_soon(containers, container, run.bundle), f"clean-up of {container.short_id}"
    )
    run.over.set()
    container.output.end()
    container.announce_exit()
    if state.oom_killed:
        containers.emit(container, "oom")
    containers.emit(container, "die", exitCode=str(code), execDuration=str(ran_for // 1_000_000_000))
    containers.after_exit(container)


@contextmanager
def _told(container: Container) -> Iterator[None]:
    try:
        yield
    except Exception:
        log.exception("a step at the exit of %s failed", container.short_id)


async def clean_up_soon(containers: Containers, container: Container, bundle: Path) -> None:
    """``clean_up``; what fails for want of descriptors or memory is tried again a few times."""
    for pause in (0.1, 1.0, 5.0, 0.0):
        if await clean_up(containers, container, bundle):
            return
        await asyncio.sleep(pause)


async def clean_up(containers: Containers, container: Container, bundle: Path) -> bool:
    """The runtime's state, the root's mount, the bundle and the exit file; after the answer, before the next run.

    Whether all of it went.
    """
    done = True
    try:
        await containers.runtime(container).delete(container.id, force=True)
    except RuntimeFailure as error:
        log.warning("the clean-up of %s failed: %s", container.short_id, error.message)
        done = False
    with _told(container):
        await in_thread(containers.parts.rootfs.unmount, container.id)
    with _told(container):
        await release_volumes(containers, container)
    with _told(container):
        release_shared_memory(containers, container)
    try:
        await in_thread(_remove, bundle)
    except OSError as error:
        log.warning("the clean-up of %s failed: %s", container.short_id, error)
        done = False
    if containers.exits is not None:
        containers.exits.forget(container.id)
    return done


def _remove(bundle: Path) -> None:
    with suppress(FileNotFoundError):
        shutil.rmtree(bundle)
