"""Patterns of paths: Go's ``filepath.Match``, and the lists of them in a ``.dockerignore``. No I/O."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterable, Sequence

_Doublestar = Callable[[int], "tuple[str, int] | None"]


class BadPattern(ValueError):
    """The pattern cannot be read; the message is Go's."""


def match_expression(pattern: str) -> re.Pattern[str]:
    """``filepath.Match`` as a regular expression for ``fullmatch``: nothing in it crosses a ``/``. Raises ``BadPattern``.

    >>> bool(match_expression("a*/[b-d]?.txt").fullmatch("ab/cx.txt"))
    True
    """
    return re.compile(_translate(pattern, lambda at: None), re.DOTALL)


def _translate(pattern: str, doublestar: _Doublestar) -> str:
    out = []
    at = 0
    while at < len(pattern):
        char = pattern[at]
        if char == "*" and (special := doublestar(at)) is not None:
            text, at = special
            out.append(text)
            continue
        at += 1
        if char == "*":
            out.append("[^/]*")
        elif char == "?":
            out.append("[^/]")
        elif char == "[":
            text, at = _class(pattern, at)
            out.append(text)
        elif char == "\\":
            if at == len(pattern):
                raise BadPattern("syntax error in pattern")
            out.append(re.escape(pattern[at]))
            at += 1
        else:
            out.append(re.escape(char))
    return "".join(out)


def _class(pattern: str, at: int) -> tuple[str, int]:
    """A bracket's expression, and the place behind it."""
    negated = pattern[at : at + 1] == "^"
    at += negated
    parts: list[str] = []
    while at < len(pattern) and (pattern[at] != "]" or not parts):
        low, at = _class_char(pattern, at)
        high = low
        if pattern[at : at + 1] == "-":
            high, at = _class_char(pattern, at + 1)
        if low <= high:
            parts.append(f"{re.escape(low)}-{re.escape(high)}")
        else:
            parts.append("")
    if at >= len(pattern):
        raise BadPattern("syntax error in pattern")
    ranges = "".join(parts)
    if negated:
        return f"[^/{ranges}]", at + 1
    return f"(?!/)[{ranges}]" if ranges else "(?!)", at + 1


def _class_char(pattern: str, at: int) -> tuple[str, int]:
    char = pattern[at : at + 1]
    if char in ("", "-", "]"):
        raise BadPattern("syntax error in pattern")
    if char == "\\":
        at += 1
        char = pattern[at : at + 1]
        if not char:
            raise BadPattern("syntax error in pattern")
    if at + 1 >= len(pattern):
        raise BadPattern("syntax error in pattern")
    return char, at + 1


class IgnorePatterns:
    """The patterns of a ``.dockerignore``, later ones before earlier ones; ``!`` takes back, ``**`` crosses directories."""

    def __init__(self, patterns: Iterable[str]) -> None:
        """Raises ``BadPattern``."""
        self._patterns: list[tuple[bool, re.Pattern[str]]] = []
        self._exceptions: list[str] = []
        for text in patterns:
            text = text.strip()
            if not text:
                continue
            text = _clean(text)
            exception = text.startswith("!")
            if exception:
                text = text[1:]
                if not text:
                    raise BadPattern('illegal exclusion pattern: "!"')
                self._exceptions.append(text)
            match_expression(text)
            self._patterns.append((exception, _ignore_expression(text)))

    def __bool__(self) -> bool:
        return bool(self._patterns)

    def matches(self, path: str) -> bool:
        """Whether a path (relative, with ``/``) is left out: it, or a directory above it, fits."""
        parts = path.split("/")
        candidates = ["/".join(parts[:count]) for count in range(len(parts), 0, -1)]
        ignored = False
        for exception, pattern in self._patterns:
            if exception == ignored and any(pattern.fullmatch(candidate) for candidate in candidates):
                ignored = not exception
        return ignored

    def may_hold(self, directory: str) -> bool:
        """Whether something in a directory that is left out might be taken back."""
        for text in self._exceptions:
            fixed = re.split(r"[*?\[\\]", text, maxsplit=1)[0]
            if fixed == text:
                fixed += "/"
            below = directory + "/"
            if fixed.startswith(below) or below.startswith(fixed):
                return True
        return False


def read_ignore_file(data: bytes) -> Sequence[str]:
    """The patterns of a ``.dockerignore``'s text: no comments, no empty lines, no leading ``/``."""
    patterns = []
    for line in data.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "replace").splitlines():
        if line.startswith("#"):
            continue
        text = line.strip()
        if not text:
            continue
        negated = text.startswith("!")
        text = text[1:].strip() if negated else text
        if text:
            text = _clean(text)
            if len(text) > 1 and text.startswith("/"):
                text = text[1:]
        patterns.append(f"!{text}" if negated else text)
    return patterns


def _clean(path: str) -> str:
    cleaned = posixpath.normpath(path)
    return "/" + cleaned.lstrip("/") if cleaned.startswith("//") else cleaned


def _ignore_expression(pattern: str) -> re.Pattern[str]:
    def doublestar(at: int) -> tuple[str, int] | None:
        if not pattern.startswith("**", at):
            return None
        end = at + 2
        if pattern[end : end + 1] == "/":
            end += 1
        return (".*", end) if end >= len(pattern) else ("(?:.*/)?", end)

    if pattern.startswith("**") and not re.search(r"[*?\[\\]", pattern[2:]) and pattern[2:3] not in ("", "/"):
        # "**.go": anything that ends so, in whatever directory
        return re.compile(".*" + re.escape(pattern[2:]), re.DOTALL)
    return re.compile(_translate(pattern, doublestar), re.DOTALL)
