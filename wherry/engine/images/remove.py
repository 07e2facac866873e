"""Removing images: one by name or id, with moby's conflicts, and all that nobody uses.

A *hard* conflict (a running container, an image made from this one) stands whatever is asked; a *soft* one (a stopped
container, other names) gives way to force. An image that goes while a stopped container uses it leaves its layers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from wherry.api.errors import ApiError, BadRequest, Conflict
from wherry.api.models.images import ImageDeleteResponseItem, ImagePruneResponse
from wherry.engine.filters import check_keys, match_labels, parse_until
from wherry.engine.images import reference
from wherry.engine.images.reference import Reference, short_id
from wherry.engine.images.views import boolean_filter

if TYPE_CHECKING:
    from wherry.engine.images.store import Filters, Image, Images, InUse

_PRUNE_FILTERS = frozenset({"dangling", "label", "label!", "until"})


def remove_image(
    images: Images, name: str, *, force: bool, prune: bool, in_use: InUse
) -> list[ImageDeleteResponseItem]:
    """What was untagged and deleted, in order. Raises ``NotFound``, ``BadRequest``, ``Conflict``."""
    if not name.strip():
        raise BadRequest("image name cannot be blank")
    image = images.get(name)
    records: list[ImageDeleteResponseItem] = []
    single = _single_name(image.references)
    if image.id.startswith(name) or image.id.removeprefix("sha256:").startswith(name):
        if single:
            _check(images, image.id, in_use, force=force, names=False)
            _unname(images, image.id, image.references, records)
        _delete(images, image.id, records, in_use, force=force, prune=prune, quiet=False)
        return records
    if not force and single:
        for container in in_use(image.id):
            raise Conflict(
                f'conflict: unable to remove repository reference "{name}" (must force) - container '
                f"{container.id[:12]} is using its referenced image {image.short_id}"
            )
    given = reference.parse(name).tagged()
    _unname(images, image.id, [given], records)
    left = images.by_id(image.id).references
    if not given.digest and not any(other.name == given.name and not other.digest for other in left):
        digests = [other for other in left if other.name == given.name]
        _unname(images, image.id, digests, records, event=False)
        left = images.by_id(image.id).references
    if not left:
        _delete(images, image.id, records, in_use, force=force, prune=prune, quiet=True)
    return records


def _single_name(names: tuple[Reference, ...]) -> bool:
    """Whether all names are of one repository, with one tag at most; False for none at all."""
    tags = [name for name in names if not name.digest]
    return bool(names) and len(tags) <= 1 and len({name.name for name in names}) == 1


def _unname(
    images: Images,
    id: str,
    names: tuple[Reference, ...] | list[Reference],
    records: list[ImageDeleteResponseItem],
    *,
    event: bool = True,
) -> None:
    for name in names:
        images.unname(name)
        if event:
            images.emit(id, "untag")
        records.append(ImageDeleteResponseItem(untagged=str(name)))


def _delete(
    images: Images,
    id: str,
    records: list[ImageDeleteResponseItem],
    in_use: InUse,
    *,
    force: bool,
    prune: bool,
    quiet: bool,
) -> None:
    try:
        _check(images, id, in_use, force=force, names=True)
    except _ImageConflict as conflict:
        image = images.by_id(id)
        if quiet and (conflict.used or image.references or images.children(id)):
            return
        raise
    image = images.by_id(id)
    _unname(images, id, image.references, records)
    labels = dict(image.labels)
    layers = images.delete(id)
    images.events.emit("image", "delete", id, {**labels, "name": id})
    records.append(ImageDeleteResponseItem(deleted=id))
    records.extend(ImageDeleteResponseItem(deleted=layer) for layer in layers)
    if prune and image.parent and images.find(image.parent) is not None:
        _delete(images, image.parent, records, in_use, force=False, prune=True, quiet=True)


class _ImageConflict(Conflict):
    """``used`` when it is a container that needs the image."""

    def __init__(self, id: str, why: str, *, hard: bool, used: bool) -> None:
        word = "cannot" if hard else "must"
        super().__init__(f"conflict: unable to delete {short_id(id)} ({word} be forced) - {why}")
        self.used = used


def _check(images: Images, id: str, in_use: InUse, *, force: bool, names: bool) -> None:
    """Raise the first conflict; soft ones do not count with ``force``, other names only with ``names``."""
    if images.children(id):
        raise _ImageConflict(id, "image has dependent child images", hard=True, used=False)
    containers = list(in_use(id))
    for container in containers:
        if container.state.running:
            why = f"image is being used by running container {container.id[:12]}"
            raise _ImageConflict(id, why, hard=True, used=True)
    if force:
        return
    if names and images.by_id(id).references:
        raise _ImageConflict(id, "image is referenced in multiple repositories", hard=False, used=False)
    for container in containers:
        why = f"image is being used by stopped container {container.id[:12]}"
        raise _ImageConflict(id, why, hard=False, used=True)


def prune_images(images: Images, filters: Filters, *, in_use: InUse) -> ImagePruneResponse:
    """Remove the images that no container uses and that have no name, or with ``dangling=false`` whatever name.

    What earlier pulls left half done goes too, unless labels or a time are asked for. Event ``prune``. Raises
    ``BadRequest`` for filters.
    """
    check_keys(filters, _PRUNE_FILTERS)
    words = {"true": True, "1": True, "false": False, "0": False}
    dangling = boolean_filter(filters, "dangling", True, words)
    until = _until(filters)
    removed: list[ImageDeleteResponseItem] = []
    freed = 0
    for image in sorted(images.all(), key=lambda image: image.created, reverse=True):
        if not _prunable(images, image, filters, dangling=bool(dangling), until=until) or any(in_use(image.id)):
            continue
        sizes = {layer: images.layers_size([layer]) for layer in image.layer_ids}
        for name in [str(name) for name in image.references] or [image.id]:
            try:
                records = remove_image(images, name, force=False, prune=True, in_use=in_use)
            except ApiError:  # of this one only: the others go on
                continue
            removed += records
            freed += sum(sizes.get(record.deleted, 0) for record in records if record.deleted)
    if not filters.keys() - {"dangling"}:
        freed += images.partials.clear()
    images.events.emit("image", "prune", "", {"reclaimed": str(freed)})
    return ImagePruneResponse(images_deleted=removed or None, space_reclaimed=freed)


def _prunable(images: Images, image: Image, filters: Filters, *, dangling: bool, until: int | None) -> bool:
    if image.id in images.held:
        return False
    if images.children(image.id) and (dangling or not image.references):
        return False
    if dangling and image.repo_tags:
        return False
    if until is not None and (image.created < 0 or image.created > until):
        return False
    return match_labels(image.labels, filters)


def _until(filters: Filters) -> int | None:
    values = filters.get("until")
    if not values:
        return None
    if len(values) > 1:
        raise BadRequest("more than one until filter specified")
    return parse_until(values[0])
