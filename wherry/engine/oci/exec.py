"""Commands run inside a container (exec, health checks): the runtime's ``exec`` on the engine's own pipes.

The runtime stays as the command's parent and ends with its exit code. It writes the command's pid to a file once the
command runs; when it ends without, the command never started and the runtime's log says why. A command ends with the
engine, as in moby: its pipes do.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import json
import os
import signal
import socket
import struct
import termios
import uuid
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from wherry.engine.oci.errors import EXEC_PREFIX, RuntimeFailure, translate
from wherry.engine.oci.inotify import Inotify
from wherry.engine.oci.process import Child, Pidfd, spawn
from wherry.engine.oci.runtime import Runtime

START_DEADLINE = 60.0
DRAIN = 2.0  # s that output may keep coming after the end, from what the command left behind (AUT1)
READ = 65536
STDOUT, STDERR = 1, 2


class ExecProcess:
    """One command. ``on_output(stream, data)`` is called on the loop, stream 1 or 2; with a terminal always 1."""

    def __init__(
        self, child: Child, ended: asyncio.Future[int], pid: int, on_output: Callable[[int, bytes], None]
    ) -> None:
        self.pid = pid
        self._child = child
        self._ended = ended
        self._on_output = on_output
        self._loop = asyncio.get_running_loop()
        self._process: Pidfd | None = None
        self._readers: dict[int, int] = {}  # fd → stream
        self._paused = False
        self._drained = asyncio.Event()
        self._stdin = -1
        self._terminal = -1
        self._proxied = False  # the terminal is the runtime's, which copies between it and the command's own
        self._writing = asyncio.Lock()
        self._room: asyncio.Future[None] | None = None

    @classmethod
    async def start(
        cls,
        runtime: Runtime,
        container_id: str,
        process: Mapping[str, Any],
        on_output: Callable[[int, bytes], None],
        *,
        directory: Path,
        stdin: bool = False,
        deadline: float = START_DEADLINE,
    ) -> ExecProcess:
        """Start a command in a running container; returns once it runs.

        ``process`` is an OCI ``process`` (``spec.build_exec_process``), whose ``oomScoreAdj`` counts under any runtime;
        ``directory`` is a place for files of the moment. ``stdin`` opens its standard input. Raises ``RuntimeFailure``: 127
        not found, 126 not executable, else 128.
        """
        tty = bool(process.get("terminal"))
        work = directory / f"exec-{uuid.uuid4().hex}"
        work.mkdir(mode=0o700)
        with ExitStack() as stack:
            stack.callback(_remove, work)
            (work / "process.json").write_text(json.dumps(process))
            arguments = ["--log", str(work / "log"), "exec", "--process", str(work / "process.json")]
            arguments += ["--pid-file", str(work / "pid")]
            console = _Console(work, stack) if tty and runtime.is_crun else None
            pipes = _Pipes(stdin, tty, console is None)
            stack.callback(pipes.close)
            if console:
                arguments += ["--console-socket", console.path]
            elif tty and process.get("consoleSize"):
                pipes.resize(process["consoleSize"]["height"], process["consoleSize"]["width"])

            try:
                child = spawn(
                    [*_with_oom_score(process.get("oomScoreAdj")), *runtime.command(*arguments, container_id)],
                    stdin=pipes.child.get(0),
                    stdout=pipes.child.get(1),
                    stderr=pipes.child.get(2),
                )
            except OSError as error:
                raise RuntimeFailure(f"{EXEC_PREFIX}{runtime.path}: {error.strerror}: unknown") from error
            pipes.close_child()
            ended = asyncio.ensure_future(child.wait())
            waits: list[asyncio.Future[Any]] = [asyncio.ensure_future(_appears(work, "pid"))]
            if console:
                waits.append(asyncio.ensure_future(console.receive()))
            try:
                await asyncio.wait_for(_first(ended, waits), deadline)
            except TimeoutError:
                child.kill()
                raise RuntimeFailure(f"{EXEC_PREFIX}no answer within {deadline:g} s: unknown") from None
            except BaseException:
                child.kill()
                with suppress(OSError):
                    os.kill(_read_pid(work / "pid") or child.pid, signal.SIGKILL)
                raise
            finally:
                for wait in waits:
                    wait.cancel()
                await asyncio.wait(waits)
            pid = _read_pid(work / "pid")
            if pid <= 0:
                code = await ended
                said = _last_message(work / "log") or f"{runtime.name} ended with {code}"
                raise translate(said, str(process["args"][0]), prefix=EXEC_PREFIX)
            self = cls(child, ended, pid, on_output)
            with suppress(OSError):
                self._process = Pidfd(pid)
            if tty:
                self._proxied = console is None
                self._terminal = self._stdin = console.take() if console else pipes.take(0)
                self._read(self._terminal, STDOUT)
            else:
                self._stdin = pipes.take(0)
                self._read(pipes.take(1), STDOUT)
                self._read(pipes.take(2), STDERR)
            return self

    # output

    def _read(self, fd: int, stream: int) -> None:
        if fd >= 0:
            os.set_blocking(fd, False)
            self._readers[fd] = stream
            self._loop.add_reader(fd, self._readable, fd, stream)

    def _readable(self, fd: int, stream: int) -> None:
        try:
            data = os.read(fd, READ)
        except BlockingIOError:
            return
        except OSError:  # EIO: the terminal's other side is closed
            data = b""
        if data:
            self._on_output(stream, data)
            return
        self._stop_reading(fd)

    def _stop_reading(self, fd: int) -> None:
        if self._readers.pop(fd, None) is None:
            return
        self._loop.remove_reader(fd)
        if fd != self._terminal:
            os.close(fd)
        if not self._readers:
            self._drained.set()

    def pause_output(self) -> None:
        """Take no more output for now: the command will block once its pipe is full."""
        self._paused = True
        for fd in self._readers:
            self._loop.remove_reader(fd)

    def resume_output(self) -> None:
        if self._paused:
            self._paused = False
            for fd, stream in self._readers.items():
                self._loop.add_reader(fd, self._readable, fd, stream)

    # input

    async def write(self, data: bytes | bytearray | memoryview) -> None:
        """Write to the command's stdin; returns when the kernel has taken it all.

        Raises ``BrokenPipeError`` when the command has closed its stdin or ended, or it was never opened.
        """
        async with self._writing:
            view = memoryview(data)
            while view:
                if self._stdin < 0:
                    raise BrokenPipeError(errno.EPIPE, "the command's stdin is closed")
                try:
                    view = view[os.write(self._stdin, view) :]
                except BlockingIOError:
                    await self._writable()
                except OSError as error:
                    self._shut_stdin()
                    raise BrokenPipeError(errno.EPIPE, "the command's stdin is closed") from error

    async def _writable(self) -> None:
        fd = self._stdin
        self._room = room = self._loop.create_future()
        self._loop.add_writer(fd, self._wake)
        try:
            await room
        finally:
            self._room = None
            if self._stdin == fd:
                self._loop.remove_writer(fd)

    def _wake(self) -> None:
        if self._room and not self._room.done():
            self._room.set_result(None)

    async def close_stdin(self) -> None:
        """End-of-file on the command's stdin, behind everything written. A terminal stays open."""
        async with self._writing:
            if self._terminal < 0:
                self._shut_stdin()

    def _shut_stdin(self) -> None:
        if self._stdin >= 0:
            self._loop.remove_writer(self._stdin)
            if self._stdin != self._terminal:
                os.close(self._stdin)
            self._stdin = -1
            self._wake()

    def resize(self, height: int, width: int) -> bool:
        """Set the terminal's size in characters; False when there is none."""
        if self._terminal < 0:
            return False
        with suppress(OSError):
            set_size(self._terminal, height, width)
            if self._proxied:
                self._child.kill(signal.SIGWINCH)
        return True

    def kill(self, number: int = signal.SIGKILL) -> bool:
        """Send the command a signal; False when it has ended."""
        return self._process is not None and self._process.signal(number)

    async def wait(self) -> int:
        """The exit code, 128 + n after signal n; all output has been handed over by then.

        To be called once, and always: it also lets go of the pipes.

        Output paused by ``pause_output`` is waited for as long as the pause lasts.
        """
        code = await asyncio.shield(self._ended)
        end = self._loop.time() + DRAIN
        while self._readers and not self._drained.is_set():
            if self._paused:
                end = self._loop.time() + DRAIN
            try:
                await asyncio.wait_for(self._drained.wait(), min(0.1, max(0.0, end - self._loop.time())))
            except TimeoutError:
                if not self._paused and self._loop.time() >= end:
                    break
        self.close()
        return code

    def close(self) -> None:
        """Let go of the pipes; a command that still runs goes on without them."""
        self._shut_stdin()
        for fd in list(self._readers):
            self._stop_reading(fd)
        if self._terminal >= 0:
            os.close(self._terminal)
            self._terminal = -1
        if self._process:
            self._process.close()
            self._process = None


class _Pipes:
    """Our ends and the child's of its standard streams: pipes, or one terminal that our end 0 is the master of.
    With a terminal that comes through a console socket there are none.
    """

    def __init__(self, stdin: bool, tty: bool, needed: bool) -> None:
        self.child: dict[int, int] = {}
        self._own: dict[int, int] = {}
        if not needed:
            return
        try:
            if tty:
                self._own[0], self.child[0] = os.openpty()
                self.child[1], self.child[2] = os.dup(self.child[0]), os.dup(self.child[0])
                return
            if stdin:
                self.child[0], self._own[0] = os.pipe()
                os.set_blocking(self._own[0], False)
            for number in (1, 2):
                self._own[number], self.child[number] = os.pipe()
        except OSError:
            self.close()
            raise

    def resize(self, height: int, width: int) -> None:
        set_size(self._own[0], height, width)

    def take(self, number: int) -> int:
        return self._own.pop(number, -1)

    def close_child(self) -> None:
        while self.child:
            os.close(self.child.popitem()[1])

    def close(self) -> None:
        self.close_child()
        while self._own:
            os.close(self._own.popitem()[1])


class _Console:
    """The socket by which the runtime hands over the terminal's master."""

    def __init__(self, work: Path, stack: ExitStack) -> None:
        self.terminal = -1
        directory = os.open(work, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        stack.callback(os.close, directory)
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        stack.callback(self._listener.close)
        stack.callback(self._drop)
        self._listener.bind(f"/proc/self/fd/{directory}/console")
        self._listener.listen(1)
        self.path = str(work / "console")
        if len(os.fsencode(self.path)) > 107:  # what fits into a socket's address
            self.path = f"/proc/{os.getpid()}/fd/{directory}/console"

    async def receive(self) -> None:
        loop = asyncio.get_running_loop()
        connection, _ = await loop.sock_accept(self._listener)
        with connection:
            connection.setblocking(False)
            ready = asyncio.Event()
            loop.add_reader(connection.fileno(), ready.set)
            try:
                await ready.wait()
                _, fds, _, _ = socket.recv_fds(connection, 4096, 1)
            finally:
                loop.remove_reader(connection.fileno())
        for fd in fds:
            os.set_inheritable(fd, False)
        if fds:
            self.terminal = fds[0]

    def take(self) -> int:
        fd, self.terminal = self.terminal, -1
        return fd

    def _drop(self) -> None:
        if self.terminal >= 0:
            os.close(self.take())


async def _appears(directory: Path, name: str) -> None:
    """Until a file is there and complete."""
    found = asyncio.Event()
    try:
        watch = Inotify(directory, lambda which: found.set() if which in (name, None) else None)
    except OSError:  # no watches left on this machine
        while _read_pid(directory / name) <= 0:  # noqa: ASYNC110
            await asyncio.sleep(0.005)
        return
    try:
        while _read_pid(directory / name) <= 0:
            await found.wait()
            found.clear()
    finally:
        watch.close()


async def _first(ended: asyncio.Future[int], waits: list[asyncio.Future[Any]]) -> None:
    """Until all ``waits`` are done, or the runtime has ended."""
    pending: set[asyncio.Future[Any]] = set(waits)
    while pending and not ended.done():
        done, _ = await asyncio.wait({ended, *pending}, return_when=asyncio.FIRST_COMPLETED)
        pending -= done


def set_size(terminal: int, height: int, width: int) -> None:
    """Set a terminal's size, in characters. Raises ``OSError``."""
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", height & 0xFFFF, width & 0xFFFF, 0, 0))


def _read_pid(path: Path) -> int:
    try:
        return int(path.read_bytes())
    except (OSError, ValueError):
        return 0


def _last_message(path: Path) -> str:
    """The last line of the runtime's log (plain or logrus text)."""
    try:
        lines = path.read_text(errors="replace").strip().splitlines()
    except OSError:
        return ""
    return lines[-1] if lines else ""


def _with_oom_score(value: int | None) -> list[str]:
    """What goes in front of the runtime: crun leaves an exec the score that it has itself. Nothing where that fits."""
    with suppress(OSError), open("/proc/self/oom_score_adj", encoding="ascii") as file:
        if value is not None and value != int(file.read()):
            return ["/bin/sh", "-c", 'echo "$0" > /proc/self/oom_score_adj; exec "$@"', str(value)]
    return []


def _remove(work: Path) -> None:
    for name in ("process.json", "pid", "log", "console"):
        with suppress(OSError):
            (work / name).unlink()
    with suppress(OSError):
        work.rmdir()
