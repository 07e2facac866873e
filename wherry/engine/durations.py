"""Durations as Go writes them: ``1m30s``. Nanoseconds on this side."""

from __future__ import annotations

import json
import re

_UNITS = {
    "ns": 1, "us": 1_000, "µs": 1_000, "μs": 1_000, "ms": 1_000_000, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9,
}  # fmt: skip
# bounded: what is tried at each place of a long text stays short
_PART = re.compile(r"(?=\.?[0-9])([0-9]{0,19})(?:\.([0-9]{0,40}))?(ns|us|µs|μs|ms|s|m|h)")
_NUMBER = re.compile(r"(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)([^0-9.]*)")


def parse_duration(text: str) -> int:
    """Raises ``ValueError`` with Go's words.

    >>> parse_duration("1h30m"), parse_duration("-1.5s")
    (5400000000000, -1500000000)
    """
    sign = -1 if text.startswith("-") else 1
    rest = text[1:] if text.startswith(("+", "-")) else text
    if rest == "0":
        return 0
    total, at = 0, 0
    while match := _PART.match(rest, at):
        unit, fraction = _UNITS[match[3]], match[2] or ""
        total += int(match[1] or 0) * unit + int(fraction or 0) * unit // 10 ** len(fraction)
        at = match.end()
    if not rest or at < len(rest) or total >= 1 << 63:
        raise ValueError(_trouble(text, rest[at:]))
    return sign * total


def _trouble(text: str, rest: str) -> str:
    shown = json.dumps(text, ensure_ascii=False)
    number = _NUMBER.match(rest)
    if number is None or number[1] in _UNITS:
        return f"time: invalid duration {shown}"
    if not number[1]:
        return f"time: missing unit in duration {shown}"
    return f"time: unknown unit {json.dumps(number[1], ensure_ascii=False)} in duration {shown}"


def format_duration(nanoseconds: int) -> str:
    """As Go's ``Duration.String`` (HEA3).

    >>> format_duration(90 * 10**9), format_duration(1_500_000), format_duration(0)
    ('1m30s', '1.5ms', '0s')
    """
    if not nanoseconds:
        return "0s"
    if nanoseconds < 0:
        return f"-{format_duration(-nanoseconds)}"
    for unit, size in (("ns", 1), ("µs", 1_000), ("ms", 1_000_000)):
        if nanoseconds < size * 1000:
            return f"{_decimal(nanoseconds, size)}{unit}"
    minutes, rest = divmod(nanoseconds, 60 * 10**9)
    text = f"{_decimal(rest, 10**9)}s"
    if minutes:
        hours, minutes = divmod(minutes, 60)
        text = f"{hours}h{minutes}m{text}" if hours else f"{minutes}m{text}"
    return text


def _decimal(value: int, unit: int) -> str:
    whole, rest = divmod(value, unit)
    fraction = str(rest).zfill(len(str(unit)) - 1).rstrip("0") if rest else ""
    return f"{whole}.{fraction}" if fraction else str(whole)
