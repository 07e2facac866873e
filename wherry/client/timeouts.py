"""Deadlines by meaning."""

from __future__ import annotations

import msgspec


class Timeouts(msgspec.Struct, frozen=True, kw_only=True):
    """How long the client waits, in seconds; None is for ever.

    ``connect``: until the connection stands. ``head``: from the last byte of the request to the answer's head; not
    applied to calls that last as long as what they wait for (wait, attach, logs, pull, stop …) unless ``long_head`` is
    set. ``idle``: the longest silence within an answer, a stream's too; without it ``head`` bounds the silence within the
    answers that it applies to.

        >>> Timeouts(connect=3, idle=60).head
        60.0
    """

    connect: float | None = 10.0
    head: float | None = 60.0
    long_head: float | None = None
    idle: float | None = None

    def __post_init__(self) -> None:
        for name in ("connect", "head", "long_head", "idle"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"{name} must be above 0 seconds, or None; it is {value!r}")
