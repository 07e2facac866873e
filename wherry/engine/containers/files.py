"""The operations on a container's files: archive, export, changes; running or stopped, no lock held (ARC10, ARC11)."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from wherry.api.errors import Conflict, ServerError
from wherry.api.models.containers import FilesystemChange
from wherry.engine.blocking import in_thread, opened_in_thread
from wherry.engine.containers import archive
from wherry.engine.containers import changes as comparison
from wherry.engine.containers import export as tree
from wherry.engine.containers.container import Container
from wherry.engine.containers.registry import Containers
from wherry.engine.containers.rootview import RootView, running_view, stopped_view
from wherry.engine.oci.users import UnknownUser, resolve_user
from wherry.wire.pathstat import PathStat


@asynccontextmanager
async def _view(containers: Containers, container: Container) -> AsyncIterator[RootView]:
    """The container's files as it sees them; a stopped one's root is mounted for the time."""
    read_only = container.host_config.readonly_rootfs
    run, view, paths = container.run, None, None
    with suppress(OSError):  # said by whoever needs it
        paths = containers.parts.rootfs.paths(container.id)
    if run is not None and container.state.pid:
        with suppress(OSError):  # it ends just now
            view = running_view(run.pid, read_only=read_only, paths=paths)
    if view is not None:
        with view:
            if container.run is run:
                yield view
                return
    names = [point.name for point in container.spec.mounts if point.type == "volume"]
    async with _mounted(containers, container) as merged, containers.parts.volumes.mounted(names):
        mounts = container.spec.mounts
        with await opened_in_thread(stopped_view, merged, mounts, read_only=read_only, paths=paths) as view:
            yield view


@asynccontextmanager
async def _mounted(containers: Containers, container: Container) -> AsyncIterator[Path]:
    rootfs, holder = containers.parts.rootfs, uuid.uuid4().hex
    merged = await in_thread(rootfs.mount, container.id, holder)
    try:
        yield merged
    finally:
        await in_thread(rootfs.unmount, container.id, holder)


async def stat(containers: Containers, reference: str, path: str) -> PathStat:
    """ContainerArchiveInfo. Raises ``NotFound``, ``BadRequest``, ``ServerError``."""
    archive.clean_path(path)
    container = containers.find(reference)
    async with _view(containers, container) as view:
        return await in_thread(archive.stat_path, view, path, container=reference)


@asynccontextmanager
async def get(
    containers: Containers, reference: str, path: str
) -> AsyncIterator[tuple[PathStat, AsyncIterator[bytes]]]:
    """ContainerArchive: what the path is, and the archive in pieces. Event ``archive-path``."""
    archive.clean_path(path)
    container = containers.find(reference)
    async with _view(containers, container) as view:
        found, body = await in_thread(archive.get_archive, view, path, container=reference)
        containers.emit(container, "archive-path")
        try:
            yield found, body
        finally:
            await body.aclose()  # type: ignore[attr-defined]


async def put(
    containers: Containers,
    reference: str,
    path: str,
    body: AsyncIterator[bytes],
    *,
    no_overwrite_dir_non_dir: bool,
    copy_uid_gid: bool,
) -> None:
    """PutContainerArchive. Event ``extract-to-dir``. Raises ``NotFound``, ``BadRequest``, ``ServerError``."""
    archive.clean_path(path)
    container = containers.find(reference)
    async with _view(containers, container) as view:
        owner: tuple[int, int] | None = None
        if copy_uid_gid and container.config.user:
            try:
                user = await in_thread(resolve_user, view.fd, container.config.user)
            except UnknownUser as error:
                raise ServerError(str(error)) from error
            owner = (user.uid, user.gid)
        await archive.put_archive(
            view,
            path,
            body,
            container=reference,
            no_overwrite_dir_non_dir=no_overwrite_dir_non_dir,
            chown=owner,
        )
    containers.emit(container, "extract-to-dir")


@asynccontextmanager
async def export(containers: Containers, reference: str) -> AsyncIterator[AsyncIterator[bytes]]:
    """ContainerExport: the whole root as an archive in pieces. Event ``export`` (EXP1)."""
    container = containers.find(reference)
    state = container.state
    if state.dead or state.removing:
        word = "Dead" if state.dead else "being removed"
        raise Conflict(f"You cannot export container {container.id} which is {word}")
    async with _mounted(containers, container) as merged:
        body = tree.export(merged)
        containers.emit(container, "export")
        try:
            yield body
        finally:
            await body.aclose()  # type: ignore[attr-defined]


async def changes(containers: Containers, reference: str) -> list[FilesystemChange] | None:
    """ContainerChanges: what differs from the image; None for nothing (CHG1)."""
    container = containers.find(reference)
    destinations = [point.destination for point in container.spec.mounts]
    return await in_thread(comparison.changes, containers.parts.rootfs.paths(container.id), destinations)
