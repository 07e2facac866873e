"""Limits, figures, pauses and ends in the unified hierarchy, seen in the kernel's own files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.support.http import eventually
from tests.vm.conftest import UnitEngine


def file(unit: UnitEngine, container: str, name: str) -> str:
    return (unit.group(container) / name).read_text().strip()


LIMITS = [
    ({"Memory": 64 << 20, "MemorySwap": 64 << 20}, {"memory.max": str(64 << 20), "memory.swap.max": "0"}),
    ({"Memory": 64 << 20}, {"memory.max": str(64 << 20), "memory.swap.max": str(64 << 20)}),
    ({"Memory": 64 << 20, "MemorySwap": -1}, {"memory.max": str(64 << 20), "memory.swap.max": "max"}),
    ({"Memory": 64 << 20, "MemoryReservation": 32 << 20}, {"memory.low": str(32 << 20)}),
    ({"NanoCpus": 500_000_000}, {"cpu.max": "50000 100000"}),
    ({"CpuPeriod": 50_000, "CpuQuota": 10_000}, {"cpu.max": "10000 50000"}),
    ({"CpusetCpus": "0", "CpusetMems": "0"}, {"cpuset.cpus": "0", "cpuset.mems": "0"}),
    ({"PidsLimit": 33}, {"pids.max": "33"}),
]


@pytest.mark.parametrize(("limits", "files"), LIMITS, ids=["+".join(limits) for limits, _ in LIMITS])
def test_CRE12_limits_at_create_and_UPD3_at_update(
    unit: UnitEngine, limits: dict[str, Any], files: dict[str, str]
) -> None:
    created = unit.run_idle(HostConfig=limits)
    assert {name: file(unit, created, name) for name in files} == files
    plain = unit.run_idle()
    given = {"MemorySwap": 2 * limits["Memory"]} | limits if "Memory" in limits else limits
    assert unit.update(plain, **given)["Warnings"] is None
    assert {name: file(unit, plain, name) for name in files} == files


def test_CRE12_no_limits(unit: UnitEngine) -> None:
    container = unit.run_idle()
    for name in ("memory.max", "memory.swap.max", "pids.max"):
        assert file(unit, container, name) == "max"
    assert file(unit, container, "cpu.max") == "max 100000"
    assert file(unit, container, "cpu.weight") == "100"


def test_CRE12_shares_become_weights(unit: UnitEngine) -> None:
    """1024 shares are the usual; how they are counted as weights is the runtime's matter, their order is not."""
    weights = [
        int(file(unit, unit.run_idle(HostConfig={"CpuShares": shares}), "cpu.weight")) for shares in (2, 512, 262144)
    ]
    assert weights[0] == 1
    assert 1 < weights[1] < 100
    assert weights[2] == 10000
    plain = unit.run_idle()
    unit.update(plain, CpuShares=512)
    assert int(file(unit, plain, "cpu.weight")) == weights[1]


def test_CRE12_block_io(unit: UnitEngine) -> None:
    disk = Path("/dev/vda")
    limits: dict[str, Any] = {"BlkioDeviceReadBps": [{"Path": str(disk), "Rate": 1 << 20}]}
    container = unit.run_idle(HostConfig=limits)
    assert f"rbps={1 << 20}" in file(unit, container, "io.max")
    weighted = unit.http.post(
        "/containers/create", json={"Image": "busybox", "Cmd": ["sleep", "100"], "HostConfig": {"BlkioWeight": 300}}
    )
    assert weighted.status == 201, weighted
    unit.start(weighted.json["Id"])
    group = unit.group(weighted.json["Id"])
    if (group / "io.bfq.weight").exists() or (group / "io.weight").exists():
        assert not weighted.json["Warnings"]
    else:
        assert weighted.json["Warnings"] == [
            "Your kernel does not support Block I/O weight or the cgroup is not mounted. Weight discarded."
        ]
    updated = unit.update(container, BlkioWeight=400)
    assert (updated["Warnings"] is None) == (not weighted.json["Warnings"])


def test_UPD3_updates_keep_what_they_do_not_name(unit: UnitEngine) -> None:
    container = unit.run_idle(
        HostConfig={"Memory": 64 << 20, "MemorySwap": 96 << 20, "PidsLimit": 40, "NanoCpus": 10**9}
    )
    unit.update(container, Memory=48 << 20)
    assert file(unit, container, "memory.max") == str(48 << 20)
    assert file(unit, container, "pids.max") == "40"
    assert file(unit, container, "cpu.max") == "100000 100000"
    unit.update(container, PidsLimit=-1)
    assert file(unit, container, "pids.max") in ("max", str(1 << 22))


def test_CRE14_the_control_group_namespace_is_private(unit: UnitEngine) -> None:
    container = unit.run_idle()
    assert unit.inspect(container)["HostConfig"]["CgroupnsMode"] == "private"
    assert unit.exec(container, "cat", "/proc/self/cgroup")[1] == b"0::/\n"
    assert unit.exec(container, "cat", "/sys/fs/cgroup/cgroup.procs")[1].split()[0] == b"1"
    assert unit.exec(container, "mkdir", "/sys/fs/cgroup/mine")[0] != 0  # mounted read-only
    host = unit.run_idle(HostConfig={"CgroupnsMode": "host"})
    assert unit.exec(host, "cat", "/proc/self/cgroup")[1].strip().endswith(host.encode())


def test_EXE_a_container_that_makes_groups_of_its_own_takes_execs(unit: UnitEngine) -> None:
    """No process may be beside groups that have controllers: exec has to find another place."""
    script = """
        mkdir /sys/fs/cgroup/inner && for pid in $(cat /sys/fs/cgroup/cgroup.procs); do
            echo $pid > /sys/fs/cgroup/inner/cgroup.procs; done 2>/dev/null
        echo +memory > /sys/fs/cgroup/cgroup.subtree_control && echo ready; sleep 1000"""
    container = unit.run("sh", "-c", script, HostConfig={"Privileged": True})
    eventually(lambda: b"ready" in unit.logs(container)[0], what=lambda: unit.logs(container))
    assert unit.exec(container, "echo", "in")[:2] == (0, b"in\n")
    assert unit.stats(container)["pids_stats"]["current"] == 1  # of a group below
    assert unit.http.post(f"/containers/{container}/pause").status == 204
    assert unit.http.post(f"/containers/{container}/unpause").status == 204
    assert unit.http.delete(f"/containers/{container}?force=1").status == 204


def test_PAU_freezer(unit: UnitEngine) -> None:
    container = unit.run("sh", "-c", "i=0; while :; do i=$((i+1)); done")
    assert unit.http.post(f"/containers/{container}/pause").status == 204
    assert unit.status(container) == "paused"
    group = unit.group(container)
    assert "frozen 1" in (group / "cgroup.events").read_text()
    used = unit.stats(container)["cpu_stats"]["cpu_usage"]["total_usage"]
    assert unit.stats(container)["cpu_stats"]["cpu_usage"]["total_usage"] == used
    assert unit.http.post(f"/containers/{container}/unpause").status == 204
    assert "frozen 0" in (group / "cgroup.events").read_text()
    eventually(lambda: unit.stats(container)["cpu_stats"]["cpu_usage"]["total_usage"] > used)
    assert unit.http.post(f"/containers/{container}/pause").status == 204
    assert unit.http.delete(f"/containers/{container}?force=1").status == 204


def test_INS7_out_of_memory(unit: UnitEngine) -> None:
    host = {"Memory": 16 << 20, "MemorySwap": 16 << 20}
    container = unit.run("sh", "-c", "exec tail /dev/zero", HostConfig=host)
    assert unit.wait(container) == 137
    assert unit.state(container)["OOMKilled"] is True
    child = unit.run("sh", "-c", "tail /dev/zero; echo $?; sleep 1000", HostConfig=host)
    eventually(lambda: b"137" in unit.logs(child)[0], what=lambda: unit.logs(child))
    assert unit.stats(child)["memory_stats"]["failcnt"] > 0
    fine = unit.run("true", HostConfig=host)
    unit.wait(fine)
    assert unit.state(fine)["OOMKilled"] is False


def test_STT5_figures(unit: UnitEngine) -> None:
    script = (
        "dd if=/dev/zero of=/blob bs=1M count=8 2>/dev/null; sync; cat /blob >/dev/null; echo ready; exec sleep 1000"
    )
    container = unit.run("sh", "-c", script, HostConfig={"Memory": 64 << 20, "PidsLimit": 20})
    eventually(lambda: b"ready" in unit.logs(container)[0])
    seen = unit.stats(container)
    memory = seen["memory_stats"]
    assert memory["limit"] == 64 << 20
    assert memory["usage"] == pytest.approx(int(file(unit, container, "memory.current")), rel=0.2)
    assert "max_usage" not in memory  # as there is no such figure in v2
    assert {"anon", "file", "inactive_file", "kernel_stack", "pgfault", "slab", "sock"} <= set(memory["stats"])
    assert memory["stats"]["file"] >= 8 << 20
    cpu = seen["cpu_stats"]
    assert cpu["cpu_usage"]["total_usage"] > 0
    assert "percpu_usage" not in cpu["cpu_usage"]
    assert cpu["online_cpus"] >= 1
    assert seen["pids_stats"] == {"current": 1, "limit": 20}
    written = [e["value"] for e in seen["blkio_stats"]["io_service_bytes_recursive"] if e["op"] == "write"]
    assert sum(written) >= 8 << 20
    unlimited = unit.run_idle()
    machine = int(Path("/proc/meminfo").read_text().split()[1]) * 1024
    assert unit.stats(unlimited)["memory_stats"]["limit"] == machine


def test_STT5_throttling(unit: UnitEngine) -> None:
    container = unit.run("sh", "-c", "while :; do :; done", HostConfig={"NanoCpus": 100_000_000})

    def throttled() -> bool:
        figures = unit.stats(container)["cpu_stats"]["throttling_data"]
        return bool(figures["periods"] and figures["throttled_periods"] and figures["throttled_time"])

    eventually(throttled)
