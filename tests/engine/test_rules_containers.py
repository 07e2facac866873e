"""Create, list, inspect, update, rename, prune and events on Wherry's engine: what the conformance suite does not hold."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from typing import Any

from tests.support.engines import Engine
from tests.support.http import PATIENCE, eventually

INSPECT = set(
    "Id Created Path Args State Image ResolvConfPath HostnamePath HostsPath LogPath Name RestartCount Driver Platform "
    "MountLabel ProcessLabel AppArmorProfile ExecIDs HostConfig GraphDriver Mounts Config NetworkSettings".split()
)
STATE = set("Status Running Paused Restarting OOMKilled Dead Pid ExitCode Error StartedAt FinishedAt".split())
NETWORK = set(
    "IPAMConfig Links Aliases NetworkID EndpointID Gateway IPAddress IPPrefixLen IPv6Gateway GlobalIPv6Address "
    "GlobalIPv6PrefixLen MacAddress DriverOpts".split()
)
HOST_NULLS = set(
    "Binds CapAdd CapDrop ExtraHosts GroupAdd Links SecurityOpt VolumesFrom DeviceRequests DeviceCgroupRules PidsLimit "
    "MemorySwappiness Dns DnsOptions DnsSearch Devices Ulimits BlkioWeightDevice BlkioDeviceReadBps BlkioDeviceWriteBps "
    "BlkioDeviceReadIOps BlkioDeviceWriteIOps PortBindings".split()
)
HOST = HOST_NULLS | set(
    "ContainerIDFile LogConfig NetworkMode RestartPolicy AutoRemove VolumeDriver ConsoleSize CgroupnsMode IpcMode Cgroup "
    "OomScoreAdj PidMode Privileged PublishAllPorts ReadonlyRootfs UTSMode UsernsMode ShmSize Runtime Isolation CpuShares "
    "Memory NanoCpus CgroupParent BlkioWeight CpuPeriod CpuQuota CpuRealtimePeriod CpuRealtimeRuntime CpusetCpus CpusetMems "
    "MemoryReservation MemorySwap OomKillDisable CpuCount CpuPercent IOMaximumIOps IOMaximumBandwidth MaskedPaths "
    "ReadonlyPaths".split()
)


def created(engine: Engine, query: dict[str, Any] | None = None, **body: Any) -> Any:
    answer = engine.http.post("/containers/create", query=query, json={"Image": "busybox", "Cmd": ["true"]} | body)
    assert answer.status == 201, answer
    return answer.json


def update(engine: Engine, container: str, **body: Any) -> Any:
    return engine.http.post(f"/containers/{container}/update", json=body)


# create


def test_CRE1_the_image_is_looked_for_before_name_and_binds(wherry: Engine) -> None:
    for bad in ({"name": "a"}, {"HostConfig": {"Binds": ["/tmp:/x:zz"]}}):
        assert wherry.try_create("true", Image="nosuch", **bad).status == 404
    mount = {"Type": "zz", "Target": "/x"}
    assert wherry.try_create("true", Image="nosuch", HostConfig={"Mounts": [mount]}).status == 400


def test_CRE3_a_foreign_image_is_taken_with_a_warning(wherry: Engine) -> None:
    assert created(wherry, {"platform": "linux/amd64"})["Warnings"] == []
    answer = wherry.http.post("/containers/create", query={"platform": "windows"}, json={"Image": "busybox"})
    assert answer.status == 404
    assert answer.message.startswith(
        "image with reference busybox was found but does not match the specified platform: wanted windows/amd64, actual: linux/"
    )
    assert wherry.http.post("/containers/create", query={"platform": "bogus"}, json={"Image": "busybox"}).status == 400


def test_CRE21_one_part_is_an_anonymous_volume(wherry: Engine) -> None:
    container = wherry.create("true", HostConfig={"Binds": ["/data"]})
    (mount,) = wherry.inspect(container)["Mounts"]
    assert (mount["Type"], mount["Destination"], mount["Mode"], len(mount["Name"])) == ("volume", "/data", "z", 64)
    volume = wherry.http.get(f"/volumes/{mount['Name']}").json
    assert volume["Labels"] == {"com.docker.volume.anonymous": ""}


def test_CRE23_no_volume_over_a_file(wherry: Engine) -> None:
    before = wherry.http.get("/volumes").json["Volumes"]
    answer = wherry.try_create("true", name="over", Volumes={"/bin/busybox": {}})
    assert (answer.status, "file exists /bin/busybox" in answer.message) == (500, True)
    assert wherry.containers() == []
    assert wherry.http.get("/volumes").json["Volumes"] == before


def test_CRE24_an_empty_volume_takes_the_content_also_when_it_was_there_before(wherry: Engine) -> None:
    wherry.load_image("seeded:latest", {}, {"data": None, "data/seed.txt": b"seed\n"})
    wherry.http.post("/volumes/create", json={"Name": "known"})
    try:
        for bind, code in (("known:/data:nocopy", 1), ("known:/data", 0), ("known:/elsewhere", 1)):
            found, _, _ = wherry.run_to_end("cat", "/data/seed.txt", Image="seeded", HostConfig={"Binds": [bind]})
            assert (bind, found) == (bind, code if bind != "known:/elsewhere" else 0)
    finally:
        wherry.remove_all()
        wherry.http.delete("/volumes/known")


def test_CRE24_volume_options_of_a_mount(wherry: Engine) -> None:
    mount = {"Type": "volume", "Source": "labelled", "Target": "/d", "VolumeOptions": {"Labels": {"a": "1"}}}
    created(wherry, HostConfig={"Mounts": [mount]})
    assert wherry.http.get("/volumes/labelled").json["Labels"] == {"a": "1"}
    foreign = {"Type": "volume", "Source": "other", "Target": "/d", "VolumeOptions": {"DriverConfig": {"Name": "nope"}}}
    answer = wherry.try_create("true", HostConfig={"Mounts": [foreign]})
    assert (answer.status, 'plugin "nope" not found' in answer.message) == (404, True)
    wherry.remove_all()
    wherry.http.delete("/volumes/labelled")


def test_CRE24_volumes_from(wherry: Engine, tmp_path: Path) -> None:
    (tmp_path / "f").write_text("shared")
    wherry.create("true", name="donor", HostConfig={"Binds": [f"{tmp_path}:/b", "donated:/v"]})
    code, out, _ = wherry.run_to_end(
        "sh", "-c", "cat /b/f; touch /v/x && ! touch /b/y", HostConfig={"VolumesFrom": ["donor"], "Binds": [f"{tmp_path}:/b:ro"]}
    )  # fmt: skip
    assert (code, out) == (0, b"shared")
    code, _, _ = wherry.run_to_end("touch", "/v/x", HostConfig={"VolumesFrom": ["donor:ro"]})
    assert code == 1
    answer = wherry.try_create("true", HostConfig={"VolumesFrom": ["nope"]})
    assert (answer.status, answer.message) == (400, "No such container: nope")
    wherry.remove_all()
    wherry.http.delete("/volumes/donated")


def test_CRE26_NUL_after_create(wherry: Engine) -> None:
    details = wherry.inspect(wherry.create("true"))
    assert set(details) == INSPECT
    assert set(details["State"]) == STATE
    assert (details["State"]["StartedAt"], details["State"]["FinishedAt"]) == ("0001-01-01T00:00:00Z",) * 2
    assert set(details["HostConfig"]) == HOST
    assert {name for name, value in details["HostConfig"].items() if value is None} == HOST_NULLS
    assert (details["ExecIDs"], details["Mounts"], details["NetworkSettings"]["Ports"]) == (None, [], {})
    assert [details["Config"][name] for name in ("Entrypoint", "Volumes", "OnBuild")] == [None] * 3
    assert details["Config"]["Labels"] == {}
    assert set(details["NetworkSettings"]["Networks"]["bridge"]) == NETWORK


def test_NUL_lists_are_returned_as_given(wherry: Engine) -> None:
    given = {"Dns": [], "Devices": [], "CapAdd": [], "Ulimits": [], "MemorySwappiness": -1, "PidsLimit": 0}
    host = wherry.inspect(wherry.create("true", HostConfig=given))["HostConfig"]
    assert [host[name] for name in given] == [[], [], [], [], None, None]


# list and inspect


def test_LST3_the_limit_counts_what_is_shown(wherry: Engine) -> None:
    for number in range(4):
        wherry.create("true", name=f"c{number}", Labels={"odd": str(number % 2)})

    def names(limit: int, **filters: list[str]) -> list[str]:
        shown = wherry.http.get("/containers/json", query={"limit": limit, "filters": filters}).json
        return [container["Names"][0] for container in shown]

    assert names(1, label=["odd=0"]) == ["/c2"]
    assert names(2, before=["c3"]) == ["/c2", "/c1"]
    assert names(1, status=["exited"]) == []
    assert names(9, name=[]) == ["/c3", "/c2", "/c1", "/c0"]


def test_LST5_ids_are_unique_beginnings(wherry: Engine) -> None:
    ids = [wherry.create("true") for _ in range(17)]  # two of them begin alike

    def listed(*values: str) -> set[str]:
        return {
            c["Id"] for c in wherry.http.get("/containers/json", query={"all": 1, "filters": {"id": list(values)}}).json
        }

    assert listed(ids[0][:20]) == {ids[0]}
    assert listed(ids[0], ids[1]) == {ids[0], ids[1]}
    alike = next(one[0] for one in ids if sum(other[0] == one[0] for other in ids) > 1)
    assert listed(alike) == listed("") == listed("zz") == set()


def test_LST5_a_hostile_pattern_stops_nobody(wherry: Engine) -> None:
    wherry.create("true", name="a" * 200)
    hostile = [r"(a+)+$b", "(a|aa)+$b", "(.*)*" * 50 + "x", "((a{900}){900}){900}", "a?" * 300 + "a" * 300]
    began = time.monotonic()
    answer = wherry.http.get("/containers/json", query={"all": 1, "filters": {"name": hostile}})
    assert (answer.status, answer.json) == (200, [])
    assert time.monotonic() - began < 3 * PATIENCE


def test_LST7_is_task(wherry: Engine) -> None:
    container = wherry.create("true")
    for value, shown in (("true", []), ("1", []), ("false", [container]), ("0", [container])):
        answer = wherry.http.get("/containers/json", query={"all": 1, "filters": {"is-task": [value]}})
        assert [c["Id"] for c in answer.json] == shown
    answer = wherry.http.get("/containers/json", query={"filters": {"is-task": ["maybe"]}})
    assert (answer.status, answer.message) == (400, "invalid filter 'is-task=[maybe]'")
    for bad in ("3_0", " 3", "٣"):
        assert wherry.http.get("/containers/json", query={"filters": {"exited": [bad]}}).status == 400


def test_LST8_only_arguments_are_quoted(wherry: Engine) -> None:
    wherry.create("a b", "c d", "e")
    assert wherry.http.get("/containers/json?all=1").json[0]["Command"] == "a b 'c d' e"


def test_INS5_networks_while_running_and_after(wherry: Engine) -> None:
    ports = {"ExposedPorts": {"81/tcp": {}}, "HostConfig": {"PortBindings": {"80/tcp": [{"HostIp": "127.0.0.1"}]}}}
    container = wherry.run_idle(**ports)
    settings = wherry.inspect(container)["NetworkSettings"]
    bridge = settings["Networks"]["bridge"]
    for name in ("EndpointID", "Gateway", "IPAddress", "IPPrefixLen", "MacAddress"):
        assert settings[name] == bridge[name] != ""
    assert (len(bridge["NetworkID"]), settings["SandboxKey"] != "") == (64, True)
    assert settings["Ports"]["81/tcp"] is None
    assert settings["Ports"]["80/tcp"][0]["HostIp"] == "127.0.0.1"
    wherry.http.post(f"/containers/{container}/kill")
    after = wherry.inspect(container)["NetworkSettings"]
    assert (after["Ports"], after["IPAddress"], after["SandboxKey"]) == ({}, "", "")
    assert after["Networks"]["bridge"]["NetworkID"] == bridge["NetworkID"]


# update, rename, prune


def test_UPD2_UPD3_limits_of_a_running_container(wherry: Engine) -> None:
    container = wherry.run_idle(HostConfig={"Memory": 64 << 20, "PidsLimit": 50})
    answer = update(wherry, container, Memory=32 << 20, PidsLimit=-1, CpuShares=512)
    assert (answer.status, answer.json) == (200, {"Warnings": None})
    host = wherry.inspect(container)["HostConfig"]
    assert (host["Memory"], host["MemorySwap"], host["PidsLimit"], host["CpuShares"]) == (
        32 << 20,
        128 << 20,
        None,
        512,
    )
    limits = Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup/pids")
    pid = wherry.state(container)["Pid"]
    groups = dict(line.split(":")[1:] for line in Path(f"/proc/{pid}/cgroup").read_text().split())
    if "memory" in groups and limits[0].is_dir():
        assert Path(f"{limits[0]}{groups['memory']}/memory.limit_in_bytes").read_text().strip() == str(32 << 20)
        assert Path(f"{limits[1]}{groups['pids']}/pids.max").read_text().strip() in ("max", str(1 << 22))


def test_UPD1_refusals_leave_all_as_it_was(wherry: Engine) -> None:
    container = wherry.create("true", HostConfig={"Memory": 64 << 20, "AutoRemove": True})
    before = wherry.inspect(container)["HostConfig"]
    for body, status, message in (
        ({"Memory": 1 << 30}, 409, f"Cannot update container {container}: Memory limit should be smaller"),
        ({"RestartPolicy": {"Name": "always"}}, 409, f"Cannot update container {container}: Restart policy cannot be"),
        ({"Memory": 5}, 400, "Minimum memory limit allowed is 6MB"),
        ({"RestartPolicy": {"Name": "x"}}, 400, "invalid restart policy 'x'"),
        ({"CpusetCpus": "99"}, 400, "Requested CPUs are not available"),
    ):
        answer = update(wherry, container, **body)
        assert (answer.status, message in answer.message) == (status, True), answer
    assert wherry.inspect(container)["HostConfig"] == before
    assert update(wherry, container).status == 200
    assert update(wherry, "nope").status == 404


def test_AUT6_update_to_no_ends_the_restarting(wherry: Engine) -> None:
    container = wherry.run("false", HostConfig={"RestartPolicy": {"Name": "always"}})
    eventually(
        lambda: wherry.state(container)["Status"] == "restarting" and wherry.inspect(container)["RestartCount"] > 2
    )
    assert update(wherry, container, RestartPolicy={"Name": "no"}).status == 200
    eventually(lambda: wherry.status(container) == "exited")
    count = wherry.inspect(container)["RestartCount"]
    time.sleep(1.5)
    assert (wherry.status(container), wherry.inspect(container)["RestartCount"]) == ("exited", count)


def test_REN1_the_empty_name_comes_first(wherry: Engine) -> None:
    answer = wherry.http.post("/containers/nope/rename")
    assert (answer.status, answer.message) == (400, "Neither old nor new names may be empty")
    container = wherry.create("true", name="old")
    assert wherry.http.post("/containers/old/rename", query={"name": "  /new "}).status == 204
    assert wherry.inspect(container)["Name"] == "/new"
    answer = wherry.http.post("/containers/new/rename", query={"name": "/new"})
    assert (answer.status, answer.message) == (400, "Renaming a container with the same name as its current name")


def test_PRU1_PRU3_prune(wherry: Engine) -> None:
    kept = wherry.create("true", Labels={"keep": "1"})
    running = wherry.run_idle()
    gone = wherry.create("true")

    def prune(**filters: list[str]) -> Any:
        asked = {name.replace("_not", "!"): values for name, values in filters.items()}
        return wherry.http.post("/containers/prune", query={"filters": asked})

    for bad, message in (
        ({"foo": ["1"]}, "invalid filter 'foo'"),
        ({"until": ["1h", "2h"]}, "more than one until filter specified"),
        ({"until": ["abc"]}, 'failed to parse value as time or duration: "abc"'),
    ):
        answer = prune(**bad)
        assert (answer.status, answer.message) == (400, message)
    assert prune(until=["1h"]).json == {"ContainersDeleted": None, "SpaceReclaimed": 0}
    assert prune(label_not=["keep"]).json["ContainersDeleted"] == [gone]
    assert set(wherry.containers()) == {kept, running}
    assert prune(label=["keep=1"]).json["ContainersDeleted"] == [kept]


def test_PRU2_one_prune_at_a_time(wherry: Engine) -> None:
    for _ in range(30):
        wherry.create("true")
    statuses: list[int] = []
    threads = [
        threading.Thread(target=lambda: statuses.append(wherry.http.post("/containers/prune").status)) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(statuses) <= {200, 409}
    assert 200 in statuses
    assert wherry.containers() == []


# events, and what the engine says of itself


def test_EVT1_EVT3_shape_and_until_alone(wherry: Engine) -> None:
    container = wherry.create("true", name="named", Labels={"k": "v"})
    query = {"until": f"{time.time():.9f}", "filters": {"container": [container]}}
    with wherry.http.open("GET", "/events", query=query) as exchange:
        (event,) = [json.loads(line) for line in exchange.read().splitlines()]
    assert set(event) == {"status", "id", "from", "Type", "Action", "Actor", "scope", "time", "timeNano"}
    assert (event["status"], event["id"], event["from"], event["scope"]) == ("create", container, "busybox", "local")
    assert event["Actor"] == {"ID": container, "Attributes": {"k": "v", "image": "busybox", "name": "named"}}


def test_version_and_info(wherry: Engine) -> None:
    version = wherry.http.get("/version").json
    assert set(version) == set(
        "Platform Components Version ApiVersion MinAPIVersion GitCommit GoVersion Os Arch KernelVersion BuildTime".split()
    )
    assert set(version["Components"][0]) == {"Name", "Version", "Details"}
    wherry.wait(wherry.run("true"))
    paused = wherry.run_idle()
    wherry.http.post(f"/containers/{paused}/pause")
    wherry.run_idle()
    info = wherry.http.get("/info").json
    counts = [info[name] for name in ("Containers", "ContainersRunning", "ContainersPaused", "ContainersStopped")]
    assert counts == [3, 1, 1, 1]
    assert info["RegistryConfig"]["IndexConfigs"]["docker.io"]["Name"] == "docker.io"
    assert [row[0] for row in info["DriverStatus"] or [["Backing Filesystem"]]][:1] == ["Backing Filesystem"]
    for name in ("Isolation", "HttpProxy", "InitBinary", "GenericResources", "SecurityOptions", "Swarm", "Warnings"):
        assert name in info
