"""Signals by name and number (KIL2, CRE9)."""

from __future__ import annotations

import pytest

from wherry.engine.oci.signals import InvalidSignal, parse_signal, signal_name


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("SIGTERM", 15),
        ("term", 15),
        ("sigKill", 9),
        ("9", 9),
        ("SIGRTMIN+3", 37),
        ("RTMIN", 34),
        ("RTMAX-14", 50),
        ("RTMAX", 64),
        ("cld", 17),
        ("64", 64),
    ],
)
def test_KIL2_signal_by_name_or_number(text: str, number: int) -> None:
    assert parse_signal(text) == number


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("FOO", "invalid signal: FOO"),
        ("SIGFOO", "invalid signal: SIGFOO"),
        ("", "invalid signal: "),
        ("0", "invalid signal: 0"),
        ("99", "the linux daemon does not support signal 99"),
        ("32", "the linux daemon does not support signal 32"),
        ("-5", "the linux daemon does not support signal -5"),
        ("RTMIN+16", "invalid signal: RTMIN+16"),
        ("٩", "invalid signal: ٩"),
        ("1" * 400, "invalid signal: " + "1" * 400),
    ],
)
def test_KIL2_bad_signals_in_mobys_words(text: str, message: str) -> None:
    with pytest.raises(InvalidSignal) as raised:
        parse_signal(text)
    assert str(raised.value) == message


def test_names_for_people() -> None:
    assert [signal_name(n) for n in (15, 37, 33)] == ["SIGTERM", "SIGRTMIN+3", "33"]
