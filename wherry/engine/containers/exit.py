"""What happens when a container's process ends, in order (AUT1), and what follows from it.

The monitor's exit file and the end of its output together make an exit. Then: the network and the mounts are given back,
the state is set, waiters are answered, ``die`` is announced; after the answer come the runtime's own clean-up, an
automatic restart or an automatic removal.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
import time
from contextlib import suppress
from pathlib import Path

from wherry.engine.blocking import in_thread
from wherry.engine.containers.container import Container
from wherry.engine.containers.network import disconnect
from wherry.engine.containers.registry import Containers
from wherry.engine.containers.restart import next_delay, should_restart, wait_and
from wherry.engine.containers.run import Run
from wherry.engine.containers.shm import release_shared_memory
from wherry.engine.oci.conmon import oom_marked
from wherry.engine.oci.errors import RuntimeFailure

log = logging.getLogger(__name__)

DRAIN = 2.0  # seconds that the last output may take after the exit
ORPHAN_GRACE = 2.0  # seconds that a dead process's monitor may take to write the exit code
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


async def watch_process(containers: Containers, container: Container, run: Run) -> None:
    """Notice a process that ended without its monitor writing the exit code: the monitor was killed."""
    await run.process.wait()
    deadline = time.monotonic() + ORPHAN_GRACE
    while not run.exiting and time.monotonic() < deadline:
        await asyncio.sleep(0.05)
        if containers.exits is not None and (code := containers.exits.read(container.id)) is not None:
            exited(containers, container.id, code)
    if not run.exiting and not run.over.is_set():
        log.warning("the monitor of %s is gone: its exit code is unknown", container.short_id)
        exited(containers, container.id, UNKNOWN)


async def _finish(containers: Containers, container: Container, run: Run) -> None:
    with suppress(TimeoutError):
        await asyncio.wait_for(run.drained.wait(), DRAIN)
    async with container.lock:
        if container.run is not run:
            return
        code = UNKNOWN if run.exit_code is None else run.exit_code
        await end_run(containers, container, run, code)
    await after_exit(containers, container, run, code)


async def end_run(containers: Containers, container: Container, run: Run, code: int) -> None:
    """The transition from running to not running; called with the container's lock held."""
    state = container.state
    state.oom_killed = oom_marked(run.bundle) or _oom_killed(containers, container)
    restart = not containers.closing and not container.keep and should_restart(container, code)
    await disconnect(containers, container)
    ran_for = time.time_ns() - state.started_at
    container.run = None
    container.attachable.clear()
    run.close()
    state.running = restart
    state.restarting = restart
    state.paused = False
    state.pid = state.pid_start = state.conmon_pid = 0
    state.run_id = state.sandbox = ""
    state.ports = {}
    state.exit_code = code
    state.finished_at = time.time_ns()
    state.error = ""
    if restart:
        state.restart_count += 1
        delay = next_delay(container, ran_for)
    containers.save(container)
    container.cleaning = containers.spawn(
        clean_up(containers, container, run.bundle), f"clean-up of {container.short_id}"
    )
    run.over.set()
    container.output.end()
    container.announce_exit()
    containers.emit(container, "die", exitCode=str(code), execDuration=str(max(0, ran_for) // 1_000_000_000))
    if restart:
        from wherry.engine.containers.start import start_again

        container.restart_timer = containers.spawn(
            wait_and(container, delay, lambda: start_again(containers, container)), f"restart of {container.short_id}"
        )


async def after_exit(containers: Containers, container: Container, run: Run, code: int) -> None:
    """Automatic removal, where it is due."""
    if container.host_config.auto_remove and not container.keep and not container.state.running:
        from wherry.engine.containers.delete import remove_container

        await remove_container(containers, container, volumes=True)


def _oom_killed(containers: Containers, container: Container) -> bool:
    with suppress(OSError):
        return containers.cgroup(container).oom_killed()
    return False


async def clean_up(containers: Containers, container: Container, bundle: Path) -> None:
    """The runtime's state, the root's mount, the bundle and the exit file; after the answer, before the next run."""
    with suppress(RuntimeFailure):
        await containers.runtime(container).delete(container.id, force=True)
    await in_thread(containers.parts.rootfs.unmount, container.id)
    release_shared_memory(containers, container)
    await in_thread(shutil.rmtree, bundle, ignore_errors=True)
    if containers.exits is not None:
        containers.exits.forget(container.id)
