"""HEAD, GET and PUT archive."""

from __future__ import annotations

import base64
import bz2
import gzip
import io
import json
import lzma
import stat
import tarfile
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import zstandard

from tests.support.engines import Engine
from tests.support.http import PATIENCE, Answer, Headers

DIRECTORY, SYMLINK, SETUID, STICKY = 1 << 31, 1 << 27, 1 << 23, 1 << 20


def content(engine: Engine, container: str, path: str) -> bytes:
    answer = engine.http.get(f"/containers/{container}/archive", query={"path": path})
    assert answer.status == 200, answer
    with tarfile.open(fileobj=io.BytesIO(answer.body)) as tar:
        extracted = tar.extractfile(tar.getmembers()[0])
        assert extracted is not None
        return extracted.read()


def path_stat(headers: Headers) -> Any:
    return json.loads(base64.b64decode(headers["x-docker-container-path-stat"], validate=True))


def head(engine: Engine, container: str, path: str) -> Any:
    answer = engine.http.head(f"/containers/{container}/archive", query={"path": path})
    assert answer.status == 200, answer
    return path_stat(answer.headers)


def entry(name: str, **fields: Any) -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    for field, value in fields.items():
        setattr(made, field, value)
    return made


def get(engine: Engine, container: str, path: str) -> dict[str, tarfile.TarInfo]:
    answer = engine.http.get(f"/containers/{container}/archive", query={"path": path})
    assert (answer.status, answer.headers["content-type"]) == (200, "application/x-tar"), answer
    with tarfile.open(fileobj=io.BytesIO(answer.body)) as tar:
        return {entry.name: entry for entry in tar}


def put(engine: Engine, container: str, path: str, archive: bytes, **query: Any) -> Answer:
    return engine.http.put(f"/containers/{container}/archive", query={"path": path} | query, body=archive, timeout=60)


def tar_of(files: Mapping[str, bytes] | list[tuple[tarfile.TarInfo, bytes]]) -> bytes:
    out = io.BytesIO()
    pairs = [(entry(name), data) for name, data in files.items()] if isinstance(files, Mapping) else files
    with tarfile.open(fileobj=out, mode="w") as tar:
        for info, data in pairs:
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


def tar_with(*entries: tuple[str, bytes, dict[str, Any]]) -> bytes:
    return tar_of([(entry(name, **fields), data) for name, data, fields in entries])


@pytest.mark.parametrize("method", ["HEAD", "GET", "PUT"])
def test_ARC1_path_is_required(engine: Engine, method: str) -> None:
    container = engine.create("true")
    answer = engine.http.call(method, f"/containers/{container}/archive")
    assert answer.status == 400
    if method != "HEAD":
        assert answer.message.startswith("bad parameter: path")


def test_ARC1_relative_paths_and_dots_stay_inside(engine: Engine) -> None:
    container = engine.create("true")
    for path in ("etc/passwd", "/etc/passwd", "../../../etc/passwd", "/bin/../../etc/passwd"):
        assert content(engine, container, path).startswith(b"root:x:0:0:root:/root:/bin/sh\nuser:")


def test_ARC1b_dots_do_not_leave(engine: Engine) -> None:
    container = engine.create("true")
    for path in ("/../../etc/passwd", "../etc/passwd", "/bin/../../../etc/passwd"):
        assert content(engine, container, path).startswith(b"root:x:0:0:root:/root:/bin/sh\nuser:")


def test_ARC2_path_stat(engine: Engine) -> None:
    container = engine.create("true")
    seen = head(engine, container, "/etc")
    assert (seen["name"], seen["mode"], seen["linkTarget"]) == ("etc", DIRECTORY | 0o755, "")
    assert head(engine, container, "/tmp")["mode"] == DIRECTORY | STICKY | 0o777
    passwd = head(engine, container, "/etc/passwd")
    assert (passwd["name"], passwd["mode"], passwd["size"] > 40) == ("passwd", 0o644, True)
    assert passwd["mtime"].startswith("2024-01-01T00:00:00")
    for path, name in (("/", "/"), ("/bin/.", "."), ("/bin/", "bin")):
        assert head(engine, container, path)["name"] == name


def test_ARC2_on_get_too(engine: Engine) -> None:
    container = engine.create("true")
    answer = engine.http.get(f"/containers/{container}/archive", query={"path": "/etc/passwd"})
    assert path_stat(answer.headers) == head(engine, container, "/etc/passwd")


def test_ARC3_symlinks_are_not_followed_at_the_end(engine: Engine) -> None:
    container = engine.create("true")
    seen = head(engine, container, "/bin/sh")
    assert (seen["name"], seen["mode"] & SYMLINK, seen["linkTarget"]) == ("sh", SYMLINK, "/bin/busybox")


@pytest.mark.parametrize("method", ["HEAD", "GET"])
def test_ARC3_missing(engine: Engine, method: str) -> None:
    container = engine.create("true", name="box")
    answer = engine.http.call(method, "/containers/box/archive?path=/nope")
    assert answer.status == 404
    if method == "GET":
        assert answer.message == "Could not find the file /nope in container box"
    assert engine.http.call(method, f"/containers/{container}/archive?path=/etc/passwd/").status in (404, 500)


def test_ARC3c_a_file_is_no_directory(engine: Engine) -> None:
    container = engine.create("true")
    answer = engine.http.get(f"/containers/{container}/archive", query={"path": "/etc/passwd/"})
    assert answer.status == (404 if engine.is_dockerd else 500) or answer.status == 500, answer


def test_ARC4_names_in_the_archive(engine: Engine) -> None:
    container = engine.create("true")
    assert list(get(engine, container, "/var/www")) == ["www", "www/index.html"]
    assert list(get(engine, container, "/var/www/.")) in ([".", "./index.html"], ["", "index.html"])
    assert list(get(engine, container, "/var/www/index.html")) == ["index.html"]
    link = get(engine, container, "/bin/sh")["sh"]
    assert (link.issym(), link.linkname) == (True, "busybox")
    assert {"/bin/busybox", "/etc/passwd"} <= {
        "/" + name.lstrip("/").removeprefix("./") for name in get(engine, container, "/")
    }


def test_ARC4_running_containers_show_what_they_wrote(engine: Engine) -> None:
    container = engine.run_idle()
    engine.exec(
        container, "sh", "-c", "echo live > /srv.txt; chown 1000:50 /srv.txt; chmod 4755 /srv.txt; ln /srv.txt /hard"
    )
    info = get(engine, container, "/srv.txt")["srv.txt"]
    assert (info.uid, info.gid, stat.S_IMODE(info.mode), info.size) == (1000, 50, 0o4755, 5)
    assert head(engine, container, "/srv.txt")["mode"] == SETUID | 0o755


def test_ARC5_targets(engine: Engine) -> None:
    container = engine.create("true", name="box")
    archive = tar_of({"f": b"x"})
    answer = put(engine, "box", "/nope", archive)
    assert (answer.status, answer.message) == (404, "Could not find the file /nope in container box")
    answer = put(engine, "box", "/etc/passwd", archive)
    assert (answer.status, answer.message) == (500, "extraction point is not a directory")
    assert put(engine, container, "/etc", archive).status == 200


def test_ARC5_read_only(engine: Engine, tmp_path: Path) -> None:
    archive = tar_of({"f": b"x"})
    container = engine.create("true", HostConfig={"ReadonlyRootfs": True})
    answer = put(engine, container, "/tmp", archive)
    assert (answer.status, answer.message) == (500, "container rootfs is marked read-only")
    container = engine.create("true", HostConfig={"Binds": [f"{tmp_path}:/mnt:ro"]})
    answer = put(engine, container, "/mnt", archive)
    assert (answer.status, answer.message) == (500, "mounted volume is marked read-only")
    assert list(tmp_path.iterdir()) == []


def test_ARC5d_tmpfs_of_a_running_container(engine: Engine) -> None:
    container = engine.run_idle(HostConfig={"Tmpfs": {"/scratch": ""}})
    engine.exec(container, "sh", "-c", "echo inside > /scratch/f")
    answer = engine.http.get(f"/containers/{container}/archive", query={"path": "/scratch/f"})
    if engine.is_dockerd:  # it looks at the files below the mount
        assert answer.status == 404
    else:
        assert answer.status == 200
        assert put(engine, container, "/scratch", tar_with(("g", b"x", {}))).status == 200
        assert engine.exec(container, "cat", "/scratch/g")[1] == b"x"


@pytest.mark.parametrize(
    "compress", [lambda data: data, gzip.compress, bz2.compress, lzma.compress], ids=["tar", "gz", "bz2", "xz"]
)
def test_ARC6_compressed_bodies(engine: Engine, compress: Any) -> None:
    container = engine.create("true")
    answer = put(engine, container, "/tmp", compress(tar_of({"f": b"content"})))
    assert (answer.status, answer.body) == (200, b"")
    assert content(engine, container, "/tmp/f") == b"content"


def test_ARC6_empty_and_garbage(engine: Engine) -> None:
    container = engine.create("true")
    assert put(engine, container, "/tmp", b"").status == 200
    answer = put(engine, container, "/tmp", b"this is no tar" * 100)
    assert answer.status in (400, 500)


@pytest.mark.parametrize("compress", [gzip.compress, lzma.compress, zstandard.compress], ids=["gz", "xz", "zst"])
def test_ARC6ad_compressed_bodies(engine: Engine, compress: Any) -> None:
    if engine.is_dockerd and compress is zstandard.compress:
        return  # newer than 20.10
    container = engine.create("true")
    assert put(engine, container, "/tmp", compress(tar_with(("f", b"content", {})))).status == 200
    assert content(engine, container, "/tmp/f") == b"content"


@pytest.mark.parametrize(("body", "words"), [(b"x" * 14, "unexpected EOF"), (b"x" * 2000, "invalid tar header")])
def test_ARC6c_garbage(engine: Engine, body: bytes, words: str) -> None:
    container = engine.create("true")
    answer = put(engine, container, "/tmp", body)
    assert (answer.status, words in answer.message) == (500, True), answer


def test_ARC7_absolute_names_and_links_stay_inside(engine: Engine) -> None:
    container = engine.create("true")
    archive = tar_of(
        [
            (entry("/abs"), b"a"),
            (entry("l", type=tarfile.SYMTYPE, linkname="/etc"), b""),
            (entry("l/through"), b"t"),
        ]
    )
    assert put(engine, container, "/tmp", archive).status == 200
    assert content(engine, container, "/tmp/abs") == b"a"
    assert content(engine, container, "/etc/through") == b"t"
    assert not Path("/etc/through").exists()


@pytest.mark.parametrize(
    "info",
    [entry("../../esc"), entry("hard", type=tarfile.LNKTYPE, linkname="../../etc/passwd")],
    ids=["name", "hardlink"],
)
def test_ARC7_what_would_leave_is_refused(engine: Engine, info: tarfile.TarInfo) -> None:
    container = engine.create("true")
    answer = put(engine, container, "/tmp", tar_of([(info, b"")]))
    assert answer.status in (400, 500)
    assert not Path("/esc").exists()


def test_ARC7_replacing(engine: Engine) -> None:
    container = engine.create("true")
    assert put(engine, container, "/tmp", tar_of({"f": b"1", "d/inner": b"1"})).status == 200
    assert put(engine, container, "/tmp", tar_of({"f": b"2", "d/other": b"2"})).status == 200
    assert content(engine, container, "/tmp/f") == b"2"
    assert {"d", "d/inner", "d/other"} == set(get(engine, container, "/tmp/d"))
    refused = put(engine, container, "/tmp", tar_of({"d": b"file"}), noOverwriteDirNonDir=1)
    assert (refused.status in (400, 500), "cannot overwrite directory" in refused.message) == (True, True)
    assert put(engine, container, "/tmp", tar_of({"d": b"file"})).status == 200
    assert content(engine, container, "/tmp/d") == b"file"


def test_ARC7b_names_outside(engine: Engine) -> None:
    container = engine.create("true")
    answer = put(engine, container, "/tmp", tar_with(("../../esc", b"x", {})))
    assert (answer.status, '"../../esc" is outside of "/tmp"' in answer.message) == (500, True), answer


def test_ARC7c_hard_links_outside(engine: Engine) -> None:
    container = engine.create("true")
    link = tar_with(("hard", b"", {"type": tarfile.LNKTYPE, "linkname": "../../etc/passwd"}))
    answer = put(engine, container, "/tmp", link)
    assert (answer.status, "invalid hardlink" in answer.message) == (500, True), answer


def test_ARC7fg_no_replacing_of_directories(engine: Engine) -> None:
    container = engine.create("true")
    directory = tar_with(("d", b"", {"type": tarfile.DIRTYPE, "mode": 0o755}), ("f", b"file", {}))
    assert put(engine, container, "/tmp", directory).status == 200
    answer = put(engine, container, "/tmp", tar_with(("d", b"x", {})), noOverwriteDirNonDir=1)
    assert answer.status == 500
    assert 'cannot overwrite directory "/tmp/d" with non-directory "/tmp"' in answer.message
    as_directory = tar_with(("f", b"", {"type": tarfile.DIRTYPE, "mode": 0o755}))
    answer = put(engine, container, "/tmp", as_directory, noOverwriteDirNonDir=1)
    assert answer.status == 500
    assert 'cannot overwrite non-directory "/tmp/f" with directory "/tmp"' in answer.message


def test_ARC8_owners(engine: Engine) -> None:
    container = engine.create("true", User="1000:50")
    assert put(engine, container, "/tmp", tar_of([(entry("f", uid=1234, gid=4321), b"x")])).status == 200
    info = get(engine, container, "/tmp/f")["f"]
    assert (info.uid, info.gid) == (1234, 4321)
    if not engine.is_dockerd:  # moby looks for a program inside the container to read its users
        assert put(engine, container, "/tmp", tar_of([(entry("g", uid=1), b"x")]), copyUIDGID=1).status == 200
        info = get(engine, container, "/tmp/g")["g"]
        assert (info.uid, info.gid) == (1000, 50)


def test_ARC9_parents_modes_and_kinds(engine: Engine) -> None:
    container = engine.create("true")
    archive = tar_of(
        [
            (entry("made/for/it", mode=0o4711, mtime=1_600_000_000), b"x"),
            (entry("fifo", type=tarfile.FIFOTYPE, mode=0o600), b""),
            (entry("link", type=tarfile.SYMTYPE, linkname="nowhere"), b""),
        ]
    )
    assert put(engine, container, "/tmp", archive).status == 200
    seen = get(engine, container, "/tmp")
    assert (seen["tmp/made"].isdir(), stat.S_IMODE(seen["tmp/made"].mode)) == (True, 0o755)
    made = seen["tmp/made/for/it"]
    assert (stat.S_IMODE(made.mode), made.mtime) == (0o4711, 1_600_000_000)
    assert seen["tmp/fifo"].isfifo()
    assert seen["tmp/link"].linkname == "nowhere"


def test_ARC10_bind_mounts_are_seen_also_when_stopped(engine: Engine, tmp_path: Path) -> None:
    (tmp_path / "host.txt").write_text("from host")
    container = engine.create("true", HostConfig={"Binds": [f"{tmp_path}:/mnt"]})
    assert content(engine, container, "/mnt/host.txt") == b"from host"
    assert put(engine, container, "/mnt", tar_of({"back": b"to host"})).status == 200
    assert (tmp_path / "back").read_bytes() == b"to host"


def test_ARC10b_volumes_of_a_stopped_container(engine: Engine) -> None:
    container = engine.create("true", Volumes={"/data": {}})
    assert put(engine, container, "/data", tar_with(("f", b"kept", {}))).status == 200
    source = Path(engine.inspect(container)["Mounts"][0]["Source"])
    assert (source / "f").read_bytes() == b"kept"
    assert content(engine, container, "/data/f") == b"kept"


def test_ARC11a_a_slow_copy_holds_up_nobody(wherry: Engine) -> None:
    container = wherry.run("sh", "-c", "dd if=/dev/zero of=/big bs=1M count=64 2>/dev/null; echo ready; sleep 1000")
    with wherry.open_logs(container, follow=1) as logs:
        next(logs.frames())
    with wherry.http.open("GET", f"/containers/{container}/archive?path=/big") as slow:
        assert slow.status == 200
        started = time.monotonic()
        assert wherry.status(container) == "running"
        assert wherry.http.post(f"/containers/{container}/stop?t=0").status == 204
        assert time.monotonic() - started < 5 * PATIENCE


def test_ARC11_uploads_of_one_file_at_the_same_time(engine: Engine) -> None:
    """Each takes the place of what another has just put there; none fails, and one of them is seen whole."""
    container = engine.create("true")

    def upload(number: int) -> list[int]:
        archive = tar_of({"same": bytes([number]) * 10_000, "below/same": b""})
        return [put(engine, container, "/", archive).status for _ in range(10)]

    with ThreadPoolExecutor(8) as pool:
        assert {status for done in pool.map(upload, range(8)) for status in done} == {200}
    found = content(engine, container, "/same")
    assert found in {bytes([number]) * 10_000 for number in range(8)}


def test_ARC12_events(engine: Engine) -> None:
    container = engine.create("true")
    put(engine, container, "/tmp", tar_of({"f": b"x"}))
    content(engine, container, "/tmp/f")
    with engine.http.open("GET", "/events", query={"since": 1, "filters": {"container": [container]}}) as events:
        source = events.json_values()
        assert [next(source)["Action"] for _ in range(3)] == ["create", "extract-to-dir", "archive-path"]


def test_ARC12b_a_look_is_no_event(engine: Engine) -> None:
    container = engine.create("true")
    assert engine.http.head(f"/containers/{container}/archive?path=/etc").status == 200
    until = f"{time.time():.9f}"
    filters = {"container": [container]}
    with engine.http.open("GET", "/events", query={"since": 1, "until": until, "filters": filters}) as events:
        assert [event["Action"] for event in events.json_values()] == ["create"]


def test_ARC_large_file_both_ways(engine: Engine) -> None:
    container = engine.run_idle()
    data = bytes(range(256)) * (1 << 16)
    assert put(engine, container, "/tmp", tar_of({"big": data})).status == 200
    assert engine.exec(container, "wc", "-c", "/tmp/big")[1].split()[0] == b"16777216"
    assert content(engine, container, "/tmp/big") == data


def test_ARC9bd_times_of_directories_and_global_headers(engine: Engine) -> None:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", format=tarfile.PAX_FORMAT, pax_headers={"comment": "of all"}) as tar:
        tar.addfile(entry("old", type=tarfile.DIRTYPE, mode=0o755, mtime=1_000_000_000))
        tar.addfile(entry("old/new", size=1, mtime=1_100_000_000), io.BytesIO(b"x"))
        tar.addfile(entry("old/first", size=1, mtime=0), io.BytesIO(b"x"))
    container = engine.create("true")
    assert put(engine, container, "/tmp", made.getvalue()).status == 200
    assert head(engine, container, "/tmp/old")["mtime"].startswith("2001-09-09T01:46:40")
    assert head(engine, container, "/tmp/old/new")["mtime"].startswith("2004-11-09")
    assert head(engine, container, "/tmp/old/first")["mtime"].startswith("1970-01-01T00:00:00")
    missing = engine.http.head(f"/containers/{container}/archive", query={"path": "/tmp/pax_global_header"})
    assert missing.status == 404
