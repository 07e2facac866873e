"""Processes, held by pidfd: a pid may be used again, a pidfd never means another process.

Nothing here touches SIGCHLD or asyncio's child watchers: the engine may live inside a program that has children of its
own, so it waits for its own pids only, each through its own pidfd.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import select
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

from wherry.engine.oci.null import open_null
from wherry.engine.oci.signals import InvalidSignal, parse_signal, signal_name

__all__ = [
    "Child",
    "InvalidSignal",
    "Pidfd",
    "executable_of",
    "is_there",
    "parse_signal",
    "pidfd_open",
    "signal_name",
    "signal_pidfd",
    "spawn",
    "spawn_in",
    "start_time",
    "until_executed",
    "wait_pidfd",
]

_CLONE_FS = 0x00000200
# Python ignores SIGPIPE and SIGXFSZ, the embedding program perhaps more: what we start begins with the defaults.
_DEFAULT_SIGNALS = [s for s in signal.valid_signals() if s not in (signal.SIGKILL, signal.SIGSTOP)]

SEARCH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
ENVIRONMENT = {"PATH": SEARCH, "LC_ALL": "C.UTF-8", "TZ": "UTC"}


def start_time(pid: int) -> int:
    """When the process started, in clock ticks since boot; with the pid it names a process for good. 0 if gone.

    Raises ``OSError`` when that cannot be told: no descriptor is left.
    """
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return 0 if fields[0] in b"ZX" else int(fields[19])


def executable_of(pid: int) -> str:
    """The program that the process runs, as the kernel names it; empty once it has ended."""
    try:
        return os.readlink(f"/proc/{pid}/exe")
    except OSError:
        return ""


async def until_executed(pid: int, before: str, seconds: float = 2.0) -> None:
    """Wait until the process runs another program than ``before``, or has ended; for a slow file system so long at most.

    Nothing tells of it. It takes some 0.2 ms, so that a timer, whose least is 1 ms, is left for a busy machine.
    """
    begun = time.monotonic()
    while before and executable_of(pid) == before:
        past = time.monotonic() - begun
        if past > seconds:
            return
        await asyncio.sleep(0 if past < 0.001 else 0.001)


def is_there(pid: int) -> bool:
    """Whether a process of this number lives; in doubt it does."""
    try:
        return start_time(pid) != 0
    except OSError:
        return True


def pidfd_open(pid: int, started: int = 0) -> int:
    """A pidfd of the process. With ``started`` (of ``start_time``) it must be that very process.

    Raises ``ProcessLookupError`` when it is gone, ``OSError`` when that cannot be told.
    """
    fd = os.pidfd_open(pid)
    try:
        if started and start_time(pid) != started:
            raise ProcessLookupError(f"process {pid} is gone")
    except OSError:
        os.close(fd)
        raise
    return fd


async def wait_pidfd(fd: int) -> None:
    """Wait until the process has ended (it may still be a zombie)."""
    loop = asyncio.get_running_loop()
    own = os.dup(fd)  # the loop knows one reader an fd; this one is ours alone
    ended: asyncio.Future[None] = loop.create_future()
    loop.add_reader(own, _resolve, ended)
    try:
        await ended
    finally:
        loop.remove_reader(own)
        os.close(own)


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def signal_pidfd(fd: int, number: int) -> bool:
    """Send a signal; False when the process is gone."""
    try:
        signal.pidfd_send_signal(fd, number)
    except ProcessLookupError:
        return False
    return True


class Pidfd:
    """An owned pidfd of any process; close it when done."""

    def __init__(self, pid: int, started: int = 0) -> None:
        self.pid = pid
        self.fd = pidfd_open(pid, started)

    @property
    def alive(self) -> bool:
        """False once the process has ended, be it a zombie still, and once this is closed."""
        if self.fd < 0:
            return False
        poll = select.poll()
        poll.register(self.fd, select.POLLIN)
        return not poll.poll(0)

    def signal(self, number: int) -> bool:
        """Send a signal; False when the process is gone."""
        return self.fd >= 0 and signal_pidfd(self.fd, number)

    async def wait(self) -> None:
        """Wait until the process has ended."""
        await wait_pidfd(self.fd)

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


@dataclass(slots=True)
class Child:
    """A process of ours. ``wait`` must be called once, so that it does not stay a zombie."""

    pid: int
    fd: int

    async def wait(self) -> int:
        """The exit code; 128 + n for a process that signal n ended; 255 when another part of the program reaped it."""
        if self.fd < 0:
            return 255
        try:
            await wait_pidfd(self.fd)
            result = os.waitid(os.P_PIDFD, self.fd, os.WEXITED | os.WNOHANG)  # noqa: ASYNC222 - it has ended
        except ChildProcessError:
            result = None
        finally:
            os.close(self.fd)
            self.fd = -1
        if result is None:
            return 255
        return result.si_status if result.si_code == os.CLD_EXITED else 128 + result.si_status

    def kill(self, number: int = signal.SIGKILL) -> None:
        if self.fd >= 0:
            signal_pidfd(self.fd, number)


def spawn(
    argv: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    stdin: int | None = None,
    stdout: int | None = None,
    stderr: int | None = None,
    pass_fds: Mapping[int, int] | None = None,
) -> Child:
    """Start a program (absolute path in ``argv[0]``) in a session of its own with default signals and a small
    environment: what a service manager or a user left in ours (NOTIFY_SOCKET, locales) is not the runtime's business.

    File descriptors not given are a null device (``oci.null``); ``pass_fds`` maps numbers in the child (3 …) to ours.
    Nothing else is inherited. Raises ``OSError`` when the program cannot be executed.
    """
    actions: list[tuple[int, int, int]] = []
    given = {0: stdin, 1: stdout, 2: stderr, **(pass_fds or {})}
    null = open_null() if None in given.values() else -1
    sources = {target: null if source is None else source for target, source in given.items()}
    # A source that stands where a target goes would be overwritten: lift such sources above all targets first.
    lifted: list[int] = []
    try:
        for target, source in sources.items():
            if source != target and source in sources:
                source = _lift(source, max(sources) + 1)
                lifted.append(source)
            actions.append((os.POSIX_SPAWN_DUP2, source, target))
        pid = os.posix_spawn(
            argv[0],
            list(argv),
            {**ENVIRONMENT, **(env or {})},
            file_actions=actions,
            setsid=True,
            setsigmask=[],
            setsigdef=_DEFAULT_SIGNALS,
        )
    finally:
        for fd in lifted:
            os.close(fd)
        if null >= 0:
            os.close(null)
    try:
        return Child(pid, os.pidfd_open(pid))
    except ProcessLookupError:  # SIGCHLD is ignored in this program: the kernel has reaped it already
        return Child(pid, -1)
    except OSError:  # no descriptor is left: nobody could wait for it
        os.kill(pid, signal.SIGKILL)
        with suppress(ChildProcessError):
            os.waitpid(pid, 0)
        raise


async def spawn_in(
    cwd: Path, argv: Sequence[str], *, env: Mapping[str, str] | None = None, pass_fds: Mapping[int, int] | None = None
) -> Child:
    """``spawn`` with a working directory, and with the loop free until the program has been loaded.

    The descriptors must stay open until this returns, and a caller must not be cancelled meanwhile.
    """
    start = partial(spawn, argv, env=env, pass_fds=pass_fds)
    return await asyncio.wrap_future(_elsewhere().submit(_spawn_in, cwd, start))


@cache
def _elsewhere() -> ThreadPoolExecutor:
    """A thread with a working directory of its own (``CLONE_FS`` undone): the process's is the program's, not ours."""
    return ThreadPoolExecutor(max_workers=1, thread_name_prefix="wherry-spawn", initializer=_own_directory)


def _own_directory() -> None:
    if ctypes.CDLL(None, use_errno=True).unshare(_CLONE_FS):
        raise OSError(ctypes.get_errno(), "unshare")


def _spawn_in(cwd: Path, start: Callable[[], Child]) -> Child:
    os.chdir(cwd)
    try:
        return start()
    finally:
        os.chdir("/")


def _lift(fd: int, minimum: int) -> int:
    import fcntl

    return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, minimum)
