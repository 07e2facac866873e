"""What test_create leaves open of semantics section 1, and of sections 0.3 and 0.4."""

from __future__ import annotations

import io
import json
import re
import stat
import tarfile
from pathlib import Path
from typing import Any

import pytest

from scripts.make_images import docker_archive
from tests.support.engines import Engine, busybox_layer_once
from tests.support.http import segment


def archive_stat(engine: Engine, container: str, path: str) -> tarfile.TarInfo:
    answer = engine.http.get(f"/containers/{container}/archive", query={"path": path})
    assert answer.status == 200, answer
    with tarfile.open(fileobj=io.BytesIO(answer.body)) as tar:
        return tar.getmembers()[0]


def bind_refused(engine: Engine, status: int, words: str, **host: Any) -> None:
    answer = engine.try_create("true", name="refused", HostConfig=host)
    assert (answer.status, words in answer.message) == (status, True), answer
    assert engine.containers() == []


def test_G6c_host_and_origin_are_ignored_on_the_unix_socket(engine: Engine) -> None:
    headers = {"Host": "somewhere.else:99", "Origin": "http://evil.example"}
    assert engine.http.get("/containers/json", headers=headers).status == 200


def test_P3e_an_archive_may_have_any_content_type(engine: Engine) -> None:
    container = engine.create("true")
    for kind in ("text/plain", "application/x-tar", "nonsense"):
        answer = engine.http.put(
            f"/containers/{container}/archive?path=/tmp", body=b"\0" * 1024, headers={"Content-Type": kind}
        )
        assert answer.status == 200, (kind, answer)


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


def test_CRE5i_the_health_check_is_merged_by_field(engine: Engine) -> None:
    image = {"Cmd": ["true"], "Healthcheck": {"Test": ["CMD", "true"], "Interval": 5_000_000_000, "Retries": 7}}
    engine.load_image("healthy:latest", image)
    check = engine.inspect(engine.create(Image="healthy"))["Config"]["Healthcheck"]
    assert (check["Test"], check["Interval"], check["Retries"]) == (["CMD", "true"], 5_000_000_000, 7)
    given = {"Test": [], "Interval": 9_000_000_000}
    check = engine.inspect(engine.create(Image="healthy", Healthcheck=given))["Config"]["Healthcheck"]
    assert (check["Test"], check["Interval"], check["Retries"]) == (["CMD", "true"], 9_000_000_000, 7)


def test_CRE8b_the_working_directory_is_made_at_create(engine: Engine) -> None:
    container = engine.create("true", WorkingDir="/made/at/create")
    info = archive_stat(engine, container, "/made/at/create")
    assert (info.isdir(), stat.S_IMODE(info.mode), info.uid) == (True, 0o755, 0)


def test_CRE10c_the_start_interval_is_newer_than_1_43(engine: Engine) -> None:
    check = {"Test": ["CMD", "true"], "StartInterval": 5_000_000_000}
    stored = engine.inspect(engine.create("true", Healthcheck=check))["Config"]["Healthcheck"]
    assert not stored.get("StartInterval")


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


def test_CRE21a_one_part_is_an_anonymous_volume(engine: Engine) -> None:
    container = engine.create("true", HostConfig={"Binds": ["/data"]})
    (mount,) = engine.inspect(container)["Mounts"]
    assert (mount["Type"], mount["Destination"]) == ("volume", "/data")
    assert re.fullmatch(r"[0-9a-f]{64}", mount["Name"])


@pytest.mark.parametrize("mode", ["ro,rw", "z,Z", "rshared,rslave"])
def test_CRE21g_each_kind_of_mode_once(engine: Engine, mode: str) -> None:
    bind_refused(engine, 500, f"invalid mode: {mode}", Binds=[f"/tmp:/x:{mode}"])


def test_CRE22c_the_mount_point_may_be_asked_for(engine: Engine, tmp_path: Path) -> None:
    if engine.is_dockerd:
        return  # since API 1.42
    source = tmp_path / "made"
    mount = {"Type": "bind", "Source": str(source), "Target": "/x", "BindOptions": {"CreateMountpoint": True}}
    container = engine.run("ls", "-d", "/x", HostConfig={"Mounts": [mount]})
    assert engine.wait(container) == 0
    assert source.is_dir()


@pytest.mark.parametrize(
    "mount",
    [
        {"Type": "bind", "Source": "/tmp", "Target": "/x", "VolumeOptions": {"NoCopy": True}},
        {"Type": "volume", "Source": "optioned-volume", "Target": "/x", "TmpfsOptions": {"SizeBytes": 1}},
        {"Type": "tmpfs", "Target": "/x", "BindOptions": {"Propagation": "rprivate"}},
    ],
)
def test_CRE22e_options_of_another_type(engine: Engine, mount: dict[str, Any]) -> None:
    body = {"Image": "busybox", "HostConfig": {"Mounts": [mount]}}
    answer = engine.http.post("/containers/create", json=body)
    if engine.is_dockerd and mount["Type"] == "volume":  # 20.10 looks at a volume's other options only
        assert answer.status == 201
        engine.remove_all()
        assert engine.http.delete("/volumes/optioned-volume").status == 204
    else:
        assert answer.status == 400, answer
        assert engine.containers() == []
    if not engine.is_dockerd:  # 24 lets older clients have it
        assert engine.http.post("/containers/create", json=body, prefix="/v1.41").status == 201
        engine.remove_all()
        engine.http.delete("/volumes/optioned-volume")


def test_CRE23b_a_volume_gives_way_to_a_mount(engine: Engine, tmp_path: Path) -> None:
    container = engine.create("true", Volumes={"/data": {}}, HostConfig={"Binds": [f"{tmp_path}:/data"]})
    (mount,) = engine.inspect(container)["Mounts"]
    assert (mount["Type"], mount["Source"]) == ("bind", str(tmp_path))


def test_CRE24a_named_volumes_are_filled_at_create(engine: Engine) -> None:
    engine.load_image("seeded:latest", {"Cmd": ["true"]}, {"seed": None, "seed/file": b"from image\n"})
    container = engine.create(Image="seeded", HostConfig={"Binds": ["filled-volume:/seed"]})
    (mount,) = engine.inspect(container)["Mounts"]
    assert (mount["Type"], mount["Name"]) == ("volume", "filled-volume")
    assert engine.http.get("/volumes/filled-volume").status == 200
    assert (Path(mount["Source"]) / "file").read_bytes() == b"from image\n"
    empty = engine.create(Image="seeded", HostConfig={"Binds": ["empty-volume:/seed:nocopy"]})
    assert list(Path(engine.inspect(empty)["Mounts"][0]["Source"]).iterdir()) == []
    engine.remove_all()
    for name in ("filled-volume", "empty-volume"):
        assert engine.http.delete(f"/volumes/{name}").status == 204


def test_CRE24b_anonymous_volumes_are_labelled(engine: Engine) -> None:
    container = engine.create("true", Volumes={"/data": {}})
    (mount,) = engine.inspect(container)["Mounts"]
    assert re.fullmatch(r"[0-9a-f]{64}", mount["Name"])
    volume = engine.http.get(f"/volumes/{segment(mount['Name'])}").json
    if not engine.is_dockerd:  # 20.10 does not mark them
        assert volume["Labels"] == {"com.docker.volume.anonymous": ""}


def test_CRE24cd_modes_and_propagation(engine: Engine, tmp_path: Path) -> None:
    binds = [f"{tmp_path}:/bound", f"{tmp_path}:/read-only:ro", "moded-volume:/named"]
    container = engine.create("true", HostConfig={"Binds": binds})
    shown = {m["Destination"]: m for m in engine.inspect(container)["Mounts"]}
    assert (shown["/bound"]["Mode"], shown["/bound"]["RW"], shown["/bound"]["Propagation"]) == ("", True, "rprivate")
    assert (shown["/read-only"]["Mode"], shown["/read-only"]["RW"]) == ("ro", False)
    assert (shown["/named"]["Mode"], shown["/named"]["Propagation"]) == ("z", "")
    engine.remove_all()
    assert engine.http.delete("/volumes/moded-volume").status == 204


def test_CRE26bc_after_create(engine: Engine) -> None:
    container = engine.create("true")
    bridge = engine.inspect(container)["NetworkSettings"]["Networks"]["bridge"]
    assert (bridge["EndpointID"], bridge["NetworkID"], bridge["IPAddress"]) == ("", "", "")
    with engine.http.open("GET", "/events", query={"since": 1, "filters": {"container": [container]}}) as events:
        assert next(events.json_values())["Action"] == "create"


def test_CRE28c_seccomp_may_be_turned_off(engine: Engine) -> None:
    for options, shown in ([], b"2"), (["seccomp=unconfined"], b"0"), (["seccomp:unconfined"], b"0"):
        _, out, _ = engine.run_to_end("grep", "^Seccomp:", "/proc/self/status", HostConfig={"SecurityOpt": options})
        assert out.split() == [b"Seccomp:", shown]


def test_CRE28d_the_systems_paths_may_be_left_open(engine: Engine) -> None:
    if engine.is_dockerd:
        return  # 20.10 leaves it to the command line
    host = engine.inspect(engine.create("true", HostConfig={"SecurityOpt": ["systempaths=unconfined"]}))["HostConfig"]
    assert (host["MaskedPaths"], host["ReadonlyPaths"]) in (([], []), (None, None))


def test_N2c_events_name_without_a_slash(engine: Engine) -> None:
    container = engine.create("true", name="/slashed")
    with engine.http.open("GET", "/events", query={"since": 1, "filters": {"container": [container]}}) as events:
        assert next(events.json_values())["Actor"]["Attributes"]["name"] == "slashed"


def test_NULcd_maps_and_lists_that_are_never_null(engine: Engine) -> None:
    engine.create("true")
    (listed,) = engine.http.get("/containers/json", query={"all": 1}).json
    assert (listed["Ports"], listed["Mounts"], listed["Labels"]) == ([], [], {})
    assert len(listed["Names"]) == 1
