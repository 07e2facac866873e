"""The shipped unit: containers outlive what systemd does to the engine, and stay where systemd has no say."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

from tests.support.http import eventually
from tests.vm.conftest import GROUPS, UnitEngine, systemctl

COUNT = "i=0; while :; do echo $i; i=$((i+1)); sleep 1; done"


def lines(unit: UnitEngine, container: str) -> list[int]:
    return [int(line) for line in unit.logs(container)[0].split()]


def test_a_started_unit_answers_at_once(unit: UnitEngine) -> None:
    systemctl("restart", "wherry")
    assert unit.http.get("/_ping").body == b"OK"


def test_containers_have_groups_of_the_engines_own_and_monitors_the_units(unit: UnitEngine) -> None:
    container = unit.run_idle()
    group = unit.group(container)
    assert group.name == container
    assert group.parent.parent == GROUPS
    assert group.parent.name.startswith("wherry-")
    assert {"cpu", "cpuset", "io", "memory", "pids"} <= set((group / "cgroup.controllers").read_text().split())
    assert not (group.parent / "cgroup.procs").read_text()  # no process in an inner node
    assert set(unit.monitors().values()) == {"/system.slice/wherry.service"}


def test_what_the_unit_is_given_does_not_reach_containers(unit: UnitEngine) -> None:
    drop_in = Path("/etc/systemd/system/wherry.service.d/score.conf")
    drop_in.parent.mkdir()
    try:
        drop_in.write_text("[Service]\nOOMScoreAdjust=-500\nEnvironment=ONLY_THE_ENGINES=1\n")
        systemctl("daemon-reload")
        systemctl("restart", "wherry")
        assert Path(f"/proc/{unit.pid}/oom_score_adj").read_text() == "-500\n"
        container = unit.run("sh", "-c", "cat /proc/self/oom_score_adj; env; exec sleep 1000")
        eventually(lambda: unit.logs(container)[0].startswith(b"0\n"), what=lambda: unit.logs(container))
        assert unit.exec(container, "cat", "/proc/self/oom_score_adj")[1] == b"0\n"
        for environment in (unit.logs(container)[0], unit.exec(container, "env")[1]):
            assert b"NOTIFY_SOCKET" not in environment
            assert b"ONLY_THE_ENGINES" not in environment
    finally:
        drop_in.unlink()
        drop_in.parent.rmdir()
        systemctl("daemon-reload")
        systemctl("restart", "wherry")


def test_a_restart_leaves_containers_running(unit: UnitEngine) -> None:
    container = unit.run("sh", "-c", COUNT)
    before, monitors, engine = unit.state(container)["Pid"], set(unit.monitors()), unit.pid
    systemctl("restart", "wherry")
    assert unit.pid != engine
    assert (unit.state(container)["Status"], unit.state(container)["Pid"]) == ("running", before)
    assert set(unit.monitors()) == monitors
    assert unit.exec(container, "echo", "in")[:2] == (0, b"in\n")
    numbers = lines(unit, container)
    assert numbers == list(range(len(numbers)))


def test_a_stop_leaves_monitors_that_go_on_writing_and_see_the_end(unit: UnitEngine) -> None:
    counting = unit.run("sh", "-c", COUNT)
    ending = unit.run("sh", "-c", "while [ ! -e /go ]; do sleep 0.1; done; echo last; exit 7")
    pids = {name: unit.state(name)["Pid"] for name in (counting, ending)}
    monitors = set(unit.monitors())
    seen = len(lines(unit, counting))
    systemctl("stop", "wherry")
    assert systemctl("is-active", "wherry", check=False) == "inactive"
    assert set(unit.monitors()) == monitors
    assert all(Path(f"/proc/{pid}").exists() for pid in pids.values())
    Path(f"/proc/{pids[ending]}/root/go").touch()
    eventually(lambda: not Path(f"/proc/{pids[ending]}").exists(), what="the container ends by itself")
    systemctl("start", "wherry")
    assert (unit.status(ending), unit.state(ending)["ExitCode"]) == ("exited", 7)
    assert unit.logs(ending)[0] == b"last\n"
    assert unit.state(counting)["Pid"] == pids[counting]
    eventually(lambda: len(lines(unit, counting)) > seen + 1)
    numbers = lines(unit, counting)
    assert numbers == list(range(len(numbers)))


def test_an_engine_that_is_killed_is_started_again(unit: UnitEngine) -> None:
    container = unit.run_idle()
    before, engine = unit.state(container)["Pid"], unit.pid
    os.kill(engine, signal.SIGKILL)
    eventually(lambda: unit.pid not in (0, engine), what="systemd starts it again")
    eventually(lambda: os.path.exists(unit.socket_path))
    systemctl("start", "wherry")  # waits until it is ready
    assert (unit.status(container), unit.state(container)["Pid"]) == ("running", before)


def test_what_systemd_does_elsewhere_takes_no_controller_away(unit: UnitEngine) -> None:
    container = unit.run_idle(HostConfig={"Memory": 32 << 20, "PidsLimit": 50, "CpuShares": 512})
    group = unit.group(container)
    subprocess.run(["systemd-run", "--quiet", "--wait", "-p", "IOWeight=50", "-p", "AllowedCPUs=0", "true"], check=True)
    systemctl("daemon-reload")
    systemctl("daemon-reexec")
    systemctl("restart", "wherry")
    assert (group / "memory.max").read_text() == f"{32 << 20}\n"
    assert (group / "pids.max").read_text() == "50\n"
    later = unit.run_idle(HostConfig={"CpusetCpus": "0", "Memory": 32 << 20})
    assert (unit.group(later) / "cpuset.cpus").read_text() == "0\n"


def test_reloaded_firewall_rules_of_the_machine_come_back_with_the_engine(unit: UnitEngine) -> None:
    port = {"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": "8123"}]}
    unit.run("httpd", "-f", "-h", "/var/www", ExposedPorts={"80/tcp": {}}, HostConfig={"PortBindings": port})

    def page() -> bytes:
        try:
            with unit.connect_tcp("127.0.0.1", 8123) as connection:
                connection.sendall(b"GET /index.html HTTP/1.0\r\n\r\n")
                return b"".join(iter(lambda: connection.recv(4096), b""))
        except OSError:
            return b""

    eventually(lambda: b"It works" in page())
    systemctl("restart", "nftables")  # Debian's file begins with "flush ruleset"
    systemctl("restart", "wherry")
    eventually(lambda: b"It works" in page())


def test_name_servers_behind_the_stub_of_resolved(unit: UnitEngine) -> None:
    assert "127.0.0.53" in Path("/etc/resolv.conf").read_text()
    out = unit.run_to_end("cat", "/etc/resolv.conf")[1].decode()
    assert "nameserver 10.0.2.3" in out
    assert "127.0.0.53" not in out
    out = unit.run_to_end("cat", "/etc/resolv.conf", HostConfig={"NetworkMode": "host"})[1].decode()
    assert "nameserver 127.0.0.53" in out  # reachable there


def test_names_in_a_user_network_outlive_a_stop(unit: UnitEngine) -> None:
    created = unit.http.post("/networks/create", json={"Name": "side"})
    assert created.status == 201, created
    try:
        unit.run_idle(name="one", HostConfig={"NetworkMode": "side"})
        two = unit.run("sh", "-c", "while :; do ping -c 1 -W 2 one >/dev/null && echo yes; sleep 0.5; done",
                       HostConfig={"NetworkMode": "side"})  # fmt: skip
        eventually(lambda: b"yes" in unit.logs(two)[0], what=lambda: unit.logs(two))
        systemctl("restart", "wherry")
        before = len(unit.logs(two)[0])
        eventually(lambda: len(unit.logs(two)[0]) > before, what=lambda: unit.logs(two))
    finally:
        unit.remove_all()
        unit.http.delete("/networks/side")


def test_doctor_finds_nothing_amiss(unit: UnitEngine) -> None:
    done = subprocess.run(["wherry", "doctor"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done
    print(done.stdout)
    assert "version 2, controllers cpu cpuset" in done.stdout
    info = unit.http.get("/info").json
    assert (info["CgroupVersion"], info["CgroupDriver"]) == ("2", "cgroupfs")
    assert not info.get("Warnings"), info["Warnings"]
    assert "name=cgroupns" in info["SecurityOptions"]


def test_the_docker_command_line(unit: UnitEngine) -> None:
    env = os.environ | {"DOCKER_HOST": unit.address}
    command = [
        "docker",
        "run",
        "--rm",
        "-m",
        "32m",
        "--memory-swap",
        "32m",
        "busybox",
        "cat",
        "/sys/fs/cgroup/memory.max",
    ]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{32 << 20}\n", "")
    unit.run_idle(name="shown")
    done = subprocess.run(["docker", "stats", "--no-stream"], env=env, capture_output=True, text=True, check=True)
    assert "shown" in done.stdout


def test_CRE28_a_profile_of_apparmor(unit: UnitEngine, tmp_path: Path) -> None:
    policy = tmp_path / "policy"
    policy.write_text(
        "profile vm-test flags=(attach_disconnected,mediate_deleted) {\n"
        "  file,\n  capability,\n  network,\n  signal,\n  deny /etc/shells r,\n}\n"
    )
    subprocess.run(["apparmor_parser", "--replace", "--skip-cache", policy], check=True)
    container = unit.run_idle(HostConfig={"SecurityOpt": ["apparmor=vm-test"]})
    assert unit.inspect(container)["AppArmorProfile"] == "vm-test"
    assert Path(f"/proc/{unit.state(container)['Pid']}/attr/current").read_text().strip() == "vm-test (enforce)"
    assert unit.exec(container, "cat", "/etc/shells")[0] == 1
    assert unit.exec(container, "cat", "/etc/group")[0] == 0
    free = unit.run_idle()
    assert unit.exec(free, "cat", "/etc/shells")[0] == 0
    lacking = unit.create("true", HostConfig={"SecurityOpt": ["apparmor=no-such-profile"]})
    answer = unit.http.post(f"/containers/{lacking}/start")
    assert answer.status == 500, answer
    assert "no-such-profile" in answer.message or "apparmor" in answer.message.lower()
