"""Texts that no kernel, runtime or file takes: told by the call that brings them, and nothing is left behind."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import pytest

from tests.support.engines import Engine

NUL = "a\0b"
LONG = "x" * 200_000


@pytest.mark.parametrize(
    "body",
    [
        {"Cmd": ["echo", NUL]},
        {"Entrypoint": [NUL]},
        {"Env": [f"A={NUL}"]},
        {"Labels": {"a": NUL}},
        {"Labels": {NUL: "a"}},
        {"Hostname": NUL},
        {"User": NUL},
        {"WorkingDir": f"/{NUL}"},
        {"Healthcheck": {"Test": ["CMD", NUL]}},
        {"Volumes": {f"/{NUL}": {}}},
        {"HostConfig": {"Binds": [f"/tmp:/{NUL}"]}},
        {"HostConfig": {"MaskedPaths": [f"/{NUL}"]}},
        {"HostConfig": {"CgroupParent": NUL}},
        {"HostConfig": {"Annotations": {"a": NUL}}},
    ],
    ids=str,
)
def test_nul_is_refused_by_create(wherry: Engine, body: dict[str, Any]) -> None:
    answer = wherry.try_create(**({"Cmd": ["true"]} | body))
    assert answer.status == 400
    assert "NUL" in answer.message


def test_nul_is_refused_elsewhere(wherry: Engine) -> None:
    container = wherry.run_idle()
    for target, body in (
        (f"/containers/{container}/exec", {"Cmd": ["echo", NUL]}),
        (f"/containers/{container}/exec", {"Cmd": ["true"], "Env": [f"A={NUL}"]}),
        ("/volumes/create", {"Name": NUL}),
        ("/volumes/create", {"Labels": {"a": NUL}}),
        ("/networks/create", {"Name": NUL}),
    ):
        answer = wherry.http.post(target, json=body)
        assert (answer.status, "NUL" in answer.message) == (400, True), (target, body)
    answer = wherry.http.post(f"/containers/{container}/exec", json={"Cmd": ["true"], "WorkingDir": f"/{LONG}"})
    assert (answer.status, "too long" in answer.message) == (400, True)
    for target in (f"/containers/create?name={quote(NUL)}", f"/containers/{container}/rename?name={quote(NUL)}"):
        assert wherry.http.post(target, json={"Image": "busybox"}).status == 400


def test_lone_surrogates_are_broken_json(wherry: Engine) -> None:
    for field in (
        b'"Cmd":["echo","a\\ud800b"]',
        b'"Env":["A=\\udfff"]',
        b'"Labels":{"a":"\\ud800"}',
        b'"Labels":{"\\ud800":"a"}',
    ):
        body = b'{"Image":"busybox",' + field + b"}"
        answer = wherry.http.post("/containers/create", body=body, headers={"Content-Type": "application/json"})
        assert (answer.status, answer.message.startswith("invalid JSON")) == (400, True), answer


@pytest.mark.parametrize("number", ["9223372036854775808", "-9223372036854775809", "1" * 400, "1e400", "1.5", "0x10"])
def test_numbers_that_are_none(wherry: Engine, number: str) -> None:
    body = b'{"Image":"busybox","HostConfig":{"Memory":%b}}' % number.encode()
    answer = wherry.http.post("/containers/create", body=body, headers={"Content-Type": "application/json"})
    assert (answer.status, answer.message.startswith("invalid JSON")) == (400, True), answer


@pytest.mark.parametrize(
    "body",
    [
        {"WorkingDir": f"/{LONG}"},
        {"Volumes": {f"/{LONG}": {}}},
        {"HostConfig": {"Ulimits": [{"Name": LONG, "Soft": 1, "Hard": 1}]}},
        {"HostConfig": {"Ulimits": [{"Name": "nosuch", "Soft": 1, "Hard": 1}]}},
    ],
    ids=lambda body: str(body)[:40],
)
def test_what_no_machine_takes_is_refused(wherry: Engine, body: dict[str, Any]) -> None:
    answer = wherry.try_create("true", **body)
    assert answer.status == 400, answer
    assert len(answer.message) < 1000
    assert wherry.containers() == []


def test_deep_json(wherry: Engine) -> None:
    for deep in (b"[" * 100_000, b'{"a":' * 100_000, b'{"Labels":{"a":' * 50_000):
        answer = wherry.http.post("/containers/create", body=deep, headers={"Content-Type": "application/json"})
        assert (answer.status, bool(answer.message)) == (400, True)
