"""ContainerStart, and each automatic restart: from directories to a running process (STA1 to STA8).

Root mounted → user, HOME and bind sources resolved → namespace, addresses, ports → specification → monitor and runtime
``create`` → attach connection → init released. A failure at any step undoes all of them. The row says that a run was
begun before the first effect, so that an engine that dies in the middle finds and undoes it at its next start.
"""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
import shutil
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from wherry.api.errors import ApiError, BadRequest, Conflict, NotFound, ServerError, in_words
from wherry.engine.blocking import in_thread
from wherry.engine.containers import health, rotation
from wherry.engine.containers.container import Container, State
from wherry.engine.containers.delete import remove_container
from wherry.engine.containers.exit import clean_up, clean_up_soon, look, watch_process
from wherry.engine.containers.network import connect, disconnect
from wherry.engine.containers.process import Prepared, prepare
from wherry.engine.containers.registry import Containers
from wherry.engine.containers.run import Run
from wherry.engine.containers.settings import log_limits
from wherry.engine.containers.volumes import acquire_volumes, announce_unmount
from wherry.engine.oci.conmon import Attachment, launch
from wherry.engine.oci.errors import RuntimeFailure
from wherry.engine.oci.executable import check_executable
from wherry.engine.oci.process import Pidfd, executable_of, until_executed
from wherry.engine.oci.warm import warm_cgroups

log = logging.getLogger(__name__)


async def start(containers: Containers, reference: str, checkpoint: str | None = None) -> bool:
    """Start a container; False when it runs already (304). The work goes on when the caller is cancelled.

    Raises ``BadRequest`` (the command cannot be run), ``NotFound`` (no such network), ``Conflict`` (paused, or being
    removed), ``ServerError``.
    """
    if checkpoint:
        raise BadRequest("checkpoint is only supported in experimental mode")
    container = containers.find(reference)
    work = containers.spawn(start_container(containers, container), f"start of {container.short_id}")
    return bool(await containers.shielded(work))


async def start_container(containers: Containers, container: Container) -> bool:
    """A start by hand: the count of restarts and the back-off begin anew (STA5)."""
    async with container.lock:
        state = container.state
        if state.removing or state.dead or containers.by_id(container.id) is None:
            raise Conflict("container is marked for removal and cannot be started")
        if state.paused:
            raise Conflict("cannot start a paused container, try unpause instead")
        if state.running:
            return False
        state.restart_count = 0
        container.restart_delay = 0.0
        failure = await _begin(containers, container)
    if failure is not None:
        await _remove_failed(containers, container)
        raise failure
    return True


async def start_again(containers: Containers, container: Container) -> None:
    """An automatic restart; a failure ends the restarting (AUT4)."""
    async with container.lock:
        state = container.state
        if not state.restarting or containers.closing:
            return
        failure = await _begin(containers, container)
        if failure is None:
            return
        log.warning("restart of %s failed: %s", container.short_id, failure.message)
        state.running = state.restarting = False
        containers.note(container)
        container.announce_exit()
    await _remove_failed(containers, container)


async def _remove_failed(containers: Containers, container: Container) -> None:
    """A container that removes itself does so after a failed start too (STA4)."""
    if container.host_config.auto_remove:
        with suppress(Conflict, NotFound):  # another removal, or another start, was first
            await remove_container(containers, container, volumes=True)


async def _begin(containers: Containers, container: Container) -> ApiError | None:
    """One run, from nothing to a released process; why not, when it could not be. The caller holds the lock."""
    state = container.state
    containers.spawn(warm_cgroups(), "warming up")
    if container.cleaning is not None:
        await asyncio.wait({container.cleaning})
        container.cleaning = None
    bundle = containers.layout.bundle(container.id)
    before = msgspec.structs.replace(state)
    run: Run | None = None
    try:
        state.run_id = secrets.token_hex(4)
        containers.save(container)
        run = await _launch(containers, container, bundle)
        _note(container, run)
        containers.save(container)
    except BaseException as error:
        if run is not None:
            run.close()
        announce_unmount(containers, container)
        await _undo(containers, container, bundle)
        for name in State.__struct_fields__:
            setattr(state, name, getattr(before, name))
        if not isinstance(error, Exception):
            raise
        failure = _as_api_error(error)
        state.error = failure.message
        state.exit_code = error.exit_code if isinstance(error, RuntimeFailure) else 128
        containers.note(container)
        return failure
    container.run = run
    health.begin(containers, container, run)
    container.attachable.set()
    containers.spawn(watch_process(containers, container, run), f"watch of {container.short_id}", waits=True)
    containers.emit(container, "start")
    look(containers, container)
    return None


def _note(container: Container, run: Run) -> None:
    state = container.state
    state.started_at = time.time_ns()
    state.running = True
    state.restarting = state.paused = state.oom_killed = state.manually_stopped = False
    state.pid = run.pid
    state.pid_start = run.started
    state.conmon_pid = run.conmon_pid
    state.exit_code = 0
    state.error = ""
    state.health = None


async def _launch(containers: Containers, container: Container, bundle: Path) -> Run:
    """All steps of a start. What a failure leaves is undone by the caller."""
    parts = containers.parts
    runtime = containers.runtime(container)
    if bundle.exists():
        await in_thread(shutil.rmtree, bundle, ignore_errors=True)
    bundle.mkdir(mode=0o711)
    if containers.exits is not None:
        containers.exits.forget(container.id)
    max_size, max_file, compress = log_limits(container.host_config)
    config = b""
    process: dict[str, Any] = {}

    async def ready() -> None:
        nonlocal config, process
        # the mount goes beside the kernel's work on the namespace, and all of it beside the monitor's own beginning
        connecting = asyncio.ensure_future(connect(containers, container))
        await asyncio.sleep(0)
        try:
            root = parts.rootfs.mount(container.id)
        finally:
            await connecting
        await acquire_volumes(containers, container)
        prepared: Prepared = await in_thread(prepare, containers, container, root)
        for warning in prepared.warnings:
            log.warning("%s: %s", container.short_id, warning)
        process = prepared.spec["process"]
        config = json.dumps(prepared.spec).encode()
        (bundle / "config.json").write_bytes(config)

    keeps_log = container.host_config.log_config.type != "none"
    if keeps_log:
        rotation.create_log(parts.layout.log(container.id))
    launched = await launch(
        conmon=parts.conmon,
        runtime=runtime,
        container_id=container.id,
        name=container.name,
        bundle=bundle,
        exits=parts.layout.exits,
        log_path=parts.layout.log(container.id) if keeps_log else None,
        command=container.spec.path,
        tty=container.tty,
        stdin=container.config.open_stdin,
        leave_stdin_open=container.tty or not container.config.stdin_once,
        prepare=ready,
    )
    if runtime.filters is not None:
        runtime.filters.learn(container.id, config)
    check_executable(launched.pid, process["args"], process["env"], process["cwd"])
    try:
        run = Run(bundle, Pidfd(launched.pid), launched.conmon_pid)
    except ProcessLookupError as error:
        raise ServerError("the container's process ended before it was started") from error
    try:
        rotation.begin(containers, container, run, max_size=max_size, max_file=max_file, compress=compress)
        run.attachment = await Attachment.connect(bundle, container.output.feed, run.drained.set)
        runtimes = executable_of(run.pid)
        await runtime.start(container.id)
        await until_executed(run.pid, runtimes)  # STA3
    except BaseException:
        run.close()
        raise
    return run


async def _undo(containers: Containers, container: Container, bundle: Path) -> None:
    with suppress(Exception):
        await disconnect(containers, container)
    with suppress(Exception):
        if not await clean_up(containers, container, bundle):
            container.cleaning = containers.spawn(
                clean_up_soon(containers, container, bundle), f"clean-up of {container.short_id}"
            )
    with suppress(Exception):
        containers.cgroup(container).remove()  # which a runtime may leave when it fails half-way


def _as_api_error(error: BaseException) -> ApiError:
    if isinstance(error, ApiError):
        return error
    if isinstance(error, RuntimeFailure):
        return BadRequest(error.message) if error.bad_request else ServerError(error.message)
    if isinstance(error, OSError):
        return ServerError(f"starting the container failed: {in_words(error)}")
    log.exception("starting a container failed", exc_info=error)
    return ServerError(f"starting the container failed: {in_words(error)}")
