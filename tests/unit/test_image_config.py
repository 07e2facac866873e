"""An image's configuration file, and the times in it."""

from __future__ import annotations

import hashlib
import json

import pytest

from wherry.api.errors import BadRequest
from wherry.engine.images.config import InvalidConfig, format_time, parse_time, read_config
from wherry.engine.images.layers import chain_id, chain_ids
from wherry.engine.images.platform import host_platform, parse_platform

A, B = f"sha256:{'a' * 64}", f"sha256:{'b' * 64}"


def test_N5_times_keep_their_nanoseconds_and_lose_trailing_zeros() -> None:
    for text in (
        "2024-02-03T04:05:06.123456789Z",
        "2024-02-03T04:05:06.5Z",
        "1969-12-31T23:59:59Z",
        "0001-01-01T00:00:00Z",
    ):
        assert format_time(parse_time(text)) == text
    assert format_time(parse_time("2024-02-03T04:05:06+02:00")) == "2024-02-03T02:05:06Z"
    for text in ("", "yesterday", "2024-13-03T04:05:06Z"):
        assert format_time(parse_time(text)) == "0001-01-01T00:00:00Z"


def test_a_configuration_of_a_builder_is_read_with_what_it_has_beside() -> None:
    config = read_config(
        json.dumps(
            {
                "architecture": "amd64",
                "os": "linux",
                "config": {"Cmd": ["sh"], "Env": None, "Labels": {"a": "b"}, "Unknown": {"deep": [1]}},
                "history": [{"created": "2024-02-03T04:05:06Z", "created_by": "x", "empty_layer": True}, {}],
                "rootfs": {"type": "layers", "diff_ids": [A, B]},
                "moby.buildkit.trace": "yes",
            }
        ).encode()
    )
    assert config.diff_ids == [A, B]
    assert config.config is not None
    assert config.config.cmd == ["sh"]
    assert config.config.labels == {"a": "b"}


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'"x"',
        b"{}",
        b'{"rootfs": {"diff_ids": ["sha256:../../etc"]}}',
        b'{"rootfs": {"diff_ids": [1]}}',
        b'{"rootfs": {"diff_ids": "x"}, "rootfs": 5}',
        b"[" * 100_000,
        json.dumps({"rootfs": {"diff_ids": [A] * 501}}).encode(),
        b'{"a": "' + b"x" * (9 << 20) + b'"}',
    ],
)
def test_what_is_no_configuration_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidConfig):
        read_config(data)


def test_chain_ids_are_those_of_the_image_specification() -> None:
    assert chain_ids([]) == []
    assert chain_ids([A]) == [A]
    assert chain_ids([A, B]) == [A, chain_id(A, B)]
    expected = hashlib.sha256(f"{A} {B}".encode()).hexdigest()
    assert chain_id(A, B) == f"sha256:{expected}"


def test_platforms() -> None:
    assert parse_platform("") == parse_platform("linux") == host_platform()
    assert parse_platform("linux/arm/v7") == ("linux", "arm", "v7")
    assert parse_platform("aarch64") == ("linux", "arm64", "")
    assert str(parse_platform("Windows/x86_64")) == "windows/amd64"
    assert str(parse_platform("linux/arm/v7")) == "linux/arm/v7"
    for text in ("beos", "a/b/c/d", "linux/\x00", "linux/*", "linux/", "a b"):
        with pytest.raises(BadRequest):
            parse_platform(text)
