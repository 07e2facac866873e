"""An image's configuration: the JSON whose digest is the image's id. OCI's fields and moby's own."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from msgspec import field

from wherry.api.errors import BadRequest
from wherry.api.json import decode_body
from wherry.api.models.common import PlainModel
from wherry.api.models.containers import ContainerConfig
from wherry.engine.images.platform import Platform

LARGEST = 8 << 20
_MOST_LAYERS = 500
_TIME = re.compile(
    r"(\d{4}-\d\d-\d\d)[Tt](\d\d:\d\d:\d\d)(?:\.(\d{1,18}))?(Z|z|[+-]\d\d:\d\d)",
    re.ASCII,
)
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
ZERO_TIME = "0001-01-01T00:00:00Z"
_ZERO_SECONDS = -62135596800
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SECOND = timedelta(seconds=1)


class InvalidConfig(ValueError):
    """The bytes are no image configuration; the text says why."""


class ImageRootFS(PlainModel, kw_only=True):
    type: str = ""
    diff_ids: list[str] | None = None


class ImageHistory(PlainModel, kw_only=True):
    created: str = ""
    created_by: str = ""
    author: str = ""
    comment: str = ""
    empty_layer: bool = False


class ImageConfigFile(PlainModel, kw_only=True):
    """The file. ``config`` is what containers of the image start from, None where it has none."""

    architecture: str = ""
    variant: str = ""
    os: str = ""
    os_version: str = field(default="", name="os.version")
    author: str = ""
    comment: str = ""
    created: str = ""
    container: str = ""
    docker_version: str = ""
    config: ContainerConfig | None = None
    container_config: ContainerConfig | None = None
    rootfs: ImageRootFS | None = None
    history: list[ImageHistory] | None = None

    @property
    def diff_ids(self) -> list[str]:
        """Digests of the uncompressed layers, lowest first."""
        return (self.rootfs.diff_ids or []) if self.rootfs is not None else []

    @property
    def created_ns(self) -> int:
        """Nanoseconds since the epoch; the zero time of Go where the file says nothing."""
        return parse_time(self.created)


def read_config(data: bytes) -> ImageConfigFile:
    """Raises ``InvalidConfig``, also for an image without a list of layers or with one that no engine could mount."""
    if len(data) > LARGEST:
        raise InvalidConfig("the image's configuration is too large")
    try:
        config = decode_body(ImageConfigFile, data)
    except (BadRequest, ValueError, RecursionError) as error:
        raise InvalidConfig(f"invalid image configuration: {error}") from None
    if not isinstance(config, ImageConfigFile):
        raise InvalidConfig("invalid image configuration: not an object")
    if config.rootfs is None:
        raise InvalidConfig("invalid image JSON, no RootFS key")
    for diff_id in config.diff_ids:
        if not isinstance(diff_id, str) or not _DIGEST.fullmatch(diff_id):
            raise InvalidConfig(f"invalid diffID {str(diff_id)[:100]!r}")
    if len(config.diff_ids) > _MOST_LAYERS:
        raise InvalidConfig(f"{len(config.diff_ids)} layers are more than an image may have ({_MOST_LAYERS})")
    return config


def parse_time(text: str) -> int:
    """RFC 3339 to nanoseconds since the epoch; anything else is Go's zero time."""
    match = _TIME.fullmatch(text)
    if match is None:
        return _ZERO_SECONDS * 1_000_000_000
    date, clock, fraction, zone = match.groups()
    try:
        moment = datetime.fromisoformat(f"{date}T{clock}{'+00:00' if zone in 'Zz' else zone}")
    except ValueError:
        return _ZERO_SECONDS * 1_000_000_000
    seconds = (moment - _EPOCH) // _SECOND
    return seconds * 1_000_000_000 + int((fraction or "0").ljust(9, "0")[:9])


def format_time(nanoseconds: int) -> str:
    """RFC 3339 in UTC with nanoseconds, trailing zeros left out, as Go writes it (N5)."""
    seconds, fraction = divmod(nanoseconds, 1_000_000_000)
    if seconds <= _ZERO_SECONDS:
        return ZERO_TIME
    moment = _EPOCH + seconds * _SECOND
    tail = f".{fraction:09d}".rstrip("0") if fraction else ""
    return f"{moment:%Y-%m-%dT%H:%M:%S}{tail}Z".rjust(20, "0")


def new_config(
    *,
    platform: Platform,
    created: str,
    comment: str,
    config: dict[str, Any],
    diff_ids: list[str],
) -> bytes:
    """The file of an image of one step, as import writes it."""
    content: dict[str, Any] = {
        "architecture": platform.architecture,
        "comment": comment,
        "config": config,
        "created": created,
        "history": [{"created": created, "comment": comment}],
        "os": platform.os,
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    }
    if platform.variant:
        content["variant"] = platform.variant
    return msgspec.json.encode(content, order="sorted")
