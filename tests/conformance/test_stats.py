"""GET stats, one answer at a time and as a stream."""

from __future__ import annotations

import time
from typing import Any

from tests.support.engines import Engine
from tests.support.http import PATIENCE, Exchange


def open_stats(engine: Engine, container: str, **query: Any) -> Exchange:
    exchange = engine.http.open("GET", f"/containers/{container}/stats", query=query)
    assert exchange.status == 200
    return exchange


def stats(engine: Engine, container: str, **query: Any) -> Any:
    answer = engine.http.get(f"/containers/{container}/stats", query=query)
    assert answer.status == 200, answer
    return answer.json


def test_STT1a_a_stream_is_the_default(engine: Engine) -> None:
    container = engine.run_idle(name="streamed")
    with open_stats(engine, container) as stream:
        samples = stream.json_values()
        first, second = next(samples), next(samples)
    assert first["precpu_stats"]["cpu_usage"]["total_usage"] == 0
    assert second["precpu_stats"]["cpu_usage"] == first["cpu_stats"]["cpu_usage"]
    assert second["preread"] == first["read"]
    assert second["name"] == "/streamed"


def test_STT1_one_shot_needs_no_stream(engine: Engine) -> None:
    container = engine.run_idle()
    answer = engine.http.get(f"/containers/{container}/stats?one-shot=1")
    assert (answer.status, answer.message) == (400, "cannot have stream=true and one-shot=true")


def test_STT2a_two_samples_take_their_time(engine: Engine) -> None:
    container = engine.run_idle()
    started = time.monotonic()
    answer = engine.http.get(f"/containers/{container}/stats?stream=0").json
    assert 0.5 < time.monotonic() - started < 5 * PATIENCE
    assert answer["precpu_stats"]["system_cpu_usage"] > 0


def test_STT2b_one_shot_is_fast_and_has_no_name(engine: Engine) -> None:
    container = engine.run_idle()
    started = time.monotonic()
    seen = engine.http.get(f"/containers/{container}/stats?stream=0&one-shot=1").json
    assert time.monotonic() - started < 0.9 * PATIENCE
    assert (seen["precpu_stats"]["cpu_usage"]["total_usage"], seen["preread"]) == (0, "0001-01-01T00:00:00Z")
    if not engine.is_dockerd:  # 20.10 gives them
        assert (seen.get("name"), seen.get("id")) in ((None, None), ("", ""))


def test_STT2_one_shot(engine: Engine) -> None:
    container = engine.run_idle(HostConfig={"Memory": 32 << 20})
    seen = stats(engine, container, stream=0, **{"one-shot": 1})
    assert seen["preread"] == "0001-01-01T00:00:00Z"
    assert seen["read"] > "2020"
    assert seen["precpu_stats"]["cpu_usage"]["total_usage"] == 0
    assert seen["cpu_stats"]["cpu_usage"]["total_usage"] > 0


def test_STT2_two_samples(engine: Engine) -> None:
    container = engine.run_idle(name="sampled")
    seen = stats(engine, container, stream=0)
    assert (seen["name"], seen["id"]) == ("/sampled", container)
    assert seen["precpu_stats"]["cpu_usage"]["total_usage"] > 0
    assert seen["cpu_stats"]["system_cpu_usage"] > seen["precpu_stats"]["system_cpu_usage"] > 0


def test_STT3b_a_stopped_one_goes_on_with_nothing(engine: Engine) -> None:
    container = engine.create("true", name="still")
    with open_stats(engine, container) as stream:
        samples = stream.json_values()
        for _ in range(2):
            seen = next(samples)
            assert (seen["read"], seen["memory_stats"], seen["pids_stats"]) == ("0001-01-01T00:00:00Z", {}, {})


def test_STT3_not_running(engine: Engine) -> None:
    container = engine.create("true", name="idle")
    seen = stats(engine, container, stream=0)
    assert (seen["name"], seen["id"], seen["read"]) == ("/idle", container, "0001-01-01T00:00:00Z")
    assert (seen["memory_stats"], seen["pids_stats"]) == ({}, {})


def test_STT4a_content_types(engine: Engine) -> None:
    container = engine.create("true")
    with open_stats(engine, container, stream=0) as single:
        assert single.headers["content-type"] == "application/json"
    with open_stats(engine, container) as stream:
        assert stream.headers.get("content-type") != "application/json" or engine.is_dockerd


def test_STT5_figures(engine: Engine) -> None:
    script = "dd if=/dev/zero of=/dev/shm/blob bs=1M count=8 2>/dev/null; sleep 1000 & sleep 1000 & echo ready; wait"
    container = engine.run("sh", "-c", script, HostConfig={"Memory": 64 << 20})
    with engine.open_logs(container, follow=1) as logs:
        next(logs.frames())
    seen = stats(engine, container, stream=0, **{"one-shot": 1})
    memory = seen["memory_stats"]
    assert memory["limit"] == 64 << 20
    assert 8 << 20 <= memory["usage"] <= 64 << 20
    assert {"inactive_file", "total_inactive_file"} & set(memory["stats"])
    assert seen["pids_stats"]["current"] >= 3
    assert seen["cpu_stats"]["online_cpus"] >= 1
    assert set(seen["networks"]) == {"eth0"}
    assert {"rx_bytes", "tx_bytes", "rx_packets", "tx_dropped"} <= set(seen["networks"]["eth0"])
    assert (seen["num_procs"], seen["storage_stats"]) == (0, {})


def test_STT5_without_network_and_limit(engine: Engine) -> None:
    container = engine.run_idle(HostConfig={"NetworkMode": "none"})
    seen = stats(engine, container, stream=0, **{"one-shot": 1})
    assert not seen.get("networks")
    with open("/proc/meminfo", encoding="ascii") as meminfo:
        total = int(meminfo.readline().split()[1]) * 1024
    assert seen["memory_stats"]["limit"] == total


def test_STT6a_readers_share_their_samples(engine: Engine) -> None:
    container = engine.run_idle()
    with open_stats(engine, container) as one, open_stats(engine, container) as two:
        first, second = one.json_values(), two.json_values()
        times = [{next(source)["read"] for _ in range(3)} for source in (first, second)]
    assert len(times[0] & times[1]) >= 2


def test_STT7a_removal_ends_the_stream(engine: Engine) -> None:
    container = engine.run_idle(name="doomed")
    with open_stats(engine, container) as stream:
        samples = stream.json_values()
        next(samples)
        assert next(samples)["name"] == "/doomed"
        assert engine.http.delete(f"/containers/{container}?force=1").status == 204
        stream.sock.settimeout(10)
        for _ in samples:
            pass


def test_STT_unknown(engine: Engine) -> None:
    answer = engine.http.get("/containers/nope/stats?stream=0")
    assert (answer.status, answer.message) == (404, "No such container: nope")
