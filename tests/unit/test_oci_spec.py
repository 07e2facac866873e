"""The OCI specification made from HostConfig."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from wherry.api.models.containers import DeviceMapping, HostConfig, ThrottleDevice, Ulimit
from wherry.engine.oci import capabilities, limits
from wherry.engine.oci.errors import RuntimeFailure
from wherry.engine.oci.spec import (
    BPF_ANNOTATION,
    OciMount,
    SpecInput,
    build_exec_process,
    build_spec,
    check_annotations,
    tmpfs_options,
)


def spec(host: HostConfig | None = None, **more: Any) -> dict[str, Any]:
    given: dict[str, Any] = {
        "id": "c" * 64,
        "args": ["true"],
        "env": ["A=1"],
        "rootfs": Path("/r"),
        "host_config": host or HostConfig(),
        "cgroup_path": "/wherry-x/c",
    }
    return build_spec(SpecInput(**(given | more)))


def mount(result: dict[str, Any], destination: str) -> dict[str, Any]:
    (found,) = [m for m in result["mounts"] if m["destination"] == destination]
    return found


def test_a_plain_container() -> None:
    result = spec(hostname="web", home="/root")
    assert result["hostname"] == "web"
    assert result["root"] == {"path": "/r", "readonly": False}
    assert result["process"]["args"] == ["true"]
    assert result["process"]["env"] == ["A=1", "HOME=/root"]
    assert "inheritable" not in result["process"]["capabilities"]
    assert {n["type"] for n in result["linux"]["namespaces"]} == {"mount", "network", "uts", "pid", "ipc"}
    assert "/proc/kcore" in result["linux"]["maskedPaths"]
    assert "/proc/sys" in result["linux"]["readonlyPaths"]
    assert "ro" in mount(result, "/sys")["options"]
    assert "size=67108864" in mount(result, "/dev/shm")["options"]
    assert result["linux"]["resources"]["devices"][0] == {"allow": False, "access": "rwm"}
    assert set(result["linux"]["resources"]) == {"devices"}
    assert "seccomp" not in result["linux"]
    assert "annotations" not in result


def test_HOME_of_the_environment_wins() -> None:
    assert spec(env=["HOME=/x"], home="/root")["process"]["env"] == ["HOME=/x"]


def test_seccomp_is_json_or_a_compiled_filter_never_both() -> None:
    assert spec(seccomp={"defaultAction": "x"})["linux"]["seccomp"] == {"defaultAction": "x"}
    result = spec(seccomp="QUJD")
    assert result["annotations"] == {BPF_ANNOTATION: "QUJD"}
    assert "seccomp" not in result["linux"]


def test_annotations_that_steer_the_runtime_are_refused() -> None:
    for name in (BPF_ANNOTATION, "run.oci.hooks.stdout"):
        with pytest.raises(RuntimeFailure, match="belongs to the engine"):
            spec(HostConfig(annotations={name: "x"}))
    check_annotations({"com.example": "x"})
    assert spec(HostConfig(annotations={"com.example": "x"}))["annotations"] == {"com.example": "x"}


def test_privileged() -> None:
    result = spec(HostConfig(privileged=True))
    assert "maskedPaths" not in result["linux"]
    assert "ro" not in mount(result, "/sys")["options"]
    assert "ro" not in mount(result, "/sys/fs/cgroup")["options"]
    assert result["linux"]["resources"]["devices"] == [{"allow": True, "access": "rwm"}]
    assert "/dev/null" in {node["path"] for node in result["linux"]["devices"]}
    assert set(result["process"]["capabilities"]["effective"]) == capabilities.bounding_set()


def test_a_user_other_than_root_gets_the_bounding_set_only() -> None:
    process = spec(uid=1000, gid=5, groups=[5, 7])["process"]
    assert process["user"] == {"uid": 1000, "gid": 5, "additionalGids": [5, 7]}
    assert set(process["capabilities"]) == {"bounding"}


def test_namespaces_of_the_host_and_of_others() -> None:
    result = spec(netns=None, utsns=None, pidns=None, ipcns="/proc/7/ns/ipc", cgroupns="", hostname="x")
    assert result["linux"]["namespaces"] == [
        {"type": "mount"},
        {"type": "ipc", "path": "/proc/7/ns/ipc"},
        {"type": "cgroup"},
    ]
    assert "hostname" not in result
    assert "sysctl" not in result["linux"]
    host_ipc = spec(ipcns=None)
    assert mount(host_ipc, "/dev/shm")["source"] == "/dev/shm"
    assert mount(host_ipc, "/dev/mqueue")["type"] == ("bind" if os.path.isdir("/dev/mqueue") else "mqueue")


def test_mounts_hide_the_default_ones_and_parents_come_first() -> None:
    result = spec(
        HostConfig(tmpfs={"/run/": "size=64k,exec"}),
        mounts=[OciMount("/h/b", "/a/b/c"), OciMount("/h/a", "/a"), OciMount("/h/shm", "/dev/shm")],
    )
    places = [m["destination"] for m in result["mounts"]]
    assert places.index("/a") < places.index("/a/b/c")
    assert mount(result, "/dev/shm")["source"] == "/h/shm"
    assert mount(result, "/run")["options"] == ["nosuid", "nodev", "size=64k", "exec"]
    whole_dev = spec(mounts=[OciMount("/dev", "/dev")])
    assert [m["destination"] for m in whole_dev["mounts"] if m["destination"].startswith("/dev")] == ["/dev"]


def test_mount_propagation_reaches_the_root() -> None:
    shared = spec(mounts=[OciMount("/h", "/h", "bind", ["rbind", "rshared"])])
    assert shared["linux"]["rootfsPropagation"] == "rshared"
    assert "rootfsPropagation" not in spec(mounts=[OciMount("/h", "/h")])["linux"]


def test_tmpfs_options() -> None:
    assert tmpfs_options("") == ["noexec", "nosuid", "nodev"]
    assert tmpfs_options("rw,noexec,size=1m") == ["nosuid", "nodev", "rw", "noexec", "size=1m"]


def test_readonly_rootfs() -> None:
    result = spec(HostConfig(readonly_rootfs=True, privileged=True))
    assert result["root"]["readonly"] is True
    assert "ro" in mount(result, "/sys")["options"]
    assert "ro" not in mount(result, "/dev/shm")["options"]


def test_CRE12_CRE13_resources() -> None:
    result = spec(
        HostConfig(
            memory=64 << 20,
            memory_swap=128 << 20,
            memory_swappiness=0,
            nano_cpus=1_500_000_000,
            cpu_shares=512,
            cpuset_cpus="0",
            pids_limit=10,
            blkio_weight=100,
        )
    )["linux"]["resources"]
    assert result["memory"] == {"limit": 64 << 20, "swap": 128 << 20, "swappiness": 0}
    assert result["cpu"] == {"shares": 512, "period": 100_000, "quota": 150_000, "cpus": "0"}
    assert result["pids"] == {"limit": 10}
    assert result["blockIO"] == {"weight": 100}
    assert spec(HostConfig(pids_limit=-1))["linux"]["resources"]["pids"] == {"limit": -1}
    with pytest.raises(RuntimeFailure, match="no such file"):
        spec(HostConfig(blkio_device_read_bps=[ThrottleDevice(path="/dev/nope", rate=1)]))


def test_devices() -> None:
    result = spec(
        HostConfig(
            devices=[DeviceMapping(path_on_host="/dev/zero", path_in_container="/dev/x", cgroup_permissions="r")],
            device_cgroup_rules=["c 42:* rwm"],
        )
    )["linux"]
    (node,) = result["devices"]
    assert (node["path"], node["type"], node["major"], node["minor"]) == ("/dev/x", "c", 1, 5)
    assert {"allow": True, "type": "c", "access": "r", "major": 1, "minor": 5} in result["resources"]["devices"]
    assert {"allow": True, "type": "c", "access": "rwm", "major": 42} in result["resources"]["devices"]
    with pytest.raises(RuntimeFailure) as raised:
        spec(HostConfig(devices=[DeviceMapping(path_on_host="/dev/nope")]))
    assert raised.value.message == (
        'error gathering device information while adding custom device "/dev/nope": no such file or directory'
    )
    for rule in ("", "c", "c 1:2", "x 1:2 r", "c 1 r", "c a:b r", "c 1:2 z", "c 1:2 r m"):
        with pytest.raises(RuntimeFailure, match="invalid device cgroup rule"):
            spec(HostConfig(device_cgroup_rules=[rule]))


def test_limits_above_the_engines_own_are_lowered_with_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "effective_set", lambda: frozenset())
    monkeypatch.setattr(limits.resource, "getrlimit", lambda which: (100, 200))
    warnings: list[str] = []
    given = [Ulimit(name="nofile", soft=1000, hard=1000), Ulimit(name="nproc", soft=10, hard=20)]
    assert limits.rlimits(given, warnings) == [
        {"type": "RLIMIT_NOFILE", "soft": 200, "hard": 200},
        {"type": "RLIMIT_NPROC", "soft": 10, "hard": 20},
    ]
    assert len(warnings) == 1
    assert "nofile" in warnings[0]
    monkeypatch.setattr(limits, "effective_set", lambda: frozenset({"CAP_SYS_RESOURCE"}))
    assert limits.rlimits([Ulimit(name="core", soft=-1, hard=-1)], warnings)[0]["hard"] == 2**64 - 1


def test_oom_score_below_the_engines_own_needs_the_capability(monkeypatch: pytest.MonkeyPatch) -> None:
    warnings: list[str] = []
    monkeypatch.setattr(limits, "effective_set", lambda: frozenset())
    own = int(Path("/proc/self/oom_score_adj").read_text())
    assert limits.oom_score_adj(own - 1, warnings) == own
    assert warnings
    assert limits.oom_score_adj(own + 1, []) == own + 1


def test_an_init_goes_in_front() -> None:
    result = spec(init="/usr/bin/tini-static")
    assert result["process"]["args"] == ["/sbin/docker-init", "--", "true"]
    assert mount(result, "/sbin/docker-init")["source"] == "/usr/bin/tini-static"


def test_CRE25_console_size() -> None:
    assert spec(tty=True, console_size=(40, 100))["process"]["consoleSize"] == {"height": 40, "width": 100}
    assert "consoleSize" not in spec(tty=True, console_size=(0, 0))["process"]
    assert "consoleSize" not in spec(console_size=(40, 100))["process"]


def test_exec_process() -> None:
    process = build_exec_process(args=["ls"], env=["A=1"], granted=["CAP_KILL"], cwd="", uid=5, home="/h", tty=True)
    assert process["cwd"] == "/"
    assert process["env"] == ["A=1", "HOME=/h"]
    assert process["capabilities"] == {"bounding": ["CAP_KILL"]}
    assert process["terminal"] is True
    assert os.path.isabs(process["cwd"])
