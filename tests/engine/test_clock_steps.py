"""The machine's clock is set back while containers run: what counts durations does not notice."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import pytest

import wherry
from scripts.make_images import busybox_archive
from tests.support.engines import scratch_root
from tests.support.http import Http, eventually

HOUR = 3_600_000_000_000  # ns


@pytest.fixture(scope="module")
def http() -> Iterator[Http]:
    """Calls to an engine in this process, whose clock a test can set."""
    with scratch_root("clock") as root, wherry.Engine(root / "data", root / "exec", ephemeral=True) as engine:
        engine.serve(f"unix://{root}/engine.sock")
        http = Http(f"{root}/engine.sock", "/v1.43")
        loaded = http.post("/images/load", body=busybox_archive(), headers={"Content-Type": "application/x-tar"})
        assert loaded.status == 200
        yield http


def start(http: Http, *command: str, **body: object) -> str:
    container = http.post("/containers/create", json={"Image": "busybox", "Cmd": list(command), **body}).json["Id"]
    assert http.post(f"/containers/{container}/start").status == 204
    return str(container)


def set_back(monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: now() - HOUR)


def test_HEA2_the_start_period_ends_all_the_same(http: Http, monkeypatch: pytest.MonkeyPatch) -> None:
    check = {"Test": ["CMD", "false"], "Interval": 100_000_000, "Retries": 1, "StartPeriod": 300_000_000}
    container = start(http, "sleep", "60", Healthcheck=check)
    set_back(monkeypatch)
    health = lambda: http.get(f"/containers/{container}/json").json["State"]["Health"]["Status"]  # noqa: E731
    eventually(lambda: health() == "unhealthy", within=5)
    assert http.delete(f"/containers/{container}", query={"force": 1}).status == 204


def test_AUT1_the_duration_of_a_run(http: Http, monkeypatch: pytest.MonkeyPatch) -> None:
    container = start(http, "sleep", "1.2")
    set_back(monkeypatch)
    http.post(f"/containers/{container}/wait")
    monkeypatch.undo()
    filters = {"container": [container], "event": ["die"]}
    query = {"since": 1, "until": int(time.time()) + 1, "filters": json.dumps(filters)}
    (died,) = http.open("GET", "/events", query=query).json_values()
    assert died["Actor"]["Attributes"]["execDuration"] == "1"
