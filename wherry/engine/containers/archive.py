"""ContainerArchiveInfo, ContainerArchive and PutContainerArchive: files into and out of a container (ARC1 to ARC12).

Going out, ``tar`` walks from a directory descriptor that the kernel resolved inside the container's root; it opens no
link and no device. Coming in, ``store.untar`` extracts inside that root. Nothing of the container's is executed.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import posixpath
import stat
import threading
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass

from wherry.api.errors import ApiError, BadRequest, NotFound, ServerError
from wherry.engine import inroot
from wherry.engine.blocking import in_thread
from wherry.engine.containers.rootview import RootView
from wherry.engine.containers.tarstream import TarStream, tar_arguments
from wherry.engine.containers.times import file_time
from wherry.engine.store.compression import CompressionError, decompressed
from wherry.engine.store.untar import UntarError, UntarOptions, extract
from wherry.wire.pathstat import PathStat, go_mode

log = logging.getLogger(__name__)

_MAX_LINKS = 255
_AHEAD = 4 << 20  # bytes of a request's body that wait for the extracting thread


@dataclass(frozen=True, slots=True)
class _Path:
    """A path of a request: ``path`` is absolute and lexically clean; a trailing ``/`` or ``/.`` is kept (ARC2)."""

    given: str
    path: str

    @property
    def name(self) -> str:
        return posixpath.basename(self.path.rstrip("/")) or "/"


def clean_path(path: str) -> str:
    """The absolute path meant, a trailing ``/`` or ``/.`` kept. Raises ``BadRequest`` for none (ARC1)."""
    if not path:
        raise BadRequest("bad parameter: path cannot be empty")
    if "\0" in path:
        raise BadRequest("bad parameter: path contains a NUL byte")
    cleaned = "/" + os.fsdecode(inroot.clean(os.fsencode("/" + path)))
    if path == "." or path.endswith("/."):
        return cleaned.rstrip("/") + "/."
    if path.endswith("/") and cleaned != "/":
        return cleaned + "/"
    return cleaned


def stat_path(view: RootView, path: str, *, container: str) -> PathStat:
    """What ``path`` is; its last element is not followed (ARC2, ARC3). ``container`` is the name used in the request.

    Raises ``NotFound``, ``BadRequest``, ``ServerError``.
    """
    target = _Path(path, clean_path(path))
    fd = _open(view, target, container)
    try:
        return _stat(view, target, fd)
    finally:
        os.close(fd)


def _open(view: RootView, target: _Path, container: str) -> int:
    try:
        return inroot.open_in_root(view.fd, target.path, os.O_PATH | os.O_NOFOLLOW)
    except OSError as error:
        raise _path_error(error, target, container, "lstat") from error


def _path_error(error: OSError, target: _Path, container: str, action: str) -> ApiError:
    if error.errno == errno.ENOENT:
        return NotFound(f"Could not find the file {target.given} in container {container}")
    if error.errno == errno.ENAMETOOLONG:
        return BadRequest(f"{action}: the path is too long")
    return ServerError(f"{action} {target.path}: {(error.strerror or str(error)).lower()}")


def _stat(view: RootView, target: _Path, fd: int) -> PathStat:
    found = os.fstat(fd)
    link = ""
    if stat.S_ISLNK(found.st_mode):
        link = resolve_link(view.fd, target.path)
    return PathStat(target.name, found.st_size, go_mode(found.st_mode), file_time(found.st_mtime_ns), link)


def resolve_link(root_fd: int, path: str) -> str:
    """Where a path leads inside the root; what does not exist is taken as it stands (ARC3). Raises ``ServerError``."""
    done: list[bytes] = []
    todo = deque(os.fsencode(path).split(b"/"))
    links = 0
    while todo:
        part = todo.popleft()
        if part in (b"", b"."):
            continue
        if part == b"..":
            if done:
                done.pop()
            continue
        try:
            fd = inroot.open_in_root(root_fd, b"/".join([*done, part]), os.O_PATH | os.O_NOFOLLOW)
        except OSError:
            done.append(part)
            continue
        try:
            target = os.readlink(b"", dir_fd=fd) if stat.S_ISLNK(os.fstat(fd).st_mode) else None
        finally:
            os.close(fd)
        if target is None:
            done.append(part)
            continue
        links += 1
        if links > _MAX_LINKS:
            raise ServerError(f"too many links in {path}")
        if target.startswith(b"/"):
            done.clear()
        todo.extendleft(reversed(target.split(b"/")))
    return "/" + os.fsdecode(b"/".join(done))


# out


def get_archive(view: RootView, path: str, *, container: str) -> tuple[PathStat, AsyncIterator[bytes]]:
    """What ``path`` is, and a tar archive of it in pieces (ARC4). The view must stay open until the iterator is done. Blocks:
    the container may have a file system there that takes its time.

    Errors of the path are raised here: ``NotFound``, ``BadRequest``, ``ServerError``. The iterator raises ``OSError``
    when the archive cannot be completed; close it (``aclose``) when it is left early.
    """
    target = _Path(path, clean_path(path))
    fd = _open(view, target, container)
    try:
        found = _stat(view, target, fd)
        is_directory = stat.S_ISDIR(os.fstat(fd).st_mode)
        if is_directory:
            # The name in the archive is the request's, also where the path ends in a link to the directory.
            name = "." if target.name == "." else target.name
            arguments = tar_arguments(b".", rename=os.fsencode(name), exclude=_pseudo_below(view, fd))
            own = view.own_directory(fd)
            if own is None:
                directory, fd = fd, -1
            else:
                directory = own
        else:
            arguments = tar_arguments(os.fsencode(target.name))
            parent = posixpath.dirname(target.path)
            directory = inroot.open_in_root(view.fd, parent, inroot.PARENT)
    except OSError as error:
        raise _path_error(error, target, container, "open") from error
    finally:
        if fd >= 0:
            os.close(fd)
    return found, TarStream(directory, arguments)


def _pseudo_below(view: RootView, fd: int) -> list[bytes]:
    """Mount points at or below the directory that have no content, relative to it."""
    if not view.pseudo:
        return []
    here = view.place_of(fd).rstrip("/") + "/"
    return [
        os.fsencode((place + "/").removeprefix(here).rstrip("/"))
        for place in view.pseudo
        if (place + "/").startswith(here)
    ]


# in


async def put_archive(
    view: RootView,
    path: str,
    body: AsyncIterator[bytes],
    *,
    container: str,
    no_overwrite_dir_non_dir: bool = False,
    chown: tuple[int, int] | None = None,
) -> None:
    """Extract ``body``, a tar archive, compressed or not, into the directory ``path`` (ARC5 to ARC9).

    Raises ``NotFound``, ``BadRequest``, ``ServerError``; what was extracted before an error stays. Errors of ``body``
    pass through. The view must stay open until this returns, also when it is cancelled.
    """
    target = _Path(path, clean_path(path))
    await in_thread(_check_target, view, target, container)
    options = UntarOptions(base=target.path, no_overwrite_dir_non_dir=no_overwrite_dir_non_dir, chown=chown)
    await _extract(body, view.fd, options)


def _check_target(view: RootView, target: _Path, container: str) -> None:
    try:
        fd = inroot.open_in_root(view.fd, target.path, os.O_PATH)
    except OSError as error:
        raise _path_error(error, target, container, "lstat") from error
    try:
        if not stat.S_ISDIR(os.fstat(fd).st_mode):
            raise ServerError("extraction point is not a directory")
        refusal = view.refuse_writing(fd)
        if refusal is not None:
            raise ServerError(refusal)
    finally:
        os.close(fd)


async def _extract(body: AsyncIterator[bytes], root_fd: int, options: UntarOptions) -> None:
    """Run the extraction in a thread of its own: a slow sender must not hold one of the pool."""
    loop = asyncio.get_running_loop()
    pipe = _Pipe(loop)
    finished: asyncio.Future[None] = loop.create_future()
    own_root = os.dup(root_fd)

    def work() -> None:
        error: BaseException | None = None
        try:
            extract(decompressed(pipe), own_root, options=options)
        except BaseException as caught:
            error = caught
        finally:
            os.close(own_root)
        pipe.abandon()
        loop.call_soon_threadsafe(_finish, finished, error)

    threading.Thread(target=work, name="wherry-untar", daemon=True).start()
    try:
        async for data in body:
            if not finished.done():
                await pipe.write(data)
            elif finished.exception() is not None:
                break  # as moby does: the rest of the body is the connection's to deal with
        pipe.end()
    except BaseException as error:
        pipe.fail(error)
        await asyncio.wait([finished])
        finished.exception()
        raise
    try:
        await asyncio.shield(finished)
    except (UntarError, CompressionError) as error:
        raise ServerError(str(error)) from error


def _finish(future: asyncio.Future[None], error: BaseException | None) -> None:
    if error is None:
        future.set_result(None)
    else:
        future.set_exception(error)


class _Pipe:
    """Bytes from the loop to one thread, bounded."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._ready = threading.Condition()
        self._chunks: deque[bytes] = deque()
        self._size = 0
        self._chunk = b""  # the reader's own, read up to _at
        self._at = 0
        self._ended = False
        self._failure: BaseException | None = None
        self._room: asyncio.Event | None = None

    async def write(self, data: bytes) -> None:
        with self._ready:
            if self._ended:
                return
            self._chunks.append(data)
            self._size += len(data)
            self._ready.notify()
            if self._size <= _AHEAD:
                return
            room = self._room = asyncio.Event()
        await room.wait()

    def end(self) -> None:
        with self._ready:
            self._ended = True
            self._ready.notify()

    def fail(self, error: BaseException) -> None:
        with self._ready:
            self._failure = error
            self._ready.notify()

    def abandon(self) -> None:
        """Nobody reads any more."""
        with self._ready:
            self._ended = True
            self._chunks.clear()
            self._size = 0
            self._make_room()

    def read(self, size: int = -1, /) -> bytes:
        if self._at >= len(self._chunk):
            self._chunk, self._at = self._next(), 0
        at = self._at
        if at == 0 and (size < 0 or size >= len(self._chunk)):
            self._at = len(self._chunk)
            return self._chunk
        data = self._chunk[at : at + size] if size >= 0 else self._chunk[at:]
        self._at += len(data)
        return data

    def _next(self) -> bytes:
        with self._ready:
            while not self._chunks and not self._ended and self._failure is None:
                self._ready.wait()
            if not self._chunks:
                if self._failure is not None:
                    raise ConnectionError("the archive was not sent to its end") from self._failure
                return b""
            data = self._chunks.popleft()
            self._size -= len(data)
            if self._size < _AHEAD // 2:
                self._make_room()
            return data

    def _make_room(self) -> None:
        if self._room is not None:
            room, self._room = self._room, None
            self._loop.call_soon_threadsafe(room.set)
