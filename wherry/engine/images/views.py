"""How images are shown: list, inspect, history."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING

from wherry.api.errors import BadRequest, ServerError
from wherry.api.models.common import UNSET, GraphDriverData
from wherry.api.models.containers import ContainerConfig
from wherry.api.models.images import ImageHistoryResponseItem, ImageInspect, ImageMetadata, ImageSummary, RootFS
from wherry.engine.filters import check_keys, match_labels, parse_until
from wherry.engine.images import reference
from wherry.engine.images.config import ZERO_TIME, format_time, parse_time
from wherry.engine.store.rootfs import layer_diff

if TYPE_CHECKING:
    from wherry.engine.images.store import Filters, Image, Images, InUse

_LIST_FILTERS = frozenset({"dangling", "label", "label!", "before", "since", "reference", "until"})


def boolean_filter(filters: Filters, key: str, default: bool | None, accepted: Mapping[str, bool]) -> bool | None:
    """A filter that says yes or no; ``default`` where it is not given. Raises ``BadRequest``."""
    values = filters.get(key)
    if not values:
        return default
    if len(values) != 1 or values[0] not in accepted:
        raise BadRequest(f"invalid filter '{key}=[{' '.join(values)}]'")
    return accepted[values[0]]


def layer_users(images: Images) -> Counter[str]:
    """How many images stand on each layer; those that only others were made from do not count."""
    parents = {image.parent for image in images.all()}
    counted = (image for image in images.all() if image.references or image.id not in parents)
    return Counter(layer for image in counted for layer in image.layer_ids)


def list_images(
    images: Images,
    filters: Filters,
    *,
    all: bool,
    shared_size: bool,
    in_use: InUse | None,
    version: tuple[int, int],
) -> list[ImageSummary]:
    """Newest first. Before API 1.43 an image without a name is called ``<none>``; from 1.44 VirtualSize is gone."""
    check_keys(filters, _LIST_FILTERS)
    dangling = boolean_filter(filters, "dangling", None, {"true": True, "false": False})
    before = [images.get(value).created for value in filters.get("before", ())]
    before += [parse_until(value) for value in filters.get("until", ())]
    since = [images.get(value).created for value in filters.get("since", ())]
    everything = images.all()
    parents = {image.parent for image in everything}
    users = layer_users(images) if shared_size else None
    summaries = []
    for image in sorted(everything, key=lambda image: image.created, reverse=True):
        if (before and image.created >= min(before)) or (since and image.created <= max(since)):
            continue
        if not match_labels(image.labels, filters):
            continue
        names = _wanted_names(image, filters)
        if names is None or not _listed(image, names, dangling, all=all, is_parent=image.id in parents):
            continue
        summary = _summary(image, names, version)
        if in_use is not None:
            summary.containers = sum(1 for _ in in_use(image.id))
        if users is not None:
            summary.shared_size = images.layers_size(layer for layer in image.layer_ids if users[layer] > 1)
        summaries.append(summary)
    return summaries


def _wanted_names(image: Image, filters: Filters) -> list[reference.Reference] | None:
    """The names to show; None where a ``reference`` filter leaves none."""
    patterns = filters.get("reference")
    if not patterns:
        return list(image.references)
    names = [name for name in image.references if any(reference.matches(pattern, name) for pattern in patterns)]
    return names or None


def _listed(
    image: Image, names: list[reference.Reference], dangling: bool | None, *, all: bool, is_parent: bool
) -> bool:
    if dangling and is_parent:
        return False
    if names:
        return not (dangling and any(not name.digest for name in names))
    return dangling is not False and (all or not is_parent)


def _summary(image: Image, names: list[reference.Reference], version: tuple[int, int]) -> ImageSummary:
    tags = [str(name) for name in names if not name.digest]
    digests = [str(name) for name in names if name.digest]
    if not names and version < (1, 43):
        tags, digests = ["<none>:<none>"], ["<none>@<none>"]
    return ImageSummary(
        id=image.id,
        parent_id=image.parent,
        repo_tags=tags,
        repo_digests=digests,
        created=image.created // 1_000_000_000,
        size=image.size,
        virtual_size=image.size if version < (1, 44) else UNSET,
        labels=image.config.labels,
    )


def inspect_image(images: Images, name: str, version: tuple[int, int]) -> ImageInspect:
    image = images.get(name)
    file = image.file
    comment = file.comment
    if not comment and file.history:
        comment = file.history[-1].comment
    return ImageInspect(
        id=image.id,
        repo_tags=image.repo_tags,
        repo_digests=image.repo_digests,
        parent=image.parent,
        comment=comment,
        created=format_time(image.created),
        container=file.container,
        container_config=file.container_config or ContainerConfig(),
        docker_version=file.docker_version,
        author=file.author,
        config=file.config,
        architecture=file.architecture,
        variant=file.variant or UNSET,
        os=file.os or "linux",
        os_version=file.os_version or UNSET,
        size=image.size,
        virtual_size=image.size if version < (1, 44) else UNSET,
        graph_driver=_graph_driver(images, image),
        root_fs=RootFS(type=file.rootfs.type if file.rootfs else "layers", layers=list(file.diff_ids) or UNSET),
        metadata=ImageMetadata(last_tag_time=format_time(image.tagged_at) if image.tagged_at else ZERO_TIME),
    )


def _graph_driver(images: Images, image: Image) -> GraphDriverData:
    data: dict[str, str] = {}
    if image.layer_ids:
        top, *rest = (str(layer_diff(images.layout, layer)) for layer in image.layer_ids)
        data["UpperDir"] = top
        if rest:
            data["LowerDir"] = ":".join(rest)
    return GraphDriverData(name="overlay2" if images.rootfs.overlay else "vfs", data=data)


def image_history(images: Images, name: str) -> list[ImageHistoryResponseItem]:
    """Raises ``ServerError`` where an image's history names more layers than it has."""
    image = images.get(name)
    layers = list(reversed(image.layer_ids))
    steps: list[ImageHistoryResponseItem] = []
    for step in image.file.history or []:
        size = 0
        if not step.empty_layer:
            if not layers:
                raise ServerError("too many non-empty layers in History section")
            size = images.layers_size([layers.pop(0)])
        created = parse_time(step.created) // 1_000_000_000
        steps.append(
            ImageHistoryResponseItem(
                id="<missing>", created=created, created_by=step.created_by, comment=step.comment, size=size
            )
        )
    steps.reverse()
    owner: Image | None = image
    for shown in steps:
        if owner is None:
            break
        shown.id = owner.id
        shown.tags = owner.repo_tags or None
        owner = images.find(owner.parent) if owner.parent else None
    return steps
