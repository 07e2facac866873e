"""An image from a plain archive of files: ``docker import -`` (ImageCreate with ``fromSrc=-``)."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from wherry.api.errors import BadRequest, ServerError
from wherry.api.models.containers import ContainerConfig
from wherry.engine.blocking import in_thread
from wherry.engine.images import instructions, reference
from wherry.engine.images.config import format_time, new_config
from wherry.engine.images.content import Slice, spool, temporary
from wherry.engine.images.layers import StagedLayer, unpack
from wherry.engine.store.compression import CompressionError
from wherry.engine.store.tarread import TarError
from wherry.engine.store.untar import UntarError

if TYPE_CHECKING:
    from wherry.engine.images.store import Images

_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "armv6l": "arm", "i686": "386", "i386": "386"}
_VARIANTS = {"armv7l": "v7", "armv6l": "v6"}

BROKEN = (UntarError, TarError, CompressionError)
"""What a broken archive raises."""


def host_platform() -> tuple[str, str, str]:
    """(os, architecture, variant) in Go's words."""
    machine = os.uname().machine
    return "linux", _ARCHITECTURES.get(machine, machine), _VARIANTS.get(machine, "")


def parse_platform(text: str) -> tuple[str, str, str]:
    """``os[/arch[/variant]]`` or an architecture alone. Raises ``BadRequest`` for anything else than Linux."""
    host = host_platform()
    if not text:
        return host
    parts = text.lower().split("/")
    if len(parts) > 3 or not all(part.replace("_", "").replace("-", "").replace(".", "").isalnum() for part in parts):
        raise BadRequest(f'"{text}": invalid platform specification')
    if len(parts) == 1 and parts[0] != "linux":
        known = {*_ARCHITECTURES.values(), "ppc64le", "s390x", "riscv64", "mips64le", "loong64"}
        if _ARCHITECTURES.get(parts[0], parts[0]) not in known:
            raise BadRequest("operating system is not supported")
        parts = ["linux", _ARCHITECTURES.get(parts[0], parts[0])]
    if parts[0] != "linux":
        raise BadRequest("operating system is not supported")
    architecture = _ARCHITECTURES.get(parts[1], parts[1]) if len(parts) > 1 else host[1]
    return "linux", architecture, parts[2] if len(parts) > 2 else ""


async def import_image(
    images: Images,
    body: AsyncIterator[bytes],
    *,
    repo: str,
    tag: str,
    message: str,
    changes: Sequence[str],
    platform: str,
) -> AsyncIterator[dict[str, Any]]:
    """One message, ``{"status": "sha256:…"}``, once the image is there. Events ``tag`` and ``import``."""
    name = None
    if repo:
        name = reference.parse(repo)
        if name.digest:
            raise BadRequest("cannot import digest reference")
        name = (name.with_tag(tag) if tag else name).tagged()
    os_name, architecture, variant = parse_platform(platform)
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
            architecture=architecture,
            os=os_name,
            variant=variant,
            created=format_time(time.time_ns()),
            comment=message,
            config=msgspec.to_builtins(config),
            diff_ids=[layer.row.diff_id],
        )
        id = await images.commit(data, [layer])
    finally:
        cancelled.set()
        archive.unlink(missing_ok=True)
    if name is not None:
        images.name_image(id, name, action="tag")
    images.emit(id, "import")
    yield {"status": id}


def stage(images: Images, archive: Path, cancelled: threading.Event) -> StagedLayer:
    """Unpack a lowest layer. Blocks."""
    source = Slice(archive)
    try:
        return unpack(images.layout, source, "", None, whiteouts=images.rootfs.overlay, cancelled=cancelled)
    finally:
        source.close()
