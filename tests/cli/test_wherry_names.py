"""Names that are none, and names of nothing, on Wherry's own command line."""

from __future__ import annotations

import os
import subprocess

import pytest

from tests.cli.test_wherry_cli import Wherry
from tests.support.engines import Engine

# every command that takes a container's name, with what else it needs
COMMANDS = [
    *("rm", "inspect --type container", "stop", "kill", "wait", "top", "port", "stats", "start", "start -a", "restart"),
    *("pause", "unpause", "attach", "logs", "diff", "update -m 64m", "export -o /dev/null"),
]


@pytest.fixture
def cli(wherry: Engine) -> Wherry:
    return Wherry(wherry)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_container_s_name_is_not_empty(cli: Wherry, command: str) -> None:
    done = cli(*command.split(), "")
    assert (done.returncode, done.stderr) == (1, b"wherry: container name cannot be empty\n")


def test_a_name_with_more_after_it_is_not_empty(cli: Wherry) -> None:
    for arguments in (("exec", "", "true"), ("rename", "", "new"), ("cp", ":/etc", "/tmp")):
        done = cli(*arguments)
        assert (done.returncode != 0, b"Traceback" in done.stderr) == (True, False), done
    assert cli("rename", "", "new").stderr == b"wherry: container name cannot be empty\n"


@pytest.mark.parametrize(
    ("command", "words"),
    [("volume rm", "volume"), ("volume inspect", "volume"), ("network rm", "network"), ("rmi", "image")],
)
def test_other_names_are_not_empty(cli: Wherry, command: str, words: str) -> None:
    done = cli(*command.split(), "")
    assert (done.returncode, done.stderr) == (1, f"wherry: {words} name cannot be empty\n".encode())


def test_one_name_that_is_none_does_not_keep_the_others_from_it(cli: Wherry) -> None:
    for name in ("one", "two"):
        cli.ok("create", "--name", name, "busybox", "true")
    done = cli("inspect", "-f", "{{.Name}}", "", "one")
    assert (done.returncode, done.stdout) == (1, b"/one\n")
    done = cli("wait", "nosuch", "one", "")
    assert (done.returncode, done.stdout) == (1, b"0\n")
    done = cli("rm", "", "one", "..", "two")
    assert (done.returncode, done.stdout) == (1, b"one\ntwo\n")
    assert done.stderr == b"wherry: container name cannot be empty\nwherry: '..' is no container's name\n"


def test_a_name_that_is_no_text_is_one_of_nothing(cli: Wherry) -> None:
    for command in ("rm", "inspect", "start"):
        done = subprocess.run([*map(os.fsencode, cli.command), command.encode(), b"\xff"], capture_output=True)
        assert (done.returncode, b"Traceback" in done.stderr) == (1, False), done
    assert b"No such container" in done.stderr


@pytest.mark.parametrize(
    ("command", "code"), [("run", 125), ("create", 125), ("pull", 1), ("push", 1), ("history", 1), ("tag x", 1)]
)
def test_an_image_s_name_is_not_empty(cli: Wherry, command: str, code: int) -> None:
    done = cli(*command.split(), "")
    assert (done.returncode, done.stderr[:8], b"Traceback" in done.stderr) == (code, b"wherry: ", False), done


def test_a_tag_alone_is_pulled_from_nowhere(cli: Wherry) -> None:
    before = cli.ok("images", "-aq")
    done = cli("pull", ":tag")
    assert (done.returncode, done.stderr) == (1, b"wherry: ':tag' names no image\n")
    assert cli.ok("images", "-aq") == before


@pytest.mark.parametrize("command", ["rm", "rmi", "volume rm", "network rm"])
def test_force_is_content_with_nothing(cli: Wherry, command: str) -> None:
    assert cli(*command.split(), "nosuch").returncode == 1
    done = cli(*command.split(), "-f", "nosuch", "nosuch2")
    assert done.returncode == 0
    if command != "volume rm":
        assert (done.stdout, done.stderr.count(b"wherry: "), done.stderr.count(b"nosuch2")) == (b"", 2, 1)


def test_force_is_not_content_with_less(cli: Wherry) -> None:
    cli.ok("create", "--name", "user", "--network", "bridge", "busybox", "true")
    assert cli("rm", "-f", "nosuch", "user", "").returncode == 1
    assert cli("network", "rm", "-f", "nosuch", "bridge").returncode == 1
    assert cli.ok("ps", "-aq") == ""


def test_exec_hands_on_the_variables_of_this_process(cli: Wherry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HANDED", "on")
    monkeypatch.delenv("MISSING", raising=False)
    cli.ok("run", "-d", "--name", "box", "busybox", "sleep", "1000")
    seen = cli.ok("exec", "-e", "HANDED", "-e", "GIVEN=x", "-e", "MISSING", "box", "env").splitlines()
    assert ("HANDED=on" in seen, "GIVEN=x" in seen, "MISSING" in str(seen)) == (True, True, False)
