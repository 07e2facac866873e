"""What of a log is asked for, and how a request says so (LOG1, LOG5, LOG6)."""

from __future__ import annotations

import re
from dataclasses import dataclass

from wherry.api.errors import BadRequest, ServerError


@dataclass(frozen=True, slots=True, kw_only=True)
class LogOptions:
    """What to read. ``since`` and ``until`` are nanoseconds since the epoch, both inclusive, None for no bound.

    ``tail`` counts entries before all other filters (LOG5), None for all. ``details`` is the text of the container's
    log attributes without the blank behind it, ``k=v,k2=v2`` (LOG4); None for none to be shown.
    """

    stdout: bool = False
    stderr: bool = False
    since: int | None = None
    until: int | None = None
    timestamps: bool = False
    tail: int | None = None
    details: str | None = None


def log_options(
    *,
    stdout: bool = False,
    stderr: bool = False,
    since: str | None = "",
    until: str | None = "",
    timestamps: bool = False,
    tail: str | None = "",
    details: str | None = None,
) -> LogOptions:
    """The options of a request. Raises ``BadRequest`` (LOG1) and, as moby does, ``ServerError`` (LOG6)."""
    if not stdout and not stderr:
        raise BadRequest("Bad parameters: you must choose at least one stream")
    lines = None
    # Anything but a number that is not negative means all (LOG5).
    if tail and re.fullmatch(r"\+?[0-9]{1,19}", tail):
        lines = int(tail)
    return LogOptions(
        stdout=stdout,
        stderr=stderr,
        since=parse_time(since),
        until=parse_time(until),
        timestamps=timestamps,
        tail=lines,
        details=details,
    )


def parse_time(text: str | None) -> int | None:
    """``sec`` or ``sec.fraction`` to nanoseconds; None for nothing and for 0. Raises ``ServerError`` (LOG6)."""
    if not text:
        return None
    seconds, dot, fraction = text.partition(".")
    for part in (seconds, fraction) if dot else (seconds,):
        if not re.fullmatch(r"[+-]?[0-9]+", part, re.ASCII):
            raise ServerError(f'strconv.ParseInt: parsing "{part}": invalid syntax')
        if len(part) > 40 or not -(1 << 63) <= int(part) < 1 << 63:
            raise ServerError(f'strconv.ParseInt: parsing "{part}": value out of range')
    nanoseconds = int(seconds) * 1_000_000_000 + (int(fraction[:9].ljust(9, "0")) if dot else 0)
    return nanoseconds or None
