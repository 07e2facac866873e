"""Durations as Go writes them: ``1m30s``. Nanoseconds on this side."""

from __future__ import annotations

import json
import re

_PART = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|μs|ms|s|m|h)", re.ASCII)
_NUMBER = re.compile(r"[0-9.]+([^0-9.]*)", re.ASCII)
_UNITS = {
    "ns": 1,
    "us": 10**3,
    "µs": 10**3,
    "μs": 10**3,
    "ms": 10**6,
    "s": 10**9,
    "m": 60 * 10**9,
    "h": 3600 * 10**9,
}


def parse_duration(text: str) -> int:
    """Raises ``ValueError`` with Go's words."""
    if text == "0":
        return 0
    if not text or (rest := _PART.sub("", text)):
        shown = json.dumps(text, ensure_ascii=False)
        unknown = _NUMBER.fullmatch(rest) if text else None
        if unknown is None:
            raise ValueError(f"time: invalid duration {shown}")
        if not unknown[1]:
            raise ValueError(f"time: missing unit in duration {shown}")
        raise ValueError(f"time: unknown unit {json.dumps(unknown[1], ensure_ascii=False)} in duration {shown}")
    return int(sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(text)))


def format_duration(nanoseconds: int) -> str:
    """As Go's ``Duration.String``.

    >>> format_duration(90 * 10**9), format_duration(1_500_000), format_duration(0)
    ('1m30s', '1.5ms', '0s')
    """
    if nanoseconds < 10**9:
        for unit, size in (("ms", 10**6), ("µs", 10**3), ("ns", 1)):
            if nanoseconds >= size:
                return f"{_decimal(nanoseconds, size)}{unit}"
        return "0s"
    seconds, fraction = divmod(nanoseconds, 10**9)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    text = f"{_decimal(seconds * 10**9 + fraction, 10**9)}s"
    if hours:
        return f"{hours}h{minutes}m{text}"
    return f"{minutes}m{text}" if minutes else text


def _decimal(value: int, size: int) -> str:
    whole, rest = divmod(value, size)
    digits = str(rest).rjust(len(str(size)) - 1, "0").rstrip("0") if rest else ""
    return f"{whole}.{digits}" if digits else str(whole)
