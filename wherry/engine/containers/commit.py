"""ImageCommit: an image of a container's root filesystem as it stands, volumes not included."""

from __future__ import annotations

import copy
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from wherry.api.errors import ApiError, BadRequest, Conflict, ServerError, in_words
from wherry.api.models.containers import ContainerConfig
from wherry.engine.blocking import in_thread, in_thread_until
from wherry.engine.containers import difftar, pause
from wherry.engine.containers.container import Container
from wherry.engine.containers.merge import merge
from wherry.engine.containers.registry import Containers
from wherry.engine.images import instructions, reference
from wherry.engine.images.config import LARGEST, InvalidConfig, format_time
from wherry.engine.images.content import ContentError, Slice, digest_of, free_space, no_space, read_blob, temporary
from wherry.engine.images.layers import Cancelled, StagedLayer, unpack
from wherry.engine.images.packing import Packing
from wherry.engine.images.platform import host_platform
from wherry.engine.images.store import Images
from wherry.engine.store.layout import Layout
from wherry.engine.store.rootfs import layer_diff
from wherry.engine.store.untar import UntarError

STAGING_ERRORS = (difftar.DiffError, UntarError, OSError)
"""What ``stage_changes`` raises."""
_FROM_PARENT = ("architecture", "variant", "os", "os.version", "os.features")


@dataclass(frozen=True, slots=True, kw_only=True)
class CommitRequest:
    """``config`` replaces the container's where it says something; ``changes`` are Dockerfile instructions."""

    repo: str = ""
    tag: str = ""
    comment: str = ""
    author: str = ""
    pause: bool = True
    changes: Sequence[str] = ()
    config: ContainerConfig | None = None


async def commit(containers: Containers, text: str, request: CommitRequest) -> str:
    """The new image's id. Running processes are paused meanwhile, unless asked not to.

    Events ``commit`` of the container and ``tag`` of the image. Raises ``NotFound``, ``BadRequest``, ``Conflict``,
    ``ServerError``.
    """
    name = None
    if request.repo:
        name = reference.parse(request.repo)
        if name.digest:
            raise BadRequest("cannot commit to digest reference")
        name = (name.with_tag(request.tag) if request.tag else name).tagged()
    container = containers.find(text)
    if container.state.dead or container.state.removing:
        word = "Dead" if container.state.dead else "being removed"
        raise Conflict(f"You cannot commit container {container.id} which is {word}")
    config = copy.deepcopy(request.config or container.config)
    instructions.apply(config, request.changes)
    merge(config, copy.deepcopy(container.config))

    task = containers.spawn(_commit(containers, container, config, request, name), f"commit {container.short_id}")
    id: str = await containers.shielded(task)
    shown = str(name) if name is not None else ""
    containers.emit(container, "commit", comment=request.comment, imageID=id, imageRef=shown)
    return id


async def _commit(
    containers: Containers,
    container: Container,
    config: ContainerConfig,
    request: CommitRequest,
    name: reference.Reference | None,
) -> str:
    images, rootfs = containers.parts.images, containers.parts.rootfs
    try:
        chain = rootfs.layers(container.id)  # topmost first
        with images.using(chain):
            paused = request.pause and await _pause(containers, container)

            def thaw() -> None:
                if paused and container.state.paused:
                    pause.thaw(containers, container)

            destinations = [point.destination for point in container.spec.mounts]
            staged = await stage_changes(containers, container.id, destinations, written=thaw)
            parent = container.spec.image_id
            base = await parent_content(images, parent)
            diff_ids = [images.layers[layer].diff_id for layer in reversed(chain)]
            diff_ids += [layer.row.diff_id for layer in staged]
            data = child_content(
                base,
                container=container.id,
                author=request.author,
                comment=request.comment,
                config=config,
                container_config=container.config,
                diff_ids=diff_ids,
                empty=not staged,
            )
            with images.holding(digest_of(data)):
                id = await images.commit(data, staged, parent=parent if base else "")
                if name is not None:
                    images.name_image(id, name, action="tag")
            return id
    except (*STAGING_ERRORS, InvalidConfig, ContentError) as error:
        raise ServerError(f"cannot commit container {container.id}: {in_words(error)}") from error


async def stage_changes(
    containers: Containers,
    tree: str,
    destinations: Sequence[str],
    *,
    written: Callable[[], None] = lambda: None,
    take: bool = False,
) -> list[StagedLayer]:
    """What was changed in a root filesystem, as a new layer; none where nothing was.

    ``tree`` is its name to ``Rootfs``, a container's id or a build's own; ``destinations`` are places of mounts in it.
    ``written`` is called as soon as the tree is no longer read, whatever happened. ``take``: the tree is at rest, and
    nobody needs its changes any more. Raises ``STAGING_ERRORS``.
    """
    images = containers.parts.images
    if take and images.rootfs.overlay and not images.rootfs.is_mounted(tree):
        stopped = threading.Event()
        taken = await in_thread_until(stopped, _take, containers, tree, destinations, stopped)
        return [taken] if taken is not None else []
    cancelled = threading.Event()
    archive = temporary(images.layout, "commit")
    try:
        try:
            count = await in_thread_until(cancelled, _write, containers, tree, destinations, archive, cancelled)
        finally:
            written()
        chain = containers.parts.rootfs.layers(tree)
        if not count:
            return []
        return [await in_thread_until(cancelled, _stage, containers, chain, archive, cancelled)]
    finally:
        cancelled.set()
        archive.unlink(missing_ok=True)


async def _pause(containers: Containers, container: Container) -> bool:
    """Whether it was running and is paused now."""
    if not container.state.running or container.state.paused:
        return False
    with suppress(ApiError):  # ended, or paused by somebody else, in this moment
        await pause.pause(containers, container.id)
        return True
    return False


def _take(
    containers: Containers, tree: str, destinations: Sequence[str], cancelled: threading.Event
) -> StagedLayer | None:
    rootfs = containers.parts.rootfs
    packing = Packing(containers.layout)
    try:
        check = _checking(containers.layout, cancelled)
        if not difftar.write_diff(rootfs.paths(tree), destinations, packing, check=check):
            packing.abandon()
            return None
        chain = rootfs.layers(tree)
        return packing.finish(lambda place: rootfs.take_changes(tree, place), chain[0] if chain else "")
    except BaseException:
        packing.abandon()
        raise


def _checking(layout: Layout, cancelled: threading.Event) -> Callable[[], None]:
    def check() -> None:
        if cancelled.is_set():
            raise Cancelled
        if not free_space(layout):
            raise no_space(layout)

    return check


def _write(
    containers: Containers, tree: str, destinations: Sequence[str], archive: Path, cancelled: threading.Event
) -> int:
    check = _checking(containers.layout, cancelled)
    with open(archive, "wb", buffering=1 << 20) as out:
        return difftar.write_diff(containers.parts.rootfs.paths(tree), destinations, out, check=check)


def _stage(containers: Containers, chain: Sequence[str], archive: Path, cancelled: threading.Event) -> StagedLayer:
    images = containers.parts.images
    parent = chain[0] if chain else ""
    parent_diff = layer_diff(images.layout, parent) if parent else None
    source = Slice(archive)
    try:
        return unpack(images.layout, source, parent, parent_diff, whiteouts=images.rootfs.overlay, cancelled=cancelled)
    finally:
        source.close()


async def parent_content(images: Images, image_id: str) -> dict[str, Any]:
    """The configuration's file of the image below; empty where it is gone, or there is none."""
    if not image_id or images.find(image_id) is None:
        return {}
    content: dict[str, Any] = msgspec.json.decode(await in_thread(read_blob, images.layout, image_id, LARGEST))
    return content


def child_content(
    base: dict[str, Any],
    *,
    container: str,
    author: str,
    comment: str,
    config: ContainerConfig,
    container_config: ContainerConfig,
    diff_ids: Sequence[str],
    empty: bool,
) -> bytes:
    """The file of an image made from another: its parent's history and platform, and one step more.

    The step is what ``container_config`` has as its command. ``empty``: no layer came with it.
    """
    host, created = host_platform(), format_time(time.time_ns())
    step: dict[str, Any] = {"created": created, "created_by": " ".join(container_config.cmd or [])}
    for key, value in (("author", author), ("comment", comment), ("empty_layer", empty)):
        if value:
            step[key] = value
    content: dict[str, Any] = {"architecture": host.architecture, "os": host.os}
    content |= {key: base[key] for key in _FROM_PARENT if base.get(key)}
    content |= {
        "author": author or base.get("author", ""),
        "comment": comment,
        "config": msgspec.to_builtins(config),
        "container": container,
        "container_config": msgspec.to_builtins(container_config),
        "created": created,
        "history": [*(base.get("history") or []), step],
        "rootfs": {"type": "layers", "diff_ids": list(diff_ids)},
    }
    return msgspec.json.encode({key: value for key, value in content.items() if value != ""}, order="sorted")
