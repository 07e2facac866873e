"""``wherry cp`` does what docker's does, on both engines."""

from __future__ import annotations

import os
import stat
import subprocess
from pathlib import Path

import pytest

from tests.cli.test_wherry_cli import IDLE, Wherry
from tests.support.engines import Engine

SCENE = """
mkdir -p /w/d/deep; echo content >/w/file; touch /w/d/inside
ln -s file /w/link; ln -s /w/d /w/absolute; ln -s d /w/relative; ln -s gone /w/dangling
chown 77:77 /w/file; chmod -R 777 /w
"""


@pytest.fixture
def cli(engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Wherry:
    """With a container ``box`` of user 1000 that has the scene, and a directory ``src`` here."""
    made = Wherry(engine)
    made.ok("run", "-d", "--name", "box", "-u", "1000", "busybox", *IDLE)
    made.ok("exec", "-u", "0", "box", "sh", "-c", SCENE)
    monkeypatch.chdir(tmp_path)
    Path("src").mkdir()
    Path("src/a").write_text("here\n")
    os.chown("src/a", 1234, 1234)
    Path("src/link").symlink_to("a")
    Path("to-src").symlink_to("src")
    Path("dangling").symlink_to("nowhere")
    return made


def inside(cli: Wherry, *command: str) -> str:
    return cli.ok("exec", "box", *command)


def refused(cli: Wherry, source: str, target: str) -> str:
    done = cli("cp", source, target)
    assert (done.returncode, done.stdout, done.stderr[:8]) == (1, b"", b"wherry: "), done
    return done.stderr.decode()


def test_a_tree_goes_in_and_comes_back(cli: Wherry) -> None:
    cli.ok("cp", "src", "box:/w")
    assert inside(cli, "cat", "/w/src/a") == "here\n"
    cli.ok("cp", "box:/w/src", "back")
    assert (Path("back/a").read_text(), os.readlink("back/link")) == ("here\n", "a")
    cli.ok("cp", "box:/w/src/.", ".")
    assert Path("a").read_text() == "here\n"
    cli.ok("cp", "src/a", "box:/w/renamed")
    assert cli.ok("cp", "box:/w/renamed", "-").startswith("renamed")
    with subprocess.Popen(["tar", "-c", "src"], stdout=subprocess.PIPE) as tar:
        assert tar.stdout is not None
        cli.ok("cp", "-", "box:/w/d", input=tar.stdout.read())
    assert inside(cli, "cat", "/w/d/src/a") == "here\n"


def test_without_a_path_it_goes_to_the_root(cli: Wherry) -> None:
    cli.ok("cp", "src", "box:")
    assert inside(cli, "cat", "/src/a") == "here\n"


def test_content_makes_the_directory_that_is_missing(cli: Wherry) -> None:
    cli.ok("cp", "src/.", "box:/w/new")
    assert inside(cli, "ls", "/w/new") == "a\nlink\n"
    cli.ok("cp", "src/.", "box:/w/new")
    assert inside(cli, "ls", "/w/new") == "a\nlink\n"
    cli.ok("cp", "box:/w/d/.", "new")
    assert sorted(os.listdir("new")) == ["deep", "inside"]


def test_a_file_does_not_become_the_directory_that_is_missing(cli: Wherry) -> None:
    for source, target in (("box:/w/file", "none/"), ("src/a", "box:/w/none/"), ("src/a", "box:/w/none/.")):
        assert "no such directory" in refused(cli, source, target)
    assert not os.path.lexists("none")
    assert "no such directory" in refused(cli, "box:/w/file", "none/file")
    refused(cli, "src/a", "box:/w/none/file")
    assert "none" not in inside(cli, "ls", "/w")


def test_a_directory_does_not_replace_a_file(cli: Wherry) -> None:
    for source, target in (("box:/w/d", "src/a"), ("src", "box:/w/file")):
        assert "cannot copy a directory over the file" in refused(cli, source, target)
    assert (Path("src/a").read_text(), inside(cli, "cat", "/w/file")) == ("here\n", "content\n")


def test_a_device_is_no_target(cli: Wherry) -> None:
    os.mknod("null", stat.S_IFCHR | 0o600, os.makedev(1, 3))
    assert "neither a directory nor a regular file" in refused(cli, "box:/w/file", "null")
    assert stat.S_ISCHR(os.stat("null").st_mode)


def test_a_link_that_is_the_target_is_followed(cli: Wherry) -> None:
    cli.ok("cp", "box:/w/file", "dangling")
    assert Path("nowhere").read_text() == "content\n"
    os.unlink("nowhere")
    cli.ok("cp", "box:/w/d", "dangling")
    assert (os.path.islink("dangling"), sorted(os.listdir("nowhere"))) == (True, ["deep", "inside"])
    cli.ok("cp", "box:/w/file", "to-src")
    assert Path("src/file").read_text() == "content\n"
    for link in ("absolute", "relative"):
        cli.ok("cp", "src/a", f"box:/w/{link}")
        assert inside(cli, "cat", "/w/d/a") == "here\n"
        inside(cli, "rm", "/w/d/a")
    cli.ok("cp", "src/a", "box:/w/link")
    assert inside(cli, "cat", "/w/file") == "here\n"
    cli.ok("cp", "src/a", "box:/w/dangling")
    assert inside(cli, "cat", "/w/gone") == "here\n"


def test_a_link_is_copied_as_one_unless_it_is_to_be_followed(cli: Wherry) -> None:
    Path("to").mkdir()
    cli.ok("cp", "box:/w/link", "to")
    assert os.readlink("to/link") == "file"
    os.unlink("to/link")
    for _ in range(2):  # the second time over what there is
        cli.ok("cp", "-L", "box:/w/link", "to")
        assert (os.path.islink("to/link"), Path("to/link").read_text()) == (False, "content\n")
        cli.ok("cp", "--follow-link", "box:/w/relative", "to")
        assert (os.path.islink("to/relative"), sorted(os.listdir("to/relative"))) == (False, ["deep", "inside"])
    cli.ok("cp", "src/link", "box:/w/d")
    cli.ok("cp", "-L", "src/link", "box:/w/followed")
    cli.ok("cp", "to-src", "box:/w/d")
    cli.ok("cp", "-L", "to-src", "box:/w/d/deep")
    cli.ok("cp", "dangling", "box:/w/d")
    links = inside(
        cli,
        "sh",
        "-c",
        "cd /w/d; for link in link to-src dangling; do readlink $link; done; cat /w/followed deep/to-src/a",
    )
    assert links == "a\nsrc\nnowhere\nhere\nhere\n"
    done = cli("cp", "-L", "dangling", "box:/w")
    assert (done.returncode, done.stderr) == (1, b"wherry: dangling is not there\n")


def test_who_owns_it(cli: Wherry) -> None:
    cli.ok("cp", "src/a", "box:/w/as-here")
    cli.ok("cp", "-a", "src/a", "box:/w/as-user")
    assert inside(cli, "stat", "-c", "%u", "/w/as-here", "/w/as-user") == "1234\n1000\n"
    for option in ([], ["--archive"]):
        cli.ok("cp", *option, "box:/w/file", "got")
        assert os.stat("got").st_uid == os.getuid()


def test_it_is_said_what_is_not_there(cli: Wherry) -> None:
    assert "/nope" in refused(cli, "box:/nope", ".")
    assert "nope" in refused(cli, "nope", "box:/w")
    for path in ("/w/file", "/w/nope"):
        assert "is no directory" in refused(cli, "-", f"box:{path}")
    assert cli("cp", "/a", "/b").returncode == 2
