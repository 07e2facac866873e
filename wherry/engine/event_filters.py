"""The filters and times of ``/events`` (EVT3, EVT4)."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from contextlib import suppress

from wherry.api.errors import BadRequest
from wherry.engine.events import Event
from wherry.engine.filters import match_labels
from wherry.engine.images.reference import InvalidReference, parse

_BY_PREFIX = ("health_status", "exec_create", "exec_start")
_MOMENT = re.compile(r"(-?[0-9]{1,18})(?:\.([0-9]{1,9}))?")
_OBJECTS = ("container", "network", "volume", "plugin", "daemon")


def moment(text: str | None) -> int | None:
    """``sec[.nanos]`` as nanoseconds; None for an absent or empty one. Raises ``BadRequest``."""
    if not text:
        return None
    match = _MOMENT.fullmatch(text)
    if not match:
        raise BadRequest(f'strconv.ParseInt: parsing "{text}": invalid syntax')
    return int(match[1]) * 1_000_000_000 + int((match[2] or "").ljust(9, "0"))


def matcher(filters: Mapping[str, list[str]]) -> Callable[[Event], bool]:
    """Whether an event passes: keys are ANDed, the values of one ORed, unknown keys ignored, and so is one without values."""
    filters = {key: values for key, values in filters.items() if values}

    def keep(event: Event) -> bool:
        if "type" in filters and event.type not in filters["type"]:
            return False
        if "event" in filters and not _action(event.action, filters["event"]):
            return False
        if "scope" in filters and "local" not in filters["scope"]:
            return False
        if "label" in filters and not match_labels(event.attributes, {"label": filters["label"]}):
            return False
        if "image" in filters and not _image(event, filters["image"]):
            return False
        return all(_object(event, kind, filters[kind]) for kind in _OBJECTS if kind in filters)

    return keep


def _action(action: str, wanted: list[str]) -> bool:
    """Exactly; one of the three words whose events carry more behind a colon makes all values prefixes."""
    if any(word in _BY_PREFIX for word in wanted):
        return action.startswith(tuple(wanted))
    return action in wanted


def _object(event: Event, kind: str, wanted: list[str]) -> bool:
    """By the beginning of the id or name."""
    if event.type != kind:
        return False
    name = event.attributes.get("name", "")
    return any(event.id.startswith(text) or name.startswith(text.removeprefix("/")) for text in wanted)


def _image(event: Event, wanted: list[str]) -> bool:
    """By id, or by name with or without its tag."""
    if event.type not in ("image", "container"):
        return False
    name = event.attributes.get("name" if event.type == "image" else "image", "")
    names = {event.id, name}
    with suppress(InvalidReference):
        names.add(parse(name).familiar_name)
    return not names.isdisjoint(wanted)
