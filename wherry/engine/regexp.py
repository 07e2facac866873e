"""The regular expressions of list filters, matched in time linear in the text (LST5).

The syntax is RE2's, the one the API's filters have always had: no back-references and no look-around, so that no pattern can
make the matcher backtrack. A pattern is compiled to a small machine whose states are followed all at once. What a caller may
spend is bounded too: patterns that need more than ``STEPS`` steps for all their texts find nothing from there on.
"""

from __future__ import annotations

from collections.abc import Iterable

STEPS = 1_000_000
LONGEST = 1000  # instructions of a compiled pattern
DEEPEST = 100  # groups in groups
REPEATS = 1000  # RE2's bound of {n,m}

_LAST = 0x10FFFF
_Ranges = tuple[tuple[int, int], ...]
_CLASSES: dict[str, _Ranges] = {
    "d": ((48, 57),),
    "w": ((48, 57), (65, 90), (95, 95), (97, 122)),
    "s": ((9, 10), (12, 13), (32, 32)),
}
_NAMED: dict[str, _Ranges] = {
    "alnum": ((48, 57), (65, 90), (97, 122)),
    "alpha": ((65, 90), (97, 122)),
    "ascii": ((0, 127),),
    "blank": ((9, 9), (32, 32)),
    "cntrl": ((0, 31), (127, 127)),
    "digit": ((48, 57),),
    "graph": ((33, 126),),
    "lower": ((97, 122),),
    "print": ((32, 126),),
    "punct": ((33, 47), (58, 64), (91, 96), (123, 126)),
    "space": ((9, 13), (32, 32)),
    "upper": ((65, 90),),
    "word": _CLASSES["w"],
    "xdigit": ((48, 57), (65, 70), (97, 102)),
}
_ESCAPES = {"a": 7, "f": 12, "n": 10, "r": 13, "t": 9, "v": 11}


class BadPattern(ValueError):
    """The text is no regular expression, or too large a one."""


class Patterns:
    """Several patterns of one filter; those that are none are left out and find nothing."""

    def __init__(self, patterns: Iterable[str]) -> None:
        self._machines: list[list[_Instruction]] = []
        self._left = STEPS
        for pattern in patterns:
            try:
                self._machines.append(compile_pattern(pattern))
            except BadPattern:
                continue

    def search(self, *texts: str) -> bool:
        """Whether any of the patterns is found in any of the texts."""
        return any(self._run(machine, text) for machine in self._machines for text in texts)

    def _run(self, machine: list[_Instruction], text: str) -> bool:
        active: set[int] = set()
        for position in range(len(text) + 1):
            if self._left <= 0:
                return False
            before = text[position - 1] if position else ""
            here = text[position] if position < len(text) else ""
            active.add(0)  # a match may begin anywhere
            reached = self._close(machine, active, before, here)
            if reached is None:
                return True
            if not here:
                return False
            code = ord(here)
            active = {state + 1 for state in reached if machine[state].takes(code)}
        return False

    def _close(self, machine: list[_Instruction], states: set[int], before: str, here: str) -> list[int] | None:
        """The states that wait for a character, over all that take none; None when one of them is the end."""
        waiting: list[int] = []
        seen = set(states)
        todo = list(states)
        while todo:
            state = todo.pop()
            self._left -= 1
            step = machine[state]
            if step.kind == "match":
                return None
            if step.kind == "set":
                self._left -= len(step.ranges)
                waiting.append(state)
                continue
            if step.kind == "split":
                following = step.targets
            else:
                following = (state + 1,) if _holds(step.kind, before, here) else ()
            for target in following:
                if target not in seen:
                    seen.add(target)
                    todo.append(target)
        return waiting


def _holds(assertion: str, before: str, here: str) -> bool:
    match assertion:
        case "begin":
            return not before
        case "end":
            return not here
        case "line begin":
            return before in ("", "\n")
        case "line end":
            return here in ("", "\n")
    border = _is_word(before) != _is_word(here)
    return border if assertion == "border" else not border


def _is_word(character: str) -> bool:
    return character.isascii() and (character.isalnum() or character == "_")


class _Instruction:
    """``set``: take one character; ``split``: go on at any of ``targets``; ``match``; or an assertion's name."""

    __slots__ = ("kind", "negated", "ranges", "targets")

    def __init__(self, kind: str, ranges: _Ranges = (), negated: bool = False, targets: tuple[int, ...] = ()) -> None:
        self.kind = kind
        self.ranges = ranges
        self.negated = negated
        self.targets = targets

    def takes(self, code: int) -> bool:
        return any(low <= code <= high for low, high in self.ranges) != self.negated


class _Node:
    """A part of a parsed pattern: ``set``, ``all`` (parts one after another), ``any``, ``repeat``, or an assertion."""

    __slots__ = ("high", "kind", "low", "negated", "parts", "ranges")

    def __init__(
        self,
        kind: str,
        parts: list[_Node] | None = None,
        *,
        ranges: _Ranges = (),
        negated: bool = False,
        low: int = 0,
        high: int | None = None,
    ) -> None:
        self.kind = kind
        self.parts = parts or []
        self.ranges = ranges
        self.negated = negated
        self.low = low
        self.high = high


def compile_pattern(pattern: str) -> list[_Instruction]:
    """The pattern's machine. Raises ``BadPattern``."""
    if len(pattern) > 10 * LONGEST:
        raise BadPattern("the pattern is too long")
    machine: list[_Instruction] = []
    _emit(_Parser(pattern).parse(), machine)
    machine.append(_Instruction("match"))
    return machine


def _emit(node: _Node, machine: list[_Instruction]) -> None:
    if len(machine) > LONGEST:
        raise BadPattern("the pattern is too large")
    if node.kind == "set":
        machine.append(_Instruction("set", node.ranges, node.negated))
    elif node.kind == "all":
        for part in node.parts:
            _emit(part, machine)
    elif node.kind == "any":
        _emit_any(node, machine)
    elif node.kind == "repeat":
        _emit_repeat(node, machine)
    else:
        machine.append(_Instruction(node.kind))


def _emit_any(node: _Node, machine: list[_Instruction]) -> None:
    fork = _Instruction("split")
    machine.append(fork)
    starts: list[int] = []
    ends: list[_Instruction] = []
    for part in node.parts:
        starts.append(len(machine))
        _emit(part, machine)
        ends.append(_Instruction("split"))
        machine.append(ends[-1])
    fork.targets = tuple(starts)
    for end in ends:
        end.targets = (len(machine),)


def _emit_repeat(node: _Node, machine: list[_Instruction]) -> None:
    part = node.parts[0]
    for _ in range(node.low):
        _emit(part, machine)
    if node.high is None:
        start = len(machine)
        fork = _Instruction("split")
        machine.append(fork)
        _emit(part, machine)
        machine.append(_Instruction("split", targets=(start,)))
        fork.targets = (start + 1, len(machine))
        return
    forks: list[_Instruction] = []
    for _ in range(node.high - node.low):
        forks.append(_Instruction("split"))
        machine.append(forks[-1])
        forks[-1].targets = (len(machine),)
        _emit(part, machine)
    for fork in forks:
        fork.targets = (*fork.targets, len(machine))


class _Parser:
    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._depth = 0
        self._flags: frozenset[str] = frozenset()

    def parse(self) -> _Node:
        node = self._alternatives()
        if self._at < len(self._text):
            raise BadPattern("unexpected )")
        return node

    def _peek(self, count: int = 1) -> str:
        return self._text[self._at : self._at + count]

    def _next(self) -> str:
        if self._at >= len(self._text):
            raise BadPattern("the pattern ends too early")
        self._at += 1
        return self._text[self._at - 1]

    def _accept(self, text: str) -> bool:
        if self._text.startswith(text, self._at):
            self._at += len(text)
            return True
        return False

    def _alternatives(self) -> _Node:
        choices = [self._sequence()]
        while self._accept("|"):
            choices.append(self._sequence())
        return choices[0] if len(choices) == 1 else _Node("any", choices)

    def _sequence(self) -> _Node:
        parts: list[_Node] = []
        while (character := self._peek()) and character not in "|)":
            if self._accept(r"\Q"):
                literal, _, _ = self._text[self._at :].partition(r"\E")
                self._at = min(len(self._text), self._at + len(literal) + 2)
                parts += [self._literal(ord(letter)) for letter in literal]
                if literal:
                    parts.append(self._repeated(parts.pop()))
                continue
            atom = self._atom()
            if atom is not None:
                parts.append(self._repeated(atom))
        return _Node("all", parts)

    def _repeated(self, atom: _Node) -> _Node:
        bounds = self._bounds()
        if bounds is None:
            return atom
        self._accept("?")  # lazy: the same to a search
        if self._bounds() is not None:
            raise BadPattern("invalid nested repetition operator")
        return _Node("repeat", [atom], low=bounds[0], high=bounds[1])

    def _bounds(self) -> tuple[int, int | None] | None:
        if self._accept("*"):
            return 0, None
        if self._accept("+"):
            return 1, None
        if self._accept("?"):
            return 0, 1
        if self._peek() != "{":
            return None
        inside, closed, _ = self._text[self._at + 1 : self._at + 20].partition("}")
        low, comma, high = inside.partition(",")
        if not closed or not _is_number(low) or (high and not _is_number(high)):
            return None  # a brace that says nothing is itself
        self._at += len(inside) + 2
        bounds = int(low), (int(high) if high else None) if comma else int(low)
        if bounds[0] > REPEATS or (bounds[1] is not None and not bounds[0] <= bounds[1] <= REPEATS):
            raise BadPattern("invalid repeat count")
        return bounds

    def _atom(self) -> _Node | None:
        character = self._next()
        match character:
            case "(":
                return self._group()
            case "[":
                return self._set()
            case ".":
                return _Node("set", ranges=() if "s" in self._flags else ((10, 10),), negated=True)
            case "^":
                return _Node("line begin" if "m" in self._flags else "begin")
            case "$":
                return _Node("line end" if "m" in self._flags else "end")
            case "*" | "+" | "?":
                raise BadPattern("missing argument to repetition operator")
            case "\\":
                return self._escape()
        return self._literal(ord(character))

    def _literal(self, code: int) -> _Node:
        return _Node("set", ranges=self._folded(((code, code),)))

    def _folded(self, ranges: _Ranges) -> _Ranges:
        """With the other case of every letter, where the pattern asks for it (``(?i)``)."""
        if "i" not in self._flags:
            return ranges
        others: list[tuple[int, int]] = []
        for low, high in ranges:
            if low == high:
                text = chr(low)
                others += [(ord(form), ord(form)) for form in (text.lower(), text.upper()) if len(form) == 1]
            for first, last, shift in ((65, 90, 32), (97, 122, -32)):
                if low <= last and high >= first:
                    others.append((max(low, first) + shift, min(high, last) + shift))
        return (*ranges, *others)

    def _group(self) -> _Node | None:
        before = self._flags
        if self._accept("?"):
            if self._accept("P<") or self._accept("<"):
                name, closed, _ = self._text[self._at :].partition(">")
                if not closed or not name.isidentifier():
                    raise BadPattern("invalid named capture")
                self._at += len(name) + 1
            elif not self._set_flags():
                return None
        self._depth += 1
        if self._depth > DEEPEST:
            raise BadPattern("the groups are nested too deeply")
        node = self._alternatives()
        if not self._accept(")"):
            raise BadPattern("missing closing )")
        self._depth -= 1
        self._flags = before
        return node

    def _set_flags(self) -> bool:
        """``(?i-s:`` and ``(?i)``: whether a group's content follows."""
        on, flags = True, set(self._flags)
        while (letter := self._next()) not in ":)":
            if letter == "-" and on:
                on = False
            elif letter in "imsU":
                (flags.add if on else flags.discard)(letter)
            else:
                raise BadPattern("invalid or unsupported Perl syntax")
        self._flags = frozenset(flags)
        return letter == ":"

    def _escape(self) -> _Node:
        match self._peek():
            case "A":
                kind = "begin"
            case "z":
                kind = "end"
            case "b":
                kind = "border"
            case "B":
                kind = "no border"
            case _:
                ranges, negated = self._escaped()
                return _Node("set", ranges=self._folded(ranges), negated=negated)
        self._at += 1
        return _Node(kind)

    def _escaped(self) -> tuple[_Ranges, bool]:
        """Behind a backslash: a class and whether it is negated, or one character."""
        letter = self._next()
        if letter.lower() in _CLASSES:
            return _CLASSES[letter.lower()], letter.isupper()
        if letter in _ESCAPES:
            code = _ESCAPES[letter]
        elif letter == "x":
            if self._accept("{"):
                digits, _, _ = self._text[self._at : self._at + 10].partition("}")
                self._at += len(digits) + 1
            else:
                digits = self._next() + self._next()
            try:
                code = int(digits, 16)
            except ValueError:
                raise BadPattern("invalid escape sequence") from None
        elif letter == "0":
            code = 0
            while self._peek() in tuple("01234567") and code < 0o100:
                code = code * 8 + int(self._next())
        elif letter.isascii() and not letter.isalnum():
            code = ord(letter)
        else:
            raise BadPattern("invalid escape sequence")
        if code > _LAST:
            raise BadPattern("invalid escape sequence")
        return ((code, code),), False

    def _set(self) -> _Node:
        negated = self._accept("^")
        ranges: list[tuple[int, int]] = []
        first = True
        while first or self._peek() != "]":
            first = False
            if self._accept("[:"):
                ranges += self._named()
                continue
            low = self._member()
            if len(low) != 1 or low[0][0] != low[0][1] or self._peek() != "-" or self._peek(2) == "-]":
                ranges += low
                continue
            self._at += 1
            high = self._member()
            if len(high) != 1 or high[0][0] != high[0][1] or high[0][0] < low[0][0]:
                raise BadPattern("invalid character class range")
            ranges.append((low[0][0], high[0][0]))
        self._at += 1
        return _Node("set", ranges=self._folded(tuple(ranges)), negated=negated)

    def _member(self) -> _Ranges:
        character = self._next()
        if character != "\\":
            return ((ord(character), ord(character)),)
        ranges, negated = self._escaped()
        return _complement(ranges) if negated else ranges

    def _named(self) -> _Ranges:
        name, closed, _ = self._text[self._at :].partition(":]")
        negated = name.startswith("^")
        if not closed or name.removeprefix("^") not in _NAMED:
            raise BadPattern("invalid character class range")
        self._at += len(name) + 2
        ranges = _NAMED[name.removeprefix("^")]
        return _complement(ranges) if negated else ranges


def _complement(ranges: _Ranges) -> _Ranges:
    result: list[tuple[int, int]] = []
    start = 0
    for low, high in sorted(ranges):
        if start < low:
            result.append((start, low - 1))
        start = max(start, high + 1)
    if start <= _LAST:
        result.append((start, _LAST))
    return tuple(result)


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and (text == "0" or not text.startswith("0"))
