"""The regular expressions of filters (LST5): RE2's language, and no pattern that takes long."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wherry.engine.regexp import BadPattern, Patterns, compile_pattern


def found(pattern: str, text: str) -> bool:
    return Patterns([pattern]).search(text)


@pytest.mark.parametrize(
    ("pattern", "yes", "no"),
    [
        ("", ["", "x"], []),
        ("web", ["web", "a-web-b"], ["we"]),
        ("^/?web$", ["web", "/web"], ["web1", "aweb", "web\n"]),
        ("^(a|bc)+$", ["a", "bca"], ["", "b", "ab"]),
        ("^a.c$", ["abc"], ["a\nc", "ac"]),
        ("^[^0-9_]{2,3}$", ["ab", "abc"], ["a", "abcd", "a1"]),
        ("^[]a-]+$", ["]-a"], ["b"]),
        (r"^\d+\.\w*\s$", ["12.ab ", "1. "], ["12ab "]),
        (r"^[\w.-]+$", ["a_.-"], ["/"]),
        (r"^[^\D5]$", ["4"], ["5", "x"]),
        ("^[[:alpha:]][[:^digit:]]$", ["ab"], ["1b", "a1"]),
        (r"\bweb\b", ["a web", "web-1"], ["webs"]),
        (r"we\Bb", ["web"], ["we b"]),
        ("(?i)WeB", ["web", "WEB"], ["we"]),
        ("(?i:A)b", ["ab", "Ab"], ["AB"]),
        ("(?P<n>a)(?:b)", ["ab"], ["ba"]),
        (r"\Qa.b*\E+", ["a.b*"], ["axb"]),
        (r"^\x41\x{42}$", ["AB"], ["ab"]),
        ("^a{2}$", ["aa"], ["a", "aaa"]),
        ("a{,2}", ["a{,2}"], ["aa"]),
        ("^a*?b$", ["aab", "b"], ["aa"]),
        ("(?m)^b$", ["a\nb"], ["ab"]),
    ],
)
def test_LST5_the_language(pattern: str, yes: list[str], no: list[str]) -> None:
    assert [text for text in yes if not found(pattern, text)] == []
    assert [text for text in no if found(pattern, text)] == []


NO_PATTERNS = [
    "((", ")", "[a", "a**", "*a", "a{1001}", "a{3,2}", "[b-a]", "a\\", "(?P<1>a)",
    r"\1", r"\k", r"\p{L}", "(?=a)", "(?!a)", "(?<=a)",
]  # fmt: skip


@pytest.mark.parametrize("pattern", NO_PATTERNS)
def test_LST5_what_is_no_pattern_finds_nothing(pattern: str) -> None:
    with pytest.raises(BadPattern):
        compile_pattern(pattern)
    assert not found(pattern, pattern)
    assert Patterns([pattern, "b"]).search("b"), "the others still count"


@pytest.mark.parametrize(
    "pattern",
    [
        "(a+)+$",
        "(a|a)*b",
        "(a|aa)+$b",
        "a*" * 40 + "b",
        "(.*)*" * 60 + "x",
        "((a{1000}){1000}){1000}",
        "(" * 5000,
        "[" + "".join(map(chr, range(200, 5000))) + "]*" * 20,
        "a?" * 400 + "a" * 400,
    ],
)
def test_LST5_hostile_patterns_take_no_time(pattern: str) -> None:
    began = time.monotonic()
    patterns = Patterns([pattern] * 20)
    for _ in range(50):
        patterns.search("a" * 2000, "/" + "a" * 60)
    assert time.monotonic() - began < 5


_atoms = st.sampled_from(
    ["a", "b", "-", ".", "[ab]", "[^a]", "^", "$", "(a|b)", "(?:ab|a)", r"\w", r"\d", "(a*)", r"\b", "|"]
)
_counts = st.sampled_from(["", "", "", "*", "+", "?", "{2}", "{1,2}", "{0,}"])


@given(
    st.lists(st.tuples(_atoms, _counts), max_size=6).map(lambda parts: "".join(a + n for a, n in parts)),
    st.text("ab-_.1", max_size=8),
)
def test_LST5_finds_what_others_find(pattern: str, text: str) -> None:
    try:
        expected = re.search(pattern.replace("$", r"\Z"), text) is not None
        compile_pattern(pattern)
    except (re.error, BadPattern):
        return
    assert found(pattern, text) == expected


@given(st.text("ab()[]{}|*+?^$\\.-:Qx01,", max_size=30), st.text("ab", max_size=5))
def test_LST5_any_text_is_taken_or_refused(pattern: str, text: str) -> None:
    found(pattern, text)
