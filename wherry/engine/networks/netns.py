"""Network namespaces: made by a thread of their own and held by a bind mount.

A thread that has changed its namespace ends with its call and is never given back to a pool. To make a thread costs
some 0.1 ms, which is less than any way of proving that it is back where it was.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import errno
import os
import threading
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")

_CLONE_NEWNET = 0x40000000
_MS_BIND = 0x1000
_MNT_DETACH = 0x2
_UMOUNT_NOFOLLOW = 0x8

_libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int, what: str) -> None:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{what}: {os.strerror(code)}")


async def in_own_thread(function: Callable[[], T]) -> T:
    """Run ``function`` in a thread made for it alone, which it may leave in any namespace.

    Cancelling the caller does not stop the call.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def settle(result: T | None, error: BaseException | None) -> None:
        if future.done():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)  # type: ignore[arg-type]

    def run() -> None:
        result, error = None, None
        try:
            result = function()
        except BaseException as caught:
            error = caught
        with contextlib.suppress(RuntimeError):  # the loop was closed meanwhile: nobody waits
            loop.call_soon_threadsafe(settle, result, error)

    threading.Thread(target=run, name="wherry-netns", daemon=True).start()
    return await future


async def to_the_end(work: Coroutine[Any, Any, T]) -> T:
    """Await what must not be left half done: a cancelled caller is told so only when it is over."""
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        while not task.done():
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait([task])
        if not task.cancelled():
            task.exception()  # seen, and of no interest to who went away
        raise


def unshare_here(path: Path) -> int:
    """Move the calling thread into a fresh network namespace, hold that at ``path``, and return an open fd of it.

    Only for a thread of ``in_own_thread``. Raises ``OSError``; then nothing is held and no file is left.
    """
    _check(_libc.unshare(_CLONE_NEWNET), "create a network namespace")
    fd = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.close(os.open(path, os.O_RDONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o444))
        try:
            result = _libc.mount(b"/proc/thread-self/ns/net", os.fsencode(path), b"", _MS_BIND, None)
            _check(result, f"mount a network namespace on {path}")
        except OSError:
            os.unlink(path)
            raise
    except OSError:
        os.close(fd)
        raise
    return fd


def enter_here(path: Path) -> int:
    """Move the calling thread into the namespace held at ``path``, and return an open fd of it.

    Only for a thread of ``in_own_thread``. Raises ``OSError``.
    """
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        _check(_libc.setns(fd, _CLONE_NEWNET), f"enter the network namespace {path}")
    except OSError:
        os.close(fd)
        raise
    return fd


def drop(path: Path) -> None:
    """Let go of the namespace held at ``path``; without users it goes, and its links with it, in the kernel's time.

    Idempotent. Raises ``OSError`` only when the mount can't be undone.
    """
    if _libc.umount2(os.fsencode(path), _MNT_DETACH | _UMOUNT_NOFOLLOW) < 0:
        code = ctypes.get_errno()
        if code not in (errno.EINVAL, errno.ENOENT):
            raise OSError(code, f"unmount {path}: {os.strerror(code)}")
    path.unlink(missing_ok=True)


def is_held(path: Path) -> bool:
    """Whether a namespace is mounted on ``path``."""
    try:
        return path.stat().st_dev != path.parent.stat().st_dev
    except FileNotFoundError:
        return False


def set_sysctl(name: str, value: str) -> None:
    """Write a ``/proc/sys/net`` value of the calling thread's namespace. Raises ``OSError``."""
    fd = os.open(f"/proc/sys/net/{name}", os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, value.encode())
    finally:
        os.close(fd)


def get_sysctl(name: str) -> str | None:
    """A ``/proc/sys/net`` value of the calling thread's namespace; None where the kernel has none."""
    try:
        return Path("/proc/sys/net", name).read_text().strip()
    except OSError:
        return None
