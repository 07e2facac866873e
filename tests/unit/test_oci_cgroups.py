"""Control groups, read from made-up hierarchies (STT5, INS7)."""

from __future__ import annotations

from pathlib import Path

import msgspec

from wherry.engine.oci import cgroup_stats
from wherry.engine.oci.cgroup_v1 import CgroupV1
from wherry.engine.oci.cgroup_v2 import CgroupV2
from wherry.engine.oci.cgroups import detect


def write(directory: Path, **files: str) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (directory / name.replace("__", ".")).write_text(text)


def mountinfo(path: Path, *mounts: tuple[Path, str, str]) -> Path:
    path.write_text(
        "22 1 254:0 / / rw - ext4 /dev/vda rw\n"
        + "".join(f"31 22 0:29 / {place} rw,relatime - {kind} cgroup {options}\n" for place, kind, options in mounts)
    )
    return path


def test_v1_with_all_controllers(tmp_path: Path) -> None:
    write(tmp_path / "memory", memory__memsw__limit_in_bytes="1")
    write(tmp_path / "cpuset", cpuset__cpus="0-1\n", cpuset__mems="0\n")
    names = ("memory", "cpuset", "pids", "blkio", "freezer", "devices")
    setup = detect(
        "abc",
        mountinfo(
            tmp_path / "mountinfo",
            *[(tmp_path / name, "cgroup", f"rw,{name}") for name in names],
            (tmp_path / "cpu,cpuacct", "cgroup", "rw,cpu,cpuacct"),
            (tmp_path / "net_cls", "cgroup", "rw,net_cls"),
        ),
    )
    assert (setup.version, setup.hybrid) == (1, False)
    assert setup.memory
    assert setup.swap
    assert setup.cpu
    assert setup.pids
    assert not setup.blkio_weight
    assert (setup.available_cpus, setup.available_mems) == ("0-1", "0")
    assert setup.path("c1") == "/wherry-abc/c1"
    assert setup.warnings == []
    assert tmp_path / "net_cls" in setup.hierarchies


def test_a_hybrid_that_crun_refuses_is_told(tmp_path: Path) -> None:
    write(tmp_path / "unified", cgroup__controllers="hugetlb\n")
    setup = detect(
        "abc",
        mountinfo(
            tmp_path / "mountinfo",
            (tmp_path / "memory", "cgroup", "rw,memory"),
            (tmp_path / "unified", "cgroup2", "rw"),
        ),
    )
    assert (setup.version, setup.hybrid) == (1, True)
    assert any("hugetlb" in warning and "cgroupfs-mount" in warning for warning in setup.warnings)
    assert "WARNING: No pids limit support" in setup.warnings


def test_no_control_groups_at_all(tmp_path: Path) -> None:
    setup = detect("abc", mountinfo(tmp_path / "mountinfo"))
    assert setup.version == 0
    assert "cgroupfs-mount" in setup.warnings[0]
    assert setup.container("x").pids() == []
    assert setup.container("x").stats().memory.usage in (0, msgspec.UNSET)


def test_v2_enables_controllers_for_its_own_group(tmp_path: Path) -> None:
    write(
        tmp_path,
        cgroup__controllers="cpuset cpu io memory pids rdma",
        cgroup__subtree_control="cpuset cpu io memory pids",
        cpuset__cpus__effective="0-3",
    )
    write(tmp_path / "wherry-abc", cgroup__subtree_control="cpuset cpu io memory pids", memory__swap__max="max")
    setup = detect("abc", mountinfo(tmp_path / "mountinfo", (tmp_path, "cgroup2", "rw")))
    assert setup.version == 2
    assert setup.memory
    assert setup.swap
    assert setup.available_cpus == "0-3"
    assert isinstance(setup.container("c1"), CgroupV2)


def test_STT5_v1_stats(tmp_path: Path) -> None:
    for name in ("cpu", "cpuacct", "memory", "pids", "blkio"):
        (tmp_path / name / "g").mkdir(parents=True)
    write(tmp_path / "cpuacct/g", cpuacct__usage="29562847\n", cpuacct__usage_percpu="27450329 2112518 0 0\n")
    write(tmp_path / "cpuacct/g", cpuacct__stat="user 1\nsystem 2\n")
    write(tmp_path / "cpu/g", cpu__stat="nr_periods 3\nnr_throttled 2\nthrottled_time 5\n")
    write(tmp_path / "memory/g", memory__usage_in_bytes="921600\n", memory__max_usage_in_bytes="3776512\n")
    write(tmp_path / "memory/g", memory__limit_in_bytes="9223372036854771712\n", memory__failcnt="0\n")
    write(tmp_path / "memory/g", memory__stat="cache 585728\ntotal_inactive_file 430080\n")
    write(tmp_path / "memory/g", memory__oom_control="oom_kill_disable 0\nunder_oom 0\noom_kill 1\n")
    write(tmp_path / "pids/g", pids__current="1\n", pids__max="max\n", cgroup__procs="7\n9\n")
    write(tmp_path / "pids/g/below", cgroup__procs="8\n")
    write(tmp_path / "blkio/g", blkio__throttle__io_service_bytes_recursive="8:0 Read 4096\nTotal 4096\n")
    group = CgroupV1({name: tmp_path / name for name in ("cpu", "cpuacct", "memory", "pids", "blkio")}, "/g")
    stats = group.stats()
    assert stats.cpu.cpu_usage.total_usage == 29562847
    assert stats.cpu.cpu_usage.usage_in_kernelmode == cgroup_stats.ticks(2)
    assert stats.cpu.throttling_data.throttled_periods == 2
    assert stats.cpu.online_cpus
    assert stats.memory.limit == cgroup_stats.machine_memory()
    assert stats.memory.failcnt is msgspec.UNSET
    assert stats.memory.stats == {"cache": 585728, "total_inactive_file": 430080}
    assert (stats.pids.current, stats.pids.limit) == (1, msgspec.UNSET)
    assert [(e.op, e.value) for e in stats.blkio.io_service_bytes_recursive or []] == [("Read", 4096)]
    assert stats.blkio.sectors_recursive == []
    assert group.oom_killed()
    assert group.pids() == [7, 8, 9]


def test_STT5_v2_stats(tmp_path: Path) -> None:
    write(
        tmp_path / "g",
        cpu__stat="usage_usec 100\nuser_usec 60\nsystem_usec 40\nnr_periods 1\nnr_throttled 0\nthrottled_usec 2\n",
        memory__current="4096\n",
        memory__max="67108864\n",
        memory__stat="anon 1\ninactive_file 2\n",
        memory__events="oom 2\noom_kill 1\n",
        pids__current="2\n",
        pids__max="10\n",
        io__stat="8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0 dios=0\n",
        cgroup__procs="5\n",
        cgroup__events="populated 1\nfrozen 1\n",
    )
    group = CgroupV2(tmp_path, "/g")
    stats = group.stats()
    assert stats.cpu.cpu_usage.total_usage == 100_000
    assert stats.cpu.cpu_usage.percpu_usage is msgspec.UNSET
    assert (stats.memory.usage, stats.memory.limit, stats.memory.failcnt) == (4096, 67108864, 2)
    assert (stats.pids.current, stats.pids.limit) == (2, 10)
    assert [(e.op, e.value) for e in stats.blkio.io_serviced_recursive or []] == [("read", 3), ("write", 4)]
    assert group.oom_killed()
    assert group.frozen()
    assert group.pids() == [5]
    write(tmp_path / "g", pids__max="max\n")
    assert group.stats().pids.limit == 18446744073709551615  # STT5, as moby has it on v2


def test_a_group_that_is_gone_reads_as_nothing(tmp_path: Path) -> None:
    for group in (CgroupV1({"memory": tmp_path, "pids": tmp_path}, "/gone"), CgroupV2(tmp_path, "/gone")):
        assert not group.exists()
        assert group.pids() == []
        assert not group.oom_killed()
        assert group.stats().cpu.cpu_usage.total_usage == 0
        assert group.remove()
