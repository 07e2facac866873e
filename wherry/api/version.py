"""Versions of the API: what the engine speaks, what the client asks for, and how they are written."""

from __future__ import annotations

MAX_VERSION = (1, 44)
"""The newest version the engine answers to, which unversioned paths mean too."""

MIN_VERSION = (1, 24)
"""The oldest version the engine answers to."""

CLIENT_VERSION = (1, 43)
"""The version of the models, which the client asks for unless the engine knows only older ones."""


def parse_version(text: str) -> tuple[int, int]:
    """``1.43`` as numbers, which compare as versions do; a lone ``9`` is (9, 0), further parts are dropped.

    Raises ValueError for anything else.
    """
    parts = text.split(".")
    if len(text) > 32 or not all(part.isascii() and part.isdigit() for part in parts):
        raise ValueError(f"not an API version: {text[:40]!r}")
    return int(parts[0]), int(parts[1]) if len(parts) > 1 else 0


def format_version(version: tuple[int, int]) -> str:
    """(1, 43) as ``1.43``."""
    return f"{version[0]}.{version[1]}"
