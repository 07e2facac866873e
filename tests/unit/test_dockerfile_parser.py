"""Dockerfiles as text: lines, directives, flags, the forms of arguments, and the refusals."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wherry.engine.dockerfile import instructions as i
from wherry.engine.dockerfile.errors import DockerfileError
from wherry.engine.dockerfile.instructions import stages
from wherry.engine.dockerfile.parser import Line, parse, words


def lines(text: str) -> list[Line]:
    return parse(text.encode()).lines


def only(text: str) -> i.Instruction:
    found, _ = stages(parse(f"FROM x\n{text}".encode()))
    (instruction,) = found[0].instructions
    return instruction


def refused(text: str) -> str:
    with pytest.raises(DockerfileError) as caught:
        stages(parse(text.encode()))
    return caught.value.message


def test_lines_comments_and_continuations() -> None:
    file = parse(b"\xef\xbb\xbf# syntax=docker/dockerfile:1\n\nFROM a\n  RUN x \\\n   # no\n  y \\  \n\n  z\r\n#end\n")
    assert [(line.name, line.args, line.number) for line in file.lines] == [
        ("from", ["a"], 3),
        ("run", ["x   y   z"], 4),
    ]
    assert file.lines[1].text == "RUN x   y   z"
    assert file.warnings == [
        "[WARNING]: Empty continuation line found in:\n    RUN x   y   z",
        "[WARNING]: Empty continuation lines will become errors in a future release.",
    ]


def test_an_escaped_escape_continues_no_line() -> None:
    assert [line.text for line in lines("RUN a \\\\\nRUN b\\\n\\\nc")] == ["RUN a \\\\", "RUN bc"]


def test_the_escape_directive() -> None:
    file = parse(b"# escape=`\nFROM a\nRUN c:\\ `\nnext\n# escape=\\\n")
    assert (file.escape, file.lines[1].args) == ("`", ["c:\\ next"])
    assert parse(b"# other\n# escape=`\nFROM a").escape == "\\"
    assert parse(b"# Escape = `\nFROM a").escape == "`"
    assert refused("# escape=x\nFROM a") == "invalid escape token 'x' does not match ` or \\"
    assert refused("# escape=`\n# escape=`\nFROM a") == "only one escape parser directive can be used"


def test_flags_are_apart_from_arguments() -> None:
    (line,) = lines("COPY --from=a --chown='x y' --link  -- --b c")
    assert (line.flags, line.args) == (["--from=a", "--chown=x y", "--link"], ["--b", "c"])
    (line,) = lines("RUN --mount=type=cache,target=/x echo --not-a-flag")
    assert (line.flags, line.args) == (["--mount=type=cache,target=/x"], ["echo --not-a-flag"])


def test_json_and_what_only_looks_like_it() -> None:
    json, shell, broken, copy = lines('RUN [ "a", "b c" ]\nRUN [a]\nRUN ["a"\nCOPY ["a b", "c"]')
    assert (json.args, json.is_json) == (["a", "b c"], True)
    assert (shell.args, shell.is_json) == (["[a]"], False)
    assert (broken.args, broken.is_json) == (['["a"'], False)
    assert (copy.args, copy.is_json) == (["a b", "c"], True)


def test_quotes_and_escapes_stay_in_words() -> None:
    assert words("a='b c' \"d e\" f\\ g ''") == ["a='b c'", '"d e"', "f\\ g", "''"]
    assert words("a\\") == ["a"]
    assert words("a` b", "`") == ["a` b"]


@settings(deadline=None)
@given(st.text(max_size=60))
def test_any_text_is_read_or_refused_with_a_sentence(text: str) -> None:
    with suppress(DockerfileError):
        assert stages(parse(text.encode("utf-8", "replace")))


@settings(deadline=None)
@given(
    st.lists(st.text(st.characters(exclude_categories=("Z", "C"), exclude_characters="\\\"'"), min_size=1), max_size=5)
)
def test_words_without_quotes_are_what_blanks_part(parts: list[str]) -> None:
    assert words("  ".join(parts)) == parts


def test_stages_and_the_args_before_them() -> None:
    found, before = stages(parse(b"ARG V=1\nFROM --platform=linux/arm64 a:$V AS Build\nRUN x\nFROM build\nENV a=b\n"))
    assert [arg.pairs for arg in before] == [[("V", "1")]]
    assert [(stage.base, stage.name, stage.platform, len(stage.instructions)) for stage in found] == [
        ("a:$V", "build", "linux/arm64", 1),
        ("build", "", "", 1),
    ]


def test_every_instruction_is_read() -> None:
    assert only("env A=1 B='2 3'") == i.Env(code="env A=1 B='2 3'", pairs=[("A", "1"), ("B", "'2 3'")])
    assert only("ENV A b c").pairs == [("A", "b c")]  # type: ignore[attr-defined]
    assert only("ARG a b=1").pairs == [("a", None), ("b", "1")]  # type: ignore[attr-defined]
    assert only("RUN a  b") == i.Run(code="RUN a  b", command=["a  b"], shell=True)
    assert only('CMD ["a"]') == i.Cmd(code='CMD ["a"]', command=["a"], shell=False)
    assert only("ENTRYPOINT []") == i.Entrypoint(code="ENTRYPOINT []", command=[], shell=False)
    assert only("EXPOSE 90 80/udp").ports == ["80/udp", "90"]  # type: ignore[attr-defined]
    assert only("ONBUILD  RUN a  b").trigger == "RUN a  b"  # type: ignore[attr-defined]
    assert only('SHELL ["a", "b"]').shell == ["a", "b"]  # type: ignore[attr-defined]
    assert only('VOLUME ["/a b"]').paths == ["/a b"]  # type: ignore[attr-defined]
    assert only("MAINTAINER a b").name == "a b"  # type: ignore[attr-defined]
    assert only("USER a b").user == "a b"  # type: ignore[attr-defined]
    copy = only("ADD --chown=1:2 a b c/")
    assert isinstance(copy, i.Copy)
    assert (copy.add, copy.sources, copy.target, copy.chown, copy.refusal) == (True, ["a", "b"], "c/", "1:2", "")
    health = only("HEALTHCHECK --interval=1m30s --timeout=.5s --start-period=0s --retries=2 CMD a b")
    assert isinstance(health, i.Healthcheck)
    assert (health.health.test, health.health.interval, health.health.timeout, health.health.retries) == (
        ["CMD-SHELL", "a b"],
        90 * 10**9,
        500_000_000,
        2,
    )


@pytest.mark.parametrize(
    ("line", "option"),
    [
        ("RUN --mount=type=cache,target=/x --mount=type=tmpfs,target=/y a", "--mount"),
        ("RUN --network=none a", "--network"),
        ("RUN --security=insecure a", "--security"),
        ("COPY --chmod=755 a b", "--chmod"),
        ("COPY --link a b", "--link"),
        ("ADD --checksum=sha256:0 a b", "--checksum"),
        ("ADD --keep-git-dir=true a b", "--keep-git-dir"),
    ],
)
def test_what_needs_buildkit_is_refused_when_its_turn_comes(line: str, option: str) -> None:
    expected = (
        f"the {option} option requires BuildKit. Refer to https://docs.docker.com/go/buildkit/ to learn how to build "
        "images with BuildKit enabled"
    )
    assert only(line).refusal == expected  # type: ignore[attr-defined]


@pytest.mark.parametrize("line", ["RUN <<EOF", "RUN cat <<-'END' > /x", "COPY <<a <<b /x", 'ADD <<"a" /x'])
def test_here_documents_are_refused(line: str) -> None:
    assert refused(f"FROM x\n{line}\nfoo\nEOF\n").startswith("the here-document syntax (<<) requires BuildKit.")


def test_a_shift_or_a_here_document_of_the_shell_is_none() -> None:
    assert only("RUN echo $((1<<4))").command == ["echo $((1<<4))"]  # type: ignore[attr-defined]
    assert only("RUN cat << EOF").command == ["cat << EOF"]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "file with no instructions"),
        ("# nothing\n", "file with no instructions"),
        ("RUN x", "no build stage in current context"),
        ("FROM a\nFOO bar", "dockerfile parse error on line 2: unknown instruction: FOO"),
        ("FROM a\n\n\nFOO \\\nbar", "dockerfile parse error on line 4: unknown instruction: FOO"),
        ("FROM", "dockerfile parse error on line 1: FROM requires either one or three arguments"),
        ("FROM a b", "dockerfile parse error on line 1: FROM requires either one or three arguments"),
        (
            "FROM a AS 1x",
            'dockerfile parse error on line 1: invalid name for build stage: "1x", name can\'t start with a number or '
            "contain symbols",
        ),
        ("FROM a\nCMD [1]", "when using JSON array syntax, arrays must be comprised of strings only"),
        ("FROM a\nENV a", "ENV must have two arguments"),
        ("FROM a\nENV a=1 b", 'Syntax error - can\'t find = in "b". Must be of the form: name=value'),
        ("FROM a\nENV =1", "dockerfile parse error on line 2: ENV names can not be blank"),
        ("FROM a\nLABEL", "dockerfile parse error on line 2: LABEL requires at least one argument"),
        ("FROM a\nARG =1", "dockerfile parse error on line 2: ARG names can not be blank"),
        ("FROM a\nUSER", "dockerfile parse error on line 2: USER requires exactly one argument"),
        ("FROM a\nWORKDIR", "dockerfile parse error on line 2: WORKDIR requires exactly one argument"),
        ("FROM a\nSHELL sh", "dockerfile parse error on line 2: SHELL requires the arguments to be in JSON form"),
        ("FROM a\nSHELL []", "dockerfile parse error on line 2: SHELL requires at least one argument"),
        (
            "FROM a\nCOPY b",
            "dockerfile parse error on line 2: COPY requires at least two arguments, but only one was provided. "
            "Destination could not be determined",
        ),
        ("FROM a\nCOPY --foo=1 b c", "dockerfile parse error on line 2: Unknown flag: foo"),
        ("FROM a\nCOPY --chown b c", "dockerfile parse error on line 2: Missing a value on flag: chown"),
        ("FROM a\nCOPY --chown=1 --chown=2 b c", "dockerfile parse error on line 2: Duplicate flag specified: chown"),
        ('FROM a\nVOLUME [""]', "dockerfile parse error on line 2: VOLUME specified can not be an empty string"),
        (
            "FROM a\nONBUILD ONBUILD RUN x",
            "dockerfile parse error on line 2: Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed",
        ),
        ("FROM a\nONBUILD FROM x", "dockerfile parse error on line 2: FROM isn't allowed as an ONBUILD trigger"),
        ("FROM a\nHEALTHCHECK NONE x", "dockerfile parse error on line 2: HEALTHCHECK NONE takes no arguments"),
        ("FROM a\nHEALTHCHECK CMD", "dockerfile parse error on line 2: Missing command after HEALTHCHECK CMD"),
        (
            "FROM a\nHEALTHCHECK --interval=1x CMD y",
            'dockerfile parse error on line 2: time: unknown unit "x" in duration "1x"',
        ),
        (
            "FROM a\nHEALTHCHECK --interval=1us CMD y",
            'dockerfile parse error on line 2: Interval "interval" cannot be less than 1ms',
        ),
        (
            "FROM a\nHEALTHCHECK --retries=0 CMD y",
            "dockerfile parse error on line 2: --retries must be at least 1 (not 0)",
        ),
        (f"FROM a\nRUN {'x' * 70000}", "dockerfile line greater than max allowed size of 65535"),
    ],
)
def test_what_is_no_dockerfile_is_refused_in_mobys_words(text: str, message: str) -> None:
    assert refused(text) == message
