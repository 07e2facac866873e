"""A container's files as the container sees them: its root filesystem with its volumes, running or stopped (ARC10).

A running container is looked at through ``/proc/<pid>/root``. For a stopped one with mounts, a mount namespace is made
that nothing but the view's two descriptors keeps: closing them, or the engine's death, takes all of it away.
"""

from __future__ import annotations

import ctypes
import errno
import logging
import os
import threading
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from wherry.engine import inroot
from wherry.engine.containers.container import MountPoint
from wherry.engine.store.overlay import MS_BIND, MS_REC, mount
from wherry.engine.store.rootfs import RootfsPaths

log = logging.getLogger(__name__)

_CLONE_NEWNS = 0x00020000
_MS_RDONLY, _MS_REMOUNT, _MS_SLAVE = 1, 32, 1 << 19
_PSEUDO = frozenset({"proc", "sysfs", "cgroup", "cgroup2", "mqueue", "devpts", "devtmpfs", "debugfs", "tracefs", "bpf"})
_PSEUDO_PLACES = ("/dev", "/proc", "/sys")


class RootView:
    """``fd`` is an ``O_PATH`` descriptor of the container's root; close the view when done.

    ``pseudo`` are the mount points of what is no content (``/proc`` and the like). ``read_only``: the root filesystem
    must not be written, whatever its mount says. ``paths``: where the root filesystem itself lies, and ``points`` all
    mount points in it.
    """

    def __init__(
        self,
        fd: int,
        *,
        pseudo: Sequence[str] = (),
        read_only: bool = False,
        namespace: int = -1,
        paths: RootfsPaths | None = None,
        points: Sequence[str] = (),
    ) -> None:
        self.fd = fd
        self.pseudo = list(pseudo)
        self.read_only = read_only
        self._namespace = namespace
        self._paths = paths
        self._points = points

    def close(self) -> None:
        for fd in (self.fd, self._namespace):
            if fd >= 0:
                os.close(fd)
        self.fd = self._namespace = -1

    def __enter__(self) -> RootView:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def place_of(self, fd: int) -> str:
        """Where the directory ``fd`` is, as the container names it. Raises ``OSError``."""
        root = os.readlink(f"/proc/self/fd/{self.fd}").rstrip("/")
        return os.readlink(f"/proc/self/fd/{fd}").removeprefix(root) or "/"

    def own_directory(self, fd: int) -> int | None:
        """The directory ``fd`` where it lies, if that is the container's upper directory alone; for reading only.

        Nothing below may come from a layer or another mount: then both are the same files, and reading them there
        spares the kernel the overlay's work, a third of the time of many small files.
        """
        if self._paths is None or self._paths.upper is None:
            return None
        try:
            place = self.place_of(fd)
            if _mount_id(fd) != _mount_id(self.fd) or any(p.startswith(place.rstrip("/") + "/") for p in self._points):
                return None
            if any(_has(layer, place) for layer in self._paths.lower):
                return None
            own = _open_below(self._paths.upper, place, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW)
            if os.fstat(own).st_ino == os.fstat(fd).st_ino:
                return own
            os.close(own)
        except OSError:
            pass
        return None

    def refuse_writing(self, fd: int) -> str | None:
        """Why nothing may be written at ``fd``, a descriptor below this root; None when it may be (ARC5)."""
        in_root = _mount_id(fd) == _mount_id(self.fd)
        if in_root and (self.read_only or os.fstatvfs(fd).f_flag & os.ST_RDONLY):
            return "container rootfs is marked read-only"
        if os.fstatvfs(fd).f_flag & os.ST_RDONLY:
            return "mounted volume is marked read-only"
        return None


def running_view(pid: int, *, read_only: bool = False, paths: RootfsPaths | None = None) -> RootView:
    """The files of the container whose first process is ``pid``. Raises ``OSError`` when it is gone.

    The caller makes sure that the pid is still the container's after this returns.
    """
    fd = os.open(f"/proc/{pid}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    namespace = -1
    try:
        # With the namespace the volumes stay where they are when the container ends meanwhile.
        namespace = os.open(f"/proc/{pid}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
        points = _mounts(pid)
        pseudo = [place for place, kind in points if _is_pseudo(place, kind)]
        everywhere = [place for place, _ in points]
        return RootView(fd, pseudo=pseudo, read_only=read_only, namespace=namespace, paths=paths, points=everywhere)
    except BaseException:
        os.close(fd)
        if namespace >= 0:
            os.close(namespace)
        raise


def stopped_view(
    merged: Path, mounts: Sequence[MountPoint] = (), *, read_only: bool = False, paths: RootfsPaths | None = None
) -> RootView:
    """The files of a container that does not run: ``merged`` is its mounted root and must stay mounted.

    Binds and volumes are where the container would see them; mount points that are missing are made. A mount whose
    source is gone is left out. Raises ``OSError``.
    """
    points = [point for point in mounts if point.type in ("bind", "volume") and point.source]
    if not points:
        return RootView(os.open(merged, inroot.PARENT | os.O_CLOEXEC), read_only=read_only, paths=paths)
    result: list[RootView] = []
    failure: list[BaseException] = []

    def build() -> None:
        try:
            result.append(_in_own_namespace(merged, points, read_only))
        except BaseException as error:
            failure.append(error)

    # The thread ends with its namespace; it is never one of the pool.
    thread = threading.Thread(target=build, name="wherry-rootview")
    thread.start()
    thread.join()
    if failure:
        raise failure[0]
    return result[0]


def _in_own_namespace(merged: Path, points: Sequence[MountPoint], read_only: bool) -> RootView:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWNS):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), "mount namespace")
    # Slave: what the host unmounts goes here too, and nothing of ours goes back.
    mount("none", "/", None, MS_REC | _MS_SLAVE)
    namespace = os.open("/proc/thread-self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    root = -1
    try:
        root = os.open(merged, inroot.PARENT | os.O_CLOEXEC)
        for point in sorted(points, key=lambda point: point.destination.count("/")):
            _bind(root, point)
    except BaseException:
        os.close(namespace)
        if root >= 0:
            os.close(root)
        raise
    return RootView(root, read_only=read_only, namespace=namespace)


def _bind(root: int, point: MountPoint) -> None:
    destination = inroot.clean(os.fsencode(point.destination))
    try:
        is_directory = os.path.isdir(point.source)
        if not is_directory:
            os.stat(point.source)
        target = _mount_point(root, destination, is_directory)
    except OSError as error:
        log.warning("%s is not shown at %s: %s", point.source, point.destination, error)
        return
    try:
        mount(point.source, f"/proc/self/fd/{target}", None, MS_BIND | (MS_REC if point.recursive else 0))
    finally:
        os.close(target)
    if not point.rw:
        target = inroot.open_in_root(root, destination, os.O_PATH)
        try:
            mount("none", f"/proc/self/fd/{target}", None, MS_BIND | _MS_REMOUNT | _MS_RDONLY)
        finally:
            os.close(target)


def _mount_point(root: int, destination: bytes, is_directory: bool) -> int:
    if is_directory:
        return inroot.make_directories(root, destination)
    try:
        return inroot.open_in_root(root, destination, os.O_PATH)
    except FileNotFoundError:
        parent, name = inroot.split(destination)
        parent_fd = inroot.make_directories(root, parent)
        try:
            os.close(os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o644, dir_fd=parent_fd))
        finally:
            os.close(parent_fd)
        return inroot.open_in_root(root, destination, os.O_PATH)


def _mount_id(fd: int) -> int:
    with open(f"/proc/self/fdinfo/{fd}") as file:
        for line in file:
            if line.startswith("mnt_id:"):
                return int(line.split()[1])
    raise OSError(errno.EINVAL, "no mount id")


def _open_below(directory: Path, place: str, flags: int) -> int:
    root = os.open(directory, inroot.PARENT | os.O_CLOEXEC)
    try:
        return inroot.open_in_root(root, place, flags)
    finally:
        os.close(root)


def _has(layer: Path, place: str) -> bool:
    """Whether anything of this name lies in a layer, a whiteout too."""
    try:
        os.close(_open_below(layer, place, os.O_PATH | os.O_NOFOLLOW))
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def _mounts(pid: int) -> list[tuple[str, str]]:
    """Mount points and the types of their file systems, as the process sees them."""
    found = []
    with open(f"/proc/{pid}/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            fields, _, rest = line.partition(" - ")
            found.append((_unescape(fields.split(" ")[4]), rest.split(" ", 1)[0]))
    return found


def _is_pseudo(place: str, kind: str) -> bool:
    return kind in _PSEUDO or place in _PSEUDO_PLACES or place.startswith(tuple(f"{p}/" for p in _PSEUDO_PLACES))


def _unescape(text: str) -> str:
    """mountinfo writes blanks, tabs, newlines and backslashes as octal."""
    if "\\" not in text:
        return text
    for escaped, char in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        text = text.replace(escaped, char)
    return text
