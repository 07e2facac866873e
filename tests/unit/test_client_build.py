"""The client's end of a build: the context that it packs, and the parameters that it sends."""

from __future__ import annotations

import base64
import io
import json
import os
import stat
import tarfile
import tracemalloc
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest
from client_fake import FakeEngine

import wherry
from wherry.api.models.images import AuthConfig
from wherry.client.context import _file, open_context, pack


def lay(root: Path, *paths: str, **contents: str) -> Path:
    for path in paths:
        place = root / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(contents.get(path, path))
    return root


def packed(root: Path, dockerfile: str | None = None, **more: Any) -> tuple[dict[str, tarfile.TarInfo], str | None]:
    pieces, name = pack(str(root), dockerfile, **more)
    with tarfile.open(fileobj=io.BytesIO(b"".join(pieces))) as tar:
        return {entry.name: entry for entry in tar}, name


def test_all_files_but_those_that_are_ignored(tmp_path: Path) -> None:
    lay(tmp_path, "Dockerfile", "a.txt", "b.log", "dir/c.log", "dir/d", "keep/e.log", "gone/f", "gone/sub/kept")
    (tmp_path / ".dockerignore").write_text("**/*.log\ngone\nDockerfile\n.dockerignore\n!keep/*.log\n!gone/sub/kept\n")
    entries, name = packed(tmp_path)
    assert name is None
    assert sorted(entries) == [
        ".dockerignore",
        "Dockerfile",
        "a.txt",
        "dir",
        "dir/d",
        "gone/sub/kept",
        "keep",
        "keep/e.log",
    ]


def test_owners_are_roots_and_modes_and_links_are_kept(tmp_path: Path) -> None:
    lay(tmp_path, "Dockerfile", "script")
    (tmp_path / "script").chmod(0o750)
    os.chown(tmp_path / "script", 1000, 1000)
    (tmp_path / "link").symlink_to("/etc/passwd")
    os.link(tmp_path / "script", tmp_path / "twin")
    os.mkfifo(tmp_path / "fifo")
    entries, _ = packed(tmp_path)
    assert (entries["script"].mode, entries["script"].uid, entries["script"].gid) == (0o750, 0, 0)
    assert (entries["link"].type, entries["link"].linkname) == (tarfile.SYMTYPE, "/etc/passwd")
    assert (entries["twin"].type, entries["twin"].linkname) == (tarfile.LNKTYPE, "script")
    assert entries["fifo"].type == tarfile.FIFOTYPE
    assert stat.S_IMODE(entries["Dockerfile"].mode) == stat.S_IMODE((tmp_path / "Dockerfile").stat().st_mode)


def test_where_the_dockerfile_may_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = lay(tmp_path / "context", "Dockerfile", "sub/Other")
    outside = lay(tmp_path, "Outside") / "Outside"
    assert packed(root, "sub/Other")[1] == "sub/Other"
    assert packed(root, str(root / "sub" / "Other"))[1] == "sub/Other"
    entries, name = packed(root, str(outside))
    assert name is not None
    assert name.startswith(".dockerfile.")
    assert entries[name].size == len("Outside")
    entries, name = packed(root, text=b"FROM scratch")
    assert name in entries
    monkeypatch.chdir(tmp_path)
    assert packed(root, "Outside")[1] != "Outside"


def test_a_dockerfile_in_an_ignored_directory_goes_along(tmp_path: Path) -> None:
    lay(tmp_path, "docker/Dockerfile", "docker/other", "a")
    (tmp_path / ".dockerignore").write_text("docker\n")
    assert sorted(packed(tmp_path, "docker/Dockerfile")[0]) == [".dockerignore", "a", "docker/Dockerfile"]


@pytest.mark.parametrize("name", ["Dockerfile", "dockerfile"])
def test_a_dockerfile_goes_along_though_everything_is_ignored(tmp_path: Path, name: str) -> None:
    lay(tmp_path, name, "a")
    (tmp_path / ".dockerignore").write_text("*\n")
    assert sorted(packed(tmp_path)[0]) == [".dockerignore", name]


@pytest.mark.parametrize(
    ("make", "dockerfile", "words"),
    [
        (lambda root: None, None, "there is no Dockerfile"),
        (lambda root: lay(root, "Dockerfile"), "nope", "the Dockerfile .*nope is not there"),
        (lambda root: (lay(root, "Dockerfile") / ".dockerignore").write_text("a["), None, "syntax error in pattern"),
    ],
)
def test_what_is_no_context(tmp_path: Path, make: Any, dockerfile: str | None, words: str) -> None:
    make(tmp_path)
    with pytest.raises(ValueError, match=words):
        pack(str(tmp_path), dockerfile)


def test_contexts_that_are_none_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is no directory"):
        open_context(str(tmp_path / "nope"), None)
    with pytest.raises(ValueError, match="a build needs a context"):
        open_context(None, None)


def test_a_large_file_costs_no_memory(tmp_path: Path) -> None:
    lay(tmp_path, "Dockerfile")
    with (tmp_path / "big").open("wb") as file:
        file.truncate(64 << 20)
    pieces, _ = pack(str(tmp_path))
    tracemalloc.start()
    total = sum(map(len, pieces))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert total > 64 << 20
    assert peak < 4 << 20


def test_a_file_that_goes_while_it_is_packed_is_left_out(tmp_path: Path) -> None:
    lay(tmp_path, "Dockerfile", "a", "b", "c")
    pieces, _ = pack(str(tmp_path))
    begun = [next(iter(pieces))]  # the Dockerfile's head; the names are read by now
    (tmp_path / "b").unlink()
    with tarfile.open(fileobj=io.BytesIO(b"".join([*begun, *pieces]))) as tar:
        assert tar.getnames() == ["Dockerfile", "a", "c"]
    assert list(_file(str(tmp_path / "b"), tarfile.TarInfo("b"))) == []  # between two looks at it


def test_one_text_may_stand_for_several(fake: FakeEngine, docker: Any) -> None:
    fake.routes["POST /build"] = (200, b'{"stream": "Successfully built 1\\n"}')
    one = dict.fromkeys(("t", "extrahosts", "cachefrom", "securityopt"), "a:1")
    assert docker.images.build(b"archive", **one, auth={}) == "1"
    query = parse_qs(fake.last().query)
    assert query == {name: ['["a:1"]' if name == "cachefrom" else "a:1"] for name in one}


def test_every_option_is_sent(fake: FakeEngine, docker: Any) -> None:
    said = [
        {"stream": "Step 1/1 : FROM x\n"},
        {"aux": {"ID": "sha256:" + "1" * 64}},
        {"stream": "Successfully built 1\n"},
    ]
    fake.routes["POST /build"] = (200, b"\n".join(json.dumps(message).encode() for message in said))
    image = docker.images.build(
        b"archive",
        t=["a", "b:1"],
        dockerfile="D",
        extrahosts=["h:1.2.3.4"],
        q=False,
        nocache=True,
        cachefrom=["c"],
        pull=True,
        rm=False,
        forcerm=True,
        memory=1,
        memswap=-1,
        cpushares=2,
        cpusetcpus="0",
        cpusetmems="0",
        cpuperiod=3,
        cpuquota=4,
        cgroupparent="g",
        ulimits=[],
        securityopt=["s"],
        buildargs={"A": "1", "B": None},
        shmsize=5,
        squash=True,
        labels={"l": "m"},
        networkmode="host",
        platform="linux/amd64",
        target="t",
        outputs="o",
        version="1",
        auth={"reg": AuthConfig(username="u")},
    )
    assert image == "sha256:" + "1" * 64
    query = parse_qs(fake.last().query)
    assert {key: values[0] if len(values) == 1 else values for key, values in query.items()} == {
        "t": ["a", "b:1"],
        "dockerfile": "D",
        "extrahosts": "h:1.2.3.4",
        "q": "0",
        "nocache": "1",
        "cachefrom": '["c"]',
        "pull": "1",
        "rm": "0",
        "forcerm": "1",
        "memory": "1",
        "memswap": "-1",
        "cpushares": "2",
        "cpusetcpus": "0",
        "cpusetmems": "0",
        "cpuperiod": "3",
        "cpuquota": "4",
        "cgroupparent": "g",
        "ulimits": "[]",
        "securityopt": "s",
        "buildargs": '{"A":"1","B":null}',
        "shmsize": "5",
        "squash": "1",
        "labels": '{"l":"m"}',
        "networkmode": "host",
        "platform": "linux/amd64",
        "target": "t",
        "outputs": "o",
        "version": "1",
    }
    assert fake.last().body == b"archive"
    header = fake.last().head.headers.get("x-registry-config")
    assert json.loads(base64.urlsafe_b64decode(header)) == {"reg": {"username": "u"}}


def test_a_failed_build_is_a_stream_error(fake: FakeEngine, docker: Any) -> None:
    fake.routes["POST /build"] = (
        200,
        b'{"stream":"x"}\n{"errorDetail":{"code":7,"message":"it failed"},"error":"it failed"}\n',
    )
    with pytest.raises(wherry.StreamError, match="it failed") as caught:
        docker.images.build(b"", auth={})
    assert caught.value.code == 7
    with pytest.raises(TypeError, match="colour: no such option of a build"):
        docker.images.build(b"", colour="red")


def test_the_id_of_a_quiet_build(fake: FakeEngine, docker: Any) -> None:
    fake.routes["POST /build"] = (200, b'{"stream":"sha256:' + b"2" * 64 + b'\\n"}\n')
    assert docker.images.build(b"", q=True, auth={}) == "sha256:" + "2" * 64
