"""Query strings, both ways."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wherry.api.errors import BadRequest
from wherry.api.operations.catalog import ALL
from wherry.api.operations.containers import (
    ContainerArchiveQuery,
    ContainerKillQuery,
    ContainerListQuery,
    ContainerLogsQuery,
    ContainerResizeQuery,
    ContainerStatsQuery,
    ContainerStopQuery,
    PutContainerArchiveQuery,
)
from wherry.api.operations.images import ImageCommitQuery, ImageCreateQuery, ImageGetAllQuery, ImageListQuery
from wherry.api.query import Query, decode_query, encode_query, parse_filters
from wherry.api.shapes import shape_of


@pytest.mark.parametrize("text", ["", "0", "no", "false", "none", "False", "None", "%20false%20", "NO"])
def test_P1_words_that_are_false(text: str) -> None:
    assert decode_query(ContainerListQuery, f"all={text}").all is False


@pytest.mark.parametrize("text", ["1", "yes", "2", "t", "true", "True", "x", "-1"])
def test_P1_everything_else_is_true(text: str) -> None:
    assert decode_query(ContainerListQuery, f"all={text}").all is True


def test_P1_a_key_without_a_value_is_false_and_an_absent_one_is_none() -> None:
    assert decode_query(ContainerListQuery, "all").all is False
    assert decode_query(ContainerListQuery, "").all is None


def test_STT1_stats_stream_unless_told_not_to() -> None:
    assert decode_query(ContainerStatsQuery, "").stream is True
    assert decode_query(ContainerStatsQuery, "stream=0&one-shot=1") == ContainerStatsQuery(stream=False, one_shot=True)
    assert encode_query(ContainerStatsQuery(stream=False, one_shot=True)) == "stream=0&one-shot=1"


def test_commit_pauses_unless_told_not_to() -> None:
    assert decode_query(ImageCommitQuery, "").pause is True
    assert decode_query(ImageCommitQuery, "pause=false").pause is False


@pytest.mark.parametrize("text", ["abc", "1.5", "1_0", "0x10", "%201", "1%20", "٣", "--1", "+"])
def test_P2_bad_numbers_are_refused(text: str) -> None:
    with pytest.raises(BadRequest, match=r'strconv\.Atoi: parsing ".*": invalid syntax'):
        decode_query(ContainerStopQuery, f"t={text}")


def test_P2_numbers() -> None:
    assert decode_query(ContainerStopQuery, "t=-1").t == -1
    assert decode_query(ContainerStopQuery, "t=%2B5").t == 5
    assert decode_query(ContainerStopQuery, "t=").t is None
    with pytest.raises(BadRequest, match="value out of range"):
        decode_query(ContainerStopQuery, "t=9223372036854775808")
    with pytest.raises(BadRequest, match="invalid syntax"):
        decode_query(ContainerStopQuery, "t=" + "9" * 5000)


def test_RES1_height_then_width_must_be_there() -> None:
    assert decode_query(ContainerResizeQuery, "w=80&h=24") == ContainerResizeQuery(h=24, w=80)
    for raw in ("", "h=", "w=80", "h=24"):
        with pytest.raises(BadRequest, match=r'strconv\.Atoi: parsing "": invalid syntax'):
            decode_query(ContainerResizeQuery, raw)
    with pytest.raises(BadRequest, match='parsing "x"'):
        decode_query(ContainerResizeQuery, "w=y&h=x")


def test_ARC1_a_missing_path_is_empty() -> None:
    assert decode_query(ContainerArchiveQuery, "").path == ""


@pytest.mark.parametrize(
    ("text", "filters"),
    [
        ('{"k":["a","b"]}', {"k": ["a", "b"]}),
        ('{"k":{"a":true,"b":false}}', {"k": ["a", "b"]}),
        ('{"k":["a"],"l":{"b":true}}', {"k": ["a"], "l": ["b"]}),
        ('{"k":null}', {"k": []}),
        ("{}", {}),
        ("null", {}),
    ],
)
def test_P7_both_forms_of_filters(text: str, filters: dict[str, list[str]]) -> None:
    assert parse_filters(text) == filters


@pytest.mark.parametrize(
    "text", ["x", "[]", '"a"', "1", '{"k":"a"}', '{"k":[1]}', '{"k":1}', '{"k":["a"]} x', "{", "[" * 100_000, "\udcff"]
)
def test_P7_anything_else_is_an_invalid_filter(text: str) -> None:
    with pytest.raises(BadRequest, match=r"^invalid filter$"):
        parse_filters(text)


def test_P7_empty_filters_are_none() -> None:
    assert decode_query(ContainerListQuery, "filters=").filters is None


def test_names_on_the_wire() -> None:
    raw = "path=%2Fa%20b&noOverwriteDirNonDir=true&copyUIDGID=1"
    query = PutContainerArchiveQuery(path="/a b", no_overwrite_dir_non_dir=True, copy_uid_gid=True)
    assert decode_query(PutContainerArchiveQuery, raw) == query
    assert encode_query(query) == "path=%2Fa%20b&noOverwriteDirNonDir=1&copyUIDGID=1"
    assert decode_query(ImageListQuery, "shared-size=1").shared_size is True
    assert decode_query(ImageCreateQuery, "fromSrc=-&changes=A&changes=B").changes == ["A", "B"]


def test_the_first_of_a_repeated_parameter_counts_but_lists_take_all() -> None:
    assert decode_query(ContainerKillQuery, "signal=INT&signal=HUP").signal == "INT"
    assert decode_query(ImageGetAllQuery, "names=a&names=b").names == ["a", "b"]
    assert encode_query(ImageGetAllQuery(names=["a/b", "c d"])) == "names=a%2Fb&names=c%20d"


def test_unknown_parameters_are_ignored() -> None:
    assert decode_query(ContainerKillQuery, "x=1&signal=KILL&&=&y") == ContainerKillQuery(signal="KILL")


@pytest.mark.parametrize("raw", ["signal=%", "signal=%1", "signal=%zz", "%=1"])
def test_bad_escapes_are_refused(raw: str) -> None:
    with pytest.raises(BadRequest, match="invalid URL escape"):
        decode_query(ContainerKillQuery, raw)


def test_absent_fields_are_left_out() -> None:
    assert encode_query(ContainerListQuery()) == ""
    assert encode_query(ContainerListQuery(all=False, filters={})) == "all=0"
    assert encode_query(ContainerLogsQuery(since="1.5", tail="all")) == "since=1.5&tail=all"


QUERIES = [operation.query for operation in ALL if operation.query]


def values(query_type: type[Query]) -> st.SearchStrategy[Query]:
    text = st.text(st.characters(codec="utf-8"), max_size=10)
    kinds: dict[str, st.SearchStrategy[Any]] = {
        "str": text,
        "int": st.integers(-(2**63), 2**63 - 1),
        "bool": st.booleans(),
        "list": st.lists(text, min_size=1, max_size=3),
        "dict": st.dictionaries(text, st.lists(text, max_size=3), min_size=1, max_size=3),
    }
    fields = shape_of(query_type).fields
    names = dict(zip(query_type.__struct_encode_fields__, query_type.__struct_fields__, strict=True))
    return st.builds(query_type, **{names[wire]: kinds[shape.kind] for wire, shape in fields.items()})


@given(st.sampled_from(QUERIES).flatmap(values))
@settings(max_examples=150, deadline=None)
def test_what_is_encoded_is_decoded_again(query: Query) -> None:
    assert decode_query(type(query), encode_query(query)) == query


@given(
    st.sampled_from(QUERIES),
    st.one_of(
        st.text(max_size=40),
        st.lists(st.sampled_from(["filters=", "t=", "h=", "all=", "%", "&", "=", "{", '"', "1", "%7B", "é"])).map(
            "".join
        ),
    ),
)
@settings(max_examples=200, deadline=None)
def test_any_text_is_a_query_or_a_bad_request(query_type: type[Query], raw: str) -> None:
    with contextlib.suppress(BadRequest):
        assert isinstance(decode_query(query_type, raw), query_type)
