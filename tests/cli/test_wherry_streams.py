"""Wherry's own command line where stdin, stdout or stderr are closed, full or no terminal, and where it is interrupted."""

from __future__ import annotations

import os
import signal
import subprocess

import pytest

from tests.cli.test_wherry_cli import IDLE, Wherry
from tests.support.engines import Engine
from tests.support.http import eventually
from tests.support.terminal import Terminal


@pytest.fixture
def cli(wherry: Engine) -> Wherry:
    return Wherry(wherry)


def in_shell(cli: Wherry, redirected: str, *arguments: str) -> list[str]:
    """The command with a shell's redirections, or a pipe, after it."""
    return ["sh", "-c", f'"$@" {redirected}', "sh", *cli.command, *arguments]


def run_in_shell(cli: Wherry, redirected: str, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(in_shell(cli, redirected, *arguments), capture_output=True, timeout=30)


def test_a_closed_stdin_is_an_empty_one(cli: Wherry) -> None:
    done = run_in_shell(cli, "<&-", "run", "-i", "--rm", "busybox", "sh", "-c", "cat; echo over")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"over\n", b"")


@pytest.mark.parametrize("redirected", [">&-", "2>&-", "<&- >&- 2>&-"])
def test_output_that_is_closed_is_dropped(cli: Wherry, redirected: str) -> None:
    for arguments in (("run", "--rm", "busybox", "sh", "-c", "echo out; echo err >&2; exit 3"), ("ps",)):
        done = run_in_shell(cli, redirected, *arguments)
        assert done.returncode == (3 if arguments[0] == "run" else 0)
        assert b"Traceback" not in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [("run", "--rm", "busybox", "echo", "hi"), ("run", "-d", "--rm", "busybox", "true"), ("ps",), ("logs", "told")],
)
def test_a_full_disk_under_the_output_is_said(cli: Wherry, arguments: tuple[str, ...]) -> None:
    cli.ok("run", "--name", "told", "busybox", "echo", "told")
    done = run_in_shell(cli, ">/dev/full", *arguments)
    assert (done.returncode, done.stderr) == (1, b"wherry: write /dev/stdout: no space left on device\n")


def test_who_has_read_enough_ends_it_quietly(cli: Wherry) -> None:
    lines = "i=0; while [ $i -lt 20000 ]; do echo a line; i=$((i+1)); done"
    cli.ok("run", "--name", "told", "busybox", "sh", "-c", lines)
    done = run_in_shell(cli, "| head -n 1", "logs", "told")
    assert (done.stdout, done.stderr) == (b"a line\n", b"")


@pytest.mark.parametrize("redirected", ["", "| cat"])
@pytest.mark.parametrize("command", [("run", "--rm", "-it", "busybox"), ("exec", "-it", "screen")])
def test_the_size_is_the_terminal_s_whatever_is_exported(
    cli: Wherry, command: tuple[str, ...], redirected: str
) -> None:
    cli.ok("run", "-d", "--name", "screen", "busybox", *IDLE)
    script = (
        "until stty size 2>/dev/null | grep .; do sleep 0.1; done"  # an exec may run before its terminal has a size
    )
    env = os.environ | {"COLUMNS": "99", "LINES": "9"}
    with Terminal(in_shell(cli, redirected, *command, "sh", "-c", script), env, 31, 71) as terminal:
        assert (terminal.wait(), terminal.seen.split()) == (0, [b"31", b"71"])


@pytest.mark.parametrize("command", [("wait",), ("stop", "-t", "60"), ("restart", "-t", "60"), ("logs", "-f")])
def test_ctrl_c_ends_it_quietly(cli: Wherry, command: tuple[str, ...]) -> None:
    id = cli.ok("run", "-d", "busybox", "sh", "-c", "trap '' TERM; while :; do sleep 1; done").strip()
    with subprocess.Popen([*cli.command, *command, id], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        eventually(lambda: has_connection(process))
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=20) == (b"", b"")
        assert process.returncode == 130


def has_connection(process: subprocess.Popen[bytes]) -> bool:
    links = [os.readlink(entry.path) for entry in os.scandir(f"/proc/{process.pid}/fd")]
    return any(link.startswith("socket:") for link in links)
