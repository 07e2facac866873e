"""GET export."""

from __future__ import annotations

import base64
import io
import tarfile
from pathlib import Path

from tests.support.engines import Engine
from tests.support.scenes import finished


def test_EXP1ab_the_archive(engine: Engine, tmp_path: Path) -> None:
    (tmp_path / "on-volume").touch()
    container = finished(engine, "echo x > /made", HostConfig={"Binds": [f"{tmp_path}:/mnt"]})
    answer = engine.http.get(f"/containers/{container}/export", timeout=60)
    assert answer.status == 200
    with tarfile.open(fileobj=io.BytesIO(answer.body), mode="r:") as tar:
        names = {name.rstrip("/") for name in tar.getnames()}
    assert {"made", "bin/busybox", ".dockerenv", "dev", "proc", "sys", "etc/hosts"} <= names
    assert not [name for name in names if name.startswith(("/", "./"))]
    assert "mnt/on-volume" not in names


def test_EXP1cd_event_and_error(engine: Engine) -> None:
    answer = engine.http.get("/containers/nope/export")
    assert (answer.status, answer.message) == (404, "No such container: nope")
    container = engine.create("true")
    engine.http.get(f"/containers/{container}/export", timeout=60)
    filters = {"container": [container], "event": ["export"]}
    with engine.http.open("GET", "/events", query={"since": 1, "filters": filters}) as events:
        assert next(events.json_values())["Action"] == "export"


def test_EXP2a_hard_links_are_kept(engine: Engine) -> None:
    container = finished(engine, "echo x > /one; ln /one /two")
    answer = engine.http.get(f"/containers/{container}/export", timeout=60)
    with tarfile.open(fileobj=io.BytesIO(answer.body)) as tar:
        one, two = tar.getmember("one"), tar.getmember("two")
    assert sorted([one.islnk(), two.islnk()]) == [False, True]


# cap_net_raw=ep, as the kernel keeps it
CAPABILITY = base64.b64decode("AQAAAgAgAAAAAAAAAAAAAAAAAAA=")


def test_EXP2b_ARC9c_capabilities_go_in_and_come_out(engine: Engine) -> None:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", format=tarfile.PAX_FORMAT) as tar:
        file = tarfile.TarInfo("able")
        file.pax_headers = {"SCHILY.xattr.security.capability": CAPABILITY.decode("utf-8", "surrogateescape")}
        tar.addfile(file)
    container = engine.create("true")
    assert engine.http.put(f"/containers/{container}/archive?path=/", body=made.getvalue()).status == 200
    answer = engine.http.get(f"/containers/{container}/export", timeout=60)
    with tarfile.open(fileobj=io.BytesIO(answer.body)) as tar:
        kept = tar.getmember("able").pax_headers["SCHILY.xattr.security.capability"]
    assert kept.encode("utf-8", "surrogateescape") == CAPABILITY
