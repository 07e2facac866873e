"""The mounts of volumes with options: made for the first holder, taken away after the last.

They lie at the volume's directory, where every engine that starts finds them in the kernel's own table: nothing of them
has to be written down. A mount may wait for another machine for ever, so each is made by a thread of its own and given up
after a while; should it come after all, it is taken away again.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import threading
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from wherry.api.errors import ServerError
from wherry.engine.blocking import in_thread
from wherry.engine.store.overlay import mount, mounts_below, umount, umount_lazily
from wherry.engine.volumes.options import (
    MS_BIND,
    MS_RDONLY,
    MS_REC,
    MS_REMOUNT,
    PROPAGATION,
    MountOptions,
    resolve,
    without_password,
)

log = logging.getLogger(__name__)

DEADLINE = 60.0  # seconds that a mount may take


@dataclass(slots=True)
class _Entry:
    holders: set[str] = field(default_factory=set)
    mounted: bool = False
    remote: bool = True  # another machine may keep an unmount waiting; what was found at the start may be so
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    attempt: _Attempt | None = None


class Mounting:
    """Which volumes of ``directory`` are mounted, and for whom. All methods belong to the engine's loop."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._entries: dict[str, _Entry] = {}

    async def acquire(self, name: str, options: MountOptions, holder: str) -> None:
        """Have the volume mounted for ``holder``. Raises ``ServerError``."""
        entry = self._entries.setdefault(name, _Entry())
        async with entry.lock:
            if not entry.mounted:
                await self._mount(name, options, entry)
                entry.mounted, entry.remote = True, options.remote
            entry.holders.add(holder)

    async def release(self, name: str, holder: str) -> None:
        """Give ``holder``'s claim up; the last one's end unmounts. Nothing happens to a volume that is gone."""
        entry = self._entries.get(name)
        if entry is None:
            return
        async with entry.lock:
            entry.holders.discard(holder)
            if not entry.holders and entry.mounted:
                entry.mounted = False
                await in_thread(_unmount, self._path(name), lazily=entry.remote)

    def adopt(self, users: Mapping[str, Collection[str]]) -> list[str]:
        """At the engine's start: volumes that are mounted belong to ``users``. Returns those that nobody uses."""
        idle = []
        mounted = set(mounts_below(self._directory))
        for name, holders in users.items():
            if str(self._path(name)) not in mounted:
                continue
            self._entries[name] = _Entry(holders=set(holders), mounted=True)
            if not holders:
                idle.append(name)
        return idle

    def forget(self, name: str) -> None:
        """The volume is being removed: whatever is mounted in its directory goes now, whoever holds it."""
        self._entries.pop(name, None)
        detach(self._directory / name)

    def _path(self, name: str) -> Path:
        return self._directory / name / "_data"

    async def _mount(self, name: str, options: MountOptions, entry: _Entry) -> None:
        target = self._path(name)
        if entry.attempt is not None:
            raise ServerError(f"{_trouble(target)}an earlier mount of {options.device} still waits for its server")
        attempt = entry.attempt = _Attempt(options, target)
        try:
            await asyncio.wait_for(attempt.result(), DEADLINE)
        except TimeoutError:
            raise ServerError(
                f"{_trouble(target)}{options.device} did not answer within {DEADLINE:.0f} seconds"
            ) from None
        except OSError as error:
            raise ServerError(f"{_trouble(target)}{_words(options, target, error)}") from error
        finally:
            if attempt.over:
                entry.attempt = None
            else:
                attempt.abandon(lambda: setattr(entry, "attempt", None))


class _Attempt:
    """One mount(2) in a thread of its own, which may be given up."""

    def __init__(self, options: MountOptions, target: Path) -> None:
        self._options = options
        self._target = target
        self._lock = threading.Lock()
        self._abandoned: Callable[[], None] | None = None
        self._loop = asyncio.get_running_loop()
        self._future: asyncio.Future[None] = self._loop.create_future()
        self.over = False
        threading.Thread(target=self._run, name="wherry-volume-mount", daemon=True).start()

    async def result(self) -> None:
        await self._future

    def abandon(self, done: Callable[[], None]) -> None:
        """Nobody waits any more: should the mount come, it goes again; ``done`` is called then."""
        with self._lock:
            if not self.over:
                self._abandoned = done
                return
        done()

    def _run(self) -> None:
        failure: OSError | None = None
        try:
            mount_volume(resolve(self._options), self._target)
        except OSError as error:
            failure = error
        with self._lock:
            abandoned = self._abandoned
            if abandoned is not None and failure is None:
                with suppress(OSError):
                    umount_lazily(self._target)
            self.over = True
        with suppress(RuntimeError):  # the loop may be closed by now
            self._loop.call_soon_threadsafe(abandoned or (lambda: self._tell(failure)))

    def _tell(self, failure: OSError | None) -> None:
        if self._future.done():  # cancelled in the same moment
            if failure is None:
                umount_lazily(self._target)
        elif failure is None:
            self._future.set_result(None)
        else:
            self._future.set_exception(failure)


def mount_volume(options: MountOptions, target: Path) -> None:
    """``mount(2)``, with further calls for propagation and for read-only binds. All of it, or nothing. Raises ``OSError``."""
    flags = options.flags & ~PROPAGATION
    mount(options.device, target, options.fstype, flags, options.data or None)
    try:
        if options.flags & PROPAGATION:
            mount("", target, None, options.flags & (PROPAGATION | MS_REC))
        if flags & (MS_BIND | MS_RDONLY) == MS_BIND | MS_RDONLY:
            mount("", target, None, flags | MS_REMOUNT)
    except OSError:
        umount_lazily(target)
        raise


def detach(directory: Path) -> None:
    """Take whatever is mounted at or below ``directory`` out of the tree, whoever uses it."""
    for point in mounts_below(directory):
        umount_lazily(point)


def _unmount(target: Path, *, lazily: bool) -> None:
    if lazily:
        umount_lazily(target)
        return
    try:
        umount(target)
    except OSError as error:
        if error.errno != errno.EINVAL:  # in use: gone from the tree now, from the kernel with its last user
            log.warning("%s is still in use: it is detached (%s)", target, error.strerror)
            umount_lazily(target)


def _trouble(target: Path) -> str:
    return f"error while mounting volume '{target}': failed to mount local volume: "


def _words(options: MountOptions, target: Path, error: OSError) -> str:
    if error.filename is None:
        return f"error resolving passed in network volume address: {error.strerror or error}"
    flags = options.flags & ~PROPAGATION
    text = f"mount {options.device}:{target}"
    if flags:
        text += f", flags: {flags:#x}"
    if options.data:
        text += f", data: {without_password(options.data)}"
    reason = os.strerror(error.errno or 0)
    return f"{text}: {reason[:1].lower()}{reason[1:]}"
