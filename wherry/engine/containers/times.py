"""Times as the API writes them (N5)."""

from __future__ import annotations

import time

ZERO = "0001-01-01T00:00:00Z"


def rfc3339nano(nanoseconds: int) -> str:
    """UTC with trailing zeros of the fraction trimmed; 0 is a time that was never set, year 1."""
    return file_time(nanoseconds) if nanoseconds else ZERO


def file_time(nanoseconds: int) -> str:
    """The same of a file, where 0 is 1970: archives made to be the same each time have no other."""
    seconds, fraction = divmod(nanoseconds, 1_000_000_000)
    text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
    if fraction:
        text += f".{fraction:09d}".rstrip("0")
    return text + "Z"


def human_duration(seconds: float) -> str:
    """A duration in the words of ``docker ps``: ``Less than a second``, ``3 minutes``, ``47 hours`` (LST10)."""
    if seconds < 1:
        return "Less than a second"
    if seconds < 2:
        return "1 second"
    if seconds < 60:
        return f"{int(seconds)} seconds"
    if seconds < 120:
        return "About a minute"
    if seconds < 3600:
        return f"{int(seconds / 60)} minutes"
    hours = int(seconds / 3600 + 0.5)
    days = hours // 24
    if hours == 1:
        return "About an hour"
    if hours < 48:
        return f"{hours} hours"
    if days < 14:
        return f"{days} days"
    if days < 60:
        return f"{days // 7} weeks"
    if days < 730:
        return f"{days // 30} months"
    return f"{days // 365} years"
