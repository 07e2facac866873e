"""Filters that several lists and prunes share (P7, LST6, PRU1)."""

from __future__ import annotations

import re
import time
from collections.abc import Collection, Mapping
from datetime import datetime

from wherry.api.errors import BadRequest

_DURATION_UNITS = {
    "ns": 1, "us": 1_000, "µs": 1_000, "μs": 1_000, "ms": 1_000_000, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9,
}  # fmt: skip
_DURATION = re.compile(r"(?=\.?[0-9])([0-9]{0,19})(?:\.([0-9]{0,40}))?(ns|us|µs|μs|ms|s|m|h)")


def check_keys(filters: Mapping[str, list[str]], known: Collection[str]) -> None:
    """Raises ``BadRequest`` for a filter that the operation does not have."""
    for key in filters:
        if key not in known:
            raise BadRequest(f"invalid filter '{key}'")


def match_labels(labels: Mapping[str, str], filters: Mapping[str, list[str]]) -> bool:
    """All of ``label`` and none of ``label!``; each is ``key`` or ``key=value``."""
    return all(_has(labels, wanted) for wanted in filters.get("label", ())) and not any(
        _has(labels, unwanted) for unwanted in filters.get("label!", ())
    )


def _has(labels: Mapping[str, str], text: str) -> bool:
    key, equals, value = text.partition("=")
    return key in labels and (not equals or labels[key] == value)


def parse_duration(text: str) -> int:
    """A Go duration (``1h30m``) in nanoseconds. Raises ``ValueError``."""
    sign = -1 if text.startswith("-") else 1
    rest = text[1:] if text.startswith(("+", "-")) else text
    if rest == "0":
        return 0
    total, position = 0, 0
    for match in _DURATION.finditer(rest):
        if match.start() != position:
            break
        unit, fraction = _DURATION_UNITS[match[3]], match[2] or ""
        total += int(match[1] or 0) * unit + int(fraction or 0) * unit // 10 ** len(fraction)
        position = match.end()
    if not rest or position != len(rest) or total >= 1 << 63:
        raise ValueError(text)
    return sign * total


def parse_until(text: str) -> int:
    """RFC 3339, unix seconds, or a Go duration before now, as nanoseconds since the epoch. Raises ``BadRequest``.

    A time without a zone is the machine's own.
    """
    if text != "0":
        try:
            return time.time_ns() - parse_duration(text)
        except ValueError:
            pass
    if re.fullmatch(r"[0-9]{1,18}(\.[0-9]{1,9})?", text):
        seconds, _, fraction = text.partition(".")
        return int(seconds) * 10**9 + int(fraction.ljust(9, "0") or 0)
    try:
        moment = datetime.fromisoformat(text).astimezone()
        return int(moment.timestamp() * 1_000_000) * 1_000
    except (ValueError, OverflowError, OSError):
        raise BadRequest(f'failed to parse value as time or duration: "{text}"') from None
