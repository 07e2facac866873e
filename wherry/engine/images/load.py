"""Images from an archive: ``docker load`` (ImageLoad)."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncGenerator, AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wherry.api.errors import ApiError
from wherry.engine.blocking import in_thread
from wherry.engine.images.archive import Archive, ArchiveError, PlannedImage, PlannedLayer
from wherry.engine.images.config import InvalidConfig, read_config
from wherry.engine.images.content import ContentError, Slice, digest_of, spool, temporary
from wherry.engine.images.import_ import BROKEN
from wherry.engine.images.layers import StagedLayer, chain_ids, unpack
from wherry.engine.images.reference import short_id
from wherry.engine.store.rootfs import layer_diff

if TYPE_CHECKING:
    from wherry.engine.images.store import Images

log = logging.getLogger(__name__)

_PROGRESS_EVERY = 0.25


async def load(images: Images, body: AsyncIterator[bytes], *, quiet: bool) -> AsyncIterator[dict[str, Any]]:
    """Messages as moby's: ``{"stream": "Loaded image: busybox:latest\\n"}``, unless ``quiet`` a progress of each layer,
    and last an ``error`` where there was one: images before it stay. Event ``load`` for each image."""
    spooled = temporary(images.layout, "load")
    archive = None
    try:
        await spool(images.layout, body, spooled)
        archive = await in_thread(Archive, images.layout, spooled)
        without_name = []
        named = False
        for planned in await in_thread(archive.plan):
            with images.holding(digest_of(planned.config)):
                loading = _load_one(images, archive.path, planned, quiet=quiet)
                id = ""
                try:
                    async for message in loading:
                        if "aux" in message:
                            id = message["aux"]
                        else:
                            yield message
                finally:
                    await loading.aclose()
                without_name.append(f"Loaded image ID: {id}\n")
                for name in planned.names:
                    previous = images.named(name)
                    if previous not in (None, id):
                        was = f"renaming the old one with ID {previous} to empty string"
                        yield {"stream": f"The image {name} already exists, {was}\n"}
                    images.name_image(id, name)
                    yield {"stream": f"Loaded image: {name}\n"}
                    named = True
                images.emit(id, "load")
        if not named and without_name:
            yield {"stream": "".join(without_name)}
    except ConnectionError:  # the client's own: there is nobody to tell
        raise
    except (ApiError, ArchiveError, InvalidConfig, ContentError, OSError, *BROKEN) as error:
        text = error.message if isinstance(error, ApiError) else str(error)
        log.info("load failed: %s", text)
        yield {"errorDetail": {"message": text}, "error": text}
    finally:
        if archive is not None:
            archive.close()
        spooled.unlink(missing_ok=True)


async def _load_one(
    images: Images, path: Path, planned: PlannedImage, *, quiet: bool
) -> AsyncGenerator[dict[str, Any], None]:
    """Progress messages, and last ``{"aux": image id}``."""
    file = read_config(planned.config)
    if file.os not in ("", "linux"):
        raise ArchiveError(f"cannot load {file.os} image on linux")
    if len(planned.layers) != len(file.diff_ids):
        raise ArchiveError(
            f"invalid manifest, layers length mismatch: expected {len(planned.layers)}, got {len(file.diff_ids)}"
        )
    chain = chain_ids(file.diff_ids)
    staged: list[StagedLayer] = []
    cancelled = threading.Event()
    committing = False
    try:
        with images.using(chain):
            for number, layer in enumerate(planned.layers):
                if chain[number] in images.layers:
                    continue
                parent = chain[number - 1] if number else ""
                parent_diff = None
                if parent:
                    ours = bool(staged) and staged[-1].chain_id == parent
                    parent_diff = staged[-1].directory / "diff" if ours else layer_diff(images.layout, parent)
                source = Slice(path, layer.member.offset, layer.member.size)
                work = asyncio.ensure_future(in_thread(_stage, images, source, parent, parent_diff, cancelled))
                diff_id = file.diff_ids[number]
                try:
                    while not quiet and not (await asyncio.wait({work}, timeout=_PROGRESS_EVERY))[0]:
                        yield _progress(diff_id, source.position - layer.member.offset, layer.member.size)
                    made = await work
                finally:
                    if not work.done():
                        cancelled.set()
                        work.add_done_callback(_clean_up)
                if not quiet:
                    yield _progress(diff_id, layer.member.size, layer.member.size)
                staged.append(made)
                _check(number, layer, made, diff_id)
            committing = True
            id = await images.commit(planned.config, staged)
    finally:
        cancelled.set()
        if not committing:
            for made in staged:
                made.discard()
    yield {"aux": id}


def _stage(
    images: Images, source: Slice, parent: str, parent_diff: Path | None, cancelled: threading.Event
) -> StagedLayer:
    try:
        overlay = images.rootfs.overlay
        return unpack(images.layout, source, parent, parent_diff, whiteouts=overlay, cancelled=cancelled)
    finally:
        source.close()


def _clean_up(work: asyncio.Future[StagedLayer]) -> None:
    """Whoever waited for it is gone; its error, if any, is of no interest to anybody."""
    if not work.cancelled() and work.exception() is None:
        work.result().discard()


def _check(number: int, layer: PlannedLayer, made: StagedLayer, diff_id: str) -> None:
    if made.row.diff_id != diff_id:
        raise ArchiveError(f'invalid diffID for layer {number}: expected "{diff_id}", got "{made.row.diff_id}"')
    if layer.digest not in ("", made.row.blob, made.row.diff_id):
        raise ArchiveError(f"the content of {layer.digest} is not what its digest says")


def _progress(diff_id: str, current: int, total: int) -> dict[str, Any]:
    return {
        "status": "Loading layer",
        "progressDetail": {"current": current, "total": total},
        "id": short_id(diff_id),
    }
