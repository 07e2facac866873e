"""``wherry volume`` and ``wherry system``, on Wherry's own engine."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import pytest

from tests.cli.test_wherry_cli import Wherry
from tests.conformance.test_images import remove_others
from tests.support.engines import Engine
from tests.support.images import tar


@pytest.fixture
def cli(wherry: Engine) -> Iterator[Wherry]:
    wherry.remove_volumes()
    yield Wherry(wherry)
    wherry.remove_volumes()


def test_volumes(cli: Wherry) -> None:
    assert cli.ok("volume", "create", "plain", "-l", "colour=green") == "plain\n"
    assert (
        cli.ok("volume", "create", "-o", "type=tmpfs", "-o", "device=tmpfs", "-o", "o=size=1m,mode=700", "fast")
        == "fast\n"
    )
    anonymous = cli.ok("volume", "create").strip()
    assert len(anonymous) == 64
    assert set(cli.ok("volume", "ls", "-q").split()) == {"plain", "fast", anonymous}
    assert cli.ok("volume", "ls", "-q", "-f", "label=colour=green") == "plain\n"
    title, row = cli.ok("volume", "ls", "-f", "name=fast").splitlines()
    assert title.split() == ["VOLUME", "DRIVER", "OPTIONS", "MOUNTPOINT"]
    assert row.split()[:3] == ["fast", "local", "device=tmpfs,o=size=1m,mode=700,type=tmpfs"]
    (seen,) = json.loads(cli.ok("volume", "inspect", "fast"))
    assert seen["Options"] == {"type": "tmpfs", "device": "tmpfs", "o": "size=1m,mode=700"}
    assert cli.ok("run", "--rm", "-v", "fast:/x", "busybox", "stat", "-c", "%a", "/x") == "700\n"

    done = cli("volume", "inspect", "nosuch", "plain")
    assert (done.returncode, done.stderr) == (1, b"wherry: get nosuch: no such volume\n")
    assert [volume["Name"] for volume in json.loads(done.stdout)] == ["plain"]
    done = cli("volume", "create", "-o", "colour=green", "other")
    assert (done.returncode, done.stderr) == (1, b'wherry: create other: invalid option: "colour"\n')

    cli.ok("run", "-v", "plain:/x", "busybox", "true")
    done = cli("volume", "rm", "plain", "fast", "nosuch")
    assert (done.returncode, done.stdout, done.stderr.count(b"\n")) == (1, b"fast\n", 2)
    assert b"volume is in use" in done.stderr
    assert cli.ok("volume", "rm", "-f", "nosuch") == "nosuch\n"
    assert cli.ok("volume", "prune") == f"{anonymous}\n"
    cli.ok("volume", "create", "idle")
    assert cli.ok("volume", "prune", "-a", "-f", "label!=colour=green") == "idle\n"
    assert cli.ok("volume", "ls", "-q") == "plain\n"


def test_what_uses_space(cli: Wherry) -> None:
    cli.ok("run", "-v", "used:/x", "busybox", "sh", "-c", "head -c 5000 /dev/zero >/x/f; head -c 3000 /dev/zero >/f")
    cli.ok("volume", "create", "unused")
    lines = cli.ok("system", "df").splitlines()
    rows = {line.split("  ")[0]: line.split() for line in lines}
    assert rows["containers"] == ["containers", "1", "0", "3kB", "3kB"]
    assert rows["volumes"] == ["volumes", "2", "1", "5kB", "0B"]
    assert rows["images"][1:3][1] == "1"
    verbose = [line.split() for line in cli.ok("system", "df", "-v").splitlines()]
    assert ["used", "5kB", "1"] in verbose
    assert ["unused", "0B", "0"] in verbose
    assert [word[0] for word in verbose if word[1:] == ["SIZE", "STATE"]] == ["CONTAINER"]


@pytest.fixture
def full(cli: Wherry, wherry: Engine) -> Iterator[None]:
    """One of each kind that nothing uses, and of most one that has a label."""
    cli.ok("run", "--name", "ended", "-v", "/anonymous", "busybox", "true")
    cli.ok("run", "--name", "ended-too", "-l", "keep", "busybox", "true")
    cli.ok("run", "-d", "--name", "runs", "busybox", "sleep", "1000")
    cli.ok("network", "create", "idle")
    cli.ok("volume", "create", "named")
    cli.ok("import", "-", input=tar([("file", b"content")]))
    cli.ok("import", "-", "spare:1", input=tar([("file", b"other content")]))
    yield
    wherry.remove_all()
    remove_others(wherry)


def kinds(said: str) -> list[str]:
    return sorted({" ".join(line.split()[:-1]) for line in said.splitlines()})


def test_prune_removes_what_nothing_uses(cli: Wherry, full: None) -> None:
    said = cli.ok("system", "prune", "--force", "--filter", "label!=keep")
    assert kinds(said) == ["deleted container", "deleted image", "deleted network"]
    assert cli.ok("ps", "-a", "--format", "{{.Names}}").split() == ["runs", "ended-too"]
    assert len(cli.ok("volume", "ls", "-q").split()) == 2
    done = cli("system", "prune", "--force", "--volumes", "--all")
    assert kinds(done.stdout.decode()) == ["deleted container", "deleted image", "deleted volume", "untagged"]
    assert b" are free again\n" in done.stderr
    assert cli.ok("ps", "-a", "--format", "{{.Names}}") == "runs\n"
    assert cli.ok("volume", "ls", "-q") == "named\n"
    assert cli("image", "inspect", "busybox").returncode == 0


def test_prune_asks_first(cli: Wherry, full: None) -> None:
    before = cli.ok("ps", "-aq"), cli.ok("images", "-q"), cli.ok("network", "ls", "-q")
    for input in (b"", b"n\n", b"\n"):
        done = cli("system", "prune", input=input)
        assert (done.returncode, done.stdout) == (1, b""), done
        assert b"all containers that do not run" in done.stderr
        assert b"volumes" not in done.stderr
    done = cli("system", "prune", "--volumes", "--filter", "until=24h", "--force")
    assert (done.returncode, b"--filter until does not go with --volumes" in done.stderr) == (2, True)
    assert (cli.ok("ps", "-aq"), cli.ok("images", "-q"), cli.ok("network", "ls", "-q")) == before
    done = cli("system", "prune", "--volumes", "--filter", "label!=keep", input=b"y\n")
    assert kinds(done.stdout.decode()) == [*("deleted container", "deleted image", "deleted network", "deleted volume")]
    assert b"all anonymous volumes" in done.stderr
    assert b"as far as it fits label!=keep" in done.stderr


def test_info_and_events(cli: Wherry) -> None:
    since = time.time()
    assert json.loads(cli.ok("system", "info"))["Driver"]
    cli.ok("volume", "create", "seen")
    until = f"{time.time():.6f}"
    options = ["--until", until, "-f", "type=volume"]
    (line,) = cli.ok("events", "--since", f"{since:.6f}", *options).splitlines()
    assert line.split()[1:] == ["volume", "create", "seen", "driver=local"]
    (line,) = cli.ok(
        "system", "events", "--since", "10m", "--json", *options, "-f", "volume=seen", "-f", "event=create"
    ).splitlines()[-1:]
    assert json.loads(line)["Actor"]["ID"] == "seen"
    done = cli("events", "--since", "yesterday")
    assert (done.returncode, b"'yesterday' is no time" in done.stderr) == (2, True)
