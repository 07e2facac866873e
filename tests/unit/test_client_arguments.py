"""What callers pass, in the API's form."""

from __future__ import annotations

import doctest
import time
from datetime import UTC, datetime, timedelta, timezone
from typing import TYPE_CHECKING

import pytest

import wherry
from wherry.api import json as api_json
from wherry.api.models.containers import ContainerUpdateRequest
from wherry.api.operations.containers import ContainerInspect, ContainerKill, ContainerKillQuery
from wherry.api.operations.images import ImageInspect
from wherry.client import arguments, moments, references, stream_errors
from wherry.client.arguments import create_request, filters_of, size_in_bytes, update_request
from wherry.client.moments import to_seconds
from wherry.client.references import split_reference
from wherry.client.request import build

if TYPE_CHECKING:
    from wherry.client.options import CreateOptions


@pytest.mark.parametrize("module", [arguments, moments, references, stream_errors])
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


def test_every_setting_goes_by_name() -> None:
    from wherry.client.options import CreateOptions, UpdateOptions

    fields = set(wherry.ContainerConfig.__struct_fields__) | set(wherry.HostConfig.__struct_fields__)
    assert set(CreateOptions.__annotations__) == fields - {"image", "cmd"} | {"ports"}
    assert set(UpdateOptions.__annotations__) == set(ContainerUpdateRequest.__struct_fields__)


def test_sizes_policies_and_lists_are_taken_as_people_write_them() -> None:
    options: CreateOptions = {
        "memory": "64m",
        "memory_swap": "-1",
        "shm_size": "1.5MiB",
        "restart_policy": "on-failure:3",
        "volumes": ["/data"],
        "exposed_ports": ["80/tcp"],
        "dns": ("10.0.0.1",),
    }
    request = create_request("busybox", None, None, None, None, options)
    host = request.host_config
    assert host is not None
    assert (host.memory, host.memory_swap, host.shm_size) == (64 << 20, -1, 3 << 19)
    assert (host.restart_policy.name, host.restart_policy.maximum_retry_count) == ("on-failure", 3)
    assert (request.volumes, request.exposed_ports, host.dns) == ({"/data": {}}, {"80/tcp": {}}, ["10.0.0.1"])
    api_json.encode_request(request)


@pytest.mark.parametrize("text", ["", "m", "64x", "1.2.3m", "-5", "sixty", "64 m b", "nan", "1e3"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no size: give bytes, or a text such as 64m"):
        size_in_bytes(text)


def test_what_update_does_not_know_is_refused() -> None:
    given = ContainerUpdateRequest(memory=5, cpu_shares=7)
    changed = update_request(given, {"memory": "1k", "pids_limit": 0})
    assert (changed.memory, changed.cpu_shares, changed.pids_limit, given.memory) == (1024, 7, 0, 5)
    with pytest.raises(TypeError, match="image: no such option of update"):
        update_request(None, {"image": "x"})  # type: ignore[typeddict-unknown-key]
    with pytest.raises(ValueError, match="is no restart policy"):
        update_request(None, {"restart_policy": "on-failure:often"})


@pytest.mark.parametrize(("text", "seconds"), [("10m", 600), ("1h30m", 5400), ("1.5s", 1.5), ("250ms", 0.25)])
def test_durations_are_so_long_ago(text: str, seconds: float) -> None:
    assert abs(time.time() - seconds - float(to_seconds(text))) < 5


@pytest.mark.parametrize("text", ["2026-11-23", "2026-11-23T12:13"])
def test_times_may_be_short(text: str) -> None:
    assert to_seconds(text) == f"{int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())}.000000000"


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


@pytest.mark.parametrize("places", [[8080, ("::1", 8081)], (8080, ("::1", 8081))])
def test_several_ports(places: object) -> None:
    request = create_request("busybox", None, None, None, None, {"ports": {80: places}})
    assert request.host_config is not None
    assert request.host_config.port_bindings is not None
    found = [(binding.host_ip, binding.host_port) for binding in request.host_config.port_bindings["80/tcp"] or []]
    assert found == [("", "8080"), ("::1", "8081")]


@pytest.mark.parametrize(
    "name", ["binds", "cap_add", "entrypoint", "volumes", "exposed_ports", "dns", "env", "on_build"]
)
def test_one_text_is_no_list_of_texts(name: str) -> None:
    with pytest.raises(TypeError, match=rf"{name} must be a list, not one text: \['/data'\]"):
        create_request("busybox", None, None, None, None, {name: "/data"})  # type: ignore[misc]


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
    for bad in ("yesterday", "10x", "m", "2026-13-01T00:00:00Z"):
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
