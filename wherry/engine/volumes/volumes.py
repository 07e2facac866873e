"""Volumes: directories that outlive containers, ``volumes/<name>/_data``. The driver is ``local``.

A volume's row is written once its directory is there, and deleted before the directory goes to the trash; a ``pending``
row of the volume's name covers the time between. What its options mount is mounted while somebody holds it
(``mounting.py``). Everything runs on the engine's loop except what is said to block.
"""

from __future__ import annotations

import logging
import os
import re
import secrets
import time
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import msgspec

from wherry.api.errors import ApiError, BadRequest, Conflict, NotFound, ServerError, in_words
from wherry.api.models.volumes import Volume, VolumeListResponse, VolumePruneResponse, VolumeUsageData
from wherry.engine.blocking import in_thread
from wherry.engine.events import Events
from wherry.engine.filters import check_keys, match_labels
from wherry.engine.regexp import Patterns
from wherry.engine.store.database import Database
from wherry.engine.store.layout import Layout
from wherry.engine.store.overlay import mounts_below
from wherry.engine.store.rootfs import tree_size
from wherry.engine.store.trash import Trash
from wherry.engine.volumes import copyup
from wherry.engine.volumes import options as local
from wherry.engine.volumes.mounting import Mounting, detach
from wherry.engine.volumes.quota import Quota

log = logging.getLogger(__name__)

DESCRIPTION = "volume.json"  # beside a volume's files: enough to build its row anew should the database be lost
VOLUME, PENDING = "volume", "pending-volume"
ANONYMOUS = "com.docker.volume.anonymous"
_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]*", re.ASCII)
_LIST_FILTERS = frozenset({"dangling", "driver", "label", "name"})
_PRUNE_FILTERS = frozenset({"label", "label!", "all"})

InUse = Callable[[str], Collection[str]]
"""Gives the ids of the containers that a volume of this name is mounted in."""

Filters = Mapping[str, list[str]]


class VolumeRow(msgspec.Struct, kw_only=True):
    """``created`` is nanoseconds since the epoch; ``labels`` and ``options`` are as given, null included; ``project`` is
    that of the filesystem's quotas which holds the volume's size, 0 for none."""

    created: int
    labels: dict[str, str] | None = None
    options: dict[str, str] | None = None
    project: int = 0


class Volumes:
    def __init__(self, layout: Layout, database: Database, events: Events, trash: Trash | None = None) -> None:
        self._layout = layout
        self._database = database
        self._events = events
        self._trash = trash or Trash(layout)
        self._rows: dict[str, VolumeRow] = {}
        self._mounting = Mounting(layout.volumes)
        self._quota = Quota(layout.volumes)
        self._pruning = False

    def recover(self) -> list[Path]:
        """At the engine's start: read the rows, finish what was under way, set unknown directories aside.

        Returns where unknown directories went. What is mounted stays so until ``adopt``.
        """
        self._rows = {name: msgspec.json.decode(body, type=VolumeRow) for name, _, body in self._database.all(VOLUME)}
        for name, _, body in self._database.all(PENDING):
            if name not in self._rows:
                self._bury(name, msgspec.json.decode(body, type=VolumeRow) if body else VolumeRow(created=0))
            else:
                self._database.delete(PENDING, name)
        lost = []
        for directory in list(self._layout.volumes.iterdir()):
            if directory.name not in self._rows:
                detach(directory)
                lost.append(self._trash.set_aside(directory))
        mounted = set(mounts_below(self._layout.volumes))  # not looked into: its server may not answer
        for name, row in self._rows.items():
            if str(self.path(name)) not in mounted and not self.path(name).is_dir():
                log.error("volume %s has lost its directory: an empty one is made", name)
                self._make(name, row)
        return lost

    async def adopt(self, users: Mapping[str, Collection[str]]) -> None:
        """After ``recover``: what is mounted belongs to ``users``, the ids of the running containers by volume; what
        nobody uses is unmounted."""
        everyone = {name: users.get(name, ()) for name in self._rows if self._mount_options(name) is not None}
        for name in self._mounting.adopt(everyone):
            await self._mounting.release(name, "")

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

        Raises ``BadRequest`` for a name and for options, ``NotFound`` for a driver, ``ServerError``.
        """
        if not name:
            name = new_name()
            labels = {**(labels or {}), ANONYMOUS: ""}
        if driver not in ("", "local"):
            raise NotFound(f'create {name}: error looking up volume plugin {driver}: plugin "{driver}" not found')
        check_name(name)
        if name in self._rows:
            return self._shown(name)
        row = VolumeRow(
            created=time.time_ns(),
            labels=None if labels is None else dict(labels),
            options=None if options is None else dict(options),
        )
        try:
            local.check(row.options or {}, quota=self._quota.supported if "size" in (row.options or {}) else False)
        except BadRequest as error:
            raise BadRequest(f"create {name}: {error.message}") from None
        try:
            if local.quota_size(row.options):
                row.project = self._quota.new_project()
            self._database.put(PENDING, name, msgspec.json.encode(row))
            self._make(name, row)
        except OSError as error:
            self._bury(name, row)
            raise ServerError(f"create {name}: error while creating volume data path: {in_words(error)}") from error
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
        check_keys(filters, _LIST_FILTERS)
        dangling = _boolean(filters, "dangling")
        names, patterns = filters.get("name") or (), Patterns(filters.get("name") or ())
        chosen = []
        for name in sorted(self._rows):
            if dangling is not None and bool(in_use(name)) is dangling:
                continue
            if filters.get("driver") and "local" not in filters["driver"]:
                continue
            if names and name not in names and not patterns.search(name):
                continue
            if match_labels(self._rows[name].labels or {}, filters):
                chosen.append(self._shown(name))
        return VolumeListResponse(volumes=chosen, warnings=None)

    async def usage(self, *, in_use: InUse) -> list[Volume]:  # type: ignore[valid-type]
        """The volumes without options, with the bytes they hold and the number of their containers (SystemDataUsage)."""
        shown = []
        for name in sorted(self._rows):
            if name not in self._rows or self._rows[name].options:
                continue
            volume = self._shown(name)
            size = await in_thread(tree_size, self.path(name))
            volume.usage_data = VolumeUsageData(size=size, ref_count=len(in_use(name)))
            shown.append(volume)
        return shown

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
            condemned = self.condemn([name])
        self.bury(condemned)

    def condemn(self, names: Iterable[str]) -> dict[str, VolumeRow]:
        """The rows of volumes that nothing uses become those of removals, in the caller's transaction; ``bury`` them
        when it is done. Names of no volume are passed over."""
        condemned = {}
        for name in names:
            row = self._rows.get(name)
            if row is not None:
                self._database.delete(VOLUME, name)
                self._database.put(PENDING, name, msgspec.json.encode(row))
                condemned[name] = row
        return condemned

    def bury(self, condemned: Mapping[str, VolumeRow]) -> None:
        """Take condemned volumes away. Event ``destroy`` for each."""
        for name in condemned:
            self._rows.pop(name, None)
        for name, row in condemned.items():
            self._bury(name, row)
            self._events.emit("volume", "destroy", name, {"driver": "local"})

    async def prune(self, filters: Filters | None = None, *, in_use: InUse, named: bool = False) -> VolumePruneResponse:
        """VolumePrune: the unused anonymous ones, or all unused with the filter ``all`` or ``named`` (API below 1.42);
        none with options, which hold no space of their own.

        Event ``prune``. Raises ``BadRequest`` for filters, ``Conflict`` while another prune is under way.
        """
        filters = filters or {}
        check_keys(filters, _PRUNE_FILTERS)
        named = _all(filters) or named
        if self._pruning:
            raise Conflict("a prune operation is already running")
        self._pruning = True
        removed = []
        freed = 0
        try:
            for name in sorted(self._rows):
                row = self._rows.get(name)
                if row is None or row.options or in_use(name) or not (named or self.is_anonymous(name)):
                    continue
                if not match_labels(row.labels or {}, filters):
                    continue
                size = await in_thread(tree_size, self.path(name))
                with suppress(ApiError):
                    self.remove(name, in_use=in_use)
                    removed.append(name)
                    freed += size
        finally:
            self._pruning = False
        self._events.emit("volume", "prune", "", {"reclaimed": str(freed)})
        return VolumePruneResponse(volumes_deleted=removed, space_reclaimed=freed)

    # for containers

    def is_mounted_at_use(self, name: str) -> bool:
        """Whether the volume's options are a mount."""
        return self._mount_options(name) is not None

    async def acquire(self, name: str, holder: str) -> None:
        """Have what the volume's options mount there for ``holder``. Raises ``ServerError``."""
        mounts = self._mount_options(name)
        if mounts is not None:
            await self._mounting.acquire(name, mounts, holder)

    async def release(self, name: str, holder: str) -> None:
        """Give ``holder``'s claim up; after the last one's the volume is unmounted."""
        await self._mounting.release(name, holder)

    @asynccontextmanager
    async def mounted(self, names: Iterable[str]) -> AsyncIterator[None]:
        """The volumes mounted for the length of the block. Raises ``ServerError``."""
        holder, held = secrets.token_hex(8), []
        try:
            for name in names:
                if self.is_mounted_at_use(name):
                    held.append(name)
                    await self.acquire(name, holder)
            yield
        finally:
            for name in held:
                await self.release(name, holder)

    def copy_up(self, name: str, root: Path, destination: str) -> bool:
        """Fill an empty volume with what the image has at ``destination``, owner and mode included (CRE24). Blocks.

        ``root`` is a mounted root filesystem in which nothing runs; a volume that is mounted at use must be mounted.
        False when the volume holds something already or there is no such directory. All of it arrives, or nothing.
        Raises ``OSError``.
        """
        target = self.path(name)
        if any(target.iterdir()):
            return False
        source = copyup.open_source(root, destination)
        if source is None:
            return False
        row = self._rows[name]
        try:
            if local.mount_options(row.options) is not None:
                copyup.copy_into(source, target)
            else:
                work, limited = self._layout.tmp, bool(row.project)
                copyup.copy_over(
                    source, target, work, self._trash, lambda copy: self._assign(copy, row), limited=limited
                )
        finally:
            os.close(source)
        return True

    # parts

    def _mount_options(self, name: str) -> local.MountOptions | None:
        row = self._rows.get(name)
        return local.mount_options(row.options) if row is not None and row.options else None

    def _make(self, name: str, row: VolumeRow) -> None:
        data = self.path(name)
        data.parent.mkdir(mode=0o701, exist_ok=True)
        data.mkdir(exist_ok=True)
        data.chmod(0o755)
        self._assign(data, row)
        (data.parent / DESCRIPTION).write_bytes(msgspec.json.encode(row))

    def _assign(self, directory: Path, row: VolumeRow) -> None:
        if row.project:
            self._quota.limit(row.project, local.quota_size(row.options))
            self._quota.assign(directory, row.project)

    def _bury(self, name: str, row: VolumeRow) -> None:
        """The end of a volume whose row is ``pending``."""
        if local.mount_options(row.options) is not None:
            self._mounting.forget(name)
        self._trash.discard(self._layout.volumes / name)
        if row.project:
            with suppress(OSError):
                self._quota.limit(row.project, 0)
        self._database.delete(PENDING, name)

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


def new_name() -> str:
    """The name of an anonymous volume."""
    return secrets.token_hex(32)


def check_name(name: str) -> None:
    """Raises ``BadRequest`` for a name that no volume may have (CRE21)."""
    if len(name) == 1:
        raise BadRequest(
            f"create {name}: volume name is too short, names should be at least two alphanumeric characters"
        )
    if not _NAME.fullmatch(name) or len(name) > 255:
        raise BadRequest(
            f'create {name}: "{name}" includes invalid characters for a local volume name, only '
            '"[a-zA-Z0-9][a-zA-Z0-9_.-]" are allowed. If you intended to pass a host directory, use absolute path'
        )


def _boolean(filters: Filters, key: str) -> bool | None:
    if key not in filters:
        return None
    values = filters[key]
    yes, no = bool({"1", "true"} & set(values)), bool({"0", "false"} & set(values))
    if yes == no:
        raise BadRequest(f"invalid filter '{key}=[{' '.join(values)}]'" if values else f"invalid filter '{key}'")
    return yes


def _all(filters: Filters) -> bool:
    """Whether a prune is to take named volumes too."""
    values = filters.get("all") or ()
    if len(values) > 1:
        raise BadRequest(f"invalid filter 'all=[{' '.join(values)}]': only one value is expected")
    for value in values:
        if value in ("1", "t", "T", "TRUE", "true", "True"):
            return True
        if value not in ("0", "f", "F", "FALSE", "false", "False"):
            raise BadRequest(f"invalid filter 'all': strconv.ParseBool: parsing \"{value}\": invalid syntax")
    return False
