"""Variables in the words of a Dockerfile: ``$x``, ``${x}``, ``${x:-word}``, ``${x:+word}``, ``${x:?word}``, quotes, escapes."""

from __future__ import annotations

import json
from collections.abc import Mapping

from wherry.engine.dockerfile.errors import DockerfileError

_SPECIAL = "@*#?-$!0"
_MODIFIERS = "+-?"


def expand(text: str, env: Mapping[str, str], escape: str = "\\") -> str:
    """``text`` without its quotes, with the values of variables in it. Raises ``DockerfileError``."""
    return _Expansion(text, env, escape).result()[0]


def expand_words(text: str, env: Mapping[str, str], escape: str = "\\") -> list[str]:
    """As ``expand``, split at the blanks that no quote covers, those in values included."""
    return _Expansion(text, env, escape).result()[1]


class _Words:
    """The text put together so far, and the words in it."""

    def __init__(self) -> None:
        self._text: list[str] = []
        self._words: list[str] = []
        self._word: list[str] = []

    def add(self, text: str, *, splits: bool) -> None:
        self._text.append(text)
        if not splits:
            self._word.append(text)
            return
        for char in text:
            if char.isspace():
                self._end()
            else:
                self._word.append(char)

    def _end(self) -> None:
        if word := "".join(self._word):
            self._words.append(word)
        self._word.clear()

    def finish(self) -> tuple[str, list[str]]:
        self._end()
        return "".join(self._text), self._words


class _Expansion:
    def __init__(self, text: str, env: Mapping[str, str], escape: str) -> None:
        self.source = text
        self.env = env
        self.escape = escape
        self.at = 0

    def result(self) -> tuple[str, list[str]]:
        try:
            return self.until("", 0)
        except DockerfileError as error:
            shown = json.dumps(self.source, ensure_ascii=False)
            raise DockerfileError(f"failed to process {shown}: {error.message}") from None

    def peek(self) -> str:
        return self.source[self.at : self.at + 1]

    def take(self) -> str:
        char = self.source[self.at : self.at + 1]
        self.at += 1
        return char

    def until(self, stop: str, depth: int) -> tuple[str, list[str]]:
        """Up to the character ``stop``, or the end where it is empty."""
        if depth > 100:
            raise DockerfileError("syntax error: too many substitutions within each other")
        out = _Words()
        while char := self.peek():
            if char == stop:
                self.at += 1
                return out.finish()
            if char == "'":
                out.add(self.single_quoted(), splits=False)
            elif char == '"':
                out.add(self.double_quoted(depth), splits=False)
            elif char == "$":
                out.add(self.dollar(depth), splits=True)
            elif char == self.escape:
                self.at += 1
                out.add(self.take(), splits=False)
            else:
                self.at += 1
                out.add(char, splits=True)
        if stop:
            raise DockerfileError("syntax error: missing '}'")
        return out.finish()

    def single_quoted(self) -> str:
        end = self.source.find("'", self.at + 1)
        if end < 0:
            raise DockerfileError("unexpected end of statement while looking for matching single-quote")
        text = self.source[self.at + 1 : end]
        self.at = end + 1
        return text

    def double_quoted(self, depth: int) -> str:
        self.at += 1
        out = ""
        while char := self.peek():
            if char == '"':
                self.at += 1
                return out
            if char == "$":
                out += self.dollar(depth)
                continue
            self.at += 1
            if char == self.escape:
                following = self.peek()
                if not following:
                    break
                if following in ('"', "$", self.escape):
                    char = self.take()
            out += char
        raise DockerfileError("unexpected end of statement while looking for matching double-quote")

    def dollar(self, depth: int) -> str:
        self.at += 1
        if self.peek() != "{":
            name = self.name()
            return self.env.get(name, "") if name else "$"
        self.at += 1
        if not self.peek():
            raise DockerfileError("syntax error: missing '}'")
        if self.peek() in "{}:":
            raise DockerfileError("syntax error: bad substitution")
        name = self.name()
        how = self.take()
        if how == "}":
            return self.env.get(name, "")
        empty_counts = how != ":"
        modifier = self.take() if how == ":" else how
        if not modifier or not how:
            raise DockerfileError("syntax error: missing '}'")
        if modifier not in _MODIFIERS:
            shown = modifier if empty_counts else f":{modifier}"
            raise DockerfileError(f"unsupported modifier ({shown}) in substitution")
        word = self.until("}", depth + 1)[0]
        value = self.env.get(name)
        given = value is not None and (empty_counts or value != "")
        if modifier == "+":
            return word if given else ""
        if given:
            assert value is not None
            return value
        if modifier == "?":
            what = "unset" if value is None else "empty"
            raise DockerfileError(f"{name}: {word or f'is not allowed to be {what}'}")
        return word

    def name(self) -> str:
        """Letters, digits and ``_``; of digits in front they alone; or one of the shell's own parameters."""
        start = self.at
        if self.peek().isdigit():
            while self.peek().isdigit():
                self.at += 1
        elif self.peek() and self.peek() in _SPECIAL:
            self.at += 1
        else:
            while (char := self.peek()) and (char.isalnum() or char == "_"):
                self.at += 1
        return self.source[start : self.at]
