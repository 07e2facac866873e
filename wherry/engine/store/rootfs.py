"""The root filesystem of a container: its image's layers below a directory of its own.

``rootfs/<container>`` holds ``upper``, ``work``, the mount point ``merged`` and ``layers``, the chain ids below it.
Between the image and ``upper`` lies an *init* layer with what the engine itself puts into every container (empty
``/dev``, ``/proc``, ``/etc/hosts`` …), so that none of it counts as a change (CHG3). It depends on the image alone and
is made once for it, at ``layers/<chain id of the image>/init``.

Where the data root cannot hold an overlay's upper (it is an overlay itself, or the kernel refuses), each image is
flattened once to ``layers/<chain id>/flat`` and each container gets a copy of that, reflinked where the filesystem can.

All functions block for a moment at most, except in that second mode; they may be called from any thread.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import threading
import uuid
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from wherry.engine.store import flatten
from wherry.engine.store.layout import Layout
from wherry.engine.store.overlay import mount_overlay, mounts_below, supports_overlay, umount, umount_lazily
from wherry.engine.store.trash import Trash

log = logging.getLogger(__name__)

_DIRECTORIES = ("dev/pts", "dev/shm", "proc", "sys", "etc")
_FILES = ("etc/hosts", "etc/hostname", "etc/resolv.conf", "dev/console", ".dockerenv")
BUILD = "build-"
"""What the names of trees begin with that a build works on: the image's layers alone, gone when the engine starts."""
_OPEN_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class RootfsPaths:
    """Where a container's root filesystem lies. ``lower`` is topmost first, the init layer at its head.

    ``upper`` and ``work`` are None where overlay mounts are not possible: then ``lower`` is one flat tree, and
    ``merged`` a full copy of it.
    """

    lower: tuple[Path, ...]
    upper: Path | None
    work: Path | None
    merged: Path

    def graph_driver(self) -> tuple[str, dict[str, str]]:
        """The driver's name and data, as inspect shows them (INS6)."""
        if self.upper is None:
            return "vfs", {"MergedDir": str(self.merged)}
        return "overlay2", {
            "LowerDir": ":".join(map(str, self.lower)),
            "MergedDir": str(self.merged),
            "UpperDir": str(self.upper),
            "WorkDir": str(self.work),
        }


@dataclass(slots=True)
class _Entry:
    layers: tuple[str, ...] | None = None
    holders: set[str] = field(default_factory=set)
    lock: threading.Lock = field(default_factory=threading.Lock)


class Rootfs:
    """Every container's root filesystem.

    Layer ids are chain ids (``sha256:…``), always **topmost first**. A rootfs is mounted while it has holders: a run
    holds it as ``run``, whoever else needs it for a while uses ``mounted()``; so neither pulls it away from the other.
    """

    def __init__(self, layout: Layout, trash: Trash | None = None, *, overlay: bool | None = None) -> None:
        self._layout = layout
        self._trash = trash or Trash(layout)
        self._overlay = overlay
        self._entries: dict[str, _Entry] = {}

    @property
    def overlay(self) -> bool:
        """Whether overlay mounts are used; found out on first use."""
        if self._overlay is None:
            self._overlay = supports_overlay(self._layout.tmp)
            if not self._overlay:
                log.warning("%s cannot hold overlay mounts: each container gets a copy", self._layout.data_root)
        return self._overlay

    # the life of one

    def prepare(self, container_id: str, layer_ids: Sequence[str]) -> None:
        """Make the directories of a new container above ``layer_ids``; all of it, or nothing.

        Raises ``FileExistsError`` when the container has a rootfs, ``FileNotFoundError`` when a layer is missing.
        """
        place = self._place(container_id)
        if place.exists():
            raise FileExistsError(errno.EEXIST, "the container has a root filesystem", str(place))
        entry = self._entry(container_id)
        entry.layers = tuple(layer_ids)  # before anything else: the layers are in use from here on
        work = self._layout.tmp / f"rootfs-{container_id}"
        try:
            work.mkdir(mode=0o710)
            (work / "layers").write_text(json.dumps(list(layer_ids)))
            bare = container_id.startswith(BUILD)
            if self.overlay:
                lowest = self._lowest(entry.layers) if bare else self._init(entry.layers)
                for name in ("upper", "work", "merged"):
                    (work / name).mkdir()
                _same_owner_and_mode(lowest, work / "upper")
            else:
                flatten.copy(self._flat(entry.layers, bare=bare), work / "merged")
            os.rename(work, place)
        except BaseException:
            self._entries.pop(container_id, None)
            self._trash.discard(work)
            raise

    def mount(self, container_id: str, holder: str = "run") -> Path:
        """Mount the root filesystem for ``holder`` and return its path; nothing happens when it is mounted.

        Raises ``FileNotFoundError`` when the container has none.
        """
        entry = self._entry(container_id)
        with entry.lock:
            paths = self._paths(container_id, entry)
            if paths.upper is not None and paths.work is not None and not _is_mount(paths.merged):
                mount_overlay(paths.merged, paths.lower, paths.upper, paths.work)
            elif not paths.merged.is_dir():
                raise FileNotFoundError(errno.ENOENT, "no root filesystem", str(paths.merged))
            entry.holders.add(holder)
            return paths.merged

    def unmount(self, container_id: str, holder: str = "run") -> None:
        """Give ``holder``'s claim up; the last one's end unmounts. Blocks while the kernel writes changes out."""
        entry = self._entries.get(container_id)
        if entry is None:
            return
        with entry.lock:
            entry.holders.discard(holder)
            if not entry.holders:
                self._unmount(self._place(container_id) / "merged")

    @contextmanager
    def mounted(self, container_id: str) -> Iterator[Path]:
        """The root filesystem's path, mounted for the length of the block whatever others do with it."""
        holder = uuid.uuid4().hex
        path = self.mount(container_id, holder)
        try:
            yield path
        finally:
            self.unmount(container_id, holder)

    def take_changes(self, container_id: str, place: Path) -> None:
        """Move the upper directory to ``place``: the container is then as if it had changed nothing.

        Raises ``OSError`` (EBUSY) while somebody holds it, or where there is none (``overlay``).
        """
        entry = self._entry(container_id)
        with entry.lock:
            paths = self._paths(container_id, entry)
            if paths.upper is None or entry.holders or _is_mount(paths.merged):
                raise OSError(errno.EBUSY, "the root filesystem is in use", str(paths.merged))
            os.rename(paths.upper, place)
            paths.upper.mkdir()
            _same_owner_and_mode(place, paths.upper)

    def is_mounted(self, container_id: str) -> bool:
        """Whether the root filesystem can be read at its path now."""
        merged = self._place(container_id) / "merged"
        return _is_mount(merged) if self.overlay else merged.is_dir()

    def remove(self, container_id: str) -> None:
        """Unmount, whoever holds it, and take the container's directory away; deleted in the background."""
        entry = self._entry(container_id)
        with entry.lock:
            entry.holders.clear()
            place = self._place(container_id)
            self._detach(place / "merged")
            self._trash.discard(place)
            self._entries.pop(container_id, None)

    def recover(self, known_ids: Collection[str]) -> list[Path]:
        """After the engine's start: adopt what is mounted (as held by its run) and set unknown directories aside.

        ``unmount`` those whose container turns out not to run. Returns where unknown directories went.
        """
        lost = []
        held = {Path(point).parent.name for point in mounts_below(self._layout.rootfs) if point.endswith("/merged")}
        for directory in list(self._layout.rootfs.iterdir()):
            if directory.name in known_ids:
                entry = self._entry(directory.name)
                if directory.name in held:
                    entry.holders.add("run")
                continue
            for point in mounts_below(directory):
                umount_lazily(point)
            if directory.name.startswith(BUILD):
                self._trash.discard(directory)
            else:
                lost.append(self._trash.set_aside(directory))
        return lost

    # what others ask of it

    def paths(self, container_id: str) -> RootfsPaths:
        """Raises ``FileNotFoundError`` when the container has no root filesystem."""
        return self._paths(container_id, self._entry(container_id))

    def layers(self, container_id: str) -> tuple[str, ...]:
        """The chain ids below the container, topmost first."""
        return self._layers(container_id, self._entry(container_id))

    def layers_in_use(self) -> set[str]:
        """The chain ids that some container stands on: an image may go, these must stay."""
        used: set[str] = set()
        ids = set(self._entries) | {directory.name for directory in self._layout.rootfs.iterdir()}
        for container_id in ids:
            try:
                used.update(self._layers(container_id, self._entry(container_id)))
            except FileNotFoundError:
                self._entries.pop(container_id, None)
        return used

    def size(self, container_id: str) -> int:
        """Bytes of the files that the container added or changed (SizeRw). Walks the tree: call it in a thread."""
        paths = self.paths(container_id)
        if paths.upper is not None:
            return tree_size(paths.upper)
        return max(0, tree_size(paths.merged) - tree_size(paths.lower[0]))

    # parts

    def _place(self, container_id: str) -> Path:
        return self._layout.rootfs / container_id

    def _entry(self, container_id: str) -> _Entry:
        return self._entries.setdefault(container_id, _Entry())

    def _layers(self, container_id: str, entry: _Entry) -> tuple[str, ...]:
        if entry.layers is None:
            entry.layers = tuple(json.loads((self._place(container_id) / "layers").read_bytes()))
        return entry.layers

    def _paths(self, container_id: str, entry: _Entry) -> RootfsPaths:
        place = self._place(container_id)
        layers = self._layers(container_id, entry)
        bare = container_id.startswith(BUILD)
        if not self.overlay:
            return RootfsPaths((self._base(layers) / ("bare" if bare else "flat"),), None, None, place / "merged")
        own = (() if layers else (self._lowest(()),)) if bare else (self._base(layers) / "init",)
        lower = (*own, *(layer_diff(self._layout, layer) for layer in layers))
        return RootfsPaths(lower, place / "upper", place / "work", place / "merged")

    def _base(self, layers: Sequence[str]) -> Path:
        """Where an image's own init layer or flat tree lies."""
        return layer_directory(self._layout, layers[0]) if layers else self._layout.layers / "empty"

    def _lowest(self, layers: Sequence[str]) -> Path:
        """The topmost of ``layers``, or an empty directory where there are none."""
        if layers:
            return layer_diff(self._layout, layers[0])
        nothing = self._layout.layers / "empty" / "bare"
        nothing.mkdir(mode=0o755, parents=True, exist_ok=True)
        return nothing

    def _init(self, layers: Sequence[str]) -> Path:
        """The init layer above ``layers``, made on first use."""
        init = self._base(layers) / "init"
        if init.exists():
            return init
        work = self._layout.tmp / f"init-{uuid.uuid4().hex[:12]}"
        try:
            for name in ("diff", "work", "merged"):
                (work / name).mkdir(parents=True)
            if layers:
                _same_owner_and_mode(layer_diff(self._layout, layers[0]), work / "diff")
                below = [layer_diff(self._layout, layer) for layer in layers]
                mount_overlay(work / "merged", below, work / "diff", work / "work")
                try:
                    add_engine_files(work / "merged")
                finally:
                    umount_lazily(work / "merged")
            else:
                (work / "diff").chmod(0o755)
                add_engine_files(work / "diff")
                init.parent.mkdir(exist_ok=True)
            _rename_once(work / "diff", init)
        finally:
            self._trash.discard(work)
        return init

    def _flat(self, layers: Sequence[str], *, bare: bool = False) -> Path:
        """One tree of all ``layers`` and, unless ``bare``, the engine's own files; made on first use."""
        flat = self._base(layers) / ("bare" if bare else "flat")
        if flat.exists():
            return flat
        work = self._layout.tmp / f"flat-{uuid.uuid4().hex[:12]}"
        try:
            work.mkdir(mode=0o755)
            for layer in reversed(layers):
                flatten.apply(layer_diff(self._layout, layer), work)
            if not bare:
                add_engine_files(work)
            flat.parent.mkdir(exist_ok=True)
            _rename_once(work, flat)
        finally:
            self._trash.discard(work)
        return flat

    def _unmount(self, merged: Path) -> None:
        if not _is_mount(merged):
            return
        try:
            umount(merged)
        except OSError as error:
            if error.errno != errno.EINVAL:  # in use: gone from the tree now, from the kernel with its last user
                umount_lazily(merged)

    def _detach(self, merged: Path) -> None:
        """Take a mount out of the tree now; the kernel's work at its end, some ms, is left to the trash's thread."""
        if not _is_mount(merged):
            return
        last = os.open(merged, os.O_PATH | os.O_CLOEXEC)
        try:
            umount_lazily(merged)
        finally:
            self._trash.close_soon(last)


def layer_directory(layout: Layout, chain_id: str) -> Path:
    """``layers/<hex>`` of a chain id. Raises ``ValueError`` for anything else than ``sha256:<64 hex digits>``."""
    algorithm, _, digits = chain_id.partition(":")
    if algorithm != "sha256" or len(digits) != 64 or set(digits) - set("0123456789abcdef"):
        raise ValueError(f"not a chain id: {chain_id!r}")
    return layout.layers / digits


def layer_diff(layout: Layout, chain_id: str) -> Path:
    """The unpacked files of a layer."""
    return layer_directory(layout, chain_id) / "diff"


def tree_size(root: Path) -> int:
    """Bytes of the files below ``root``; directories count nothing, a hard-linked file once. Files may vanish."""
    total = 0
    seen: set[int] = set()
    stack = [os.fspath(root)]
    while stack:
        try:
            with os.scandir(stack.pop()) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        stack.append(entry.path)
                        continue
                    status = entry.stat(follow_symlinks=False)
                    if status.st_nlink > 1:
                        if status.st_ino in seen:
                            continue
                        seen.add(status.st_ino)
                    total += status.st_size
        except (FileNotFoundError, NotADirectoryError):
            continue
    return total


def add_engine_files(root: Path) -> None:
    """Put the mount points that every container needs below ``root``; what stands in their way is replaced.

    No symbolic link of the image is followed.
    """
    top = os.open(root, _OPEN_DIRECTORY)
    try:
        for path in _DIRECTORIES:
            os.close(_open_directory(top, path.split("/")))
        for path in _FILES:
            *parents, name = path.split("/")
            fd = _open_directory(top, parents)
            try:
                if _make_way(name, fd):
                    os.close(os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o755, dir_fd=fd))
            finally:
                os.close(fd)
        etc = _open_directory(top, ["etc"])
        try:
            if _make_way("mtab", etc):
                os.symlink("/proc/mounts", "mtab", dir_fd=etc)
        finally:
            os.close(etc)
    finally:
        os.close(top)


def _open_directory(top: int, names: Sequence[str]) -> int:
    """An fd of the directory ``names`` below ``top``, each made where there is none."""
    fd = os.dup(top)
    for name in names:
        try:
            inner = os.open(name, _OPEN_DIRECTORY, dir_fd=fd)
        except OSError as error:
            if error.errno in (errno.ENOTDIR, errno.ELOOP):
                os.unlink(name, dir_fd=fd)
            os.mkdir(name, 0o755, dir_fd=fd)
            inner = os.open(name, _OPEN_DIRECTORY, dir_fd=fd)
        os.close(fd)
        fd = inner
    return fd


def _make_way(name: str, fd: int) -> bool:
    """Remove the file ``name``; False where an image has a directory there, which stays."""
    try:
        os.unlink(name, dir_fd=fd)
    except FileNotFoundError:
        pass
    except IsADirectoryError:
        return False
    return True


def _same_owner_and_mode(model: Path, path: Path) -> None:
    """Give a directory the owner and mode of ``model``: the topmost one's are what a merged directory shows."""
    status = model.stat()
    if (status.st_uid, status.st_gid) != (os.geteuid(), os.getegid()):
        os.chown(path, status.st_uid, status.st_gid)
    path.chmod(status.st_mode & 0o7777)


def _rename_once(made: Path, place: Path) -> None:
    """Rename into place, unless another thread was first with the same thing."""
    try:
        os.rename(made, place)
    except OSError as error:
        if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
            raise


def _is_mount(path: Path) -> bool:
    try:
        return os.stat(path).st_dev != os.stat(path.parent).st_dev
    except FileNotFoundError:
        return False
