"""Patterns of paths: of COPY, and of a ``.dockerignore``."""

from __future__ import annotations

import re
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wherry.wire import patterns as wire_patterns
from wherry.wire.patterns import BadPattern, IgnorePatterns, match_expression, read_ignore_file


@pytest.mark.parametrize(
    ("pattern", "path", "fits"),
    [
        ("abc", "abc", True),
        ("*", "abc", True),
        ("*", "a/b", False),
        ("a*/b", "abc/b", True),
        ("a*/b", "a/c/b", False),
        ("a?c", "abc", True),
        ("a?c", "a/c", False),
        ("[a-c]x", "bx", True),
        ("[^a-c]x", "bx", False),
        ("[^a]", "/", False),
        ("[a-]", "", None),
        ("[\\]a]", "]", True),
        ("\\*", "*", True),
        ("\\*", "a", False),
        ("a[", "a", None),
        ("a\\", "a", None),
        ("[]a]", "]", None),
        ("[x-a]", "x", False),
        ("*.txt", "é.txt", True),
        ("a.c", "abc", False),
    ],
)
def test_patterns_of_go(pattern: str, path: str, fits: bool | None) -> None:
    if fits is None:
        with pytest.raises(BadPattern):
            match_expression(pattern)
    else:
        assert bool(match_expression(pattern).fullmatch(path)) == fits


# from moby's own tests of its pattern matcher, among others
@pytest.mark.parametrize(
    ("pattern", "path", "ignored"),
    [
        ("**", "file", True),
        ("**", "dir/file", True),
        ("**/", "file", True),
        ("**/", "dir/file", True),
        ("**/**", "dir/file", True),
        ("dir/**", "dir/file", True),
        ("dir/**", "dir/dir2/file", True),
        ("**/dir", "dir", True),
        ("**/dir", "dir/file", True),
        ("**/dir2/*", "dir/dir2/file", True),
        ("**/dir2/*", "dir/dir2/dir2/file", True),
        ("**/dir2/**", "dir/dir2/dir2/file", True),
        ("**file", "file", True),
        ("**file", "dir/file", True),
        ("**/file", "dir/dir/file", True),
        ("**/file*", "dir/dir/file.txt", True),
        ("**/file*txt", "dir/dir/file.txt", True),
        ("**/file*.txt*", "dir/dir/file.txt", True),
        ("**/**/*.txt", "dir/dir/file.txt", True),
        ("**/**/*.txt2", "dir/dir/file.txt", False),
        ("**/*.txt", "file.txt", True),
        ("**/**/*.txt", "file.txt", True),
        ("a**/*.txt", "a/file.txt", True),
        ("a**/*.txt", "a/dir/file.txt", True),
        ("a**/*.txt", "a/dir/dir/file.txt", True),
        ("a/*.txt", "a/dir/file.txt", False),
        ("a/*.txt", "a/file.txt", True),
        ("a/*.txt**", "a/file.txt", True),
        ("a[b-d]e", "ae", False),
        ("a[b-d]e", "ace", True),
        ("a[^b-d]e", "aze", True),
        (".*", ".foo", True),
        (".*", "foo", False),
        ("abc.def", "abcZdef", False),
        ("a\\*b", "a*b", True),
        ("docs", "docs/README.md", True),
        ("docs/*", "docs/a/b", True),
        ("*/x", "a/x/y", True),
        ("*", ".git/config", True),
    ],
)
def test_a_pattern_of_an_ignore_file(pattern: str, path: str, ignored: bool) -> None:
    assert IgnorePatterns([pattern]).matches(path) == ignored


@pytest.mark.parametrize(
    ("patterns", "path", "ignored"),
    [
        (["*", "!keep"], "keep", False),
        (["*", "!keep"], "other", True),
        (["*", "!keep"], "keep/below", False),
        (["dir", "!dir/keep"], "dir/keep", False),
        (["dir", "!dir/keep", "dir/keep/not"], "dir/keep/not", True),
        (["!keep", "*"], "keep", True),
        (["**", "!util/docker/web", "util/docker/web/foo"], "util/docker/web/foo", True),
        (["**", "!**/*.py"], "a/b.py", False),
    ],
)
def test_later_patterns_count_more(patterns: list[str], path: str, ignored: bool) -> None:
    assert IgnorePatterns(patterns).matches(path) == ignored


def test_directories_that_something_may_be_taken_back_from() -> None:
    patterns = IgnorePatterns(["a", "b", "c", "!b/x/y", "!**/z"])
    assert [patterns.may_hold(name) for name in ("a", "b", "b/x", "b/q")] == [True, True, True, True]
    patterns = IgnorePatterns(["a", "b", "!b/x/y"])
    assert [patterns.may_hold(name) for name in ("a", "b", "b/x", "b/q")] == [False, True, True, False]


def test_the_text_of_an_ignore_file() -> None:
    text = b"\xef\xbb\xbf# comment\n\n /a/b/../c \n!/d\n ! e\n/\n.\n  # no comment: it does not begin the line\n"
    assert read_ignore_file(text) == ["a/c", "!d", "!e", "/", ".", "# no comment: it does not begin the line"]


def test_what_is_no_pattern_is_refused() -> None:
    with pytest.raises(BadPattern):
        IgnorePatterns(["a["])
    with pytest.raises(BadPattern):
        IgnorePatterns(["!"])


@settings(deadline=None)
@given(st.text("ab/*?![]\\.-^", max_size=12), st.text("ab/.", max_size=12))
def test_any_pattern_is_answered(pattern: str, path: str) -> None:
    with suppress(BadPattern):
        assert IgnorePatterns([pattern]).matches(path) in (True, False)


@settings(deadline=None)
@given(st.lists(st.text("abc", min_size=1, max_size=3), min_size=1, max_size=4))
def test_a_plain_path_leaves_out_itself_and_what_is_below(parts: list[str]) -> None:
    path = "/".join(parts)
    patterns = IgnorePatterns([path])
    assert patterns.matches(path)
    assert patterns.matches(f"{path}/x")
    assert not patterns.matches(f"{path}x")


@pytest.mark.parametrize(
    ("pattern", "path"),
    [
        ("*a" * 20 + "b", "a" * 250),
        ("*" * 200 + "b", "a" * 250),
        ("**/a/" * 20 + "b", "/".join("a" * 500)),
        ("**a" * 20 + "/b", "/".join("a" * 500)),
        ("x/" + "*/**/" * 20 + "b", "x/" + "/".join("a" * 500)),
    ],
)
def test_no_pattern_takes_longer_than_its_length_times_the_paths(pattern: str, path: str) -> None:
    # by trying every choice each would take longer than anybody lives
    assert not IgnorePatterns([pattern])._patterns[0][1].fullmatch(path)
    assert not match_expression(pattern.replace("**", "*")).fullmatch(path.replace("/", ""))


@settings(deadline=None, max_examples=500)
@given(st.text("ab/*?[]-^", max_size=14), st.text("ab/", max_size=10))
def test_both_ways_of_matching_agree(pattern: str, path: str) -> None:
    def both(parts: list[str]) -> None:
        expected = bool(re.compile("".join(parts), re.DOTALL).fullmatch(path))
        assert wire_patterns._Machine(parts).fullmatch(path) == expected

    with pytest.MonkeyPatch.context() as patch, suppress(BadPattern):
        patch.setattr(wire_patterns, "_matcher", both)
        match_expression(pattern)
        wire_patterns._ignore_expression(pattern)
