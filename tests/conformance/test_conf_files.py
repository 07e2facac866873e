"""Changes, export, and what test_archive leaves open: semantics sections 15 to 17."""

from __future__ import annotations

import gzip
import io
import lzma
import tarfile
import time
from pathlib import Path
from typing import Any

import pytest
import zstandard

from tests.support.engines import Engine
from tests.support.http import Answer


def changed(engine: Engine, container: str) -> Any:
    answer = engine.http.get(f"/containers/{container}/changes")
    assert answer.status == 200, answer
    return None if answer.json is None else [(c["Path"], c["Kind"]) for c in answer.json]


def finished(engine: Engine, script: str, **options: Any) -> str:
    container = engine.run("sh", "-c", script, **options)
    assert engine.wait(container) == 0, engine.logs(container)
    return container


def tar_of(*entries: tuple[str, bytes, dict[str, Any]]) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as tar:
        for name, data, fields in entries:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            for field, value in fields.items():
                setattr(info, field, value)
            tar.addfile(info, io.BytesIO(data))
    return made.getvalue()


def put(engine: Engine, container: str, path: str, archive: bytes, **query: Any) -> Answer:
    return engine.http.put(f"/containers/{container}/archive", query={"path": path} | query, body=archive)


def content(engine: Engine, container: str, path: str) -> bytes:
    answer = engine.http.get(f"/containers/{container}/archive", query={"path": path})
    assert answer.status == 200, answer
    with tarfile.open(fileobj=io.BytesIO(answer.body)) as tar:
        file = tar.extractfile(tar.getmembers()[0])
        assert file is not None
        return file.read()


def test_CHG1a_no_changes_are_null(engine: Engine) -> None:
    assert changed(engine, engine.create("true")) is None


def test_CHG2a_CHG4a_CHG5a_kinds_of_change(engine: Engine) -> None:
    script = "mkdir -p /new/sub; echo x > /new/sub/f; echo more >> /etc/passwd; rm -r /var/www; chmod 700 /home"
    container = finished(engine, script)
    expected = [
        ("/etc", 0),
        ("/etc/passwd", 0),
        ("/home", 0),
        ("/new", 1),
        ("/new/sub", 1),
        ("/new/sub/f", 1),
        ("/var", 0),
        ("/var/www", 2),
    ]
    seen = changed(engine, container)
    assert sorted(seen) == expected
    assert seen.index(("/new", 1)) < seen.index(("/new/sub", 1)) < seen.index(("/new/sub/f", 1))
    if not engine.is_dockerd:  # in no order
        assert seen == expected


def test_CHG5b_of_a_running_container(engine: Engine) -> None:
    container = engine.run_idle()
    engine.exec(container, "touch", "/made")
    assert changed(engine, container) == [("/made", 1)]


def test_CHG3a_nothing_of_the_engines_own(engine: Engine, tmp_path: Path) -> None:
    host = {"Binds": [f"{tmp_path}:/bound/here"], "Tmpfs": {"/scratch": ""}}
    container = finished(engine, "cat /etc/hosts /etc/hostname /etc/resolv.conf; touch /scratch/x", HostConfig=host)
    seen = [path for path, _ in changed(engine, container) or []]
    own = {"/dev", "/proc", "/sys", "/etc", "/etc/hosts", "/etc/hostname", "/etc/resolv.conf", "/.dockerenv"}
    assert not own & set(seen)
    if not engine.is_dockerd:  # 20.10 shows the mount points it made at start
        assert seen == []


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


def test_ARC1b_dots_do_not_leave(engine: Engine) -> None:
    container = engine.create("true")
    for path in ("/../../etc/passwd", "../etc/passwd", "/bin/../../../etc/passwd"):
        assert content(engine, container, path).startswith(b"root:x:0:0:root:/root:/bin/sh\nuser:")


def test_ARC3c_a_file_is_no_directory(engine: Engine) -> None:
    container = engine.create("true")
    answer = engine.http.get(f"/containers/{container}/archive", query={"path": "/etc/passwd/"})
    assert answer.status == (404 if engine.is_dockerd else 500) or answer.status == 500, answer


def test_ARC5d_tmpfs_of_a_running_container(engine: Engine) -> None:
    container = engine.run_idle(HostConfig={"Tmpfs": {"/scratch": ""}})
    engine.exec(container, "sh", "-c", "echo inside > /scratch/f")
    answer = engine.http.get(f"/containers/{container}/archive", query={"path": "/scratch/f"})
    if engine.is_dockerd:  # it looks at the files below the mount
        assert answer.status == 404
    else:
        assert answer.status == 200
        assert put(engine, container, "/scratch", tar_of(("g", b"x", {}))).status == 200
        assert engine.exec(container, "cat", "/scratch/g")[1] == b"x"


@pytest.mark.parametrize("compress", [gzip.compress, lzma.compress, zstandard.compress], ids=["gz", "xz", "zst"])
def test_ARC6ad_compressed_bodies(engine: Engine, compress: Any) -> None:
    if engine.is_dockerd and compress is zstandard.compress:
        return  # newer than 20.10
    container = engine.create("true")
    assert put(engine, container, "/tmp", compress(tar_of(("f", b"content", {})))).status == 200
    assert content(engine, container, "/tmp/f") == b"content"


@pytest.mark.parametrize(("body", "words"), [(b"x" * 14, "unexpected EOF"), (b"x" * 2000, "invalid tar header")])
def test_ARC6c_garbage(engine: Engine, body: bytes, words: str) -> None:
    container = engine.create("true")
    answer = put(engine, container, "/tmp", body)
    assert (answer.status, words in answer.message) == (500, True), answer


def test_ARC7b_names_outside(engine: Engine) -> None:
    container = engine.create("true")
    answer = put(engine, container, "/tmp", tar_of(("../../esc", b"x", {})))
    assert (answer.status, '"../../esc" is outside of "/tmp"' in answer.message) == (500, True), answer


def test_ARC7c_hard_links_outside(engine: Engine) -> None:
    container = engine.create("true")
    link = tar_of(("hard", b"", {"type": tarfile.LNKTYPE, "linkname": "../../etc/passwd"}))
    answer = put(engine, container, "/tmp", link)
    assert (answer.status, "invalid hardlink" in answer.message) == (500, True), answer


def test_ARC7fg_no_replacing_of_directories(engine: Engine) -> None:
    container = engine.create("true")
    directory = tar_of(("d", b"", {"type": tarfile.DIRTYPE, "mode": 0o755}), ("f", b"file", {}))
    assert put(engine, container, "/tmp", directory).status == 200
    answer = put(engine, container, "/tmp", tar_of(("d", b"x", {})), noOverwriteDirNonDir=1)
    assert answer.status == 500
    assert 'cannot overwrite directory "/tmp/d" with non-directory "/tmp"' in answer.message
    as_directory = tar_of(("f", b"", {"type": tarfile.DIRTYPE, "mode": 0o755}))
    answer = put(engine, container, "/tmp", as_directory, noOverwriteDirNonDir=1)
    assert answer.status == 500
    assert 'cannot overwrite non-directory "/tmp/f" with directory "/tmp"' in answer.message


def test_ARC11a_a_slow_copy_holds_up_nobody(wherry: Engine) -> None:
    container = wherry.run("sh", "-c", "dd if=/dev/zero of=/big bs=1M count=64 2>/dev/null; echo ready; sleep 1000")
    with wherry.open_logs(container, follow=1) as logs:
        next(logs.frames())
    with wherry.http.open("GET", f"/containers/{container}/archive?path=/big") as slow:
        assert slow.status == 200
        started = time.monotonic()
        assert wherry.status(container) == "running"
        assert wherry.http.post(f"/containers/{container}/stop?t=0").status == 204
        assert time.monotonic() - started < 5


def test_ARC12b_a_look_is_no_event(engine: Engine) -> None:
    container = engine.create("true")
    assert engine.http.head(f"/containers/{container}/archive?path=/etc").status == 200
    until = f"{time.time():.9f}"
    filters = {"container": [container]}
    with engine.http.open("GET", "/events", query={"since": 1, "until": until, "filters": filters}) as events:
        assert [event["Action"] for event in events.json_values()] == ["create"]


def test_ARC10b_volumes_of_a_stopped_container(engine: Engine) -> None:
    container = engine.create("true", Volumes={"/data": {}})
    assert put(engine, container, "/data", tar_of(("f", b"kept", {}))).status == 200
    source = Path(engine.inspect(container)["Mounts"][0]["Source"])
    assert (source / "f").read_bytes() == b"kept"
    assert content(engine, container, "/data/f") == b"kept"
