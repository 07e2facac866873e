"""Mounts below mounts: recursion, propagation and access of binds. In a place whose mounts are shared."""

from __future__ import annotations

import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.engines import Engine
from tests.support.http import Http


def mount(*arguments: str | Path) -> None:
    subprocess.run(["mount", *arguments], check=True)


@pytest.fixture
def shared(tmp_path: Path) -> Iterator[Path]:
    """A directory with a mount of its own, which is shared, and one more below it."""
    place = tmp_path / uuid.uuid4().hex[:8]
    place.mkdir()
    mount("-t", "tmpfs", "-o", "noexec", "tmpfs", place)
    mount("--make-shared", place)
    (place / "below").mkdir()
    mount("-t", "tmpfs", "tmpfs", place / "below")
    (place / "below/file").write_text("below\n")
    yield place
    subprocess.run(["umount", "-R", "-l", place], check=True)


def bind(place: Path, *, read_only: bool = False, **options: Any) -> dict[str, Any]:
    return {"Type": "bind", "Source": str(place), "Target": "/x", "ReadOnly": read_only, "BindOptions": options}


def shell(engine: Engine, script: str, **host: Any) -> str:
    code, out, err = engine.run_to_end("sh", "-c", script, HostConfig=host)
    assert code == 0, (out, err)
    return out.decode()


def test_mounts_below_come_along_or_not(wherry: Engine, shared: Path) -> None:
    assert shell(wherry, "cat /x/below/file", Binds=[f"{shared}:/x"]) == "below\n"
    assert shell(wherry, "cat /x/below/file", Mounts=[bind(shared)]) == "below\n"
    assert shell(wherry, "ls /x/below", Mounts=[bind(shared, NonRecursive=True)]) == ""
    for options, status in (({}, 200), ({"NonRecursive": True}, 404)):
        stopped = wherry.create("true", HostConfig={"Mounts": [bind(shared, **options)]})
        answer = wherry.http.get(f"/containers/{stopped}/archive", query={"path": "/x/below/file"})
        assert answer.status == status


def test_what_the_host_forbids_stays_forbidden(wherry: Engine, shared: Path) -> None:
    script = "grep ' /x ' /proc/mounts | cut -d ' ' -f 4"
    assert {"noexec", "rw"} <= set(shell(wherry, script, Binds=[f"{shared}:/x"]).strip().split(","))
    assert {"noexec", "ro"} <= set(shell(wherry, script, Binds=[f"{shared}:/x:ro"]).strip().split(","))


WRITE = "for f in /x/new /x/below/new; do touch $f 2>/dev/null && echo yes || echo no; done"


def test_read_only_reaches_below_from_1_44_on(wherry: Engine, shared: Path) -> None:
    assert shell(wherry, WRITE, Binds=[f"{shared}:/x:ro"]) == "no\nyes\n"
    newer = Engine("wherry", wherry.root, wherry.process, "1.44", "")
    newer.http = Http(wherry.socket_path, "/v1.44")
    assert shell(newer, WRITE, Binds=[f"{shared}:/x:ro"]) == "no\nno\n"
    assert shell(newer, WRITE, Mounts=[bind(shared, read_only=True)]) == "no\nno\n"
    assert shell(newer, WRITE, Mounts=[bind(shared, read_only=True, ReadOnlyForceRecursive=True)]) == "no\nno\n"
    assert shell(newer, WRITE, Mounts=[bind(shared, read_only=True, ReadOnlyNonRecursive=True)]) == "no\nyes\n"
    both = bind(shared, read_only=True, ReadOnlyForceRecursive=True, ReadOnlyNonRecursive=True)
    for mount_ in (both, bind(shared, ReadOnlyForceRecursive=True)):
        assert newer.try_create("true", HostConfig={"Mounts": [mount_]}).status == 400


@pytest.mark.parametrize(
    ("mode", "there", "back"), [("rprivate", False, False), ("rslave", True, False), ("rshared", True, True)]
)
def test_mounts_made_later_travel(wherry: Engine, shared: Path, mode: str, there: bool, back: bool) -> None:
    (shared / "later").mkdir()
    (shared / "inner").mkdir()
    container = wherry.run_idle(HostConfig={"Binds": [f"{shared}:/x:{mode}"], "Privileged": True})
    assert wherry.inspect(container)["Mounts"][0]["Propagation"] == mode
    mount("-t", "tmpfs", "tmpfs", shared / "later")
    (shared / "later/file").touch()
    assert (wherry.exec(container, "ls", "/x/later")[1] == b"file\n") is there
    assert wherry.exec(container, "mount", "-t", "tmpfs", "tmpfs", "/x/inner")[0] == 0
    assert (shared / "inner").is_mount() is back


def test_a_source_that_is_not_shared(wherry: Engine, tmp_path: Path) -> None:
    place = tmp_path / "own"
    place.mkdir()
    mount("-t", "tmpfs", "tmpfs", place)
    mount("--make-private", place)
    try:
        for mode, word in (("rshared", "a shared mount"), ("slave", "a shared or slave mount")):
            container = wherry.create("true", HostConfig={"Binds": [f"{place}:/x:{mode}"]})
            answer = wherry.http.post(f"/containers/{container}/start")
            assert (answer.status, answer.message) == (500, f"path {place} is mounted on {place} but it is not {word}")
    finally:
        subprocess.run(["umount", place], check=True)


def test_binds_that_show_the_data_root_propagate(engine: Engine) -> None:
    for source in ("/", str(engine.root), str(engine.root / "data/tmp")):
        container = engine.create("true", HostConfig={"Binds": [f"{source}:/x:ro"]})
        assert engine.inspect(container)["Mounts"][0]["Propagation"] == "rslave"
        answer = engine.try_create("true", HostConfig={"Binds": [f"{source}:/x:rprivate"]})
        assert (answer.status, "must use either propagation mode" in answer.message) == (400, True), answer
    assert engine.try_create("true", HostConfig={"Binds": [f"{engine.root}:/x:rshared"]}).status == 201


def test_the_whole_host_can_be_shown(wherry: Engine, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("seen\n")
    assert shell(wherry, f"cat /x{tmp_path}/file", Binds=["/:/x:ro"]) == "seen\n"
