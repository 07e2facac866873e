"""What callers pass, in the API's form."""

from __future__ import annotations

import doctest
from datetime import UTC, datetime, timedelta, timezone

import pytest

import wherry
from wherry.api import json as api_json
from wherry.api.operations.containers import ContainerInspect, ContainerKill, ContainerKillQuery
from wherry.api.operations.images import ImageInspect
from wherry.client import arguments, moments, references
from wherry.client.arguments import create_request, filters_of
from wherry.client.moments import to_seconds
from wherry.client.references import split_reference
from wherry.client.request import build


@pytest.mark.parametrize("module", [arguments, moments, references])
def test_examples(module: object) -> None:
    assert doctest.testmod(module).failed == 0  # type: ignore[arg-type]


def test_names_go_over_structs_and_structs_are_left_as_they_were() -> None:
    config = wherry.ContainerConfig(tty=True, env=["A=1"])
    host = wherry.HostConfig(memory=1 << 30)
    request = create_request(
        "busybox",
        ["sh"],
        config,
        host,
        None,
        {"env": {"B": "2", "C": None}, "memory": 64 << 20, "ports": {80: 8080, "53/udp": None}},
    )
    body = api_json.encode_request(request)
    assert b'"Env":["B=2","C"]' in body
    assert b'"Tty":true' in body
    assert request.host_config is not None
    assert request.host_config.memory == 64 << 20
    assert request.exposed_ports == {"80/tcp": {}, "53/udp": {}}
    bindings = request.host_config.port_bindings
    assert bindings is not None
    assert [b.host_port for b in bindings["80/tcp"] or []] == ["8080"]
    assert (config.env, host.memory, host.port_bindings) == (["A=1"], 1 << 30, None)


@pytest.mark.parametrize(
    ("place", "ip", "port"),
    [
        (8080, "", "8080"),
        ("127.0.0.1:8080", "127.0.0.1", "8080"),
        ("[::1]:80", "::1", "80"),
        (("10.0.0.1", 9), "10.0.0.1", "9"),
        (None, "", ""),
    ],
)
def test_ports(place: object, ip: str, port: str) -> None:
    request = create_request("busybox", None, None, None, None, {"ports": {"80/tcp": place}})
    assert request.host_config is not None
    assert request.host_config.port_bindings is not None
    (binding,) = request.host_config.port_bindings["80/tcp"] or []
    assert (binding.host_ip, binding.host_port) == (ip, port)


def test_unknown_options_and_a_missing_image_are_refused() -> None:
    with pytest.raises(TypeError, match="memroy"):
        create_request("busybox", None, None, None, None, {"memroy": 1})  # type: ignore[typeddict-unknown-key]
    with pytest.raises(ValueError, match="image"):
        create_request(None, None, None, None, None, {})


def test_fields_of_a_config_without_a_place_are_sent() -> None:
    config = wherry.ContainerConfig()
    config.extra["NewField"] = 7
    assert b'"NewField":7' in api_json.encode_request(create_request("busybox", None, config, None, None, {}))


def test_filters() -> None:
    assert filters_of({"label": ["a", "b"], "limit": 3, "dangling": False}) == {
        "label": ["a", "b"],
        "limit": ["3"],
        "dangling": ["false"],
    }
    assert filters_of({}) is None


def test_LOG6_times_become_seconds() -> None:
    assert to_seconds(5) == "5"
    assert to_seconds("5.25") == "5.25"
    assert to_seconds(1.5) == "1.500000000"
    assert to_seconds("1970-01-01T01:00:01.000000001+01:00") == "1.000000001"
    assert to_seconds(datetime(1970, 1, 1, 0, 0, 2, tzinfo=UTC)) == "2.000000"
    assert to_seconds(datetime(1970, 1, 1, 1, 0, 2, tzinfo=timezone(timedelta(hours=1)))) == "2.000000"
    assert abs(float(to_seconds(timedelta(minutes=1))) - (datetime.now(UTC).timestamp() - 60)) < 5
    for bad in ("yesterday", "10m", "2026-13-01T00:00:00Z"):
        with pytest.raises(ValueError):
            to_seconds(bad)


def test_references() -> None:
    assert split_reference("busybox") == ("busybox", "latest")
    assert split_reference("host:5000/a/b:1") == ("host:5000/a/b", "1")
    assert split_reference("a@sha256:00") == ("a", "sha256:00")


def test_paths_hold_what_they_are_given_and_nothing_more() -> None:
    assert build(ContainerInspect, {"id": "/web"}).path == "/containers/web/json"
    assert build(ContainerInspect, {"id": "a b?c#d"}).path == "/containers/a%20b%3Fc%23d/json"
    assert build(ImageInspect, {"name": "host:5000/a/b:1"}).path == "/images/host:5000/a/b:1/json"
    assert build(ImageInspect, {"name": "a@sha256:00"}).path == "/images/a@sha256:00/json"
    query = ContainerKillQuery(signal="SIGRTMIN+3&x=1")
    assert build(ContainerKill, {"id": "x"}, query).path == "/containers/x/kill?signal=SIGRTMIN%2B3%26x%3D1"
    for bad in ("", "/", ".", "..", "a/../b", "a//b", "a\0"):
        with pytest.raises(ValueError):
            build(ContainerInspect, {"id": bad})
        with pytest.raises(ValueError):
            build(ImageInspect, {"name": bad})
