"""What callers write: query strings, JSON bodies, answers, filters, times."""

from __future__ import annotations

import contextlib
import json
from fractions import Fraction
from typing import Any
from urllib.parse import quote

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fuzz.support import CLEAN, ODD_TEXTS, SCALARS, TEXTS, fuzz
from wherry.api import json as api_json
from wherry.api.errors import ApiError, BadRequest, ProtocolError, ServerError
from wherry.api.operations.catalog import ALL
from wherry.api.query import (
    Query,
    _plan,
    decode_query,
    encode_filters,
    encode_query,
    parse_bool,
    parse_filters,
    parse_integer,
)
from wherry.engine.containers.logoptions import parse_time
from wherry.engine.durations import parse_duration
from wherry.engine.event_filters import matcher, moment
from wherry.engine.events import Event
from wherry.engine.filters import match_labels, parse_until

QUERIES = sorted(
    {operation.query for operation in ALL if operation.query is not None}, key=lambda query: query.__name__
)
BODIES = [operation.body_type for operation in ALL if operation.body_type is not None]
ANSWERS = [operation.returns for operation in ALL if operation.returns is not None]
WIRE_NAMES = sorted({wire for query in QUERIES for wire in query.__struct_encode_fields__})
TEXT_VALUES = CLEAN.filter(bool)


# -- queries


def _field(kind: type) -> st.SearchStrategy[Any]:
    if kind is bool:
        return st.booleans()
    if kind is int:
        return st.integers(-(2**63), 2**63 - 1)
    if kind is list:
        return st.lists(CLEAN, min_size=1, max_size=3)
    if kind is dict:
        return st.dictionaries(CLEAN, st.lists(CLEAN, max_size=3), min_size=1, max_size=3)
    return CLEAN


@st.composite
def queries(draw: st.DrawFn) -> Query:
    query = draw(st.sampled_from(QUERIES))
    values = {name: draw(_field(kind)) for name, _, kind, required in _plan(query) if required or draw(st.booleans())}
    return query(**values)


@fuzz
@given(queries())
def test_queries_are_read_back(query: Query) -> None:
    assert decode_query(type(query), encode_query(query)) == query


def _part(name: str, equals: str, value: str, quoted: bool) -> str:
    return f"{name}{equals}{quote(value, safe='', errors='surrogatepass') if quoted else value}"


PARTS = st.builds(
    _part, st.sampled_from(WIRE_NAMES) | st.text(max_size=5), st.sampled_from(["=", "", "=="]), TEXTS, st.booleans()
)
RAW = st.lists(PARTS, max_size=6).map("&".join)


@fuzz
@given(st.sampled_from(QUERIES), RAW)
def test_any_query_string_is_a_query_or_a_bad_request(query: type[Query], raw: str) -> None:
    raw = raw.encode("utf-8", "replace").decode("latin-1")  # a target is bytes
    try:
        decoded = decode_query(query, raw)
    except BadRequest as error:
        assert error.status == 400
        api_json.encode({"message": error.message})
        return
    assert isinstance(decoded, query)


@fuzz
@given(TEXTS | st.integers().map(str) | st.from_regex(r"[+-]?[0-9]{1,22}", fullmatch=True))
def test_integers_are_those_of_go(text: str) -> None:
    try:
        number = parse_integer(text)
    except BadRequest as error:
        digits = text.lstrip("+-")
        fits = digits.isascii() and digits.isdigit() and len(text) - len(digits) <= 1 and len(digits) <= 18
        assert not fits, error
        return
    assert -(2**63) <= number < 2**63
    assert text.isascii()
    assert number == int(text)


@fuzz
@given(TEXTS)
def test_any_text_is_a_boolean(text: str) -> None:
    assert parse_bool(text) in (True, False)


FILTERS = st.dictionaries(CLEAN, st.lists(CLEAN, max_size=3, unique=True), max_size=4)


@fuzz
@given(FILTERS)
def test_filters_are_read_back_in_both_forms(filters: dict[str, list[str]]) -> None:
    assert parse_filters(encode_filters(filters)) == filters
    old = {key: dict.fromkeys(values, True) for key, values in filters.items()}
    assert parse_filters(json.dumps(old)) == filters


JSON = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3), max_leaves=8
)


@fuzz
@given(TEXTS | JSON.map(json.dumps) | JSON.map(lambda value: json.dumps(value, ensure_ascii=False)))
def test_any_text_is_filters_or_a_bad_request(text: str) -> None:
    try:
        filters = parse_filters(text)
    except BadRequest:
        return
    assert all(isinstance(value, str) for values in filters.values() for value in values)


# -- JSON


def _likely(type_: Any) -> st.SearchStrategy[Any]:
    """Values with the names that a model has, in any case, and mostly of the kind that it wants."""
    names = sorted({name for cls in _structs(type_) for name in cls.__struct_encode_fields__})
    keys = st.sampled_from(names) | st.sampled_from([name.lower() for name in names]) if names else CLEAN
    return st.recursive(
        SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=5), max_leaves=15
    )


def _structs(type_: Any, seen: set[Any] | None = None) -> set[Any]:
    seen = set() if seen is None else seen
    if isinstance(type_, type) and issubclass(type_, msgspec.Struct) and type_ not in seen:
        seen.add(type_)
        for field in msgspec.structs.fields(type_):
            _structs(field.type, seen)
    for argument in getattr(type_, "__args__", ()):
        _structs(argument, seen)
    return seen


_STRATEGIES = {index: _likely(type_) for index, type_ in enumerate(BODIES)}


@st.composite
def bodies(draw: st.DrawFn) -> tuple[Any, bytes]:
    index = draw(st.integers(0, len(BODIES) - 1))
    value = draw(_STRATEGIES[index])
    text = json.dumps(value, ensure_ascii=draw(st.booleans()))
    return BODIES[index], text.encode("utf-8", "surrogatepass" if draw(st.booleans()) else "replace")


@fuzz
@given(bodies())
def test_any_json_is_a_body_or_a_bad_request(body: tuple[Any, bytes]) -> None:
    type_, data = body
    try:
        decoded = api_json.decode_body(type_, data)
    except BadRequest as error:
        assert error.status == 400
        api_json.encode({"message": error.message})
        return
    assert api_json.decode_body(type_, api_json.encode(decoded)) == decoded


@fuzz
@given(bodies())
def test_fast_and_slow_readers_agree(body: tuple[Any, bytes]) -> None:
    """What the strict reader takes, Go's way reads alike."""
    type_, data = body
    try:
        fast = msgspec.json.decode(data, type=type_)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return
    assert api_json._read_as_go(type_, data) == fast


@fuzz
@given(
    st.sampled_from(BODIES),
    st.binary(max_size=40) | bodies().map(lambda body: body[1]),
    st.integers(0, 1 << 16),
    st.binary(max_size=2),
)
def test_broken_json_is_a_bad_request(type_: Any, data: bytes, place: int, put: bytes) -> None:
    at = place % (len(data) + 1)
    for broken in (data[:at], data[:at] + put + data[at:], data[:at] + put + data[at + 1 :]):
        try:
            api_json.decode_body(type_, broken)
        except BadRequest as error:
            api_json.encode({"message": error.message})


@fuzz
@given(st.sampled_from(ANSWERS), JSON.map(json.dumps), st.integers(0, 1 << 16))
def test_any_answer_is_read_or_a_protocol_error(type_: Any, text: str, place: int) -> None:
    for data in (text, text[: place % (len(text) + 1)]):
        try:
            decoded = api_json.decode(type_, data)
        except ProtocolError:
            continue
        api_json.encode(decoded)


@pytest.mark.parametrize("type_", BODIES, ids=str)
@pytest.mark.parametrize("opening", [b"[", b'{"a":', b'{"Labels":', b'{"HostConfig":', b'[{"a":'])
def test_deep_json_is_a_bad_request(type_: Any, opening: bytes) -> None:
    closing = b"".join({"[": b"]", "{": b"}"}.get(chr(byte), b"") for byte in reversed(opening))
    for depth in (100, 5_000, 300_000):
        with pytest.raises(BadRequest):
            api_json.decode_body(type_, opening * depth)
        # a little of it may be in a field that nobody knows
        with contextlib.suppress(BadRequest) if depth < 10_000 else pytest.raises(BadRequest):
            api_json.decode_body(type_, opening * depth + b"1" + closing * depth)


# -- filters and times of the engine

UNITS = {"ns": 1, "us": 10**3, "µs": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}
NUMBERS = st.from_regex(r"[0-9]{1,12}(\.[0-9]{0,12})?", fullmatch=True)
DURATIONS = st.lists(st.tuples(NUMBERS, st.sampled_from(sorted(UNITS))), min_size=1, max_size=4)


@fuzz
@given(st.sampled_from(["", "-", "+"]), DURATIONS)
def test_durations_are_exact(sign: str, parts: list[tuple[str, str]]) -> None:
    exact = sum(int(Fraction(number.rstrip(".")) * UNITS[unit]) for number, unit in parts)
    text = sign + "".join(number + unit for number, unit in parts)
    if exact >= 1 << 63:
        with pytest.raises(ValueError):
            parse_duration(text)
    else:
        assert parse_duration(text) == (-exact if sign == "-" else exact)


TIMES = (
    TEXTS
    | st.datetimes().map(str)
    | st.datetimes().map(lambda moment: moment.isoformat() + "Z")
    | st.from_regex(r"-?[0-9]{1,25}(\.[0-9]{0,12})?", fullmatch=True)
    | st.from_regex(r"[+-]?([0-9]{1,20}(ns|ms|s|m|h)){1,3}", fullmatch=True)
)


@fuzz
@given(TIMES)
def test_any_text_is_a_time_or_an_error(text: str) -> None:
    for parse, errors in ((parse_until, BadRequest), (moment, BadRequest), (parse_time, ServerError)):
        try:
            value = parse(text)
        except errors as error:
            assert isinstance(error, ApiError)
            api_json.encode({"message": error.message})
        else:
            assert value is None or isinstance(value, int)


KEYS = ["type", "event", "scope", "label", "image", "container", "network", "volume", "plugin", "daemon", "x"]
EVENTS = st.builds(
    Event,
    type=st.sampled_from(["container", "image", "network", "volume", "daemon"]),
    action=st.sampled_from(["start", "die", "exec_start: sh", "health_status: healthy"]) | CLEAN,
    id=TEXTS,
    attributes=st.dictionaries(st.sampled_from(["name", "image", "a"]), TEXTS, max_size=3),
    time_nano=st.integers(0, 2**62),
)


@fuzz
@given(EVENTS, st.dictionaries(st.sampled_from(KEYS), st.lists(TEXTS, max_size=3), max_size=4))
def test_any_filters_fit_an_event_or_not(event: Event, filters: dict[str, list[str]]) -> None:
    assert matcher(filters)(event) in (True, False)
    assert match_labels(event.attributes, filters) in (True, False)


@fuzz
@given(ODD_TEXTS)
def test_odd_texts_are_not_lost_in_errors(text: str) -> None:
    """An error's text is JSON whatever is in it."""
    decoded = json.loads(api_json.encode({"message": text}))
    assert decoded["message"] == text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


@pytest.mark.parametrize("type_", BODIES, ids=str)
def test_text_with_nul_is_a_bad_request(type_: Any) -> None:
    """Wherever it stands in a body that is read."""
    found = 0
    for field in msgspec.structs.fields(type_):
        for value in ("a\0b", ["a\0b"], {"a\0b": "c"}, {"a": "b\0c"}):
            data = json.dumps({field.encode_name: value})
            assert "\\u0000" in data
            with contextlib.suppress(BadRequest):
                if (decoded := api_json.decode_body(type_, data.encode())) is not None:
                    assert b"\\u0000" not in api_json.encode(decoded)
                continue
            found += 1
    assert found
    escaped = b'{"Labels":{"a":"\\\\u0000"}}'  # a backslash and five characters
    with contextlib.suppress(BadRequest):
        api_json.decode_body(type_, escaped)
