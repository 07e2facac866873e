"""An image from a plain archive of files: ``docker import -`` (ImageCreate with ``fromSrc=-``)."""

from __future__ import annotations

import threading
import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from wherry.api.errors import BadRequest, ServerError
from wherry.api.models.containers import ContainerConfig
from wherry.engine.blocking import in_thread
from wherry.engine.images import instructions, reference
from wherry.engine.images.config import format_time, new_config
from wherry.engine.images.content import Slice, digest_of, spool, temporary
from wherry.engine.images.layers import StagedLayer, unpack
from wherry.engine.images.platform import parse_platform
from wherry.engine.store.compression import CompressionError
from wherry.engine.store.tarread import TarError
from wherry.engine.store.untar import UntarError

if TYPE_CHECKING:
    from wherry.engine.images.store import Images


BROKEN = (UntarError, TarError, CompressionError)
"""What a broken archive raises."""


async def import_image(
    images: Images,
    body: AsyncIterator[bytes],
    *,
    repo: str,
    tag: str,
    message: str,
    changes: Sequence[str],
    platform: str,
) -> AsyncGenerator[dict[str, Any], None]:
    """One message, ``{"status": "sha256:…"}``, once the image is there. Events ``tag`` and ``import``."""
    name = None
    if repo:
        name = reference.parse(repo)
        if name.digest:
            raise BadRequest("cannot import digest reference")
        name = (name.with_tag(tag) if tag else name).tagged()
    wanted = parse_platform(platform)
    if wanted.os != "linux":
        raise BadRequest("operating system is not supported")
    config = ContainerConfig()
    instructions.apply(config, changes)
    message = message or "Imported from -"

    archive = temporary(images.layout, "import")
    cancelled = threading.Event()
    try:
        await spool(images.layout, body, archive)
        try:
            layer = await in_thread(stage, images, archive, cancelled)
        except BROKEN as error:
            raise ServerError(str(error)) from error
        data = new_config(
            platform=wanted,
            created=format_time(time.time_ns()),
            comment=message,
            config=msgspec.to_builtins(config),
            diff_ids=[layer.row.diff_id],
        )
        with images.holding(digest_of(data)):
            id = await images.commit(data, [layer])
            if name is not None:
                images.name_image(id, name, action="tag")
    except ConnectionError:
        raise
    except OSError as error:
        raise ServerError(str(error)) from error
    finally:
        cancelled.set()
        archive.unlink(missing_ok=True)
    images.emit(id, "import")
    yield {"status": id}


def stage(images: Images, archive: Path, cancelled: threading.Event) -> StagedLayer:
    """Unpack a lowest layer. Blocks."""
    source = Slice(archive)
    try:
        return unpack(images.layout, source, "", None, whiteouts=images.rootfs.overlay, cancelled=cancelled)
    finally:
        source.close()
