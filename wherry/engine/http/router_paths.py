"""Which operation a path means."""

from __future__ import annotations

import posixpath
import re
from typing import Generic, TypeVar
from urllib.parse import quote, unquote

T = TypeVar("T")

_VERSIONED = re.compile(r"/v([0-9.]+)(/.*)", re.DOTALL)
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")


class BadPath(ValueError):
    """The request's target is no path."""


class Routes(Generic[T]):
    """Values by method and path template. A template has one ``{parameter}`` at most, which takes any text, slashes
    too, as names of images have them; a longer ending wins."""

    def __init__(self) -> None:
        self._exact: dict[tuple[str, str], T] = {}
        self._patterns: dict[tuple[str, str], list[tuple[str, str, str, T]]] = {}

    def add(self, method: str, template: str, value: T) -> None:
        prefix, brace, rest = template.partition("{")
        if not brace:
            self._exact[method, template] = value
            return
        name, _, suffix = rest.partition("}")
        if "{" in suffix or prefix.count("/") < 2:
            raise ValueError(f"unsupported path template {template!r}")
        patterns = self._patterns.setdefault((method, template.split("/", 2)[1]), [])
        patterns.append((prefix, suffix, name, value))
        patterns.sort(key=lambda pattern: len(pattern[0]) + len(pattern[1]), reverse=True)

    def match(self, method: str, path: str) -> tuple[T, dict[str, str]] | None:
        """The value and the parameters of a decoded path without its version; None where nothing fits."""
        exact = self._exact.get((method, path))
        if exact is not None:
            return exact, {}
        parts = path.split("/", 2)
        for prefix, suffix, name, value in self._patterns.get((method, parts[1] if len(parts) > 2 else ""), ()):
            if len(path) > len(prefix) + len(suffix) and path.startswith(prefix) and path.endswith(suffix):
                return value, {name: path[len(prefix) : len(path) - len(suffix)]}
        return None


def split_target(target: str) -> tuple[str, str]:
    """(decoded path, raw query) of a request's target. Raises ``BadPath``."""
    if not target.startswith("/"):
        if "://" not in target:
            raise BadPath(f"not a path: {target[:100]!r}")
        target = "/" + target.partition("://")[2].partition("/")[2]
    path, _, query = target.partition("?")
    if "%" in path:
        if _BAD_ESCAPE.search(path):
            raise BadPath(f"invalid URL escape in {path[:100]!r}")
        path = unquote(path, errors="replace")
    return path, query


def cleaned(path: str) -> str | None:
    """Where a path with doubled slashes or dots redirects to (G5), encoded; None for a clean one."""
    if "//" not in path and "/." not in path:
        return None
    clean = posixpath.normpath("/" + path.lstrip("/"))
    if path.endswith("/") and clean != "/":
        clean += "/"
    return None if clean == path else quote(clean, safe="/:@!$&'()*+,;=-._~")


def split_version(path: str) -> tuple[str, str]:
    """(version, rest) of a decoded path; the version is "" where it has none (G1)."""
    found = _VERSIONED.fullmatch(path)
    return ("", path) if found is None else (found[1], found[2])


def version_numbers(text: str) -> tuple[int, ...]:
    """A version's parts, at least two, as they compare: numerically, missing and empty ones as 0 (G2)."""
    numbers = [int(part[-9:] or 0) if len(part) <= 9 else 10**9 for part in text.split(".")[:8]]
    while len(numbers) > 2 and numbers[-1] == 0:
        numbers.pop()
    return (*numbers, 0) if len(numbers) == 1 else tuple(numbers)
