"""ContainerCreate: check everything, reserve the name, write the row, make the directories (CRE1 to CRE28).

There is no process, namespace, address or port before start. A failure at any step leaves nothing behind.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import stat
import time
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from wherry.api.errors import ApiError, BadRequest, ServerError
from wherry.api.models.containers import ContainerConfig, HostConfig
from wherry.api.models.networks import EndpointSettings
from wherry.engine.blocking import in_thread
from wherry.engine.containers import merge, mounts, settings
from wherry.engine.containers.container import Container, MountPoint, Spec
from wherry.engine.containers.links import resolve_links
from wherry.engine.containers.names import check_name, generate_name, new_id
from wherry.engine.containers.network import networks_asked
from wherry.engine.containers.platform import check_platform
from wherry.engine.containers.registry import KIND, Containers
from wherry.engine.images.store import Image
from wherry.engine.inroot import clean, make_directories, open_in_root
from wherry.engine.oci.warm import warm_cgroups
from wherry.engine.store.layout import Layout
from wherry.engine.volumes.volumes import ANONYMOUS, new_name

log = logging.getLogger(__name__)


@dataclass(slots=True, kw_only=True)
class CreateRequest:
    config: ContainerConfig
    host_config: HostConfig
    endpoints: dict[str, EndpointSettings] = field(default_factory=dict)
    name: str | None = None
    platform: str | None = None
    version: tuple[int, int] = (1, 43)
    for_build: bool = False


async def create(containers: Containers, request: CreateRequest) -> tuple[str, list[str]]:
    """The new container's id, and warnings.

    Raises ``BadRequest``, ``NotFound`` (no such image), ``Conflict`` (the name is taken).
    """
    containers.spawn(warm_cgroups(), "warming up")  # a start mostly follows at once
    parts = containers.parts
    config, host = request.config, request.host_config
    settings.check_config(config, request.version)
    warnings = settings.check_host_config(config, host, parts.cgroups, list(parts.runtimes), request.version)
    mounts.check_mounts(host, request.version)
    image, platform_warnings = _find_image(containers, config.image, request.platform)
    warnings += platform_warnings
    merge.merge(config, image.config)
    settings.check_config(config, request.version)
    settings.check_endpoints(request.endpoints, request.version)
    data_root = str(parts.layout.data_root)
    networks = (
        {}  # a namespace with nothing but the loopback, whatever else is asked for
        if config.network_disabled
        else networks_asked(parts.networks, host.network_mode, request.endpoints, config.mac_address or "")
    )
    if host.network_mode.startswith("container:"):  # the id outlives a rename
        with contextlib.suppress(ApiError):  # found out at start (CRE18)
            host.network_mode = f"container:{containers.find(host.network_mode.removeprefix('container:')).id}"
    linked = resolve_links(containers, host)
    path, args = merge.command(config)
    if request.name:
        check_name(request.name)
    others: mounts.OthersMounts = lambda other: containers.find(other).spec.mounts  # noqa: E731
    points = mounts.mount_points(config, host, request.version, others, data_root=data_root)
    for point in points:
        if point.type == "volume" and not point.name:  # in the row before it is made
            point.name = new_name()
            point.volume_labels = {**(point.volume_labels or {}), ANONYMOUS: ""}

    container_id = new_id()
    name = (request.name or generate_name(container_id, containers.name_taken)).removeprefix("/")
    if not config.hostname:
        config.hostname = (
            parts.hostname if host.network_mode == "host" or host.uts_mode == "host" else container_id[:12]
        )
    container = Container(
        Spec(
            id=container_id,
            name=name,
            created=time.time_ns(),
            image_id=image.id,
            image_reference=config.image,
            path=path,
            args=args,
            config=config,
            host_config=host,
            networks=networks,
            links=linked,
            mounts=points,
            runtime=host.runtime or parts.default_runtime,
            for_build=request.for_build,
        )
    )
    host.runtime = container.spec.runtime
    containers.add(container)
    async with container.lock:
        try:
            await _make(containers, container, image)
        except BaseException:
            await discard(containers, container)
            raise
    containers.emit(container, "create")
    return container_id, warnings


async def _make(containers: Containers, container: Container, image: Image) -> None:
    parts = containers.parts
    spec = container.spec
    parts.layout.container(spec.id).mkdir(mode=0o710)
    if parts.rootfs.overlay:
        parts.rootfs.prepare(spec.id, image.layer_ids)  # some 0.3 ms
    else:
        await in_thread(parts.rootfs.prepare, spec.id, image.layer_ids)
    volumes = [point for point in spec.mounts if point.type == "volume"]
    for point in volumes:
        volume = parts.volumes.create(point.name, point.volume_labels, point.volume_options, point.driver)
        point.source = volume.mountpoint
        await asyncio.sleep(0)  # an image may name thousands
    working_dir = spec.config.working_dir
    if volumes or working_dir not in ("", "/"):
        later = await in_thread(_furnish, containers, spec, working_dir, volumes)
        async with parts.volumes.mounted(point.name for point in later):
            if later:
                await in_thread(_fill, containers, spec, later)
    containers.save(container)
    write_description(parts.layout, container)


def _furnish(containers: Containers, spec: Spec, working_dir: str, volumes: list[MountPoint]) -> list[MountPoint]:
    """What needs the mounted root: the working directory (CRE8), and image content copied into empty volumes (CRE24).

    Returns the volumes that must be mounted before they are filled.
    """
    parts = containers.parts
    later = []
    with parts.rootfs.mounted(spec.id) as root:
        root_fd = os.open(root, os.O_PATH | os.O_DIRECTORY)
        try:
            if working_dir not in ("", "/"):
                try:
                    os.close(make_directories(root_fd, clean(os.fsencode(working_dir))))
                except OSError as error:
                    if error.errno == errno.ENAMETOOLONG:
                        raise BadRequest("Cannot mkdir the working directory: its name is too long") from error
                    raise ServerError(f"Cannot mkdir: {working_dir} is not a directory") from error
            for point in volumes:
                if point.from_config and _is_file(root_fd, point.destination):
                    raise ServerError(f"cannot mount volume over existing file, file exists {point.destination}")
                if point.no_copy:
                    continue
                if not parts.volumes.is_mounted_at_use(point.name):
                    parts.volumes.copy_up(point.name, root, point.destination)
                elif _exists(root_fd, point.destination):
                    later.append(point)
        finally:
            os.close(root_fd)
    return later


def _fill(containers: Containers, spec: Spec, volumes: list[MountPoint]) -> None:
    with containers.parts.rootfs.mounted(spec.id) as root:
        for point in volumes:
            containers.parts.volumes.copy_up(point.name, root, point.destination)


def _exists(root_fd: int, path: str) -> bool:
    try:
        os.close(open_in_root(root_fd, path, os.O_PATH))
    except OSError:
        return False
    return True


def _is_file(root_fd: int, path: str) -> bool:
    try:
        found = open_in_root(root_fd, path, os.O_PATH)
    except OSError:
        return False
    try:
        return not stat.S_ISDIR(os.fstat(found).st_mode)
    finally:
        os.close(found)


async def discard(containers: Containers, container: Container) -> None:
    """Take back a container that did not come to be, or is being removed: its directories, then its row."""
    parts = containers.parts
    await in_thread(parts.rootfs.remove, container.id)
    await in_thread(parts.trash.discard, parts.layout.container(container.id))
    forget(containers, container, volumes=True)


def forget(containers: Containers, container: Container, *, volumes: bool) -> None:
    """Delete the row, and with ``volumes`` the anonymous volumes that were made for this container; one that another
    container uses too stays. An engine that dies in the middle finds what is left of it in the database.

    Raises ``OSError``: then nothing was done.
    """
    parts = containers.parts
    made = [point.name for point in container.spec.mounts if volumes and point.anonymous and point.name]
    with parts.database.transaction():
        parts.database.delete(KIND, container.id)
        condemned = parts.volumes.condemn(
            name for name in made if containers.volume_users(name) in ([], [container.id])
        )
    containers.forget(container)
    try:
        parts.volumes.bury(condemned)
    except OSError:  # no failure of the container's, which is gone; the engine's next start tries again
        log.exception("the volumes of %s could not be removed", container.short_id)


def _find_image(containers: Containers, reference: str, platform: str | None) -> tuple[Image, list[str]]:
    if not reference:
        raise BadRequest("Config cannot be empty in order to create a container")
    image = containers.parts.images.get(reference)
    return image, check_platform(image, reference, platform)


def write_description(layout: Layout, container: Container) -> None:
    """``container.json``: enough to build the row anew should the database be lost. For a new container."""
    _write(layout.container(container.id) / "container.json", msgspec.json.encode(container.spec))


async def rewrite_description(layout: Layout, container: Container) -> None:
    """The same for one that has changed; under its lock. Replacing a file may wait for the disk, so a thread does it.

    It is no more than a copy of the row: a failure is told and passed over.
    """
    path = layout.container(container.id) / "container.json"
    try:
        await in_thread(_write, path, msgspec.json.encode(container.spec))
    except OSError as error:
        log.error("%s could not be rewritten: %s", path, error)


def _write(path: Path, data: bytes) -> None:
    temporary = path.with_suffix(".new")
    try:
        temporary.write_bytes(data)
        os.replace(temporary, path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
