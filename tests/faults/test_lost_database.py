"""The database lost or damaged: the engine refuses to begin anew over it, and fsck builds the rows again."""

from __future__ import annotations

import pytest

from scripts.make_images import busybox_archive
from tests.faults.machine import CrashEngine
from wherry.engine.fsck import fsck


def remove_database(engine: CrashEngine) -> None:
    for suffix in ("", "-wal", "-shm"):
        engine.layout.database.with_name(engine.layout.database.name + suffix).unlink(missing_ok=True)


@pytest.mark.parametrize("damage", ["gone", "empty", "garbage"])
def test_the_engine_refuses_and_fsck_restores(crashable: CrashEngine, damage: str) -> None:
    ended = crashable.run("sh", "-c", "echo kept > /file; echo said; exit 3", name="ended", Volumes={"/data": {}})
    assert crashable.wait(ended) == 3
    created = crashable.create("true", name="created")
    running = crashable.run("sleep", "1000", name="running")
    image = crashable.http.get("/images/busybox/json").json
    crashable.crash()
    remove_database(crashable)
    if damage != "gone":
        crashable.layout.database.write_bytes(b"" if damage == "empty" else b"no database" * 1000)

    said = crashable.boot_in_vain()
    assert "fsck" in said
    assert "Traceback" not in said
    assert len(list(crashable.layout.containers.iterdir())) == 3

    report = "\n".join(fsck(crashable.layout.data_root))
    for name in ("ended", "created", "running"):
        assert f"({name})" in report
    assert fsck(crashable.layout.data_root) == []
    crashable.boot()
    with pytest.raises(RuntimeError, match="stop it first"):
        fsck(crashable.layout.data_root)

    assert {crashable.status(c) for c in (ended, running)} == {"exited"}
    assert crashable.status(created) == "created"
    assert crashable.logs("ended")[0] == b"said\n"
    after = crashable.http.get("/images/busybox/json").json
    assert {key: after[key] for key in ("Id", "RepoTags", "RootFS")} == {
        key: image[key] for key in ("Id", "RepoTags", "RootFS")
    }
    archive = crashable.http.get("/images/busybox/get")
    assert archive.status == 200
    assert len(archive.body) > 100_000
    assert crashable.http.get("/containers/ended/archive", query={"path": "/file"}).status == 200
    crashable.start("created")
    assert crashable.wait("created") == 0
    assert crashable.http.post("/containers/running/start").status == 204
    assert not list(crashable.layout.lost_and_found.glob("*")) if crashable.layout.lost_and_found.exists() else True


def test_volumes_keep_their_labels_and_options(crashable: CrashEngine) -> None:
    bodies = {
        "plain": {"Labels": {"colour": "green"}},
        "fast": {"DriverOpts": {"type": "tmpfs", "device": "tmpfs"}},
        "": {},
    }
    made = [crashable.http.post("/volumes/create", json={"Name": name} | body).json for name, body in bodies.items()]
    crashable.crash()
    remove_database(crashable)
    assert "holds volumes: run `wherry fsck`" in crashable.boot_in_vain()
    assert "volume plain has its row again" in fsck(crashable.layout.data_root)
    crashable.boot()
    for volume in made:
        assert crashable.http.get(f"/volumes/{volume['Name']}").json == volume
        assert crashable.http.delete(f"/volumes/{volume['Name']}").status == 204
    assert list(crashable.layout.volumes.iterdir()) == []
    crashable.load(busybox_archive())  # its name was lost


def test_an_intact_database_is_left_alone(crashable: CrashEngine) -> None:
    container = crashable.create("true")
    crashable.crash()
    assert fsck(crashable.layout.data_root) == []
    crashable.boot()
    assert crashable.status(container) == "created"


def test_no_data_root(tmp_path: object) -> None:
    with pytest.raises(RuntimeError, match="not the data root"):
        fsck(tmp_path)  # type: ignore[arg-type]
