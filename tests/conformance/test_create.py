"""POST /containers/create: semantics section 1."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest

from tests.support.engines import Engine
from tests.support.http import Answer

PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@pytest.fixture(scope="session")
def rich_image(running_engine: Engine) -> str:
    """An image whose configuration fills every field that create merges."""
    config = {
        "Cmd": ["from-image"],
        "Entrypoint": ["echo", "entry"],
        "Env": [PATH, "COLOUR=red", "SIZE=big"],
        "Labels": {"kind": "rich", "owner": "image"},
        "ExposedPorts": {"81/tcp": {}},
        "Volumes": {"/data": {}},
        "User": "user",
        "WorkingDir": "/srv/work",
        "StopSignal": "SIGUSR1",
    }
    running_engine.load_image("rich:latest", config, {"data": None, "data/seed.txt": b"seed\n"})
    return "rich:latest"


def refused(engine: Engine, status: int, message: str, **body: Any) -> None:
    """The create is refused with these words, and nothing is left behind."""
    answer = engine.try_create("true", name="refused", **body)
    assert (answer.status, message in answer.message) == (status, True), answer
    assert engine.containers() == []
    retried = engine.try_create("true", name="refused")
    assert retried.status == 201, "the name was not released"
    engine.http.delete("/containers/refused")


def test_CRE1_warnings_is_always_a_list(engine: Engine) -> None:
    answer = engine.try_create("true")
    assert (answer.status, answer.reason, answer.json["Warnings"]) == (201, "Created", [])
    assert set(answer.json) == {"Id", "Warnings"}


def test_CRE1_order_of_checks(engine: Engine) -> None:
    answer = engine.try_create(Image="nosuch", HostConfig={"Memory": 4})
    assert answer.status == 400, "settings are checked before the image"
    engine.create("true", name="taken")
    assert engine.try_create(Image="nosuch", name="taken").status == 404, "the image before the name"


def test_CRE3_image_missing_and_platform(engine: Engine) -> None:
    refused(engine, 404, "No such image: nosuch:img", Image="nosuch:img")
    answer = engine.http.post("/containers/create", query={"platform": "windows/amd64"}, json={"Image": "busybox"})
    assert (answer.status, "busybox" in answer.message) == (404, True)
    if not engine.is_dockerd:
        assert (
            "was found but does not match the specified platform: wanted windows/amd64, actual: linux/"
            in answer.message
        )
    answer = engine.http.post("/containers/create", query={"platform": "a/b/c/d/e"}, json={"Image": "busybox"})
    assert answer.status == 400


def test_CRE4_name_taken(engine: Engine) -> None:
    first = engine.create("true", name="taken")
    answer = engine.try_create("true", name="taken")
    assert answer.status == 409
    assert answer.message == (
        f'Conflict. The container name "/taken" is already in use by container "{first}". '
        "You have to remove (or rename) that container to be able to reuse that name."
    )


def test_CRE4_name_reservation_is_atomic(engine: Engine) -> None:
    answers: list[Answer] = []
    threads = [
        threading.Thread(target=lambda: answers.append(engine.try_create("true", name="race"))) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answer.status for answer in answers) == [201] + [409] * 7
    assert len(engine.containers()) == 1


@pytest.mark.parametrize(
    ("request_part", "path", "args"),
    [
        ({}, "echo", ["entry", "from-image"]),
        ({"Cmd": ["x"]}, "echo", ["entry", "x"]),
        ({"Entrypoint": ["cat"]}, "cat", []),
        ({"Entrypoint": ["cat"], "Cmd": ["y"]}, "cat", ["y"]),
        ({"Entrypoint": [""], "Cmd": ["ls", "/"]}, "ls", ["/"]),
        ({"Entrypoint": [], "Cmd": ["ls", "/"]}, "ls", ["/"]),
    ],
)
def test_CRE5_command_and_entrypoint(
    engine: Engine, rich_image: str, request_part: dict[str, Any], path: str, args: list[str]
) -> None:
    details = engine.inspect(engine.create(Image=rich_image, **request_part))
    assert (details["Path"], details["Args"]) == (path, args)


def test_CRE5_no_command(engine: Engine) -> None:
    engine.load_image("commandless:latest", {})
    refused(engine, 400, "No command specified", Image="commandless", Cmd=None)


def test_CRE5_merge_of_the_image_configuration(engine: Engine, rich_image: str) -> None:
    body: dict[str, Any] = {
        "Env": ["COLOUR=blue", "NEW=1"],
        "Labels": {"owner": "request"},
        "ExposedPorts": {"82/tcp": {}},
    }
    config = engine.inspect(engine.create(Image=rich_image, **body))["Config"]
    assert config["Env"] == ["COLOUR=blue", "NEW=1", PATH, "SIZE=big"]
    assert config["Labels"] == {"kind": "rich", "owner": "request"}
    assert set(config["ExposedPorts"]) == {"81/tcp", "82/tcp"}
    assert set(config["Volumes"]) == {"/data"}
    assert (config["User"], config["WorkingDir"], config["StopSignal"]) == ("user", "/srv/work", "SIGUSR1")


def test_CRE6_environment_of_the_process(engine: Engine) -> None:
    code, out, _ = engine.run_to_end("env", Env=["A=1", "B=x=y", "EMPTY="], Hostname="boat")
    assert code == 0
    env = out.decode().splitlines()
    assert {"A=1", "B=x=y", "EMPTY=", "HOSTNAME=boat", "HOME=/root", PATH} == set(env)


def test_CRE6_term_with_a_tty(engine: Engine) -> None:
    container = engine.run("sh", "-c", "echo $TERM", Tty=True)
    engine.wait(container)
    with engine.open_logs(container) as exchange:
        assert exchange.read() == b"xterm\r\n"


def test_CRE6_an_entry_without_equals_removes_the_variable(engine: Engine) -> None:
    code, out, _ = engine.run_to_end("/bin/env", Env=["PATH"])
    assert (code, b"PATH=" in out) == (0, False)
    container = engine.create("env", Env=["PATH"])
    answer = engine.http.post(f"/containers/{container}/start")
    assert (answer.status, "executable file not found" in answer.message) == (400, True)


def test_CRE6_bad_variable(engine: Engine) -> None:
    refused(engine, 400, "invalid environment variable: =x", Env=["=x"])


def test_CRE7_hostname(engine: Engine) -> None:
    container = engine.create("hostname")
    assert engine.inspect(container)["Config"]["Hostname"] == container[:12]
    engine.start(container)
    engine.wait(container)
    assert engine.logs(container)[0].decode() == container[:12] + "\n"
    assert engine.run_to_end("hostname", Hostname="pier")[1] == b"pier\n"
    code, out, _ = engine.run_to_end("cat", "/etc/hostname", Hostname="pier", Domainname="example.org")
    assert (code, out) == (0, b"pier\n")


def test_CRE8_working_directory(engine: Engine) -> None:
    refused(
        engine,
        400,
        "the working directory 'rel' is invalid, it needs to be an absolute path",
        WorkingDir="rel",
    )
    assert engine.run_to_end("pwd", WorkingDir="/made/for/you")[1] == b"/made/for/you\n"
    code, out, _ = engine.run_to_end("stat", "-c", "%a %u", "/made/for/you", WorkingDir="/made/for/you")
    assert (code, out) == (0, b"755 0\n")


@pytest.mark.parametrize("signal", ["SIGUSR1", "usr1", "10", "SIGRTMIN+3"])
def test_CRE9_stop_signals(engine: Engine, signal: str) -> None:
    assert engine.inspect(engine.create("true", StopSignal=signal))["Config"]["StopSignal"] == signal


def test_CRE9_bad_stop_signal(engine: Engine) -> None:
    message = "Invalid signal: SIGFOO" if engine.is_dockerd else "invalid signal: SIGFOO"
    refused(engine, 400, message, StopSignal="SIGFOO")


def test_CRE10_health_check_values(engine: Engine) -> None:
    words = "Interval in Healthcheck cannot be less than"
    refused(engine, 400, words, Healthcheck={"Test": ["CMD", "true"], "Interval": 1000})
    refused_retries = engine.try_create("true", Healthcheck={"Test": ["CMD", "true"], "Retries": -1})
    assert refused_retries.status == 400


@pytest.mark.parametrize(
    ("host", "message"),
    [
        (
            {"RestartPolicy": {"Name": "always", "MaximumRetryCount": 3}},
            "maximum retry count cannot be used with restart policy 'always'",
        ),
        ({"RestartPolicy": {"Name": "sometimes"}}, "invalid restart policy 'sometimes'"),
        (
            {"RestartPolicy": {"Name": "always"}, "AutoRemove": True},
            "can't create 'AutoRemove' container with restart policy",
        ),
    ],
)
def test_CRE11_restart_policies(engine: Engine, host: dict[str, Any], message: str) -> None:
    refused(engine, 400, message, HostConfig=host)


def test_CRE12_memory(engine: Engine) -> None:
    refused(engine, 400, "inimum memory limit allowed is 6MB", HostConfig={"Memory": 4096})
    host = engine.inspect(engine.create("true", HostConfig={"Memory": 16 << 20}))["HostConfig"]
    assert host["Memory"] == 16 << 20
    # 2 × Memory where the kernel counts swap; else the engine has to say that it discards it.
    assert host["MemorySwap"] in (32 << 20, -1)
    answer = engine.try_create("true", HostConfig={"Memory": 16 << 20, "MemorySwap": 8 << 20})
    assert answer.status == 400
    answer = engine.try_create("true", HostConfig={"MemorySwap": 32 << 20})
    assert answer.status == 400


@pytest.mark.parametrize(
    ("host", "message"),
    [
        ({"NanoCpus": 10**9, "CpuPeriod": 100000}, "Conflicting options: Nano CPUs and CPU Period cannot both be set"),
        ({"NanoCpus": 10**9, "CpuQuota": 100000}, "Conflicting options: Nano CPUs and CPU Quota cannot both be set"),
        ({"NanoCpus": 10**15}, "ange of CPUs is from 0.01 to"),
        ({"CpuPeriod": 5}, "CPU cfs period"),
        ({"CpuQuota": 5}, "CPU cfs quota"),
        ({"CpusetCpus": "0-999"}, "Requested CPUs are not available - requested 0-999, available: 0"),
    ],
)
def test_CRE13_processors(engine: Engine, host: dict[str, Any], message: str) -> None:
    refused(engine, 400, message, HostConfig=host)


def test_CRE13_pids_limit(engine: Engine) -> None:
    for given, stored in ((0, None), (-1, None), (20, 20)):
        host = engine.inspect(engine.create("true", HostConfig={"PidsLimit": given}))["HostConfig"]
        assert host["PidsLimit"] == stored


def test_CRE14_defaults_shown(engine: Engine) -> None:
    host = engine.inspect(engine.create("true"))["HostConfig"]
    expected = {
        "ShmSize": 67108864,
        "IpcMode": "private",
        "OomKillDisable": False,
        "LogConfig": {"Type": "json-file", "Config": {}},
        "NetworkMode": "default",
        "RestartPolicy": {"Name": "", "MaximumRetryCount": 0},
    }
    if not engine.is_dockerd:  # 24 names the default policy; measured in reference/inspect-24.0.9.json
        expected["RestartPolicy"] = host["RestartPolicy"]
        assert host["RestartPolicy"]["Name"] in ("", "no")
    assert {name: host[name] for name in expected} == expected
    assert "/proc/kcore" in host["MaskedPaths"]
    assert "/proc/sysrq-trigger" in host["ReadonlyPaths"]
    on_v2 = Path("/sys/fs/cgroup/cgroup.controllers").exists()
    assert host["CgroupnsMode"] == ("private" if on_v2 else "host")
    if not engine.is_dockerd:  # 20.10 writes it at start; Wherry names the runtime that it really uses
        assert host["Runtime"] in ("crun", "runc")
    privileged = engine.inspect(engine.create("true", HostConfig={"Privileged": True}))["HostConfig"]
    assert (privileged["MaskedPaths"], privileged["ReadonlyPaths"]) == (None, None)


def test_CRE15_capabilities(engine: Engine) -> None:
    refused(engine, 400, 'unknown capability: "CAP_NOPE"', HostConfig={"CapAdd": ["NOPE"]})
    host = {"CapAdd": ["net_admin", "CAP_SYS_TIME"], "CapDrop": ["All"]}
    stored = engine.inspect(engine.create("true", HostConfig=host))["HostConfig"]
    if not engine.is_dockerd:  # 20.10 writes them in one form
        assert (stored["CapAdd"], stored["CapDrop"]) == (host["CapAdd"], host["CapDrop"])


def test_CRE16_log_configuration(engine: Engine) -> None:
    if not engine.is_dockerd:  # it looks for a plug-in of that name, 15 seconds long
        message = 'error looking up logging plugin nope: plugin "nope" not found'
        refused(engine, 400, message, HostConfig={"LogConfig": {"Type": "nope"}})
    options = {"Type": "json-file", "Config": {"foo": "1"}}
    refused(engine, 400, "unknown log opt 'foo' for json-file log driver", HostConfig={"LogConfig": options})


def test_CRE16_a_bad_value_of_a_log_option_fails_the_start(engine: Engine) -> None:
    container = engine.create("true", HostConfig={"LogConfig": {"Type": "json-file", "Config": {"max-size": "abc"}}})
    answer = engine.http.post(f"/containers/{container}/start")
    assert (answer.status, "abc" in answer.message) == (500, True)


def test_CRE17_runtime(engine: Engine) -> None:
    message = "Unknown runtime specified nope" if engine.is_dockerd else "unknown or invalid runtime name: nope"
    refused(engine, 400, message, HostConfig={"Runtime": "nope"})


@pytest.mark.parametrize(
    "body",
    [
        {"Hostname": "h", "HostConfig": {"NetworkMode": "container:x"}},
        {"HostConfig": {"NetworkMode": "container:x", "Dns": ["1.1.1.1"]}},
        {"HostConfig": {"NetworkMode": "container:x", "ExtraHosts": ["a:1.2.3.4"]}},
        {"HostConfig": {"NetworkMode": "container:x", "PortBindings": {"80/tcp": [{"HostPort": "80"}]}}},
        {"ExposedPorts": {"80/tcp": {}}, "HostConfig": {"NetworkMode": "container:x"}},
        {"HostConfig": {"NetworkMode": "container:"}},
        {"HostConfig": {"NetworkMode": "host", "Links": ["a:b"]}},
    ],
)
def test_CRE18_network_conflicts(engine: Engine, body: dict[str, Any]) -> None:
    refused(engine, 400, "", **body)


def test_CRE18_unknown_networks_fail_at_start(engine: Engine) -> None:
    container = engine.create("true", HostConfig={"NetworkMode": "nonet"})
    answer = engine.http.post(f"/containers/{container}/start")
    assert (answer.status, answer.message) == (404, "network nonet not found")
    container = engine.create("true", HostConfig={"NetworkMode": "container:nope"})
    answer = engine.http.post(f"/containers/{container}/start")
    assert (answer.status, answer.message) == (404, "No such container: nope")


def test_CRE18_published_ports_with_the_host_network(engine: Engine) -> None:
    host = {"NetworkMode": "host", "PortBindings": {"80/tcp": [{"HostPort": "8099"}]}}
    answer = engine.try_create("true", HostConfig=host)
    assert answer.status == 201
    if not engine.is_dockerd:  # 20.10 warns too, but only through the command line
        assert answer.json["Warnings"] == ["Published ports are discarded when using host network mode"]


@pytest.mark.parametrize("port", ["abc", "99999", "-1"])
def test_CRE20_bad_ports(engine: Engine, port: str) -> None:
    message = "invalid port specification: " + json.dumps(port)
    refused(engine, 400, message, HostConfig={"PortBindings": {port: [{"HostPort": "80"}]}})


@pytest.mark.parametrize(
    ("bind", "status", "message"),
    [
        ("/tmp:/x:zz", 500, "invalid mode: zz"),
        ("/tmp:rel", 500, "mount path must be absolute"),
        ("/tmp:/", 500, ""),
        ("a:b:c:d", 500, ""),
        ("bad name!:/x", 400, "includes invalid characters for a local volume name"),
    ],
)
def test_CRE21_bad_binds(engine: Engine, bind: str, status: int, message: str) -> None:
    refused(engine, status, message, HostConfig={"Binds": [bind]})


def test_CRE22_missing_bind_sources(engine: Engine, tmp_path: Path) -> None:
    mount = {"Type": "bind", "Source": str(tmp_path / "nope"), "Target": "/x"}
    refused(engine, 400, "bind source path does not exist", HostConfig={"Mounts": [mount]})
    refused(engine, 400, "mount type unknown", HostConfig={"Mounts": [mount | {"Type": "zz"}]})
    missing = tmp_path / "made" / "at-start"
    container = engine.create("ls", "-d", "/x", HostConfig={"Binds": [f"{missing}:/x"]})
    assert not missing.exists()
    engine.start(container)
    assert engine.wait(container) == 0
    assert missing.is_dir()


def test_CRE23_duplicate_mount_points(engine: Engine, tmp_path: Path) -> None:
    binds = [f"{tmp_path}:/a", f"{tmp_path}:/a/"]
    refused(engine, 400, "Duplicate mount point: /a", HostConfig={"Binds": binds})
    mounts = {"Binds": [f"{tmp_path}:/a"], "Tmpfs": {"/a": ""}}
    if not engine.is_dockerd:  # 20.10 does not compare the two
        refused(engine, 400, "Duplicate mount point: /a", HostConfig=mounts)


def test_CRE24_anonymous_volumes_take_the_images_content(engine: Engine, rich_image: str) -> None:
    code, out, _ = engine.run_to_end(Image=rich_image, Entrypoint=["cat"], Cmd=["/data/seed.txt"])
    assert (code, out) == (0, b"seed\n")
    mounts = engine.inspect(engine.containers()[0])["Mounts"]
    assert [(m["Type"], m["Destination"], m["RW"]) for m in mounts] == [("volume", "/data", True)]
    assert len(mounts[0]["Name"]) == 64


def test_CRE25_console_size(engine: Engine) -> None:
    if engine.is_dockerd:
        return  # since API 1.42 only
    container = engine.run("stty", "size", Tty=True, HostConfig={"ConsoleSize": [40, 100]})
    assert engine.wait(container) == 0
    with engine.open_logs(container) as exchange:
        assert exchange.read() == b"40 100\r\n"


def test_CRE26_after_create(engine: Engine) -> None:
    container = engine.create("true")
    details = engine.inspect(container)
    state = details["State"]
    assert (state["Status"], state["Running"], state["Pid"], state["ExitCode"]) == ("created", False, 0, 0)
    assert details["NetworkSettings"]["Networks"]["bridge"]["IPAddress"] == ""
    assert not Path(details["LogPath"] or "/nonexistent").exists()


@pytest.mark.parametrize("option", ["nonsense", "nonsense=1", "seccomp={"])
def test_CRE28_bad_security_options(engine: Engine, option: str) -> None:
    answer = engine.try_create("true", HostConfig={"SecurityOpt": [option]})
    if answer.status == 201:  # a bad profile may be found at start
        answer = engine.http.post(f"/containers/{answer.json['Id']}/start")
    assert answer.status in (400, 500)
    if option.startswith("nonsense"):
        assert answer.status == (500 if engine.is_dockerd else 400)  # 20.10: untyped
        assert "invalid --security-opt" in answer.message


def test_CRE28_no_new_privileges(engine: Engine) -> None:
    for options, shown in ([], b"0"), (["no-new-privileges"], b"1"), (["no-new-privileges:true"], b"1"):
        _, out, _ = engine.run_to_end("grep", "NoNewPrivs", "/proc/self/status", HostConfig={"SecurityOpt": options})
        assert out.split() == [b"NoNewPrivs:", shown]
