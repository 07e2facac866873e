"""What the engine tells about what happens."""

from __future__ import annotations

from msgspec import field

from wherry.api.models.common import UNSET, Model, StringMap, UnsetType


class EventActor(Model, kw_only=True):
    """Who or what an event is about. Attributes are its labels, name, image and what the action adds."""

    id: str = field(default="", name="ID")
    attributes: StringMap | None = None


class EventMessage(Model, kw_only=True):
    """An event. ``time`` is seconds, ``time_nano`` nanoseconds since the epoch.

    ``status``, ``id`` and ``from_`` repeat action, id and image for containers and images (EVT1).
    """

    status: str | UnsetType = field(default=UNSET, name="status")
    id: str | UnsetType = field(default=UNSET, name="id")
    from_: str | UnsetType = field(default=UNSET, name="from")
    type: str = ""
    action: str = ""
    actor: EventActor = field(default_factory=EventActor)
    scope: str | UnsetType = field(default=UNSET, name="scope")
    time: int | UnsetType = field(default=UNSET, name="time")
    time_nano: int | UnsetType = field(default=UNSET, name="timeNano")
