"""POST /containers/create: binds, mounts and volumes."""

from __future__ import annotations

import io
import re
import stat
import tarfile
from pathlib import Path
from typing import Any

import pytest

from tests.support.engines import Engine
from tests.support.http import segment
from tests.support.scenes import refused


def bind_refused(engine: Engine, status: int, words: str, **host: Any) -> None:
    answer = engine.try_create("true", name="refused", HostConfig=host)
    assert (answer.status, words in answer.message) == (status, True), answer
    assert engine.containers() == []


def test_CRE21a_one_part_is_an_anonymous_volume(engine: Engine) -> None:
    container = engine.create("true", HostConfig={"Binds": ["/data"]})
    (mount,) = engine.inspect(container)["Mounts"]
    assert (mount["Type"], mount["Destination"]) == ("volume", "/data")
    assert re.fullmatch(r"[0-9a-f]{64}", mount["Name"])


@pytest.mark.parametrize("mode", ["ro,rw", "z,Z", "rshared,rslave"])
def test_CRE21g_each_kind_of_mode_once(engine: Engine, mode: str) -> None:
    bind_refused(engine, 500, f"invalid mode: {mode}", Binds=[f"/tmp:/x:{mode}"])


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


def test_CRE23b_a_volume_gives_way_to_a_mount(engine: Engine, tmp_path: Path) -> None:
    container = engine.create("true", Volumes={"/data": {}}, HostConfig={"Binds": [f"{tmp_path}:/data"]})
    (mount,) = engine.inspect(container)["Mounts"]
    assert (mount["Type"], mount["Source"]) == ("bind", str(tmp_path))


def test_CRE23_duplicate_mount_points(engine: Engine, tmp_path: Path) -> None:
    binds = [f"{tmp_path}:/a", f"{tmp_path}:/a/"]
    refused(engine, 400, "Duplicate mount point: /a", HostConfig={"Binds": binds})
    mounts = {"Binds": [f"{tmp_path}:/a"], "Tmpfs": {"/a": ""}}
    if not engine.is_dockerd:  # 20.10 does not compare the two
        refused(engine, 400, "Duplicate mount point: /a", HostConfig=mounts)


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


def test_CRE24_anonymous_volumes_take_the_images_content(engine: Engine, rich_image: str) -> None:
    code, out, _ = engine.run_to_end(Image=rich_image, Entrypoint=["cat"], Cmd=["/data/seed.txt"])
    assert (code, out) == (0, b"seed\n")
    mounts = engine.inspect(engine.containers()[0])["Mounts"]
    assert [(m["Type"], m["Destination"], m["RW"]) for m in mounts] == [("volume", "/data", True)]
    assert len(mounts[0]["Name"]) == 64


def test_CRE22_where_mounts_go_is_made_as_ordinary_directories_and_files(engine: Engine, tmp_path: Path) -> None:
    (tmp_path / "dir").mkdir()
    (tmp_path / "deep").mkdir()
    (tmp_path / "file").touch()
    container = engine.create(
        "true",
        HostConfig={
            "NetworkMode": "none",
            "Binds": [f"{tmp_path}/dir:/dir/of", f"{tmp_path}/file:/file/of", f"{tmp_path}/deep:/dir/of/very/deep"],
            "Tmpfs": {"/tmpfs/of": ""},
            "Mounts": [{"Type": "volume", "Target": "/volume/of"}],
        },
    )
    engine.start(container)
    engine.wait(container)
    exported = engine.http.get(f"/containers/{container}/export").body
    places = ["dir", "dir/of", "file", "file/of", "tmpfs", "tmpfs/of", "volume", "volume/of"]
    with tarfile.open(fileobj=io.BytesIO(exported)) as tar:
        assert {name: stat.S_IMODE(tar.getmember(name).mode) for name in places} == dict.fromkeys(places, 0o755)
        assert "dir/of/very" not in tar.getnames()
    below = [tmp_path / "dir/very", tmp_path / "dir/very/deep"]
    assert [stat.S_IMODE(path.stat().st_mode) for path in below] == [0o755, 0o755]
