"""GET stats: semantics section 13, one answer at a time."""

from __future__ import annotations

from typing import Any

from tests.support.engines import Engine


def stats(engine: Engine, container: str, **query: Any) -> Any:
    answer = engine.http.get(f"/containers/{container}/stats", query=query)
    assert answer.status == 200, answer
    return answer.json


def test_STT1_one_shot_needs_no_stream(engine: Engine) -> None:
    container = engine.run_idle()
    answer = engine.http.get(f"/containers/{container}/stats?one-shot=1")
    assert (answer.status, answer.message) == (400, "cannot have stream=true and one-shot=true")


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


def test_STT3_not_running(engine: Engine) -> None:
    container = engine.create("true", name="idle")
    seen = stats(engine, container, stream=0)
    assert (seen["name"], seen["id"], seen["read"]) == ("/idle", container, "0001-01-01T00:00:00Z")
    assert (seen["memory_stats"], seen["pids_stats"]) == ({}, {})


def test_STT5_figures(engine: Engine) -> None:
    script = "dd if=/dev/zero of=/dev/shm/blob bs=1M count=8 2>/dev/null; echo ready; sleep 1000 & sleep 1000 & wait"
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
