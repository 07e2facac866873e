"""How many examples, and the ways in which input may arrive."""

from __future__ import annotations

import os
from itertools import pairwise

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

LONG = int(os.environ.get("WHERRY_FUZZ", "0"))
"""Examples of each test; 0 for few, and always the same ones."""

fuzz = settings(
    max_examples=LONG or 60,
    derandomize=not LONG,
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
)
"""For each test here: ``@fuzz``."""

CUTS = st.lists(st.integers(0, 1 << 16), max_size=12)

ODD_TEXTS = st.sampled_from(
    [
        "", " ", "\0", "a\0b", "\ud800", "a\udfffb", "\u2028", "\x7f", "\r\n", "%", "%00", "%zz", "+", "&", "=", "0", "-0",
        "+1", "1.5",         "9223372036854775807", "9223372036854775808",
        "1" * 30, "0" * 5000, "-" * 50, "1e5", "NaN", "null", "true", "[", "{}",
        '{"a":1}',         '{"a":["b"]}', '{"a":{"b":true}}', '"', "\\", "..", "/", "//", "a/../b", "é", "𝟘", "٣", "١٢",
    ]
)  # fmt: skip
TEXTS = st.text(max_size=20) | ODD_TEXTS
"""Text, lone surrogates among it."""

CLEAN = st.text(st.characters(codec="utf-8"), max_size=20)

ODD_NUMBERS = st.sampled_from(
    [0, -1, 1, 2**31, 2**32, 2**53 + 1, 2**63 - 1, 2**63, -(2**63), -(2**63) - 1, 2**64, 10**40]
)
SCALARS = (
    st.none() | st.booleans() | st.integers() | ODD_NUMBERS | st.floats(allow_nan=False, allow_infinity=False) | TEXTS
)


def split(data: bytes, cuts: list[int]) -> list[bytes]:
    """The data in pieces."""
    marks = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[a:b] for a, b in pairwise(marks)]


def ways(data: bytes, cuts: list[int]) -> list[list[bytes]]:
    """The same bytes as they may arrive: at once, in pieces, and in two at every place."""
    some = [[data[:at], data[at:]] for at in range(1, len(data))] if len(data) <= 300 else []
    return [[data], split(data, cuts), [data[i : i + 1] for i in range(len(data))], *some]
