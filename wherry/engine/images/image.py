"""What an image is: its row in the database, and what the others see of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

import msgspec

from wherry.api.models.containers import ContainerConfig
from wherry.engine.images import reference
from wherry.engine.images.config import ImageConfigFile
from wherry.engine.images.reference import Reference


class ImageRow(msgspec.Struct, kw_only=True):
    """``layers`` are chain ids, topmost first; ``tagged_at`` is nanoseconds since the epoch, 0 for never.

    ``built``: a build here made it, so that a later one may take it instead of doing the same again.
    """

    layers: list[str]
    parent: str = ""
    tagged_at: int = 0
    built: bool = False


@dataclass(frozen=True, slots=True)
class Image:
    """An image. ``layer_ids`` are chain ids, **topmost first**, as ``Rootfs.prepare`` takes them; ``size`` is bytes.

    ``references`` are its names, sorted; ``created`` and ``tagged_at`` are nanoseconds since the epoch.
    """

    id: str
    file: ImageConfigFile
    layer_ids: tuple[str, ...]
    size: int
    references: tuple[Reference, ...]
    parent: str = ""
    tagged_at: int = 0

    @property
    def config(self) -> ContainerConfig:
        """What containers start from; an empty one where the image has none."""
        return self.file.config or ContainerConfig()

    @property
    def created(self) -> int:
        return self.file.created_ns

    @property
    def short_id(self) -> str:
        return reference.short_id(self.id)

    @property
    def repo_tags(self) -> list[str]:
        return [str(name) for name in self.references if not name.digest]

    @property
    def repo_digests(self) -> list[str]:
        return [str(name) for name in self.references if name.digest]

    @property
    def labels(self) -> Mapping[str, str]:
        return self.config.labels or {}


class _Running(Protocol):
    @property
    def running(self) -> bool: ...


class User(Protocol):
    """A container, as far as images care."""

    @property
    def id(self) -> str: ...
    @property
    def state(self) -> _Running: ...


InUse = Callable[[str], Iterable[User]]
"""Gives the containers made from an image id."""
