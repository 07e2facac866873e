"""Dockerfile text to lines: one instruction each, with its flags and arguments apart.

Parser directives, comments, continuations, quoting and the JSON form of arguments follow moby's own parser, which
``dockerfile-parse`` and the like do not: they read flags, escapes and quotes another way, and know no refusals.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from wherry.engine.dockerfile.errors import DockerfileError, needs_buildkit

LONGEST_LINE = 65535
_BLANKS = re.compile(r"[\t\v\f\r ]+")
_DIRECTIVE = re.compile(r"#\s*([a-zA-Z][a-zA-Z0-9]*)\s*=\s*(.+)", re.ASCII)
_HEREDOC = re.compile(r"(?:^|[\s\"'])\d*<<-?(?:\"[^\"<]+\"|'[^'<]+'|[^<\s\"']+)(?=\s|$)")
_SPACES = " \t\n\v\f\r\x85\xa0"


@dataclass(frozen=True, slots=True)
class Line:
    """One instruction. ``name`` is lower-case; ``written`` as in the file; ``text`` the whole of it, continuations joined.

    ``is_json``: the arguments were a JSON list. ``number`` is that of its first line, counted from 1.
    """

    name: str
    written: str
    flags: Sequence[str]
    args: Sequence[str]
    is_json: bool
    text: str
    number: int


@dataclass(slots=True)
class Dockerfile:
    """``escape`` is the character that escapes and continues lines; ``warnings`` are for whoever builds it."""

    lines: list[Line] = field(default_factory=list)
    escape: str = "\\"
    warnings: list[str] = field(default_factory=list)


def parse(data: bytes) -> Dockerfile:
    """Raises ``DockerfileError``."""
    return _Parser(data.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "replace")).run()


class _Parser:
    def __init__(self, text: str) -> None:
        self.texts = text.split("\n")
        if self.texts and not self.texts[-1]:
            self.texts.pop()
        self.at = 0
        self.file = Dockerfile()
        self.seen: set[str] = set()
        self.directives = True
        self.set_escape("\\")

    def set_escape(self, char: str) -> None:
        if char not in ("\\", "`"):
            raise DockerfileError(f"invalid escape token '{char}' does not match ` or \\")
        self.file.escape = char
        token = re.escape(char)
        self.continuation = re.compile(rf"([^{token}]){token}[ \t]*$|^{token}[ \t]*$")

    def run(self) -> Dockerfile:
        while (text := self.next()) is not None:
            text = text.lstrip(_SPACES)
            self.directive(text)
            if text.startswith("#"):
                continue
            number = self.at
            line, more = self.continued(text)
            if not more and not line:
                continue
            empty = False
            while more and (text := self.next()) is not None:
                self.directive(text)
                stripped = text.lstrip(_SPACES)
                if stripped.startswith("#"):
                    continue
                if not stripped:
                    empty = True
                    continue
                text, more = self.continued(text)
                line += text
            if empty:
                self.file.warnings.append(f"[WARNING]: Empty continuation line found in:\n    {line}")
            self.file.lines.append(parse_line(line, self.file.escape, number))
        if self.file.warnings:
            self.file.warnings.append("[WARNING]: Empty continuation lines will become errors in a future release.")
        if not self.file.lines:
            raise DockerfileError("file with no instructions")
        return self.file

    def next(self) -> str | None:
        if self.at >= len(self.texts):
            return None
        text = self.texts[self.at].removesuffix("\r")
        if len(text) > LONGEST_LINE:
            raise DockerfileError(f"dockerfile line greater than max allowed size of {LONGEST_LINE}")
        self.at += 1
        return text

    def continued(self, text: str) -> tuple[str, bool]:
        line, count = self.continuation.subn(lambda match: match[1] or "", text)
        return line, count > 0

    def directive(self, text: str) -> None:
        """``# escape=`` and ``# syntax=`` count before everything else; the second means nothing to a classic builder."""
        if not self.directives:
            return
        match = _DIRECTIVE.fullmatch(text)
        name = match[1].lower() if match else ""
        if match is None or name not in ("escape", "syntax"):
            self.directives = False
            return
        if name in self.seen:
            raise DockerfileError(f"only one {name} parser directive can be used")
        self.seen.add(name)
        if name == "escape":
            self.set_escape(match[2].rstrip())


def parse_line(text: str, escape: str = "\\", number: int = 1) -> Line:
    """One instruction, all of it on one line. Raises ``DockerfileError``."""
    written, _, rest = _partition(text.strip(_SPACES))
    name = written.lower()
    if name in ("run", "copy", "add") and _HEREDOC.search(rest):
        raise DockerfileError(needs_buildkit("here-document syntax (<<)"))
    flags, rest = _flags(rest)
    rest = rest.strip(_SPACES)
    form = _FORMS.get(name)
    args, is_json = form(rest, escape, name.upper()) if form is not None else ([], False)
    return Line(name, written, flags, args, is_json, text, number)


def _partition(text: str) -> tuple[str, str, str]:
    match = _BLANKS.search(text)
    return (text[: match.start()], match[0], text[match.end() :]) if match else (text, "", "")


def _flags(text: str) -> tuple[list[str], str]:
    """The words in front that begin with ``--``, and the rest."""
    flags: list[str] = []
    at = 0
    while True:
        while at < len(text) and text[at] in _SPACES:
            at += 1
        if not text.startswith("--", at):
            return flags, text[at:]
        word, quote = "", ""
        while at < len(text) and (quote or text[at] not in _SPACES):
            char = text[at]
            if char == quote:
                quote = ""
            elif not quote and char in "\"'":
                quote = char
            elif char == "\\":
                at += 1
                word += text[at : at + 1]
            else:
                word += char
            at += 1
        if word == "--":
            return flags, text[at:]
        flags.append(word)


# forms of arguments

Form = Callable[[str, str, str], tuple[list[str], bool]]


def words(text: str, escape: str = "\\") -> list[str]:
    """Split at blanks outside quotes; quotes and escapes stay in the words."""
    found: list[str] = []
    word, quote, started = "", "", False
    at = 0
    while at < len(text):
        char = text[at]
        at += 1
        if not quote and char.isspace():
            if started:
                found.append(word)
            word, started = "", False
            continue
        if char == escape and quote != "'":
            if at == len(text):
                break
            word += char + text[at]
            at += 1
        else:
            if char == quote:
                quote = ""
            elif not quote and char in "\"'":
                quote = char
            word += char
        started = True
    if started:
        found.append(word)
    return found


def _string(text: str, escape: str, name: str) -> tuple[list[str], bool]:
    return ([text] if text else []), False


def _blank_separated(text: str, escape: str, name: str) -> tuple[list[str], bool]:
    return (_BLANKS.split(text) if text else []), False


def _maybe_json(text: str, escape: str, name: str) -> tuple[list[str], bool]:
    strings = json_strings(text)
    return (strings, True) if strings is not None else _string(text, escape, name)


def _maybe_json_list(text: str, escape: str, name: str) -> tuple[list[str], bool]:
    strings = json_strings(text)
    return (strings, True) if strings is not None else _blank_separated(text, escape, name)


def json_strings(text: str) -> list[str] | None:
    """A JSON list of strings; None for what is no JSON list. Raises ``DockerfileError`` for one with other things."""
    if not text.startswith("["):
        return None
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not all(isinstance(item, str) for item in value):
        raise DockerfileError("when using JSON array syntax, arrays must be comprised of strings only")
    return [item.encode("utf-8", "replace").decode() for item in value]


def _pairs(text: str, escape: str, name: str) -> tuple[list[str], bool]:
    """``k=v k2="v 2"``, or the old form ``k the rest``: names and values in turn."""
    parts = words(text, escape)
    if not parts:
        return [], False
    if "=" not in parts[0]:
        key, blank, value = _partition(text)
        if not blank:
            raise DockerfileError(f"{name} must have two arguments")
        return [key, value], False
    found = []
    for part in parts:
        key, equals, value = part.partition("=")
        if not equals:
            raise DockerfileError(f"Syntax error - can't find = in {json.dumps(part)}. Must be of the form: name=value")
        found += [key, value]
    return found, False


def _words(text: str, escape: str, name: str) -> tuple[list[str], bool]:
    return words(text, escape), False


def _healthcheck(text: str, escape: str, name: str) -> tuple[list[str], bool]:
    kind, _, rest = _partition(text)
    if not kind:
        return [], False
    args, is_json = _maybe_json(rest.lstrip(_SPACES), escape, name)
    return [kind, *args], is_json


def _onbuild(text: str, escape: str, name: str) -> tuple[list[str], bool]:
    if not text:
        return [], False
    inner = parse_line(text, escape)
    return [inner.written, *inner.args], inner.is_json


_FORMS: dict[str, Form] = {
    "add": _maybe_json_list,
    "arg": _words,
    "cmd": _maybe_json,
    "copy": _maybe_json_list,
    "entrypoint": _maybe_json,
    "env": _pairs,
    "expose": _blank_separated,
    "from": _blank_separated,
    "healthcheck": _healthcheck,
    "label": _pairs,
    "maintainer": _string,
    "onbuild": _onbuild,
    "run": _maybe_json,
    "shell": _maybe_json,
    "stopsignal": _string,
    "user": _string,
    "volume": _maybe_json_list,
    "workdir": _string,
}
