"""Times as callers give them, in the API's form."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

_RFC3339 = re.compile(r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d:\d\d)(?:\.(\d{1,9})\d*)?([Zz]|[+-]\d\d:\d\d)?")
_SECONDS = re.compile(r"-?\d+(\.\d{1,9})?")


def to_seconds(moment: str | int | float | datetime | timedelta) -> str:
    """Seconds since the epoch with an optional fraction. Raises ``ValueError``.

    >>> to_seconds("2026-11-23T12:13:52.5Z")
    '1795436032.500000000'
    """
    if isinstance(moment, str):
        return _seconds_of_text(moment)
    if isinstance(moment, int):
        return str(moment)
    if isinstance(moment, float):
        return f"{moment:.9f}"
    if isinstance(moment, timedelta):
        moment = datetime.now(UTC) - moment
    since = moment.astimezone(UTC) - datetime(1970, 1, 1, tzinfo=UTC)
    return f"{since.days * 86400 + since.seconds}.{since.microseconds:06d}"


def _seconds_of_text(text: str) -> str:
    if _SECONDS.fullmatch(text):
        return text
    found = _RFC3339.fullmatch(text.strip())
    if found is None:
        raise ValueError(f"{text!r} is no time: give seconds, a datetime or 2026-11-23T12:13:52Z")

    day, clock, fraction, zone = found.groups()
    at = datetime.fromisoformat(f"{day}T{clock}{(zone or 'Z').upper()}")
    return f"{int(at.timestamp())}.{(fraction or '0').ljust(9, '0')}"
