"""Patterns of paths: Go's ``filepath.Match``, and the lists of them in a ``.dockerignore``. No I/O."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

_Doublestar = Callable[[int], "tuple[str, int] | None"]

_STAR, _DIRECTORIES, _REST = "[^/]*", "(?:.*/)?", ".*"
_SEVERAL = frozenset((_STAR, _DIRECTORIES, _REST))


class BadPattern(ValueError):
    """The pattern cannot be read; the message is Go's."""


class Matcher(Protocol):
    """A pattern that has been read: a ``re.Pattern``, or what stands in for one."""

    def fullmatch(self, string: str, /) -> object: ...


def match_expression(pattern: str) -> Matcher:
    """``filepath.Match``: what the whole of a path is asked of, and nothing in it crosses a ``/``. Raises ``BadPattern``.

    >>> bool(match_expression("a*/[b-d]?.txt").fullmatch("ab/cx.txt"))
    True
    """
    return _matcher(_translate(pattern, lambda at: None))


def _matcher(parts: Sequence[str]) -> Matcher:
    """``re`` where it is quick whatever the path: it tries every choice, and holds up the whole program meanwhile."""
    several = [part for part in parts if part in _SEVERAL]
    if len(several) <= 3 and len(several) - several.count(_STAR) <= 2:
        return re.compile("".join(parts), re.DOTALL)
    return _Machine(parts)


class _Machine:
    """Follows all choices at once: no path takes more steps than its length times the pattern's."""

    def __init__(self, parts: Sequence[str]) -> None:
        self._parts: list[str] = []
        for part in parts:  # what is said twice in a row means no more
            if not (part in _SEVERAL and self._parts[-1:] == [part]):
                self._parts.append(part)
        self._one = {part: re.compile(part, re.DOTALL) for part in self._parts if part not in _SEVERAL}
        self._shortest = len([part for part in self._parts if part not in _SEVERAL])

    def fullmatch(self, string: str, /) -> bool:
        # A state is the number of the part that comes next, twice; and one more within directories, which end with "/".
        if len(string) < self._shortest:
            return False
        end = 2 * len(self._parts)
        states = self._with_skips({0})
        for char in string:
            following = set()
            for state in states:
                part = self._parts[state // 2] if state < end else ""
                if part == _DIRECTORIES:
                    following.add(state | 1)
                    if char == "/":
                        following.add((state | 1) + 1)
                elif part == _REST or (part == _STAR and char != "/"):
                    following.add(state)
                elif part and part != _STAR and self._one[part].fullmatch(char):
                    following.add(state + 2)
            states = self._with_skips(following)
            if not states:
                break
        return end in states

    def _with_skips(self, states: set[int]) -> set[int]:
        for state in list(states):
            while state % 2 == 0 and state < 2 * len(self._parts) and self._parts[state // 2] in _SEVERAL:
                state += 2
                states.add(state)
        return states


def _translate(pattern: str, doublestar: _Doublestar) -> list[str]:
    """Regular expressions of one character each, or of ``_SEVERAL``."""
    out: list[str] = []
    at = 0
    while at < len(pattern):
        char = pattern[at]
        if char == "*" and (special := doublestar(at)) is not None:
            text, at = special
            out.append(text)
            continue
        at += 1
        if char == "*":
            out.append(_STAR)
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
    return out


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
        self._patterns: list[tuple[bool, Matcher]] = []
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


def _ignore_expression(pattern: str) -> Matcher:
    def doublestar(at: int) -> tuple[str, int] | None:
        if not pattern.startswith("**", at):
            return None
        end = at + 2
        if pattern[end : end + 1] == "/":
            end += 1
        return (_REST, end) if end >= len(pattern) else (_DIRECTORIES, end)

    if pattern.startswith("**") and not re.search(r"[*?\[\\]", pattern[2:]) and pattern[2:3] not in ("", "/"):
        # "**.go": anything that ends so, in whatever directory
        return re.compile(".*" + re.escape(pattern[2:]), re.DOTALL)
    return _matcher(_translate(pattern, doublestar))
