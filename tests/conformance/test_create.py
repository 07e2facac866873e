"""POST /containers/create: what is checked, completed and answered."""

from __future__ import annotations

import io
import json
import re
import tarfile
import threading
from pathlib import Path
from typing import Any

import pytest

from scripts.make_images import docker_archive
from tests.support.engines import Engine, busybox_layer_once
from tests.support.http import Answer, eventually
from tests.support.scenes import refused


def foreign(archive: bytes) -> bytes:
    """The same image, said to be for another architecture."""
    made = io.BytesIO()
    with tarfile.open(fileobj=io.BytesIO(archive)) as old, tarfile.open(fileobj=made, mode="w") as new:
        for member in old:
            data = b"" if not member.isfile() else old.extractfile(member).read()  # type: ignore[union-attr]
            if member.name.endswith(".json") and member.name != "manifest.json":
                data = json.dumps(json.loads(data) | {"architecture": "s390x"}).encode()
            member.size = len(data)
            new.addfile(member, io.BytesIO(data))
    return made.getvalue()


def test_CRE1_warnings_is_always_a_list(engine: Engine) -> None:
    answer = engine.try_create("true")
    assert (answer.status, answer.reason, answer.json["Warnings"]) == (201, "Created", [])
    assert set(answer.json) == {"Id", "Warnings"}


def test_CRE1_order_of_checks(engine: Engine) -> None:
    answer = engine.try_create(Image="nosuch", HostConfig={"Memory": 4})
    assert answer.status == 400, "settings are checked before the image"
    engine.create("true", name="taken")
    assert engine.try_create(Image="nosuch", name="taken").status == 404, "the image before the name"


def test_CRE2a_the_parts_of_the_body(engine: Engine) -> None:
    body: dict[str, Any] = {
        "Hostname": "boat",
        "HostConfig": {"Memory": 32 << 20},
        "NetworkingConfig": {"EndpointsConfig": {"bridge": {"Links": None}}},
    }
    details = engine.inspect(engine.create("true", **body))
    assert details["Config"]["Hostname"] == "boat"
    assert details["HostConfig"]["Memory"] == 32 << 20
    assert list(details["NetworkSettings"]["Networks"]) == ["bridge"]


def test_CRE3d_an_image_of_another_machine_is_warned_of(engine: Engine) -> None:
    archive = docker_archive([busybox_layer_once()], {"Cmd": ["true"]}, ["foreign:latest"])
    engine.load(foreign(archive))
    answer = engine.try_create(Image="foreign")
    assert answer.status == 201, answer
    if not engine.is_dockerd:  # 20.10 words it in another way
        (warning,) = answer.json["Warnings"]
        assert re.fullmatch(
            r"The requested image's platform \(linux/s390x\) does not match the detected host platform "
            r"\(linux/\S+\) and no specific platform was requested",
            warning,
        )


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


@pytest.mark.parametrize("signal", ["SIGUSR1", "usr1", "10", "SIGRTMIN+3"])
def test_CRE9_stop_signals(engine: Engine, signal: str) -> None:
    assert engine.inspect(engine.create("true", StopSignal=signal))["Config"]["StopSignal"] == signal


def test_CRE9_bad_stop_signal(engine: Engine) -> None:
    message = "Invalid signal: SIGFOO" if engine.is_dockerd else "invalid signal: SIGFOO"
    refused(engine, 400, message, StopSignal="SIGFOO")


def test_CRE10c_the_start_interval_is_newer_than_1_43(engine: Engine) -> None:
    check = {"Test": ["CMD", "true"], "StartInterval": 5_000_000_000}
    stored = engine.inspect(engine.create("true", Healthcheck=check))["Config"]["Healthcheck"]
    assert not stored.get("StartInterval")


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


def test_CRE12e_what_the_kernel_lacks_is_warned_of(engine: Engine) -> None:
    info = engine.http.get("/info").json
    for flag, host in (
        ("MemoryLimit", {"Memory": 32 << 20}),
        ("PidsLimit", {"PidsLimit": 50}),
        ("CPUShares", {"CpuShares": 512}),
        ("CpuCfsQuota", {"CpuQuota": 50_000}),
        ("CPUSet", {"CpusetCpus": "0"}),
    ):
        answer = engine.try_create("true", HostConfig=host)
        assert answer.status == 201, (flag, answer)
        if info.get(flag):
            assert not [w for w in answer.json["Warnings"] if "swap" not in w], (flag, answer)
        else:
            assert answer.json["Warnings"], flag


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


def test_CRE14c_the_ipc_namespace_of_older_clients(engine: Engine) -> None:
    body: dict[str, Any] = {"Image": "busybox", "HostConfig": {}}
    for version, mode in (("1.39", "shareable"), ("1.40", "private")):
        answer = engine.http.post("/containers/create", json=body, prefix=f"/v{version}")
        assert answer.status == 201
        assert engine.inspect(answer.json["Id"])["HostConfig"]["IpcMode"] == mode


def test_CRE14d_annotations_are_of_1_43(engine: Engine) -> None:
    if engine.is_dockerd:
        return  # 20.10 does not know them
    body = {"Image": "busybox", "HostConfig": {"Annotations": {"a": "b"}}}
    for version, kept in (("1.42", None), ("1.43", {"a": "b"})):
        answer = engine.http.post("/containers/create", json=body, prefix=f"/v{version}")
        assert engine.inspect(answer.json["Id"])["HostConfig"].get("Annotations") == kept


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
    if not engine.is_dockerd:  # 24.0.9 may name the default policy
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


@pytest.mark.parametrize("shared", [{"Privileged": True}, {"PidMode": "host"}, {"IpcMode": "host"}])
def test_CRE14_labels_are_off_where_much_is_shared(engine: Engine, shared: dict[str, Any]) -> None:
    host = engine.inspect(engine.create("true", HostConfig=shared))["HostConfig"]
    assert host["SecurityOpt"] == ["label=disable"]
    for given, shown in (
        (["no-new-privileges"], ["no-new-privileges", "label=disable"]),
        (["label=type:x"], ["label=type:x"]),
    ):
        container = engine.create("true", HostConfig={"SecurityOpt": given} | shared)
        assert engine.inspect(container)["HostConfig"]["SecurityOpt"] == shown


def test_CRE14_the_control_group_may_be_elsewhere(engine: Engine) -> None:
    limits = {"CgroupParent": "/wherry-elsewhere/below", "CgroupnsMode": "host", "Memory": 64 << 20}
    container = engine.run("sh", "-c", "cat /proc/self/cgroup; exec sleep 1000", HostConfig=limits)
    groups = {line.rpartition(b":")[2] for line in eventually(lambda: engine.logs(container)[0]).split()}
    assert f"/wherry-elsewhere/below/{container}".encode() in groups
    assert len(engine.http.get(f"/containers/{container}/top").json["Processes"]) == 1
    seen = engine.http.get(f"/containers/{container}/stats", query={"stream": 0, "one-shot": 1}).json
    assert seen["memory_stats"]["limit"] == 64 << 20
    for verb in ("pause", "unpause", "kill"):
        assert engine.http.post(f"/containers/{container}/{verb}").status == 204
    if not engine.is_dockerd:  # whose groups are in a mount namespace of its own
        eventually(lambda: not list(Path("/sys/fs/cgroup").glob(f"**/wherry-elsewhere/below/{container}")))
    for group in Path("/sys/fs/cgroup").glob("*/wherry-elsewhere/below"):
        group.rmdir()
        group.parent.rmdir()


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


UNDEFINED = "networking can't be used with links. This would result in undefined behavior"


@pytest.mark.parametrize(
    ("body", "host", "words"),
    [
        ({"Hostname": "h"}, {}, "hostname and the network mode"),
        ({}, {"Links": ["a:b"]}, "container type network can't be used with links"),
        ({}, {"Dns": ["1.1.1.1"]}, "dns and the network mode"),
        ({}, {"ExtraHosts": ["a:1.2.3.4"]}, "custom host-to-IP mapping and the network mode"),
        ({"MacAddress": "02:42:ac:11:00:99"}, {}, "mac-address and the network mode"),
        ({}, {"PortBindings": {"80/tcp": [{"HostPort": "80"}]}}, "port publishing and the container type network mode"),
        ({}, {"PublishAllPorts": True}, "port publishing and the container type network mode"),
        ({"ExposedPorts": {"80/tcp": {}}}, {}, "port exposing and the container type network mode"),
        ({}, {"NetworkMode": "host", "Links": ["a:b"]}, f"host type {UNDEFINED}"),
    ],
)
def test_CRE18_network_conflicts(engine: Engine, body: dict[str, Any], host: dict[str, Any], words: str) -> None:
    refused(engine, 400, f"conflicting options: {words}", **body, HostConfig={"NetworkMode": "container:x"} | host)


def test_CRE18_no_network_at_all(engine: Engine) -> None:
    container = engine.run("sh", "-c", "ls /sys/class/net; exec sleep 1000", NetworkDisabled=True)
    assert eventually(lambda: engine.logs(container)[0]) == b"lo\n"
    details = engine.inspect(container)
    assert (details["Config"]["NetworkDisabled"], details["NetworkSettings"]["Networks"]) == (True, {})
    stats = engine.http.get(f"/containers/{container}/stats", query={"stream": 0, "one-shot": 1}).json
    assert "networks" not in stats


def test_CRE18_the_network_of_nobody(engine: Engine) -> None:
    refused(engine, 400, "invalid container format container:<name|id>", HostConfig={"NetworkMode": "container:"})


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


def test_CRE19a_one_endpoint_before_1_44(engine: Engine) -> None:
    body = {"Image": "busybox", "NetworkingConfig": {"EndpointsConfig": {"a": {}, "b": {}}}}
    answer = engine.http.post("/containers/create", json=body)
    assert answer.status == 400
    if not engine.is_dockerd:  # 20.10 asks for service endpoints in other words
        assert answer.message == "Container cannot be connected to network endpoints: a, b"
    assert engine.containers() == []


def test_CRE20bc_ports_without_a_binding(engine: Engine) -> None:
    container = engine.run_idle(
        ExposedPorts={"81/tcp": {}}, HostConfig={"PortBindings": {"82/udp": None, "83/tcp": []}}
    )
    assert engine.inspect(container)["NetworkSettings"]["Ports"] == {"81/tcp": None}


@pytest.mark.parametrize("port", ["abc", "99999", "-1"])
def test_CRE20_bad_ports(engine: Engine, port: str) -> None:
    message = "invalid port specification: " + json.dumps(port)
    refused(engine, 400, message, HostConfig={"PortBindings": {port: [{"HostPort": "80"}]}})


def test_CRE25_console_size(engine: Engine) -> None:
    if engine.is_dockerd:
        return  # since API 1.42 only
    container = engine.run("stty", "size", Tty=True, HostConfig={"ConsoleSize": [40, 100]})
    assert engine.wait(container) == 0
    with engine.open_logs(container) as exchange:
        assert exchange.read() == b"40 100\r\n"


def test_CRE26bc_after_create(engine: Engine) -> None:
    container = engine.create("true")
    bridge = engine.inspect(container)["NetworkSettings"]["Networks"]["bridge"]
    assert (bridge["EndpointID"], bridge["NetworkID"], bridge["IPAddress"]) == ("", "", "")
    with engine.http.open("GET", "/events", query={"since": 1, "filters": {"container": [container]}}) as events:
        assert next(events.json_values())["Action"] == "create"


def test_CRE26_after_create(engine: Engine) -> None:
    container = engine.create("true")
    details = engine.inspect(container)
    state = details["State"]
    assert (state["Status"], state["Running"], state["Pid"], state["ExitCode"]) == ("created", False, 0, 0)
    assert details["NetworkSettings"]["Networks"]["bridge"]["IPAddress"] == ""
    assert not Path(details["LogPath"] or "/nonexistent").exists()


def test_CRE28c_seccomp_may_be_turned_off(engine: Engine) -> None:
    for options, shown in ([], b"2"), (["seccomp=unconfined"], b"0"), (["seccomp:unconfined"], b"0"):
        _, out, _ = engine.run_to_end("grep", "^Seccomp:", "/proc/self/status", HostConfig={"SecurityOpt": options})
        assert out.split() == [b"Seccomp:", shown]


def test_CRE28d_the_systems_paths_may_be_left_open(engine: Engine) -> None:
    if engine.is_dockerd:
        return  # 20.10 leaves it to the command line
    host = engine.inspect(engine.create("true", HostConfig={"SecurityOpt": ["systempaths=unconfined"]}))["HostConfig"]
    assert (host["MaskedPaths"], host["ReadonlyPaths"]) in (([], []), (None, None))


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
