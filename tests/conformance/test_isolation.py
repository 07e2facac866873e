"""What a process in a container has and has not: users, capabilities, seccomp, mounts, limits."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support.engines import Engine
from tests.support.http import eventually

DEFAULT_CAPABILITIES = 0xA80425FB


def status_field(engine: Engine, name: str, **options: object) -> str:
    code, out, err = engine.run_to_end("grep", f"^{name}:", "/proc/self/status", **options)
    assert code == 0, err
    return out.decode().split()[1]


@pytest.mark.parametrize(
    ("user", "expected"),
    [
        ("", "uid=0(root) gid=0(root)"),
        ("user", "uid=1000(user) gid=1000(user) groups=50(staff),1000(user)"),
        ("1000", "uid=1000(user) gid=1000(user) groups=50(staff),1000(user)"),
        ("1000:50", "uid=1000(user) gid=50(staff)"),
        ("user:staff", "uid=1000(user) gid=50(staff)"),
        ("4242", "uid=4242 gid=0(root)"),
        ("4242:4343", "uid=4242 gid=4343"),
    ],
)
def test_user(engine: Engine, user: str, expected: str) -> None:
    code, out, _ = engine.run_to_end("id", User=user)
    assert (code, out.decode().split(" groups=")[0]) == (0, expected.split(" groups=")[0])
    if "groups=" in expected:
        groups = set(out.decode().strip().split("groups=")[1].split(","))
        assert groups == set(expected.split("groups=")[1].split(","))


def test_group_add(engine: Engine) -> None:
    _, out, _ = engine.run_to_end("id", "-G", User="user", HostConfig={"GroupAdd": ["777", "nogroup"]})
    assert {"777", "65534"} <= set(out.decode().split())


def test_home(engine: Engine) -> None:
    assert engine.run_to_end("sh", "-c", "echo $HOME", User="user")[1] == b"/home/user\n"
    assert engine.run_to_end("sh", "-c", "echo $HOME", User="4242")[1] == b"/\n"


def test_capabilities(engine: Engine) -> None:
    assert int(status_field(engine, "CapEff"), 16) == DEFAULT_CAPABILITIES
    assert int(status_field(engine, "CapBnd"), 16) == DEFAULT_CAPABILITIES
    assert int(status_field(engine, "CapEff", User="user"), 16) == 0
    added = int(status_field(engine, "CapEff", HostConfig={"CapAdd": ["NET_ADMIN"]}), 16)
    assert added == DEFAULT_CAPABILITIES | 1 << 12
    dropped = {"CapDrop": ["ALL"], "CapAdd": ["CHOWN"]}
    assert int(status_field(engine, "CapEff", HostConfig=dropped), 16) == 1
    if not engine.is_dockerd:
        assert int(status_field(engine, "CapInh"), 16) == 0


def test_seccomp(engine: Engine) -> None:
    assert status_field(engine, "Seccomp") == "2"
    container = engine.run_idle()
    assert engine.exec(container, "grep", "^Seccomp:", "/proc/self/status")[1].split()[1] == b"2"
    assert status_field(engine, "Seccomp", HostConfig={"SecurityOpt": ["seccomp=unconfined"]}) == "0"


def test_seccomp_refuses_what_the_default_profile_refuses(engine: Engine) -> None:
    code, _, err = engine.run_to_end("unshare", "-U", "true", User="user")
    assert code != 0
    assert b"Operation not permitted" in err


def test_namespaces_are_its_own(engine: Engine) -> None:
    links = "for n in ipc mnt net pid uts; do readlink /proc/self/ns/$n; done"
    own = engine.run_to_end("sh", "-c", links)[1].decode().split()
    host = {os.readlink(f"/proc/self/ns/{name}") for name in ("ipc", "mnt", "net", "pid", "uts")}
    assert len(own) == 5
    assert not set(own) & host
    processes = engine.run_to_end("sh", "-c", "ls -d /proc/[0-9]* | wc -l")[1]
    assert int(processes) <= 4


def test_masked_and_read_only_paths(engine: Engine) -> None:
    assert engine.run_to_end("cat", "/proc/kcore")[:2] in ((0, b""), (1, b""))
    code, _, err = engine.run_to_end("sh", "-c", "echo 1 > /proc/sys/kernel/domainname")
    assert (code != 0, b"ead-only file system" in err or b"Read-only" in err) == (True, True)
    code, _, err = engine.run_to_end("mkdir", "/sys/x")
    assert (code != 0, b"Read-only file system" in err) == (True, True)


def test_devices(engine: Engine) -> None:
    script = "echo x > /dev/null && head -c 4 /dev/zero | wc -c && head -c 4 /dev/urandom | wc -c && ls /dev"
    code, out, _ = engine.run_to_end("sh", "-c", script)
    assert code == 0
    lines = out.decode().split()
    assert lines[:2] == ["4", "4"]
    assert {"null", "zero", "full", "random", "urandom", "tty", "ptmx", "pts", "shm", "mqueue", "fd", "stdin"} <= set(
        lines
    )
    code, _, _ = engine.run_to_end("sh", "-c", "mknod /tmp/m b 1 1 && dd if=/tmp/m of=/dev/null bs=1 count=1")
    assert code != 0, "a device outside the list must not open"


def test_read_only_root(engine: Engine) -> None:
    host = {"ReadonlyRootfs": True, "Tmpfs": {"/scratch": "size=1m,mode=1777"}}
    code, out, err = engine.run_to_end("sh", "-c", "touch /x; touch /scratch/y && ls /scratch", HostConfig=host)
    assert (code, out) == (0, b"y\n")
    assert b"Read-only file system" in err


def test_tmpfs(engine: Engine) -> None:
    code, out, _ = engine.run_to_end(
        "sh",
        "-c",
        "grep ' /scratch ' /proc/mounts; stat -c %a /scratch",
        HostConfig={"Tmpfs": {"/scratch": "size=2m,mode=700"}},
    )
    assert code == 0
    mount, mode = out.decode().splitlines()
    assert mount.startswith("tmpfs /scratch tmpfs rw,nosuid,nodev,noexec,")
    assert ("size=2048k" in mount, mode) == (True, "700")


def test_binds(engine: Engine, tmp_path: Path) -> None:
    (tmp_path / "in").write_text("from host")
    (tmp_path / "file").write_text("a file")
    binds = [f"{tmp_path}:/rw", f"{tmp_path}:/ro:ro", f"{tmp_path}/file:/etc/one:ro"]
    script = "cat /ro/in /etc/one; echo out > /rw/out; echo no > /ro/no"
    code, out, err = engine.run_to_end("sh", "-c", script, HostConfig={"Binds": binds})
    assert (code, out) == (1, b"from hosta file")
    assert b"Read-only file system" in err
    assert (tmp_path / "out").read_text() == "out\n"
    assert not (tmp_path / "no").exists()
    mounts = {m["Destination"]: m for m in engine.inspect(engine.containers()[0])["Mounts"]}
    assert (mounts["/ro"]["RW"], mounts["/rw"]["RW"]) == (False, True)
    assert (mounts["/ro"]["Type"], mounts["/ro"]["Source"], mounts["/ro"]["Mode"]) == ("bind", str(tmp_path), "ro")
    assert mounts["/rw"]["Propagation"] == "rprivate"


def test_mounts(engine: Engine, tmp_path: Path) -> None:
    (tmp_path / "f").write_text("mounted")
    mounts = [
        {"Type": "bind", "Source": str(tmp_path), "Target": "/m", "ReadOnly": True},
        {"Type": "tmpfs", "Target": "/t", "TmpfsOptions": {"SizeBytes": 1 << 20}},
    ]
    code, out, _ = engine.run_to_end(
        "sh", "-c", "cat /m/f; touch /m/x || touch /t/x && echo ok", HostConfig={"Mounts": mounts}
    )
    assert (code, out) == (0, b"mountedok\n")


def test_writes_stay_in_the_container(engine: Engine) -> None:
    container = engine.run("sh", "-c", "echo changed > /etc/group; rm /bin/cp")
    assert engine.wait(container) == 0
    assert engine.run_to_end("sh", "-c", "test -e /bin/cp && grep staff /etc/group")[:2] == (0, b"staff:x:50:user\n")
    engine.start(container)
    assert engine.wait(container) == 1, "what it wrote is still there at its next start"


def test_memory_limit(engine: Engine) -> None:
    container = engine.run_idle(HostConfig={"Memory": 32 << 20})
    for path in ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory.max"):
        code, out, _ = engine.exec(container, "cat", path)
        if code == 0:
            assert int(out) == 32 << 20
            return
    raise AssertionError("the limit is seen nowhere")


def test_cpu_and_pids_limits(engine: Engine) -> None:
    container = engine.run_idle(HostConfig={"NanoCpus": 500_000_000, "PidsLimit": 20, "CpuShares": 512})
    seen = b"".join(
        engine.exec(container, "cat", path)[1]
        for path in (
            "/sys/fs/cgroup/cpu/cpu.cfs_quota_us",
            "/sys/fs/cgroup/cpu.max",
            "/sys/fs/cgroup/pids/pids.max",
            "/sys/fs/cgroup/pids.max",
        )
    )
    assert seen.split() in ([b"50000", b"20"], [b"50000", b"100000", b"20"])
    script = "i=0; while [ $i -lt 40 ]; do sleep 5 & i=$((i+1)); done; wait"
    _, _, err = engine.exec(container, "sh", "-c", script)
    assert b"fork" in err or b"Resource temporarily unavailable" in err


def test_ulimits_and_sysctls(engine: Engine) -> None:
    host = {
        "Ulimits": [{"Name": "nofile", "Soft": 100, "Hard": 200}],
        "Sysctls": {"net.ipv4.ip_unprivileged_port_start": "81"},
    }
    script = "ulimit -Sn; ulimit -Hn; cat /proc/sys/net/ipv4/ip_unprivileged_port_start"
    assert engine.run_to_end("sh", "-c", script, HostConfig=host)[1].split() == [b"100", b"200", b"81"]


def test_shm_size_and_oom_score(engine: Engine) -> None:
    script = "grep ' /dev/shm ' /proc/mounts; cat /proc/self/oom_score_adj"
    mount, score = engine.run_to_end("sh", "-c", script, HostConfig={"ShmSize": 2 << 20, "OomScoreAdj": 500})[
        1
    ].splitlines()
    assert (b"size=2048k" in mount, score) == (True, b"500")


def test_pid_and_ipc_of_another_container(engine: Engine) -> None:
    first = engine.run_idle(HostConfig={"IpcMode": "shareable"})
    host = {"PidMode": f"container:{first}", "IpcMode": f"container:{first}", "NetworkMode": f"container:{first}"}
    second = engine.run_idle(HostConfig=host)
    for name in ("pid", "ipc", "net"):
        link = f"/proc/self/ns/{name}"
        assert engine.exec(first, "readlink", link)[1] == engine.exec(second, "readlink", link)[1]


def test_init_process_is_reaped_with_its_children(engine: Engine) -> None:
    container = engine.run("sh", "-c", "sleep 1000 & echo ready; wait")
    eventually(lambda: engine.logs(container)[0] == b"ready\n")
    assert engine.http.post(f"/containers/{container}/kill").status == 204
    assert engine.state(container)["Pid"] == 0
