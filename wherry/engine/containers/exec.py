"""Commands in a running container: ContainerExec, ExecStart, ExecResize, ExecInspect (EXE1 to EXE7)."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import time
from collections.abc import Callable
from contextlib import suppress

from wherry.api.errors import ApiError, BadRequest, Conflict, NotFound, ServerError, in_words
from wherry.api.models.exec import ExecConfig, ExecInspect, ExecStartConfig, ProcessConfig
from wherry.engine.blocking import in_thread
from wherry.engine.containers.attach import detach_keys
from wherry.engine.containers.container import Container
from wherry.engine.containers.links import environment
from wherry.engine.containers.merge import override, process_env
from wherry.engine.containers.process import apparmor_profile, no_new_privileges
from wherry.engine.containers.registry import Containers
from wherry.engine.oci import capabilities
from wherry.engine.oci.errors import NOT_EXECUTABLE, RuntimeFailure
from wherry.engine.oci.exec import ExecProcess
from wherry.engine.oci.spec import build_exec_process
from wherry.engine.oci.users import User, resolve_user
from wherry.engine.oci.warm import warm_cgroups
from wherry.engine.streams import Duplex
from wherry.wire.detach import DetachScanner
from wherry.wire.frames import STDERR, STDOUT, encode_frame_header

log = logging.getLogger(__name__)

KEPT = 300.0  # seconds that an instance can be inspected after its end
LAST_WORDS = 300.0  # seconds a client may take to read what is queued once the command has ended
READY = 10.0  # seconds that a resize waits for the command to run

PATH_MAX = 4095  # bytes of a path that the kernel takes
BEHIND = 256 * 1024  # bytes queued for a client until its command has to wait


class Exec:
    """One exec instance, from its creation until it is forgotten."""

    def __init__(self, container: Container, config: ExecConfig) -> None:
        self.id = secrets.token_hex(32)
        self.container = container
        self.config = config
        self.started = False
        self.running = False
        self.exit_code: int | None = None
        self.process: ExecProcess | None = None
        self.pid = 0
        self.ended_at: float | None = None
        self.ready = asyncio.Event()  # it runs, or has failed to

    @property
    def words(self) -> list[str]:
        return self.config.cmd or []

    @property
    def line(self) -> str:
        """As events show it: a blank follows the command even without arguments."""
        return f"{self.words[0]} {' '.join(self.words[1:])}"


def create(containers: Containers, reference: str, config: ExecConfig) -> str:
    """A new instance's id. Raises ``BadRequest``, ``NotFound``, ``Conflict`` (EXE1)."""
    if not config.cmd:
        raise BadRequest("No exec command specified")
    container = containers.find(reference)
    _check_running(container, reference)
    detach_keys(config.detach_keys)
    if len(config.working_dir.encode("utf-8", "replace")) > PATH_MAX:
        raise BadRequest("the working directory's name is too long")
    containers.spawn(warm_cgroups(), "warming up")  # a start mostly follows at once
    instance = Exec(container, config)
    _forget_old(containers)
    container.execs[instance.id] = instance
    containers.execs[instance.id] = instance
    containers.emit(container, f"exec_create: {instance.line}", execID=instance.id)
    return instance.id


def _check_running(container: Container, reference: str) -> None:
    state = container.state
    if state.paused:
        raise Conflict(f"Container {reference} is paused, unpause the container before exec")
    if state.restarting:
        raise Conflict(f"Container {container.id} is restarting, wait until the container is running")
    if not state.running or container.run is None:
        raise Conflict(f"Container {container.id} is not running")


def _forget_old(containers: Containers) -> None:
    limit = time.monotonic() - KEPT
    for instance in list(containers.execs.values()):
        if instance.ended_at is not None and instance.ended_at < limit:
            forget(containers, instance)


def forget(containers: Containers, instance: Exec) -> None:
    containers.execs.pop(instance.id, None)
    instance.container.execs.pop(instance.id, None)


def find(containers: Containers, exec_id: str) -> Exec:
    """Raises ``NotFound``, also for an instance whose container is gone."""
    instance = containers.execs.get(exec_id)
    if instance is None:
        raise NotFound(f"No such exec instance: {exec_id}")
    return instance


def inspect(containers: Containers, exec_id: str) -> ExecInspect:
    instance = find(containers, exec_id)
    config = instance.config
    return ExecInspect(
        id=instance.id,
        running=instance.running,
        exit_code=instance.exit_code,
        process_config=ProcessConfig(
            tty=config.tty,
            entrypoint=instance.words[0],
            arguments=instance.words[1:],
            privileged=config.privileged,
            user=config.user,
        ),
        open_stdin=config.attach_stdin,
        open_stderr=config.attach_stderr,
        open_stdout=config.attach_stdout,
        can_remove=instance.ended_at is not None,
        container_id=instance.container.id,
        pid=instance.pid,
    )


async def resize(containers: Containers, exec_id: str, height: int, width: int) -> None:
    """A command that is just being started is waited for. Raises ``NotFound``, ``Conflict`` when it does not run."""
    instance = find(containers, exec_id)
    if instance.started:
        with suppress(TimeoutError):
            await asyncio.wait_for(instance.ready.wait(), READY)
    if not instance.running or instance.process is None:
        raise Conflict(f"cannot resize a stopped container: exec instance {exec_id} is not running")
    instance.process.resize(height, width)


def claim(containers: Containers, exec_id: str) -> Exec:
    """An instance for its only start. Raises ``NotFound``, ``Conflict`` when its container does not run (any more)."""
    instance = find(containers, exec_id)
    _check_running(instance.container, instance.container.id)
    return instance


async def start_detached(containers: Containers, instance: Exec, options: ExecStartConfig) -> None:
    """Start and leave; returns once the command runs. Raises ``Conflict``, ``BadRequest``, ``ServerError``."""
    if instance.started:
        raise Conflict(f"Error: Exec command {instance.id} has already run")
    instance.started = True
    try:
        await _start(containers, instance, options, lambda stream, data: None, stdin=False)
    except RuntimeFailure as error:
        raise (BadRequest if error.bad_request else ServerError)(error.message) from error
    containers.spawn(_finish(containers, instance), f"exec in {instance.container.short_id}", waits=True)


async def start_probe(
    containers: Containers, instance: Exec, output: Callable[[int, bytes], None]
) -> asyncio.Task[None]:
    """Start a command of the engine's own, a health check; ``output(stream, data)`` gets what it says.

    The task ends with the command. Raises ``RuntimeFailure``, ``ApiError``.
    """
    instance.started = True
    await _start(containers, instance, ExecStartConfig(), output, stdin=False)
    return containers.spawn(_finish(containers, instance), f"probe of {instance.container.short_id}", waits=True)


async def start_attached(containers: Containers, instance: Exec, options: ExecStartConfig, duplex: Duplex) -> None:
    """Serve one client from start to end; errors go into the stream (EXE2), and the duplex is closed at return."""
    stream = _ExecStream(instance, options, duplex)
    try:
        if instance.started:
            stream.say(f"Error: Exec command {instance.id} has already run")
            return
        instance.started = True
        config = instance.config
        try:
            await _start(containers, instance, options, stream.output, stdin=config.attach_stdin)
        except (RuntimeFailure, ApiError) as error:
            stream.say(error.message)
            return
        finishing = containers.spawn(
            _finish(containers, instance), f"exec in {instance.container.short_id}", waits=True
        )
        await stream.serve(containers, finishing)
    finally:
        stream.close()
        with suppress(ConnectionError, TimeoutError):
            await asyncio.wait_for(duplex.close(), LAST_WORDS)


async def _start(
    containers: Containers, instance: Exec, options: ExecStartConfig, output: object, *, stdin: bool
) -> None:
    container = instance.container
    run = container.run
    assert callable(output)
    instance.running = True  # for whoever asks right behind the answer's head
    containers.emit(container, f"exec_start: {instance.line}", execID=instance.id)
    try:
        user = await in_thread(_user, container, instance.config)
        if run is None or container.run is not run:
            raise Conflict(f"Container {container.id} is not running")
        process = await ExecProcess.start(
            containers.runtime(container),
            container.id,
            _process(containers, instance, options, user),
            output,
            directory=run.bundle,
            stdin=stdin,
        )
    except BaseException as error:
        _end(instance, NOT_EXECUTABLE)  # whatever was wrong with it (EXE2)
        if isinstance(error, OSError | RuntimeFailure) and (run is None or not run.alive):
            raise Conflict(f"Container {container.id} is not running") from error
        if isinstance(error, OSError | ValueError):
            raise ServerError(in_words(error)) from error
        raise
    instance.process = process
    instance.pid = process.pid
    instance.ready.set()


def _user(container: Container, config: ExecConfig) -> User:
    """Who the command runs as. Blocks: the container may have a file system at /etc that takes its time."""
    root_fd = os.open(f"/proc/{container.state.pid}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return resolve_user(root_fd, config.user or container.config.user, container.host_config.group_add or [])
    finally:
        os.close(root_fd)


def _process(containers: Containers, instance: Exec, options: ExecStartConfig, user: User) -> dict[str, object]:
    """The OCI process: the container's environment and user, with the instance's own over them (EXE5)."""
    container, config = instance.container, instance.config
    linked = environment(containers, container, strict=False)
    base = dict(entry.partition("=")[::2] for entry in process_env(container.config, container.config.hostname, linked))
    if config.tty:
        base.setdefault("TERM", "xterm")
    host = container.host_config
    return build_exec_process(
        args=instance.words,
        env=override(base, config.env or []),
        cwd=config.working_dir or container.config.working_dir or "/",
        granted=capabilities.granted(host.cap_add, host.cap_drop, config.privileged or host.privileged),
        uid=user.uid,
        gid=user.gid,
        groups=user.groups,
        home=user.home,
        tty=config.tty,
        console_size=_console_size(options, config),
        no_new_privileges=no_new_privileges(host.security_opt),
        oom_score=host.oom_score_adj or 0,
        apparmor=apparmor_profile(host.security_opt),
        ulimits=host.ulimits or (),
    )


def _console_size(options: ExecStartConfig, config: ExecConfig) -> tuple[int, int] | None:
    """Height and width, as start or create gave them (EXE4)."""
    size = options.console_size or config.console_size
    return (size[0], size[1]) if size and len(size) == 2 else None


async def _finish(containers: Containers, instance: Exec) -> None:
    process = instance.process
    assert process is not None
    try:
        code = await process.wait()
    except asyncio.CancelledError:  # the engine is left: the command ends with its pipes
        process.close()
        raise
    _end(instance, code)
    containers.emit(instance.container, "exec_die", execID=instance.id, exitCode=str(code))


def _end(instance: Exec, code: int) -> None:
    instance.running = False
    instance.exit_code = code
    instance.pid = 0
    instance.process = None  # and with it the client's connection: an ended instance is kept for long
    instance.ended_at = time.monotonic()
    instance.ready.set()


class _ExecStream:
    """A client's connection to one command: output with back-pressure, input with detach keys."""

    def __init__(self, instance: Exec, options: ExecStartConfig, duplex: Duplex) -> None:
        self._instance = instance
        self._duplex = duplex
        self._multiplexed = not options.tty
        config = instance.config
        self._wanted = {s for s, wanted in ((STDOUT, config.attach_stdout), (STDERR, config.attach_stderr)) if wanted}
        self._resuming: asyncio.Task[None] | None = None

    def output(self, stream: int, data: bytes) -> None:
        if stream not in self._wanted or self._duplex.closed:
            return
        self._duplex.write(encode_frame_header(stream, len(data)) + data if self._multiplexed else data)
        process = self._instance.process
        if self._duplex.pending > BEHIND and process is not None and self._resuming is None:
            process.pause_output()
            self._resuming = asyncio.get_running_loop().create_task(self._resume(process))

    async def _resume(self, process: ExecProcess) -> None:
        with suppress(ConnectionError):
            await self._duplex.drain()
        self._resuming = None
        process.resume_output()

    def say(self, text: str) -> None:
        """An error, as a frame of stdout (EXE2, EXE3)."""
        data = f"{text}\r\n".encode()
        self._duplex.write(encode_frame_header(STDOUT, len(data)) + data if self._multiplexed else data)

    async def serve(self, containers: Containers, finishing: asyncio.Task[None]) -> None:
        """Until the command has ended, the client has gone, or it detached; the command runs on in the latter two."""
        instance, process = self._instance, self._instance.process
        assert process is not None
        spawn = asyncio.get_running_loop().create_task
        gone = spawn(self._duplex.wait_closed())
        tasks = {gone}
        if instance.config.attach_stdin:
            tasks.add(spawn(self._feed(containers, process)))
        try:
            await asyncio.wait({finishing, *tasks}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            left = gone.done()
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            if left and instance.config.attach_stdin:
                await process.close_stdin()  # nobody can write to it any more

    async def _feed(self, containers: Containers, process: ExecProcess) -> None:
        """Input until a detach; returns only then."""
        scanner = DetachScanner(detach_keys(self._instance.config.detach_keys)) if self._instance.config.tty else None
        with suppress(ConnectionError):
            while data := await self._duplex.read():
                detached = False
                if scanner is not None:
                    data, detached = scanner.feed(data)
                with suppress(BrokenPipeError):
                    await process.write(data)
                if detached:
                    containers.emit(self._instance.container, "exec_detach", execID=self._instance.id)
                    return
        await process.close_stdin()
        await asyncio.get_running_loop().create_future()

    def close(self) -> None:
        """The client is leaving: output goes nowhere from here on, and must not stay paused."""
        self._wanted.clear()
        if self._resuming is not None:
            self._resuming.cancel()
            self._resuming = None
        if self._instance.process is not None:
            self._instance.process.resume_output()
