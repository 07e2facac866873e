"""Filters that several lists and prunes share (P7, LST6, PRU1)."""

from __future__ import annotations

import re
import time
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime

from wherry.api.errors import BadRequest
from wherry.engine.durations import parse_duration


def check_keys(filters: Mapping[str, Sequence[str]], known: Collection[str]) -> None:
    """Raises ``BadRequest`` for a filter that the operation does not have."""
    for key in filters:
        if key not in known:
            raise BadRequest(f"invalid filter '{key}'")


def match_labels(labels: Mapping[str, str], filters: Mapping[str, Sequence[str]]) -> bool:
    """All of ``label``, and not all of ``label!``; each is ``key`` or ``key=value``."""
    unwanted = filters.get("label!") or ()
    return all(_has(labels, wanted) for wanted in filters.get("label") or ()) and not (
        unwanted and all(_has(labels, label) for label in unwanted)
    )


def _has(labels: Mapping[str, str], text: str) -> bool:
    key, equals, value = text.partition("=")
    return key in labels and (not equals or labels[key] == value)


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
