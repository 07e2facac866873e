"""Volumes: directories that outlive containers, ``volumes/<name>/_data``. The driver is ``local``, without options.

A volume's row is written once its directory is there, and deleted before the directory goes to the trash; a ``pending``
row of the volume's name covers the time between. Everything runs on the engine's loop except what is said to block.
"""

from __future__ import annotations

import logging
import os
import re
import secrets
import stat
import subprocess
import time
import uuid
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path

import msgspec

from wherry.api.errors import ApiError, BadRequest, Conflict, NotFound, NotImplementedYet
from wherry.api.models.volumes import Volume, VolumeListResponse, VolumePruneResponse
from wherry.engine.events import Events
from wherry.engine.inroot import open_in_root
from wherry.engine.store.database import Database
from wherry.engine.store.layout import Layout
from wherry.engine.store.rootfs import tree_size
from wherry.engine.store.trash import Trash

log = logging.getLogger(__name__)

VOLUME, PENDING = "volume", "pending-volume"
ANONYMOUS = "com.docker.volume.anonymous"
_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]*", re.ASCII)
_LIST_FILTERS = frozenset({"dangling", "driver", "label", "name"})
_PRUNE_FILTERS = frozenset({"label", "label!", "all"})

InUse = Callable[[str], Collection[str]]
"""Gives the ids of the containers that a volume of this name is mounted in."""

Filters = Mapping[str, Sequence[str]]


class VolumeRow(msgspec.Struct, kw_only=True):
    """``created`` is nanoseconds since the epoch; ``labels`` and ``options`` are as given, null included."""

    created: int
    labels: dict[str, str] | None = None
    options: dict[str, str] | None = None


class Volumes:
    def __init__(self, layout: Layout, database: Database, events: Events, trash: Trash | None = None) -> None:
        self._layout = layout
        self._database = database
        self._events = events
        self._trash = trash or Trash(layout)
        self._rows: dict[str, VolumeRow] = {}

    def recover(self) -> list[Path]:
        """At the engine's start: read the rows, finish what was under way, set unknown directories aside.

        Returns where unknown directories went.
        """
        self._rows = {name: msgspec.json.decode(body, type=VolumeRow) for name, _, body in self._database.all(VOLUME)}
        for name, _, _ in self._database.all(PENDING):
            if name not in self._rows:
                self._trash.discard(self._layout.volumes / name)
            self._database.delete(PENDING, name)
        lost = []
        for directory in list(self._layout.volumes.iterdir()):
            if directory.name not in self._rows:
                lost.append(self._trash.set_aside(directory))
        for name in self._rows:
            if not self.path(name).is_dir():
                log.error("volume %s has lost its directory: an empty one is made", name)
                self._make(name)
        return lost

    def path(self, name: str) -> Path:
        """Where a volume's files are."""
        return self._layout.volumes / name / "_data"

    # the operations

    def create(
        self,
        name: str = "",
        labels: Mapping[str, str] | None = None,
        options: Mapping[str, str] | None = None,
        driver: str = "",
    ) -> Volume:
        """VolumeCreate; an existing one of the name is given back as it is. Without a name it is anonymous: 64 digits
        and the label that says so (CRE24). Event ``create``.

        Raises ``BadRequest`` for a name, ``NotFound`` for a driver, ``NotImplementedYet`` for options.
        """
        if driver not in ("", "local"):
            raise NotFound(
                f'create {name}: error looking up volume plugin {driver}: plugin "{driver}" not found',
            )
        if not name:
            name = secrets.token_hex(32)
            labels = {**(labels or {}), ANONYMOUS: ""}
        check_name(name)
        if name in self._rows:
            return self._shown(name)
        if options:
            raise NotImplementedYet("options of a volume are not there yet: local volumes without options work")
        row = VolumeRow(
            created=time.time_ns(),
            labels=None if labels is None else dict(labels),
            options=None if options is None else dict(options),
        )
        self._database.put(PENDING, name, b"")
        self._make(name)
        with self._database.transaction():
            self._database.put(VOLUME, name, msgspec.json.encode(row))
            self._database.delete(PENDING, name)
        self._rows[name] = row
        self._events.emit("volume", "create", name, {"driver": "local"})
        return self._shown(name)

    def exists(self, name: str) -> bool:
        return name in self._rows

    def get(self, name: str) -> Volume:
        """VolumeInspect. Raises ``NotFound`` (``get x: no such volume``)."""
        if name not in self._rows:
            raise NotFound(f"get {name}: no such volume")
        return self._shown(name)

    def is_anonymous(self, name: str) -> bool:
        """Whether the volume goes with the container that it was made for."""
        row = self._rows.get(name)
        return row is not None and ANONYMOUS in (row.labels or {})

    def list(self, filters: Filters | None = None, *, in_use: InUse) -> VolumeListResponse:
        """VolumeList, sorted by name. Raises ``BadRequest`` for filters."""
        filters = filters or {}
        _check_filters(filters, _LIST_FILTERS)
        dangling = _boolean(filters, "dangling")
        chosen = []
        for name in sorted(self._rows):
            row = self._rows[name]
            if dangling is not None and bool(in_use(name)) is dangling:
                continue
            if not _fits(filters, "driver", lambda value: value == "local"):
                continue
            if not _fits(filters, "name", lambda value, name=name: value in name):  # type: ignore[misc]
                continue
            if not _labels_match(filters.get("label", ()), row.labels or {}):
                continue
            chosen.append(self._shown(name))
        return VolumeListResponse(volumes=chosen, warnings=None)

    def remove(self, name: str, *, force: bool = False, in_use: InUse) -> None:
        """VolumeDelete. Event ``destroy``. Raises ``NotFound`` (not with ``force``), ``Conflict`` while in use."""
        if name not in self._rows:
            if force:
                return
            raise NotFound(f"get {name}: no such volume")
        users = in_use(name)
        if users:
            raise Conflict(f"remove {name}: volume is in use - [{', '.join(users)}]")
        with self._database.transaction():
            self._database.delete(VOLUME, name)
            self._database.put(PENDING, name, b"")
        del self._rows[name]
        self._trash.discard(self._layout.volumes / name)
        self._database.delete(PENDING, name)
        self._events.emit("volume", "destroy", name, {"driver": "local"})

    def prune(self, filters: Filters | None = None, *, in_use: InUse, named: bool = False) -> VolumePruneResponse:
        """VolumePrune: the unused anonymous ones, or all unused with the filter ``all`` or ``named`` (API below 1.42).

        Event ``prune``. Blocks while it measures: few volumes, or a thread. Raises ``BadRequest`` for filters.
        """
        filters = filters or {}
        _check_filters(filters, _PRUNE_FILTERS)
        named = named or bool(_boolean(filters, "all"))
        removed = []
        freed = 0
        for name in sorted(self._rows):
            labels = self._rows[name].labels or {}
            unwanted = filters.get("label!", ())
            if not named and ANONYMOUS not in labels:
                continue
            if not _labels_match(filters.get("label", ()), labels) or (unwanted and _labels_match(unwanted, labels)):
                continue
            size = 0 if in_use(name) else tree_size(self.path(name))
            try:
                self.remove(name, in_use=in_use)
            except ApiError:
                continue
            removed.append(name)
            freed += size
        self._events.emit("volume", "prune", "", {"reclaimed": str(freed)})
        return VolumePruneResponse(volumes_deleted=removed or None, space_reclaimed=freed)

    def copy_up(self, name: str, root: Path, destination: str) -> bool:
        """Fill an empty volume with what the image has at ``destination``, owner and mode included (CRE24). Blocks.

        ``root`` is a mounted root filesystem in which nothing runs; False when the volume holds something already or
        there is no such directory. All of it arrives, or nothing. Raises ``OSError``.
        """
        target = self.path(name)
        if any(target.iterdir()):
            return False
        root_fd = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            source = open_in_root(root_fd, destination, os.O_RDONLY | os.O_DIRECTORY)
        except (FileNotFoundError, NotADirectoryError):
            return False
        finally:
            os.close(root_fd)
        copy = self._layout.tmp / f"volume-{uuid.uuid4().hex[:16]}"
        try:
            copy.mkdir()
            if os.listdir(source):
                _copy_tree(source, copy)
            status = os.fstat(source)
            os.chown(copy, status.st_uid, status.st_gid)
            copy.chmod(stat.S_IMODE(status.st_mode))
            os.rename(copy, target)  # over the empty directory
        except BaseException:
            self._trash.discard(copy)
            raise
        finally:
            os.close(source)
        return True

    # parts

    def _make(self, name: str) -> None:
        data = self.path(name)
        data.parent.mkdir(mode=0o701, exist_ok=True)
        data.mkdir(exist_ok=True)
        data.chmod(0o755)

    def _shown(self, name: str) -> Volume:
        row = self._rows[name]
        return Volume(
            name=name,
            driver="local",
            mountpoint=str(self.path(name)),
            created_at=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(row.created // 1_000_000_000)),
            labels=row.labels,
            options=row.options,
            scope="local",
        )


def check_name(name: str) -> None:
    """Raises ``BadRequest`` for a name that no volume may have (CRE21)."""
    if len(name) == 1:
        raise BadRequest("volume name is too short, names should be at least two alphanumeric characters")
    if not _NAME.fullmatch(name) or len(name) > 255:
        raise BadRequest(
            f'create {name}: "{name}" includes invalid characters for a local volume name, only '
            '"[a-zA-Z0-9][a-zA-Z0-9_.-]" are allowed. If you intended to pass a host directory, use absolute path'
        )


def _copy_tree(source: int, target: Path) -> None:
    """Copy what is in the directory ``source``, links as links, owners, times and attributes kept."""
    done = subprocess.run(
        ["cp", "-a", "--reflink=auto", "--", f"/proc/self/fd/{source}/.", str(target)],
        pass_fds=(source,),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        check=False,
    )
    if done.returncode:
        raise OSError(done.stderr.decode(errors="replace").strip() or f"cp ended with {done.returncode}")


def _check_filters(filters: Filters, allowed: frozenset[str]) -> None:
    for key in filters:
        if key not in allowed:
            raise BadRequest(f"invalid filter '{key}'")


def _boolean(filters: Filters, key: str) -> bool | None:
    values = filters.get(key)
    if not values:
        return None
    words = {"true": True, "1": True, "false": False, "0": False}
    if len(values) != 1 or values[0] not in words:
        raise BadRequest(f"invalid filter '{key}=[{' '.join(values)}]'")
    return words[values[0]]


def _fits(filters: Filters, key: str, test: Callable[[str], bool]) -> bool:
    values = filters.get(key)
    return not values or any(test(value) for value in values)


def _labels_match(wanted: Iterable[str], labels: Mapping[str, str]) -> bool:
    for label in wanted:
        key, equals, value = label.partition("=")
        if key not in labels or (equals and labels[key] != value):
            return False
    return True
