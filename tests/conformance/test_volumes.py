"""The Volume operations and what containers see of volumes, on Wherry and dockerd."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.engines import Engine
from tests.support.http import Answer


@pytest.fixture(autouse=True)
def no_volumes_left(request: pytest.FixtureRequest) -> Iterator[None]:
    """Each test begins without volumes, and its own go with it."""
    engine: Engine = request.getfixturevalue("engine" if "engine" in request.fixturenames else "wherry")
    engine.remove_volumes()
    yield
    engine.remove_volumes()


def volumes(engine: Engine, **filters: list[str]) -> list[str]:
    answer = engine.http.get("/volumes", query={"filters": json.dumps(filters)} if filters else None)
    assert answer.status == 200, answer
    return sorted(volume["Name"] for volume in answer.json["Volumes"] or [])


def create(engine: Engine, name: str = "", **body: Any) -> Answer:
    return engine.http.post("/volumes/create", json={"Name": name} | body)


def made(engine: Engine, name: str = "", **body: Any) -> Any:
    answer = create(engine, name, **body)
    assert answer.status == 201, answer
    return answer.json


def prune(engine: Engine, **filters: list[str]) -> Any:
    answer = engine.http.post("/volumes/prune", query={"filters": json.dumps(filters)} if filters else None)
    assert answer.status == 200, answer
    return answer.json


def shell(engine: Engine, script: str, **host: Any) -> str:
    code, out, err = engine.run_to_end("sh", "-c", script, HostConfig=host)
    assert code == 0, (out, err)
    return out.decode()


def try_host(engine: Engine, **host: Any) -> Answer:
    return engine.try_create("true", HostConfig=host)


def events(engine: Engine, since: float, **filters: list[str]) -> list[Any]:
    query = {"since": f"{since:.6f}", "until": f"{time.time() + 0.001:.6f}", "filters": json.dumps(filters)}
    body = engine.http.get("/events", query=query).body
    return [json.loads(line) for line in body.splitlines()]


# create, inspect, list


def test_create_and_inspect(engine: Engine) -> None:
    volume = made(engine, "vol-a", Labels={"colour": "green"})
    assert (volume["Name"], volume["Driver"], volume["Scope"]) == ("vol-a", "local", "local")
    assert volume["Mountpoint"].endswith("/volumes/vol-a/_data")
    assert (volume["Labels"], volume["Options"]) == ({"colour": "green"}, None)
    assert volume["CreatedAt"][:2] == "20"
    seen = engine.http.get("/volumes/vol-a").json
    assert seen == volume
    assert "UsageData" not in seen
    assert made(engine, "vol-a", Labels={"colour": "red"})["Labels"] == {"colour": "green"}, "it stays as it is"


def test_without_a_name(engine: Engine) -> None:
    volume = made(engine)
    assert len(volume["Name"]) == 64
    if not engine.is_dockerd:  # a label of 23.0
        assert volume["Labels"] == {"com.docker.volume.anonymous": ""}
    assert engine.http.post("/volumes/create", json={}).status == 201


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("x", "create x: volume name is too short, names should be at least two alphanumeric characters"),
        ("-aa", 'create -aa: "-aa" includes invalid characters for a local volume name'),
        ("a/b", 'create a/b: "a/b" includes invalid characters for a local volume name'),
    ],
)
def test_bad_names(engine: Engine, name: str, reason: str) -> None:
    answer = create(engine, name)
    assert (answer.status, answer.message[: len(reason)]) == (400, reason)


def test_unknown_drivers(engine: Engine) -> None:
    answer = create(engine, "vol-a", Driver="nosuch")
    assert answer.status in ((404, 500) if engine.is_dockerd else (404,)), answer
    assert answer.message.startswith("create vol-a: error looking up volume plugin nosuch: plugin ")


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"nosuch": "1"}, 'create vol-a: invalid option: "nosuch"'),
        ({"type": "tmpfs"}, 'create vol-a: missing required option: "device"'),
        ({"device": "/tmp"}, 'create vol-a: missing required option: "type"'),
        ({"size": "much"}, "create vol-a: invalid size: 'much'"),
        ({"size": "1m"}, "create vol-a: quota size requested but no quota support"),
    ],
)
def test_bad_options(engine: Engine, options: dict[str, str], reason: str) -> None:
    answer = create(engine, "vol-a", DriverOpts=options)
    refused = (400, 500) if engine.is_dockerd else (400,)
    assert (answer.status in refused, answer.message) == (True, reason)
    assert volumes(engine) == []


def test_what_is_not_there(engine: Engine) -> None:
    for answer in (engine.http.get("/volumes/nosuch"), engine.http.delete("/volumes/nosuch")):
        assert (answer.status, answer.message) == (404, "get nosuch: no such volume")
    assert engine.http.delete("/volumes/nosuch", query={"force": 1}).status == 204


def test_list_filters(engine: Engine) -> None:
    made(engine, "red-one", Labels={"colour": "red", "size": "s"})
    made(engine, "red-two", Labels={"colour": "red"})
    made(engine, "blue", Labels={"colour": "blue"})
    engine.create("true", HostConfig={"Binds": ["blue:/x"]})
    assert volumes(engine) == ["blue", "red-one", "red-two"]
    assert volumes(engine, name=["red"]) == ["red-one", "red-two"]
    assert volumes(engine, name=["^b", "two$"]) == ["blue", "red-two"]
    assert volumes(engine, name=["("]) == []
    assert volumes(engine, label=["colour=red", "size"]) == ["red-one"]
    assert volumes(engine, label=["colour"]) == ["blue", "red-one", "red-two"]
    assert volumes(engine, driver=["local"], name=["one"]) == ["red-one"]
    assert volumes(engine, driver=["nosuch"]) == []
    assert volumes(engine, dangling=["true"]) == ["red-one", "red-two"]
    assert volumes(engine, dangling=["0"]) == ["blue"]
    for key, value in (("nosuch", "x"), ("dangling", "maybe")):
        answer = engine.http.get("/volumes", query={"filters": json.dumps({key: [value]})})
        assert (answer.status, "nvalid filter" in answer.message) == (400, True), answer
    empty = engine.http.get("/volumes", query={"filters": json.dumps({"name": ["nosuch"]})}).json
    assert empty == {"Volumes": [], "Warnings": None}


def test_cluster_volumes_need_a_cluster(wherry: Engine) -> None:
    answer = create(wherry, "vol-a", ClusterVolumeSpec={"Group": "x"})
    assert (answer.status, "not a swarm manager" in answer.message) == (503, True)
    reason = "volume update only valid for cluster volumes, but swarm is unavailable"
    for query in ({"version": 1}, None):
        answer = wherry.http.put("/volumes/vol-a", query=query, json={"Spec": None})
        assert (answer.status, answer.message) == (503, reason)


# remove, prune, usage


def test_a_volume_in_use_stays(engine: Engine) -> None:
    container = engine.create("true", HostConfig={"Binds": ["used:/x"]})
    for force in (0, 1):
        answer = engine.http.delete("/volumes/used", query={"force": force})
        assert (answer.status, answer.message) == (409, f"remove used: volume is in use - [{container}]")
    engine.remove_all()
    assert engine.http.delete("/volumes/used").status == 204
    assert engine.http.get("/volumes/used").status == 404


def test_prune(engine: Engine) -> None:
    anonymous = made(engine)["Name"]
    made(engine, "named-a", Labels={"keep": "no"})
    made(engine, "named-b", Labels={"keep": "yes"})
    made(engine, "with-options", DriverOpts={"type": "tmpfs", "device": "tmpfs"})
    engine.create("true", HostConfig={"Binds": ["used:/x"]})
    shell(engine, "head -c 3000 /dev/zero >/x/f", Binds=[f"{anonymous}:/x"])
    engine.create("true", HostConfig={"Binds": ["used:/x"]})
    for container in engine.containers():
        if engine.inspect(container)["Mounts"][0]["Name"] == anonymous:
            engine.http.delete(f"/containers/{container}")
    if not engine.is_dockerd:  # API 1.42 and above
        assert prune(engine) == {"VolumesDeleted": [anonymous], "SpaceReclaimed": 3000}
        assert prune(engine) == {"VolumesDeleted": [], "SpaceReclaimed": 0}
        assert prune(engine, all=["true"], **{"label!": ["keep=yes"], "label": ["keep"]})["VolumesDeleted"] == [
            "named-a"
        ]
        assert prune(engine, all=["1"])["VolumesDeleted"] == ["named-b"]
    else:
        assert prune(engine, **{"label!": ["keep=yes"], "label": ["keep"]})["VolumesDeleted"] == ["named-a"]
        assert sorted(prune(engine)["VolumesDeleted"]) == sorted([anonymous, "named-b"])
    assert volumes(engine) == ["used", "with-options"]
    answer = engine.http.post("/volumes/prune", query={"filters": json.dumps({"nosuch": ["x"]})})
    assert (answer.status, "nvalid filter" in answer.message) == (400, True)


def test_prune_of_an_older_version_takes_named_volumes(wherry: Engine) -> None:
    made(wherry, "named-a")
    older = type(wherry.http)(wherry.socket_path, "/v1.41")
    assert older.post("/volumes/prune").json["VolumesDeleted"] == ["named-a"]


def test_usage(engine: Engine) -> None:
    made(engine, "unused")
    made(engine, "with-options", DriverOpts={"type": "tmpfs", "device": "tmpfs"})
    shell(engine, "head -c 5000 /dev/zero >/x/f; ln /x/f /x/g; mkdir /x/d", Binds=["used:/x"])
    usage = engine.http.get("/system/df").json["Volumes"]
    assert {volume["Name"]: volume["UsageData"] for volume in usage} == {
        "unused": {"Size": 0, "RefCount": 0},
        "used": {"Size": 5000, "RefCount": 1},
    }


# events


def test_events(engine: Engine) -> None:
    since = time.time()
    container = engine.run("true", HostConfig={"Binds": ["seen:/x:ro"]})
    engine.wait(container)
    engine.http.delete(f"/containers/{container}")
    engine.http.delete("/volumes/seen")
    prune(engine)
    got = events(engine, since, type=["volume"])
    assert [event["Action"] for event in got] == ["create", "mount", "unmount", "destroy", "prune"]
    assert [event["Actor"]["Attributes"] for event in got] == [
        {"driver": "local"},
        {"container": container, "destination": "/x", "driver": "local", "propagation": "", "read/write": "false"},
        {"container": container, "driver": "local"},
        {"driver": "local"},
        {"reclaimed": "0"},
    ]
    assert [event["Actor"]["ID"] for event in got] == ["seen"] * 4 + [""]
    assert {event["scope"] for event in got} == {"local"}
    everything = [f"{event['Type']} {event['Action']}" for event in events(engine, since)]
    order = ["volume mount", "container start", "volume unmount", "container die"]
    if engine.is_dockerd:  # 20.10 says first that it died
        order = [*order[:2], order[3], order[2]]
    assert [event for event in everything if event in order] == order
    assert [event["Action"] for event in events(engine, since, volume=["seen"], event=["destroy"])] == ["destroy"]


# options


def test_tmpfs_is_shared_by_its_users_and_ends_with_them(engine: Engine) -> None:
    made(engine, "fast", DriverOpts={"type": "tmpfs", "device": "tmpfs", "o": "size=1m,uid=1000"})
    assert engine.http.get("/volumes/fast").json["Options"] == {
        "type": "tmpfs",
        "device": "tmpfs",
        "o": "size=1m,uid=1000",
    }
    first = engine.run_idle(HostConfig={"Binds": ["fast:/x"]})
    second = engine.run_idle(HostConfig={"Binds": ["fast:/y:ro"]})
    script = "grep ' /x ' /proc/mounts; stat -c %u /x; echo hello >/x/f; head -c 2m /dev/zero >/x/g"
    code, out, _ = engine.exec(first, "sh", "-c", script)
    assert (code, out.split()[0], b"size=1024k" in out, out.split()[-1]) == (1, b"tmpfs", True, b"1000")
    assert engine.exec(second, "cat", "/y/f")[1] == b"hello\n"
    assert engine.exec(second, "touch", "/y/h")[0] == 1
    engine.http.post(f"/containers/{first}/stop")
    assert engine.exec(second, "cat", "/y/f")[1] == b"hello\n"
    engine.http.post(f"/containers/{first}/start")
    assert engine.exec(first, "cat", "/x/f")[1] == b"hello\n"
    engine.http.post(f"/containers/{first}/stop")
    engine.http.post(f"/containers/{second}/stop")
    assert shell(engine, "ls /x", Binds=["fast:/x"]) == ""


def test_a_directory_of_the_host(engine: Engine, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("of the host\n")
    made(engine, "bound", DriverOpts={"type": "none", "device": str(tmp_path), "o": "bind"})
    made(engine, "bound-ro", DriverOpts={"type": "none", "device": str(tmp_path), "o": "bind,ro"})
    assert shell(engine, "cat /x/file; echo more >/x/more", Binds=["bound:/x"]) == "of the host\n"
    assert (tmp_path / "more").read_text() == "more\n"
    assert shell(engine, "cat /x/more; touch /x/no 2>&1 || echo refused", Binds=["bound-ro:/x"]).endswith("refused\n")
    engine.remove_all()
    for name in ("bound", "bound-ro"):
        assert engine.http.delete(f"/volumes/{name}").status == 204
    assert (tmp_path / "file").exists(), "what the volume showed stays"


def test_a_mount_that_fails(engine: Engine) -> None:
    made(engine, "broken", DriverOpts={"type": "none", "device": "/nosuch/place", "o": "bind"})
    container = engine.create("true", HostConfig={"Binds": ["broken:/x"]})
    answer = engine.http.post(f"/containers/{container}/start")
    assert answer.status == 500
    place = engine.http.get("/volumes/broken").json["Mountpoint"]
    assert (
        f"error while mounting volume '{place}': failed to mount local volume: mount /nosuch/place:{place}, "
        "flags: 0x1000: no such file or directory"
    ) in answer.message
    # An image with content at the place has it mounted at create.
    answer = try_host(engine, Binds=["broken:/etc"])
    assert (answer.status, "failed to mount local volume" in answer.message) == (500, True)
    assert engine.containers() == [container]


def test_CRE24_content_of_the_image_goes_into_a_mounted_volume(engine: Engine, tmp_path: Path) -> None:
    made(engine, "bound", DriverOpts={"type": "none", "device": str(tmp_path), "o": "bind"})
    engine.create("true", HostConfig={"Binds": ["bound:/var/www"]})
    assert (tmp_path / "index.html").read_text() == "<h1>It works</h1>\n"
    assert shell(engine, "ls /var/www", Binds=["bound:/var/www"]) == "index.html\n"


def test_files_of_a_stopped_container_on_a_mounted_volume(engine: Engine, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("of the host\n")
    made(engine, "bound", DriverOpts={"type": "none", "device": str(tmp_path), "o": "bind"})
    container = engine.create("true", HostConfig={"Binds": ["bound:/x"]})
    answer = engine.http.get(f"/containers/{container}/archive", query={"path": "/x/file"})
    assert (answer.status, b"of the host\n" in answer.body) == (200, True)


# mounts


def test_mounts_make_volumes(engine: Engine) -> None:
    options = {"Labels": {"a": "b"}, "DriverConfig": {"Name": "local", "Options": {"type": "tmpfs", "device": "tmpfs"}}}
    mounts = [
        {"Type": "volume", "Source": "of-mounts", "Target": "/x", "VolumeOptions": options},
        {"Type": "volume", "Target": "/y", "VolumeOptions": {"Labels": {"c": "d"}}},
        {"Type": "volume", "Source": "read-only", "Target": "/z", "ReadOnly": True},
    ]
    container = engine.create("true", HostConfig={"Mounts": mounts})
    shown = {mount["Destination"]: mount for mount in engine.inspect(container)["Mounts"]}
    assert (shown["/x"]["Name"], shown["/x"]["RW"], shown["/x"]["Mode"]) == ("of-mounts", True, "z")
    assert (shown["/z"]["Name"], shown["/z"]["RW"], shown["/z"]["Driver"]) == ("read-only", False, "local")
    volume = engine.http.get("/volumes/of-mounts").json
    assert (volume["Labels"], volume["Options"]) == ({"a": "b"}, {"type": "tmpfs", "device": "tmpfs"})
    anonymous = engine.http.get(f"/volumes/{shown['/y']['Name']}").json
    assert anonymous["Labels"]["c"] == "d"
    engine.http.delete(f"/containers/{container}", query={"v": 1})
    assert volumes(engine) == ["of-mounts", "read-only"]


def test_CRE24_nocopy(engine: Engine) -> None:
    mount = {"Type": "volume", "Source": "empty", "Target": "/var/www"}
    with_it = {"Mounts": [mount | {"VolumeOptions": {"NoCopy": True}}]}
    assert shell(engine, "ls /var/www", **with_it) == ""
    assert shell(engine, "ls /var/www", Mounts=[mount]) == "index.html\n"


@pytest.mark.parametrize(
    ("mount", "reason"),
    [
        ({"Type": "npipe", "Source": "x", "Target": "/x"}, "mount type unknown"),
        ({"Type": "cluster", "Source": "x", "Target": "/x"}, "mount type unknown"),
        ({"Type": "volume", "Source": "vol-a"}, "field Target must not be empty"),
        (
            {"Type": "volume", "Target": "/x", "ReadOnly": True},
            "must not set ReadOnly mode when using anonymous volumes",
        ),
        ({"Type": "bind", "Target": "/x"}, "field Source must not be empty"),
        ({"Type": "bind", "Source": "tmp", "Target": "/x"}, "invalid mount path: 'tmp' mount path must be absolute"),
        ({"Type": "bind", "Source": "/tmp", "Target": "x"}, "invalid mount path: 'x' mount path must be absolute"),
        ({"Type": "bind", "Source": "/tmp", "Target": "/"}, "invalid specification: destination can't be '/'"),
        (
            {"Type": "bind", "Source": "/tmp", "Target": "/x", "BindOptions": {"Propagation": "up"}},
            "propagation mode: up",
        ),
        ({"Type": "tmpfs", "Source": "x", "Target": "/x"}, "field Source must not be specified"),
    ],
)
def test_mounts_that_are_none(engine: Engine, mount: dict[str, Any], reason: str) -> None:
    answer = try_host(engine, Mounts=[mount])
    assert answer.status == 400, answer
    assert answer.message.startswith(f'invalid mount config for type "{mount["Type"]}": ')
    assert reason in answer.message
    assert volumes(engine) == []


def test_options_of_later_versions_are_told(wherry: Engine) -> None:
    for mount, reason in (
        (
            {"Type": "volume", "Source": "vol-a", "VolumeOptions": {"Subpath": "d"}},
            "VolumeOptions.Subpath needs API v1.45",
        ),
        (
            {"Type": "bind", "Source": "/tmp", "ReadOnly": True, "BindOptions": {"ReadOnlyForceRecursive": True}},
            "BindOptions.ReadOnlyForceRecursive needs API v1.44",
        ),
        ({"Type": "tmpfs", "TmpfsOptions": {"Options": [["exec"]]}}, "TmpfsOptions.Options needs API v1.46"),
    ):
        answer = try_host(wherry, Mounts=[mount | {"Target": "/x"}])
        assert (answer.status, answer.message[: len(reason)]) == (400, reason)


def test_tmpfs_options(engine: Engine) -> None:
    mount = {"Type": "tmpfs", "Target": "/x", "TmpfsOptions": {"SizeBytes": 2 << 20, "Mode": 0o1770}}
    out = shell(engine, "grep ' /x ' /proc/mounts; stat -c %a /x; touch /x/f", Mounts=[mount])
    assert "size=2048k" in out
    assert "noexec" in out
    assert out.splitlines()[-1] == "1770"
    read_only = {"Type": "tmpfs", "Target": "/x", "ReadOnly": True}
    assert shell(engine, "touch /x/f 2>/dev/null || echo refused", Mounts=[read_only]) == "refused\n"


def test_volumes_from(engine: Engine, tmp_path: Path) -> None:
    source = engine.create(
        "true", Volumes={"/anonymous": {}}, HostConfig={"Binds": ["vol-a:/named", f"{tmp_path}:/bound:ro"]}
    )
    script = "touch /named/f /anonymous/f && ! touch /bound/f 2>/dev/null && echo good"
    assert shell(engine, script, VolumesFrom=[source[:12]]) == "good\n"
    script = "! touch /named/g 2>/dev/null && ! touch /anonymous/g 2>/dev/null && ls /named /anonymous"
    assert shell(engine, script, VolumesFrom=[f"{source}:ro"]).split() == ["/anonymous:", "f", "/named:", "f"]
    users = [c for c in engine.containers() if c != source]
    anonymous = next(m["Name"] for m in engine.inspect(users[0])["Mounts"] if m["Destination"] == "/anonymous")
    for container in [source, *users]:
        assert anonymous in volumes(engine)
        engine.http.delete(f"/containers/{container}", query={"v": 1})
    assert volumes(engine) == ["vol-a"], "the anonymous one went with its last user"


@pytest.mark.parametrize(("spec", "status"), [("nosuch", 400), ("x:zz", 500), ("x:rshared", 500), ("x:nocopy", 500)])
def test_volumes_from_that_is_none(engine: Engine, spec: str, status: int) -> None:
    answer = try_host(engine, VolumesFrom=[spec])
    wanted = f"No such container: {spec}" if status == 400 else f"invalid mode: {spec[2:]}"
    if not engine.is_dockerd:
        assert (answer.status, answer.message) == (status, wanted)
    assert wanted in answer.message


def test_a_source_that_is_to_be_made(wherry: Engine, tmp_path: Path) -> None:
    mount = {"Type": "bind", "Source": f"{tmp_path}/new/er", "Target": "/x", "BindOptions": {"CreateMountpoint": True}}
    container = wherry.create("true", HostConfig={"Mounts": [mount]})
    assert not (tmp_path / "new").exists()
    wherry.start(container)
    assert (tmp_path / "new/er").is_dir()


def test_z_and_other_modes_change_nothing_here(engine: Engine, tmp_path: Path) -> None:
    binds = [f"{tmp_path}:/a:z", f"{tmp_path}:/b:Z,ro,cached", "vol-a:/c:Z"]
    container = engine.create("true", HostConfig={"Binds": binds})
    modes = {mount["Destination"]: (mount["Mode"], mount["RW"]) for mount in engine.inspect(container)["Mounts"]}
    assert modes == {"/a": ("z", True), "/b": ("Z,ro,cached", False), "/c": ("Z", True)}
    engine.start(container)
    assert engine.wait(container) == 0
