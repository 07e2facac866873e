"""Steps that were done before: an image that a build here made from the same parent, with the same configuration."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from wherry.api.models.containers import ContainerConfig, HealthConfig
from wherry.engine.blocking import in_thread
from wherry.engine.images.config import LARGEST, ImageConfigFile
from wherry.engine.images.content import read_blob
from wherry.engine.images.image import Image
from wherry.engine.images.store import Images

_NOT_COMPARED = frozenset(("image", "hostname", "domainname", "mac_address"))
_COMPARED = tuple(name for name in ContainerConfig.__struct_fields__ if name not in _NOT_COMPARED)


class Cache:
    """Of one build. After the first step of a stage that is not found, nothing is looked for in that stage.

    With ``sources`` (``cachefrom``), what counts is what these images were made of.
    """

    def __init__(self, images: Images, *, enabled: bool, sources: Sequence[str] = ()) -> None:
        self._images = images
        self._enabled = enabled
        found = (images.find(name) for name in sources)
        self._sources = [image for image in found if image is not None]
        self._only_sources = bool(sources)
        self._missed = False

    def begin_stage(self) -> None:
        self._missed = False

    async def find(self, parent: str, config: ContainerConfig) -> str | None:
        """The image of a step on ``parent`` (empty for none), made with ``config``."""
        if not self._enabled or self._missed:
            return None
        found = self._local(parent, config)
        if self._only_sources and not (found and any(self._descends(image.id, found) for image in self._sources)):
            found = await self._from_sources(parent, config)
        self._missed = found is None
        return found

    def _local(self, parent: str, config: ContainerConfig) -> str | None:
        best: Image | None = None
        for id in self._images.built_from(parent):
            image = self._images.by_id(id)
            made = image.file.container_config
            if made is not None and same(made, config) and (best is None or best.created < image.created):
                best = image
        return best.id if best is not None else None

    def _descends(self, id: str, ancestor: str) -> bool:
        seen: set[str] = set()
        while id and id not in seen:
            if id == ancestor:
                return True
            seen.add(id)
            image = self._images.find(id)
            id = image.parent if image is not None else ""
        return False

    async def _from_sources(self, parent: str, config: ContainerConfig) -> str | None:
        """A step in the history of an image that came from elsewhere: taken as an image of its own."""
        below = self._images.find(parent) if parent else None
        if parent and below is None:
            return None
        step = len(below.file.history or []) if below is not None else 0
        for target in self._sources:
            history = target.file.history or []
            if not _stands_on(target.file, below) or history[step].created_by != " ".join(config.cmd or []):
                continue
            if len(history) == step + 1:
                return target.id
            self._sources = [target]
            return await self._restore(target, below, parent, config, step)
        return None

    async def _restore(
        self, target: Image, below: Image | None, parent: str, config: ContainerConfig, step: int
    ) -> str | None:
        layout = self._images.layout
        content: dict[str, Any] = msgspec.json.decode(await in_thread(read_blob, layout, target.id, LARGEST))
        history = content["history"][: step + 1]
        count = sum(not entry.get("empty_layer") for entry in history)
        diff_ids = target.file.diff_ids[:count]
        kept = ("architecture", "variant", "os", "os.version", "os.features", "author")
        made = {key: content[key] for key in kept if content.get(key)}
        made |= {
            "config": msgspec.to_builtins(config),
            "created": history[-1].get("created", ""),
            "history": history,
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        }
        return await self._images.commit(msgspec.json.encode(made, order="sorted"), (), parent=parent)


def _stands_on(file: ImageConfigFile, below: Image | None) -> bool:
    history, diff_ids = file.history or [], file.diff_ids
    if below is None:
        return bool(history)
    under = below.file.history or []
    if len(under) >= len(history) or below.file.diff_ids != diff_ids[: len(below.file.diff_ids)]:
        return False
    return history[: len(under)] == under


def same(one: ContainerConfig, other: ContainerConfig) -> bool:
    """Whether two configurations differ in nothing that counts; empty and absent are the same."""
    return all(_plain(getattr(one, name)) == _plain(getattr(other, name)) for name in _COMPARED)


def _plain(value: object) -> object:
    if isinstance(value, HealthConfig):
        return {key: item for key, item in msgspec.to_builtins(value).items() if item}
    return value or None
