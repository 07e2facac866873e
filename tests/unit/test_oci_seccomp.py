"""Seccomp profiles: the default's effect, and clients' own (CRE28)."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from wherry.api.models.containers import HostConfig
from wherry.engine.oci.capabilities import DEFAULT
from wherry.engine.oci.seccomp import (
    FilterCache,
    InvalidProfile,
    check_profile,
    choose,
    client_profile,
    default_profile,
)


def action(profile: dict[str, Any], name: str, *args: int) -> str:
    """What the profile says to a call, as the kernel would read it."""
    for rule in profile["syscalls"]:
        if name in rule["names"] and all(_holds(test, args) for test in rule.get("args", [])):
            return str(rule.get("errnoRet", rule["action"]))
    return str(profile.get("defaultErrnoRet", profile["defaultAction"]))


def _holds(test: dict[str, Any], args: tuple[int, ...]) -> bool:
    value = args[test["index"]]
    if test["op"] == "SCMP_CMP_EQ":
        return value == int(test["value"])
    if test["op"] == "SCMP_CMP_NE":
        return value != int(test["value"])
    assert test["op"] == "SCMP_CMP_MASKED_EQ"
    return value & int(test["value"]) == int(test["valueTwo"])


ALLOW = "SCMP_ACT_ALLOW"


def test_default_profile_of_a_plain_container() -> None:
    profile = default_profile(DEFAULT, "x86_64")
    assert profile["architectures"] == ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"]
    for name in ("read", "openat2", "execve", "io_uring_setup", "ptrace", "chroot", "arch_prctl", "futex_time64"):
        assert action(profile, name) == ALLOW
    for name in ("mount", "umount2", "unshare", "setns", "reboot", "kexec_load", "bpf", "keyctl", "add_key", "swapon"):
        assert action(profile, name) == "1"
    for name in ("init_module", "iopl", "settimeofday", "mbind", "syslog", "userfaultfd", "pivot_root", "move_mount"):
        assert action(profile, name) == "1"


def test_default_profile_looks_at_arguments() -> None:
    profile = default_profile(DEFAULT, "x86_64")
    assert action(profile, "clone3") == "38"
    assert action(profile, "clone", 0x11) == ALLOW
    assert action(profile, "clone", 0x10000000) == "1"  # CLONE_NEWUSER
    assert action(profile, "socket", 2) == ALLOW
    assert action(profile, "socket", 40) == "1"
    assert action(profile, "personality", 8) == ALLOW
    assert action(profile, "personality", 0x40000) == "1"
    assert action(default_profile(DEFAULT, "s390x"), "clone", 0x10000000, 0) == ALLOW


def test_default_profile_follows_capabilities() -> None:
    admin = default_profile(["CAP_SYS_ADMIN"], "x86_64")
    for name in ("mount", "clone3", "unshare", "bpf", "syslog"):
        assert action(admin, name) == ALLOW
    assert action(admin, "clone", 0x10000000) == ALLOW
    assert action(admin, "chroot") == "1"
    assert action(default_profile(["CAP_SYS_TIME"], "x86_64"), "settimeofday") == ALLOW
    assert action(default_profile([], "aarch64"), "sync_file_range2") == ALLOW
    assert action(default_profile([], "x86_64"), "sync_file_range2") == "1"


def test_client_profile_conditions() -> None:
    text = json.dumps(
        {
            "defaultAction": "SCMP_ACT_ERRNO",
            "archMap": [{"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"]}],
            "syscalls": [
                {"names": ["read"], "action": ALLOW},
                {"name": "write", "action": ALLOW, "args": [{"index": 0, "value": 1, "op": "SCMP_CMP_EQ"}]},
                {"names": ["mount"], "action": ALLOW, "includes": {"caps": ["CAP_SYS_ADMIN"]}},
                {"names": ["ptrace"], "action": ALLOW, "includes": {"minKernel": "4.8"}},
                {"names": ["bpf"], "action": ALLOW, "includes": {"minKernel": "99.0"}},
                {"names": ["brk"], "action": ALLOW, "includes": {"arches": ["arm64"]}},
                {"names": ["mmap"], "action": ALLOW, "excludes": {"arches": ["amd64"]}},
            ],
        }
    )
    profile = client_profile(text, ["CAP_CHOWN"], "x86_64")
    assert profile["architectures"] == ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"]
    assert [rule["names"][0] for rule in profile["syscalls"]] == ["read", "write", "ptrace"]


@pytest.mark.parametrize(
    "text",
    ["", "nonsense", "[]", "{}", '{"defaultAction": 3}', '{"defaultAction": "x", "syscalls": [5]}',
     '{"defaultAction": "x", "syscalls": [{"names": ["a"], "name": "b", "action": "x"}]}'],
)  # fmt: skip
def test_CRE28_bad_profiles_are_refused(text: str) -> None:
    with pytest.raises(InvalidProfile):
        check_profile(text)


def test_choose(tmp_path: Path) -> None:
    runtime = SimpleNamespace(filters=None, identity="r 1", root=tmp_path)
    plain = HostConfig()
    assert choose(runtime, "unconfined", plain) == {}  # type: ignore[arg-type]
    assert choose(runtime, None, HostConfig(privileged=True)) == {}  # type: ignore[arg-type]
    profile = choose(runtime, None, plain)  # type: ignore[arg-type]
    assert isinstance(profile, dict)
    assert profile["defaultErrnoRet"] == 1


def test_filter_cache_learns_what_the_runtime_compiled(tmp_path: Path) -> None:
    runtime = SimpleNamespace(identity="crun 1", root=tmp_path / "state")
    (runtime.root / "c1").mkdir(parents=True)
    profile = default_profile(DEFAULT)
    config = json.dumps({"linux": {"seccomp": profile}}).encode()
    cache = FilterCache(tmp_path / "cache", runtime)  # type: ignore[arg-type]
    assert cache.ready(profile) == profile
    cache.learn("c1", config)
    assert cache.ready(profile) == profile  # nothing was compiled
    (runtime.root / "c1/seccomp.bpf").write_bytes(b"12345678" * 3)
    cache.learn("c1", config)
    assert cache.ready(profile) == "MTIzNDU2NzgxMjM0NTY3ODEyMzQ1Njc4"
    again = FilterCache(tmp_path / "cache", runtime)  # type: ignore[arg-type]
    assert again.ready(profile) == "MTIzNDU2NzgxMjM0NTY3ODEyMzQ1Njc4"
    runtime.identity = "crun 2"
    assert FilterCache(tmp_path / "cache", runtime).ready(profile) == profile  # type: ignore[arg-type]


def test_filter_cache_leaves_profiles_with_flags_alone(tmp_path: Path) -> None:
    runtime = SimpleNamespace(identity="crun 1", root=tmp_path)
    cache = FilterCache(tmp_path / "cache", runtime)  # type: ignore[arg-type]
    for more in ({"flags": ["SECCOMP_FILTER_FLAG_LOG"]}, {"listenerPath": "/x"}):
        profile = {"defaultAction": ALLOW, **more}
        cache.keep(profile, b"12345678")
        assert cache.ready(profile) == profile
