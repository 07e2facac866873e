"""The monitor: one conmon a container owns its stdio, log and exit code, and lives on when the engine does not.

A bundle is the directory of one run: ``config.json`` (ours), ``pid``, ``conmon.pid``, ``attach``, ``ctl``, ``oom`` (the
monitor's). The monitor double-forks, runs the runtime's ``create`` below itself and tells the result on a pipe; the
container's init then waits, and output can be attached to before it is released.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import socket
from collections.abc import Awaitable, Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

from wherry.engine.oci.errors import RuntimeFailure, translate
from wherry.engine.oci.exits import ExitWatcher, read_exit
from wherry.engine.oci.process import Child, spawn_in

if TYPE_CHECKING:
    from wherry.engine.oci.runtime import Runtime

__all__ = ["Attachment", "ExitWatcher", "Launched", "launch", "oom_marked", "read_exit", "reopen_log", "resize"]

log = logging.getLogger(__name__)

PACKET = 32768  # the monitor silently cuts longer input packets
OUTPUT = 8192 + 1  # its output packets: the stream's number and at most this much
CREATE_DEADLINE = 120.0
_WAKE_SECONDS = 0.004  # that output may take before everything else has its turn: it has many readers perhaps


@dataclass(frozen=True, slots=True)
class Launched:
    """A created container whose init waits to be released. ``pid`` is the init's, in the engine's pid namespace."""

    pid: int
    conmon_pid: int


async def launch(
    *,
    conmon: str,
    runtime: Runtime,
    container_id: str,
    name: str,
    bundle: Path,
    exits: Path,
    log_path: Path | None,
    command: str,
    tty: bool = False,
    stdin: bool = False,
    leave_stdin_open: bool = False,
    deadline: float = CREATE_DEADLINE,
    prepare: Callable[[], Awaitable[None]] | None = None,
) -> Launched:
    """Start a monitor that creates the container of ``bundle/config.json``; returns when its init waits for
    ``Runtime.start``.

    ``prepare`` is what must be done before the runtime is called, ``config.json`` written at last: it runs while the
    monitor's program is being loaded. What it raises is raised here.

    ``log_path`` None keeps no log. ``stdin`` opens the container's standard input; ``leave_stdin_open`` keeps it open
    when an attached writer closes (Tty or not StdinOnce). ``command`` is what the error text names.
    Raises ``RuntimeFailure`` (STA3). Whatever fails, nothing of the attempt is left; a caller that is cancelled is so
    once the attempt has been undone.
    """
    (exits / container_id).unlink(missing_ok=True)
    argv = [conmon, "--api-version", "1", "-c", container_id, "-u", container_id, "-n", name]
    argv += ["-r", runtime.program, "-b", str(bundle), "-p", str(bundle / "pid"), "--conmon-pidfile"]
    argv += [str(bundle / "conmon.pid"), "--exit-dir", str(exits), "--persist-dir", str(bundle), "--full-attach"]
    argv += ["--no-sync-log", "--log-level", "error", "-l", f"k8s-file:{log_path}" if log_path else "none"]
    for argument in runtime.global_arguments:
        argv += ["--runtime-arg", argument]
    if tty:
        argv.append("-t")
    if stdin:
        argv.append("-i")
    if leave_stdin_open:
        argv.append("--leave-stdin-open")

    attempt = asyncio.ensure_future(_attempt(argv, bundle, command, deadline, prepare))
    try:
        return await asyncio.shield(attempt)
    except BaseException:
        # A runtime killed half-way leaves a half-made container: let it come to its end, then delete what it made.
        undoing = asyncio.ensure_future(_undo(attempt, runtime, container_id))
        _background.add(undoing)
        undoing.add_done_callback(_background.discard)
        await asyncio.shield(undoing)
        raise


_background: set[asyncio.Future[Any]] = set()


async def _undo(attempt: asyncio.Future[Launched], runtime: Runtime, container_id: str) -> None:
    await asyncio.wait({attempt})
    if not attempt.cancelled():
        attempt.exception()  # it has been told to the caller, or the caller has gone
    with suppress(RuntimeFailure):
        await runtime.delete(container_id)


async def _attempt(
    argv: list[str], bundle: Path, command: str, deadline: float, prepare: Callable[[], Awaitable[None]] | None
) -> Launched:
    with ExitStack() as stack:
        read_end, write_end = os.pipe()
        stack.callback(os.close, read_end)
        try:
            gate, key = os.pipe()
        except OSError:
            os.close(write_end)
            raise
        stack.callback(os.close, key)
        # the monitor forks, and calls the runtime, once it has read a byte from its start pipe
        # (in the bundle: there it leaves its mark of want of memory)
        environment = {"_OCI_SYNCPIPE": "3", "_OCI_STARTPIPE": "4"}
        fds = {3: write_end, 4: gate}
        starting = asyncio.ensure_future(spawn_in(bundle, argv, env=environment, pass_fds=fds))
        failure: BaseException | None = None
        if prepare is not None:
            await asyncio.sleep(0)  # the monitor first
            try:
                await prepare()
            except BaseException as error:
                failure = error
        try:
            child = await starting
        except OSError as error:
            raise failure or RuntimeFailure(f"starting the monitor {argv[0]} failed: {error.strerror}") from error
        finally:
            os.close(write_end)
            os.close(gate)
        try:
            if failure is not None:
                child.kill()  # it has not forked yet; it must be dead before its start pipe ends
                raise failure
            with suppress(BrokenPipeError):  # it ended by itself: its report says why
                os.write(key, b"\n")
            try:
                report = await asyncio.wait_for(_read_report(read_end), deadline)
            except TimeoutError:
                _kill_monitor(bundle, child)
                raise RuntimeFailure(f"the runtime did not create the container within {deadline:g} s") from None
            except BaseException:
                _kill_monitor(bundle, child)
                raise
        finally:
            reaped = asyncio.ensure_future(child.wait())
            _background.add(reaped)
            reaped.add_done_callback(_background.discard)

    pid, message = report
    if pid <= 0:
        raise translate(message or "the monitor ended without a word", command)
    return Launched(pid, _read_pid(bundle / "conmon.pid"))


async def _read_report(fd: int) -> tuple[int, str]:
    """What the monitor says: the init's pid, or -1 and the runtime's error text."""
    loop = asyncio.get_running_loop()
    os.set_blocking(fd, False)
    ready = asyncio.Event()
    loop.add_reader(fd, ready.set)
    data = b""
    try:
        while b"\n" not in data:
            await ready.wait()
            ready.clear()
            try:
                piece = os.read(fd, 65536)
            except BlockingIOError:
                continue
            if not piece:
                break
            data += piece
    finally:
        loop.remove_reader(fd)
    try:
        report = json.loads(data.split(b"\n", 1)[0])
        return int(report["data"]), str(report.get("message") or "")
    except (ValueError, KeyError, TypeError):
        return -1, data.decode(errors="replace")


def _read_pid(path: Path) -> int:
    try:
        return int(path.read_bytes())
    except (OSError, ValueError):
        return 0


def _kill_monitor(bundle: Path, child: Child) -> None:
    child.kill()
    pid = _read_pid(bundle / "conmon.pid")
    if pid > 1:
        with suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)  # it leads a session; the runtime is in it, the container is not


class Attachment:
    """The engine's one connection to a container's monitor.

    ``on_output(stream, data)`` gets every write of the container from the moment of connecting, stream 1 or 2, at most
    8192 bytes a call; ``on_end()`` is called once, when all output has been delivered and the monitor has gone. Both
    run on the loop. The connection must always be drained: a monitor that cannot write to it stops the container.
    """

    def __init__(self, connection: socket.socket, on_output: Callable[[int, bytes], None], on_end: Callable[[], None]):
        self._socket = connection
        self._on_output = on_output
        self._on_end = on_end
        self._loop = asyncio.get_running_loop()
        self._waiter: asyncio.Future[None] | None = None  # the one sender that waits for room
        self._sending = asyncio.Lock()
        self._closed = False
        self._ended = False
        self._loop.add_reader(connection.fileno(), self._readable)

    @classmethod
    async def connect(
        cls, bundle: Path, on_output: Callable[[int, bytes], None], on_end: Callable[[], None]
    ) -> Attachment:
        """Connect to the monitor of a bundle. Raises ``OSError`` when it is gone."""
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        directory = os.open(bundle, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            # by way of the descriptor: a socket's address holds 107 bytes only
            connection.connect(f"/proc/self/fd/{directory}/attach")
        except BaseException:
            connection.close()
            raise
        finally:
            os.close(directory)
        return cls(connection, on_output, on_end)

    @property
    def ended(self) -> bool:
        """True once all output has been delivered, or after ``close``."""
        return self._ended or self._closed

    def _readable(self) -> None:
        receive = self._socket.recv
        deliver = self._on_output
        try:
            end = monotonic() + _WAKE_SECONDS
            while monotonic() < end:
                packet = receive(OUTPUT)
                if not packet:
                    self._end()
                    return
                deliver(packet[0] - 1, packet[1:])  # the monitor counts 2, 3
                if self._closed:
                    return
        except BlockingIOError:
            return
        except OSError:
            self._end()

    def _end(self) -> None:
        if not self._ended:
            self._ended = True
            self._shut()
            self._on_end()

    async def send(self, data: bytes | bytearray | memoryview) -> None:
        """Write to the container's stdin; returns when the kernel has taken it all. Callers are served in order.

        Raises ``ConnectionError`` when the monitor has gone.
        """
        async with self._sending:
            view = memoryview(data)
            while view:
                if self.ended:
                    raise ConnectionResetError("the container's monitor has gone")
                try:
                    sent = self._socket.send(view[:PACKET])
                except BlockingIOError:
                    await self._writable()
                    continue
                except OSError as error:
                    raise ConnectionResetError(f"the container's monitor has gone: {error.strerror}") from error
                view = view[sent:]

    async def _writable(self) -> None:
        self._waiter = waiter = self._loop.create_future()
        fd = self._socket.fileno()
        self._loop.add_writer(fd, self._wake)
        try:
            await waiter
        finally:
            self._waiter = None
            if not self.ended:
                self._loop.remove_writer(fd)

    def _wake(self) -> None:
        if self._waiter and not self._waiter.done():
            self._waiter.set_result(None)

    async def send_eof(self) -> None:
        """Close the container's stdin, behind everything sent; output goes on. Nothing can be sent afterwards.

        Without effect on a container that was launched with ``leave_stdin_open``.
        """
        async with self._sending:
            if not self.ended:
                with suppress(OSError):
                    self._socket.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Leave; the container goes on. ``on_end`` is not called."""
        if not self._closed:
            self._closed = True
            if not self._ended:
                self._shut()

    def _shut(self) -> None:
        fd = self._socket.fileno()
        self._loop.remove_reader(fd)
        self._loop.remove_writer(fd)
        self._socket.close()
        self._wake()


def resize(bundle: Path, height: int, width: int) -> bool:
    """Tell the monitor the terminal's new size, in characters; False when there is no monitor (RES1)."""
    return _control(bundle, f"1 {height} {width}\n")


def reopen_log(bundle: Path) -> bool:
    """Have the monitor open its log anew, after the file was renamed; False when there is no monitor."""
    return _control(bundle, "2 0 0\n")


def _control(bundle: Path, line: str) -> bool:
    try:
        fd = os.open(bundle / "ctl", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:  # ENXIO: nobody reads
        return False
    try:
        os.write(fd, line.encode())
    except OSError:
        return False
    finally:
        os.close(fd)
    return True


def oom_marked(bundle: Path) -> bool:
    """True when the monitor saw the kernel end a process of the container for want of memory."""
    return (bundle / "oom").exists()
