"""``--mount`` and ``-v`` of ``wherry run``, on Wherry's own engine."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.test_wherry_cli import Wherry
from tests.support.engines import Engine


@pytest.fixture
def cli(wherry: Engine) -> Iterator[Wherry]:
    wherry.remove_volumes()
    yield Wherry(wherry)
    wherry.remove_all()
    wherry.remove_volumes()


def mounts_of(cli: Wherry, *mounts: str) -> list[dict[str, object]]:
    """What the engine was asked for."""
    options = [word for text in mounts for word in ("--mount", text)]
    id = cli.ok("create", *options, "busybox", "true").strip()
    mounts_seen: list[dict[str, object]] = json.loads(cli.ok("inspect", "-f", "{{json .HostConfig.Mounts}}", id))
    cli.ok("rm", id)
    return mounts_seen


def test_a_bind(cli: Wherry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "file").write_text("here")
    tmp_path.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    for source in (f"source={tmp_path}/tree", "src=./tree"):
        done = cli(
            "run", "--rm", "--mount", f"type=bind,{source},dst=/m,ro", "busybox", "sh", "-c", "cat /m/file; >/m/x"
        )
        assert (done.stdout, b"Read-only file system" in done.stderr) == (b"here", True), done
    assert cli.ok("run", "--rm", "-v", "./tree:/m", "busybox", "cat", "/m/file") == "here"
    assert cli.ok("run", "--rm", "-v", ".:/m", "busybox", "cat", "/m/tree/file") == "here"
    options = "bind-propagation=rslave,bind-nonrecursive,consistency=cached,readonly=false"
    assert mounts_of(cli, f"type=bind,source=/tmp,destination=/m,{options}") == [
        {
            "Type": "bind",
            "Source": "/tmp",
            "Target": "/m",
            "Consistency": "cached",
            "BindOptions": {"Propagation": "rslave", "NonRecursive": True},
        }
    ]
    done = cli("run", "--mount", "type=bind,src=/nosuch,dst=/m", "busybox", "true")
    assert (done.returncode, b"bind source path does not exist: /nosuch" in done.stderr) == (125, True)


def test_a_volume(cli: Wherry) -> None:
    script = "grep ' /m ' /proc/mounts"
    tmpfs = '"volume-opt=o=size=1m,mode=700",volume-opt=type=tmpfs,volume-opt=device=tmpfs'
    out = cli.ok(
        "run", "--rm", "--mount", f"src=fast,target=/m,volume-label=a=b,{tmpfs}", "busybox", "sh", "-c", script
    )
    assert out.startswith("tmpfs /m tmpfs rw,")
    assert "size=1024k,mode=700" in out
    (volume,) = json.loads(cli.ok("volume", "inspect", "fast"))
    assert (volume["Labels"], volume["Options"]["o"]) == ({"a": "b"}, "size=1m,mode=700")
    assert mounts_of(cli, "target=/m,volume-nocopy=1,volume-driver=local") == [
        {"Type": "volume", "Target": "/m", "VolumeOptions": {"NoCopy": True, "DriverConfig": {"Name": "local"}}}
    ]


def test_a_tmpfs(cli: Wherry) -> None:
    mounted = "type=tmpfs,target=/m,tmpfs-size=64k,tmpfs-mode=0701"
    out = cli.ok("run", "--rm", "--mount", mounted, "busybox", "sh", "-c", "stat -c %a /m; grep ' /m ' /proc/mounts")
    assert out.startswith("701\ntmpfs /m tmpfs rw,")
    assert "size=64k" in out
    assert mounts_of(cli, "type=tmpfs,target=/m", "type=TMPFS,target=/n,tmpfs-mode=1777") == [
        {"Type": "tmpfs", "Target": "/m"},
        {"Type": "tmpfs", "Target": "/n", "TmpfsOptions": {"Mode": 0o1777}},
    ]


@pytest.mark.parametrize(
    ("mount", "words"),
    [
        ("type=bind,colour=green,dst=/m", "no key 'colour'; there are type, source, target"),
        ("type=overlay,dst=/m", "type=overlay: there are bind, volume, tmpfs"),
        ("type=bind,src=/tmp", "has no target="),
        ("type=bind,src,dst=/m", "src needs a value: src=…"),
        ("type=bind,src=/tmp,dst=/m,ro=maybe", "readonly=maybe: it is true or false"),
        ("type=bind,src=/tmp,dst=/m,volume-nocopy", "volume-nocopy is nothing for a mount of type bind"),
        ("dst=/m,tmpfs-size=1m", "tmpfs-size is nothing for a mount of type volume"),
        ("type=tmpfs,dst=/m,tmpfs-size=much", "'much' is no size"),
        ("type=tmpfs,dst=/m,tmpfs-mode=rwx", "tmpfs-mode=rwx: write permissions as 1777 or 0700"),
        ('type=bind,"src=/tmp', "is no list of KEY=VALUE with commas between"),
        ("", "has no target="),
    ],
)
def test_mistakes_are_said(cli: Wherry, mount: str, words: str) -> None:
    done = cli("run", "--mount", mount, "busybox", "true")
    assert (done.returncode, words in " ".join(done.stderr.decode().split())) == (125, True), done
    assert cli.ok("ps", "-aq") == ""
