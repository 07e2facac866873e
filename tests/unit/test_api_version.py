"""Versions of the API."""

from __future__ import annotations

import pytest

from wherry.api.version import CLIENT_VERSION, MAX_VERSION, MIN_VERSION, format_version, parse_version


def test_G2_versions_compare_by_their_numbers() -> None:
    assert parse_version("1.43") == CLIENT_VERSION
    assert parse_version("1.9") < parse_version("1.43") < parse_version("9")
    assert MIN_VERSION < CLIENT_VERSION < MAX_VERSION
    assert format_version((1, 44)) == "1.44"


@pytest.mark.parametrize("text", ["", ".", "1.", ".1", "v1.43", "1.x", "-1.2", "1.٣", "1" * 5000, "1.4 "])
def test_what_is_no_version_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not an API version"):
        parse_version(text)
