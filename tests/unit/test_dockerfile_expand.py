"""Variables in the words of a Dockerfile, and what its instructions change."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wherry.api.errors import BadRequest
from wherry.api.models.containers import ContainerConfig, HealthConfig
from wherry.engine.build.args import BuildArgs
from wherry.engine.dockerfile.configure import configure, environment, expanded, go_quoted, working_directory
from wherry.engine.dockerfile.errors import DockerfileError
from wherry.engine.dockerfile.expand import expand, expand_words
from wherry.engine.dockerfile.instructions import stages
from wherry.engine.dockerfile.parser import parse
from wherry.engine.durations import format_duration, parse_duration

ENV = {"A": "1", "B": "x y", "EMPTY": "", "A1": "other"}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("plain", "plain"),
        ("$A", "1"),
        ("${A}", "1"),
        ("$A1 ${A}1", "other 11"),
        ("$NOPE|${NOPE}", "|"),
        ("\\$A", "$A"),
        ("'$A'", "$A"),
        ('"$A"', "1"),
        ('"\\$A \\" \\n"', '$A " \\n'),
        ("a\\ b", "a b"),
        ("'it''s' \"q\"", "its q"),
        ("${NOPE:-d}", "d"),
        ("${EMPTY:-d}", "d"),
        ("${EMPTY-d}", ""),
        ("${NOPE-d}", "d"),
        ("${A:-d}", "1"),
        ("${A:+d}", "d"),
        ("${EMPTY:+d}", ""),
        ("${EMPTY+d}", "d"),
        ("${NOPE:-${A:+$B}}", "x y"),
        ("${NOPE:-'}'}", "}"),
        ("${A:?no}", "1"),
        ("$", "$"),
        ("$.x", "$.x"),
        ("$1x", "x"),
        ("a$", "a$"),
        ("end\\", "end"),
        ("é$A", "é1"),
    ],
)
def test_words_are_expanded(text: str, value: str) -> None:
    assert expand(text, ENV) == value


def test_another_escape() -> None:
    assert expand("`$A c:\\x", ENV, "`") == "$A c:\\x"


def test_words_are_split_where_no_quote_covers_them() -> None:
    assert expand_words("$B z", ENV) == ["x", "y", "z"]
    assert expand_words('"$B" z', ENV) == ["x y", "z"]
    assert expand_words("${EMPTY}", ENV) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("${A", "failed to process \"${A\": syntax error: missing '}'"),
        ("${", "failed to process \"${\": syntax error: missing '}'"),
        ("${}", 'failed to process "${}": syntax error: bad substitution'),
        ("${A:=b}", 'failed to process "${A:=b}": unsupported modifier (:=) in substitution'),
        ("${A%b}", 'failed to process "${A%b}": unsupported modifier (%) in substitution'),
        ("${NOPE:?gone}", 'failed to process "${NOPE:?gone}": NOPE: gone'),
        ("${EMPTY:?}", 'failed to process "${EMPTY:?}": EMPTY: is not allowed to be empty'),
        ("'a", 'failed to process "\'a": unexpected end of statement while looking for matching single-quote'),
        ('"a', 'failed to process "\\"a": unexpected end of statement while looking for matching double-quote'),
    ],
)
def test_what_cannot_be_expanded_is_refused(text: str, message: str) -> None:
    with pytest.raises(DockerfileError) as caught:
        expand(text, ENV)
    assert caught.value.message == message


@settings(deadline=None)
@given(st.text("ab$ {}:-+?\\'\"", max_size=30))
def test_any_word_ends_in_a_value_or_a_sentence(text: str) -> None:
    with suppress(DockerfileError):
        assert isinstance(expand(text, ENV), str)


@settings(deadline=None)
@given(st.text(st.characters(exclude_characters="$\\'\"")))
def test_a_word_without_signs_is_itself(text: str) -> None:
    assert expand(text, ENV) == text


def test_deep_nesting_is_refused_without_a_crash() -> None:
    with pytest.raises(DockerfileError):
        expand("${x:-" * 5000, ENV)


def configured(*lines: str, cmd_set: bool = False) -> tuple[ContainerConfig, list[str]]:
    config, said = ContainerConfig(), []
    for instruction in stages(parse("\n".join(("FROM x", *lines)).encode()))[0][0].instructions:
        expanded(instruction, environment(config))
        said.append(configure(config, instruction, cmd_set=cmd_set))
    return config, said


def test_what_the_history_says() -> None:
    config, said = configured(
        "ENV A=1 B='two 2'",
        "ENV A=3",
        "LABEL l=$A m=n",
        'CMD ["a","b\\"\\tc\\u0001"]',
        "EXPOSE 80-81 53/UDP $A",
        "USER u$A",
        'VOLUME ["/v w"]',
        "VOLUME /x /y",
        "WORKDIR /a",
        "WORKDIR b/../c",
        "STOPSIGNAL 9",
        'SHELL ["/bin/sh","-e"]',
        "HEALTHCHECK --interval=90s --retries=39 CMD x",
        "ONBUILD RUN y",
        "MAINTAINER me",
        "ENTRYPOINT z",
    )
    assert said == [
        "ENV A=1 B=two 2",
        "ENV A=3",
        "LABEL l=3 m=n",
        'CMD ["a" "b\\"\\tc\\x01"]',
        "EXPOSE 3 53/UDP 80-81",
        "USER u3",
        "VOLUME [/v w]",
        "VOLUME [/x /y]",
        "WORKDIR /a",
        "WORKDIR /a/c",
        "STOPSIGNAL 9",
        "SHELL [/bin/sh -e]",
        'HEALTHCHECK &{["CMD-SHELL" "x"] "1m30s" "0s" "0s" \'\\\'\'}',
        "ONBUILD RUN y",
        "MAINTAINER me",
        'ENTRYPOINT ["/bin/sh" "-e" "z"]',
    ]
    assert config.env == ["A=3", "B=two 2"]
    assert set(config.exposed_ports or ()) == {"3/tcp", "53/udp", "80/tcp", "81/tcp"}
    assert config.cmd is None
    assert config.entrypoint == ["/bin/sh", "-e", "z"]
    assert isinstance(config.healthcheck, HealthConfig)


def test_a_health_check_begins_anew() -> None:
    config, _ = configured("HEALTHCHECK --interval=5s --retries=9 CMD x", "HEALTHCHECK CMD y")
    assert config.healthcheck == HealthConfig(test=["CMD-SHELL", "y"])


def test_an_entrypoint_takes_the_command_of_the_image_away_but_not_the_builds() -> None:
    assert configured("CMD a", "ENTRYPOINT b")[0].cmd is None
    assert configured("CMD a", "ENTRYPOINT b", cmd_set=True)[0].cmd == ["/bin/sh", "-c", "a"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("EXPOSE abc", "Invalid containerPort: abc"),
        ("EXPOSE 70000", "Invalid containerPort: 70000"),
        ("EXPOSE 80/foo", "Invalid proto: foo"),
        ("STOPSIGNAL NO", "invalid signal: NO"),
        ("WORKDIR $nope", "cannot normalize nothing"),
        ("VOLUME $nope", "VOLUME specified can not be an empty string"),
    ],
)
def test_values_that_cannot_be_are_refused(line: str, message: str) -> None:
    with pytest.raises(BadRequest) as caught:
        configured(line)
    assert caught.value.message == message


def test_working_directories() -> None:
    assert working_directory("", "a") == "/a"
    assert working_directory("/a", "../../b/") == "/b"
    assert working_directory("/a", "/b/") == "/b/"


@settings(deadline=None)
@given(st.integers(0, 10**16))
def test_durations_come_back(nanoseconds: int) -> None:
    assert parse_duration(format_duration(nanoseconds)) == nanoseconds


@pytest.mark.parametrize(
    ("text", "trouble"),
    [
        ("9" * 60_000, "missing unit"),
        ("9" * 400 + "s", "invalid duration"),
        ("3000000h", "invalid duration"),
        ("1h1x5s", 'unknown unit "x"'),
        ("1.2.3s", "missing unit"),
        ("", "invalid duration"),
    ],
)
def test_durations_that_are_none(text: str, trouble: str) -> None:
    with pytest.raises(ValueError, match=f"^time: {trouble}"):
        parse_duration(text)


def test_long_instructions_take_time_in_proportion() -> None:
    """Which would be minutes otherwise."""
    assert expand("a" * 1_000_000, {}) == "a" * 1_000_000
    assert stages(parse(b"# a=x" + b" " * 60_000 + b"y\nFROM x\n"))[0][0].base == "x"
    config = ContainerConfig(env=["v0=old"])
    found, _ = stages(parse(b"FROM x\nENV " + b" \\\n".join(b"v%d=1" % number for number in range(50_000))))
    configure(config, found[0].instructions[0])
    assert config.env is not None
    assert (config.env[0], config.env[-1], len(config.env)) == ("v0=1", "v49999=1", 50_000)


def test_strings_as_go_quotes_them() -> None:
    assert go_quoted(["é", "\x7f\u200b", "\\"]) == '["é" "\\x7f\\u200b" "\\\\"]'


def test_build_arguments_and_their_scopes() -> None:
    args = BuildArgs({"V": "given", "U": "unused", "HTTP_PROXY": "p", "N": None})
    args.declare_before("V", "default")
    args.declare_before("W", "before")
    assert args.for_from() == {"V": "given", "W": "before", "HTTP_PROXY": "p"}
    args.begin_stage()
    assert args.besides({}) == {"HTTP_PROXY": "p"}
    assert not args.shown("HTTP_PROXY")
    for name, value in (("V", None), ("W", None), ("X", "own"), ("Y", None), ("HTTP_PROXY", None)):
        args.declare(name, value)
    assert args.besides({"X": ""}) == {"V": "given", "W": "before", "HTTP_PROXY": "p"}
    assert args.shown("HTTP_PROXY")
    args.begin_stage()
    assert args.besides({}) == {"HTTP_PROXY": "p"}
    assert args.unused() == ["N", "U"]
