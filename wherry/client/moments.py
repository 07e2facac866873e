"""Times as callers give them, in the API's form."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime, timedelta

_RFC3339 = re.compile(r"(\d{4}-\d\d-\d\d)(?:[Tt ](\d\d:\d\d(?::\d\d)?)(?:\.(\d{1,9})\d*)?)?([Zz]|[+-]\d\d:\d\d)?")
_AGO = re.compile(r"(?:\d+(?:\.\d*)?(?:ns|us|µs|ms|s|m|h))+")
_PART = re.compile(r"(\d+(?:\.\d*)?)(ns|us|µs|ms|s|m|h)")
_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1, "m": 60, "h": 3600}
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
    if (ago := _ago(text)) is not None:
        return f"{time.time() - ago:.9f}"
    found = _RFC3339.fullmatch(text.strip())
    if found is None:
        raise ValueError(f"{text!r} is no time: give seconds, a datetime, 2026-11-23T12:13:52Z or 10m for so long ago")

    day, clock, fraction, zone = found.groups()
    at = datetime.fromisoformat(f"{day}T{clock or '00:00'}{(zone or 'Z').upper()}")
    return f"{int(at.timestamp())}.{(fraction or '0').ljust(9, '0')}"


def _ago(text: str) -> float | None:
    """A duration as Go writes it, ``1h30m``, in seconds; None for something else.

    >>> _ago("1h30m"), _ago("2026")
    (5400.0, None)
    """
    if not _AGO.fullmatch(text):
        return None
    return sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(text))
