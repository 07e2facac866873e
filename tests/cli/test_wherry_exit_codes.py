"""With which exit code ``wherry run``, ``attach``, ``start -a`` and ``exec`` end at a terminal, on both engines."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.cli.test_wherry_cli import IDLE, Wherry
from tests.support.engines import Engine
from tests.support.terminal import Terminal

CTRL_P, CTRL_Q = b"\x10", b"\x11"
DETACHED = b"wherry: read escape sequence\r\n"


@pytest.fixture
def cli(engine: Engine) -> Wherry:
    return Wherry(engine)


def at_terminal(cli: Wherry, *arguments: str, **env: str) -> Terminal:
    return Terminal([*cli.command, *arguments], os.environ | env)


@pytest.mark.parametrize("options", [["--rm"], [], ["--restart", "always"]])
def test_the_process_s_exit_code_is_run_s(cli: Wherry, options: list[str]) -> None:
    with at_terminal(cli, "run", "-it", *options, "busybox") as terminal:
        terminal.expect(b"/ # ")
        terminal.send(b"exit 7\r")
        assert terminal.wait() == 7


@pytest.mark.parametrize("options", [["--rm"], []])
def test_the_process_s_exit_code_is_start_s(cli: Wherry, options: list[str]) -> None:
    cli.ok("create", "-it", "--name", "later", *options, "busybox")
    with at_terminal(cli, "start", "-ai", "later") as terminal:
        terminal.expect(b"/ # ")
        terminal.send(b"exit 7\r")
        assert terminal.wait() == 7
    assert cli.ok("ps", "-aq") == "" or not options, "what is to be removed is removed at the end"


@pytest.mark.parametrize("options", [[], ["--restart", "always"]])
def test_the_process_s_exit_code_is_attach_s(cli: Wherry, options: list[str]) -> None:
    cli.ok("run", "-itd", "--name", "shell", *options, "busybox")
    with at_terminal(cli, "attach", "shell") as terminal:
        terminal.send(b"\r")
        terminal.expect(b"/ # ")
        terminal.send(b"exit 7\r")
        assert terminal.wait() == 7


@pytest.mark.parametrize("way", ["run", "run --rm", "attach"])
@pytest.mark.parametrize("end", ["kill", "rm -f"])
def test_an_end_from_elsewhere_is_told(cli: Wherry, way: str, end: str) -> None:
    if way == "attach":
        cli.ok("run", "-itd", "--name", "shell", "busybox")
        command = ["attach", "shell"]
    else:
        command = [*way.split(), "-it", "--name", "shell", "busybox"]
    with at_terminal(cli, *command) as terminal:
        terminal.send(b"\r")
        terminal.expect(b"/ # ")
        cli.ok(*end.split(), "shell")
        assert terminal.wait() == 137


def test_a_restart_from_elsewhere_is_an_end(wherry: Engine) -> None:
    cli = Wherry(wherry)
    with at_terminal(cli, "run", "-it", "--name", "shell", "busybox") as terminal:
        terminal.expect(b"/ # ")
        cli.ok("restart", "-t", "0", "shell")
        assert terminal.wait() == 137
    assert cli.ok("ps", "--format", "{{.Names}}") == "shell\n"


@pytest.mark.parametrize("way", ["run", "start"])
def test_run_and_start_end_well_by_the_detach_keys(cli: Wherry, way: str) -> None:
    command = ["run", "-it", "--name", "kept", "busybox"]
    if way == "start":
        cli.ok("create", *command[1:])
        command = ["start", "-ai", "kept"]
    with at_terminal(cli, *command) as terminal:
        terminal.expect(b"/ # ")
        terminal.send(CTRL_P + CTRL_Q)
        assert (terminal.wait(), DETACHED in terminal.seen, terminal.echoes) == (0, False, True)
    assert cli.ok("ps", "--format", "{{.Names}}") == "kept\n"


@pytest.mark.parametrize("command", [["attach", "kept"], ["exec", "-it", "kept", "sh"]])
def test_attach_and_exec_say_that_the_detach_keys_ended_them(cli: Wherry, command: list[str]) -> None:
    cli.ok("run", "-itd", "--name", "kept", "busybox")
    with at_terminal(cli, *command) as terminal:
        terminal.send(b"\r")
        terminal.expect(b"/ # ")
        terminal.send(CTRL_P)
        terminal.send(CTRL_Q)
        assert (terminal.wait(), terminal.seen.endswith(DETACHED), terminal.echoes) == (1, True, True), terminal.seen
    assert cli.ok("ps", "--format", "{{.Names}}") == "kept\n"


@pytest.mark.parametrize("way", ["run", "start", "attach", "exec", "configured"])
def test_own_detach_keys(cli: Wherry, way: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"detachKeys": "ctrl-x,y" if way == "configured" else "ctrl-a"}))
    keys = [] if way == "configured" else ["--detach-keys", "ctrl-x,y"]
    if way == "start":
        cli.ok("create", "-it", "--name", "kept", "busybox", "cat")
    elif way in ("attach", "exec"):
        cli.ok("run", "-itd", "--name", "kept", "busybox", "cat")
    command = {
        "start": ["start", "-ai", *keys, "kept"],
        "attach": ["attach", *keys, "kept"],
        "exec": ["exec", "-it", *keys, "kept", "cat"],
    }.get(way, ["run", "-it", *keys, "--name", "kept", "busybox", "cat"])
    with at_terminal(cli, *command, DOCKER_CONFIG=str(tmp_path)) as terminal:
        terminal.send(b"\x01" + CTRL_P + b"line\r")
        terminal.expect(b"line\r\n")
        terminal.expect(b"line\r\n")
        terminal.send(b"\x18y")
        assert terminal.wait() == (1 if way in ("attach", "exec") else 0)
    assert cli.ok("ps", "--format", "{{.Names}}") == "kept\n"


def test_keys_that_are_none_are_said(wherry: Engine) -> None:
    cli = Wherry(wherry)
    done = cli("run", "--detach-keys", "ctrl-x,both", "busybox", "true")
    assert (done.returncode, b"Invalid detach keys (ctrl-x,both)" in done.stderr) == (125, True), done
    assert cli.ok("ps", "-aq") == ""


def test_a_stopped_container_is_not_attached_to(cli: Wherry) -> None:
    cli.ok("create", "--name", "still", "busybox", *IDLE)
    done = cli("attach", "still")
    assert (done.returncode, b"wherry start -a still" in done.stderr) == (1, True), done
