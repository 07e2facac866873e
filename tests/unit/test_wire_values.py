"""JSON streams, detach keys, path stats."""

from __future__ import annotations

import base64
import json
import os
import stat
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wherry.wire import pathstat
from wherry.wire.detach import DEFAULT_DETACH, DetachScanner, parse_detach_keys
from wherry.wire.jsonlines import JsonSplitter, JsonStreamError
from wherry.wire.pathstat import PathStat, go_mode, unix_mode

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
CUTS = st.lists(st.integers(0, 2000), max_size=10)


def split(data: bytes, cuts: list[int]) -> list[bytes]:
    marks = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[a:b] for a, b in pairwise(marks)]


def read(parts: list[bytes]) -> list[bytes]:
    splitter, out = JsonSplitter(), []
    for part in parts:
        out += splitter.feed(part)
    return out + splitter.finish()


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(JSON, st.booleans(), st.sampled_from([b"\n", b"\r\n", b" ", b"\n\n"])), max_size=5), CUTS)
def test_values_do_not_depend_on_the_split(values: list[tuple[object, bool, bytes]], cuts: list[int]) -> None:
    data = b"".join(json.dumps(v, ensure_ascii=ascii).encode() + gap for v, ascii, gap in values)
    for parts in ([data], split(data, cuts), [data[i : i + 1] for i in range(len(data))]):
        assert [json.loads(value) for value in read(parts)] == [value for value, _, _ in values]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.dictionaries(st.text(), JSON, max_size=3), max_size=5), CUTS)
def test_values_need_nothing_between_them(values: list[object], cuts: list[int]) -> None:
    data = b"".join(json.dumps(value, indent=len(str(value)) % 3).encode() for value in values)
    assert [json.loads(value) for value in read(split(data, cuts))] == values


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=60), CUTS)
def test_any_bytes_give_values_or_an_error(data: bytes, cuts: list[int]) -> None:
    def attempt(parts: list[bytes]) -> list[bytes] | str:
        try:
            return read(parts)
        except JsonStreamError:
            return "error"

    assert attempt(split(data, cuts)) == attempt([data])


def test_long_values_are_refused() -> None:
    splitter = JsonSplitter(limit=1000)
    assert splitter.feed(b'{"a":"' + b"x" * 900) == []
    with pytest.raises(JsonStreamError, match="longer than 1000 bytes"):
        splitter.feed(b"x" * 100)


def test_brackets_in_strings_do_not_count() -> None:
    assert read([b'{"a":"}{","b":"\\"}"}{"c":"[\\\\"}']) == [b'{"a":"}{","b":"\\"}"}', b'{"c":"[\\\\"}']
    with pytest.raises(JsonStreamError, match="in the middle"):
        read([b'{"a":"}'])


# -- detach keys


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ("", DEFAULT_DETACH),
        ("ctrl-p,ctrl-q", b"\x10\x11"),
        ("ctrl-x,y", b"\x18y"),
        ("ctrl-@", b"\0"),
        ("a", b"a"),
        ("DEL", b"\x7f"),
        ("ctrl-[,ctrl-\\,ctrl-],ctrl-^,ctrl-_", b"\x1b\x1c\x1d\x1e\x1f"),
    ],
)
def test_ATT7_detach_keys(text: str, keys: bytes) -> None:
    assert parse_detach_keys(text) == keys


@pytest.mark.parametrize("text", ["ctrl-foo", "ctrl-A", "xy", "a,", ",", "é", "del"])
def test_ATT7_invalid_detach_keys(text: str) -> None:
    with pytest.raises(ValueError) as caught:
        parse_detach_keys(text)
    assert str(caught.value) == f"Invalid detach keys ({text}) provided"


def test_ATT7_partial_sequence_is_held_back_and_forwarded_if_broken() -> None:
    scanner = DetachScanner()
    assert scanner.feed(b"ab\x10") == (b"ab", False)
    assert scanner.feed(b"c") == (b"\x10c", False)
    assert scanner.feed(b"\x10") == (b"", False)
    assert scanner.feed(b"\x10") == (b"\x10", False)
    assert scanner.feed(b"\x11rest") == (b"", True)
    assert scanner.feed(b"\x10") == (b"", False)
    assert scanner.flush() == b"\x10"


@settings(max_examples=200, deadline=None)
@given(st.text("abc", max_size=30), st.text("abc", min_size=1, max_size=4), CUTS)
def test_ATT7_scanning_does_not_depend_on_the_split(text: str, keys: str, cuts: list[int]) -> None:
    data, wanted = text.encode(), keys.encode()
    scanner, out, detached = DetachScanner(wanted), b"", False
    for part in split(data, cuts):
        passed, detached = scanner.feed(part)
        out += passed
        if detached:
            break
    before, found, _ = data.partition(wanted)
    assert (out + scanner.flush(), detached) == (before, bool(found))


# -- path stat


def test_ARC2_directory_mode_and_header() -> None:
    assert go_mode(stat.S_IFDIR | 0o755) == 2147484141
    path = PathStat("bin", 4096, 2147484141, "2026-11-23T12:28:03.449623053Z")
    assert pathstat.decode(pathstat.encode(path)) == path
    assert json.loads(base64.b64decode(pathstat.encode(path)))["linkTarget"] == ""


@pytest.mark.parametrize(
    "mode",
    [
        stat.S_IFREG | 0o644,
        stat.S_IFREG | 0o4755,
        stat.S_IFDIR | 0o1777,
        stat.S_IFREG | 0o2755,
        stat.S_IFLNK | 0o777,
        stat.S_IFCHR | 0o666,
        stat.S_IFBLK | 0o660,
        stat.S_IFIFO | 0o600,
        stat.S_IFSOCK | 0o755,
    ],
)
def test_ARC2_modes_go_both_ways(mode: int) -> None:
    assert unix_mode(go_mode(mode)) == mode


def test_ARC2_bits() -> None:
    assert go_mode(stat.S_IFLNK) == 1 << 27
    assert go_mode(stat.S_IFBLK) == 1 << 26
    assert go_mode(stat.S_IFCHR) == 1 << 26 | 1 << 21
    assert go_mode(stat.S_IFIFO) == 1 << 25
    assert go_mode(stat.S_IFSOCK) == 1 << 24
    assert go_mode(stat.S_IFREG | 0o7000) == 1 << 23 | 1 << 22 | 1 << 20


@pytest.mark.parametrize("text", ["", "!", "bm90anNvbg==", "W10=", "eyJzaXplIjoieCJ9", "eyJuYW1lIjoxfQ=="])
def test_malformed_path_stat(text: str) -> None:
    with pytest.raises(ValueError):
        pathstat.decode(text)


def test_names_that_are_no_unicode(tmp_path: Path) -> None:
    name = os.fsdecode(b"\xff.txt")
    assert pathstat.decode(pathstat.encode(PathStat(name, 0, 0, ""))).name.endswith(".txt")
