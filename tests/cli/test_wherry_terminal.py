"""Wherry's own command line on a terminal, and what it does with signals, on its own engine."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Sequence

import pytest

from tests.cli.test_wherry_cli import IDLE, Wherry
from tests.support.engines import Engine
from tests.support.http import eventually
from tests.support.terminal import Terminal

# the signals of a container without a terminal: a sleep in the background is ended by none of them
HEARS = """
for signal in HUP INT QUIT USR1 USR2 ALRM VTALRM PROF TSTP CONT XCPU PWR WINCH 34 50; do trap "echo heard $signal" $signal; done
trap 'echo ended; exit 9' TERM
echo ready
while :; do sleep 3600 & wait $!; done
"""
HEARD = {
    name: getattr(signal, f"SIG{name}") for name in "HUP INT QUIT USR1 USR2 ALRM VTALRM PROF TSTP CONT XCPU PWR".split()
}


@pytest.fixture
def cli(wherry: Engine) -> Wherry:
    return Wherry(wherry)


def test_terminal(cli: Wherry) -> None:
    with Terminal([*cli.command, "run", "--rm", "-it", "busybox"], os.environ, 31, 71) as terminal:
        terminal.expect(b"/ # ")
        terminal.send(b"echo $((6 * 7)); stty size\r")
        terminal.expect(b"\r\n42\r\n")
        terminal.send(b"exit 5\r")
        assert terminal.wait() == 5


def test_what_was_typed_before_the_start_reaches_the_shell(cli: Wherry) -> None:
    with Terminal([*cli.command, "run", "--rm", "-it", "busybox"], os.environ) as terminal:
        terminal.send(b"echo $((6 * 7)); exit 5\r")  # the client has not even been imported yet
        terminal.expect(b"\r\n42\r\n")
        assert terminal.wait() == 5


def test_a_terminal_s_input_comes_from_a_terminal(cli: Wherry) -> None:
    cli.ok("run", "-dt", "--name", "screen", "busybox", *IDLE)
    for arguments in (("run", "-it", "busybox"), ("exec", "-it", "screen", "sh"), ("attach", "screen")):
        done = cli(*arguments)
        assert (done.returncode, done.stderr) == (1, b"wherry: the input device is not a TTY\n"), done
    assert len(cli.ok("ps", "-aq").split()) == 1
    cli.ok("rm", "-f", "screen")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_client_while_it_streams(cli: Wherry, number: signal.Signals) -> None:
    with Terminal([*cli.command, "run", "--rm", "-it", "busybox"], os.environ) as terminal:
        terminal.expect(b"/ # ")
        terminal.process.send_signal(number)
        assert terminal.wait() == 128 + number
        assert terminal.echoes, "the terminal is put back"
    id = cli.ok("ps", "-q").strip()
    deaf = [*cli.command, "exec", id, "sh", "-c", "echo ready; sleep 1000"]
    with subprocess.Popen(deaf, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(number)
        assert process.wait(20) == 128 + number
    cli.ok("rm", "-f", id)


def test_signals_go_to_the_container_that_runs_without_a_terminal(cli: Wherry) -> None:
    def run(*options: str, script: str) -> subprocess.Popen[bytes]:
        command = [*cli.command, "run", "--rm", "--name", "told", *options, "busybox", "sh", "-c", script]
        process = subprocess.Popen(command, stdout=subprocess.PIPE)
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        return process

    for number, name in ((signal.SIGINT, "INT"), (signal.SIGTERM, "TERM")):
        heard = f"trap 'echo heard; exit 9' {name}; echo ready; while :; do sleep 3600 & wait $!; done"
        with run(script=heard) as process:
            process.send_signal(number)
            assert process.wait(20) == 9
            assert process.stdout is not None
            assert process.stdout.read() == b"heard\n"

    counts = "trap 'echo heard' TERM; echo ready; while :; do sleep 3600 & wait $!; done"
    with run(script=counts) as process:  # the third ends a client whose container does not end
        for _ in range(2):
            process.send_signal(signal.SIGTERM)
            assert process.stdout is not None
            assert process.stdout.readline() == b"heard\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 143
    cli.ok("rm", "-f", "told")
    for number in (signal.SIGTERM, signal.SIGHUP):
        with run("--no-sig-proxy", script=counts) as process:
            process.send_signal(number)
            assert process.wait(20) == 128 + number
        assert cli.ok("ps", "--format", "{{.Names}}") == "told\n"
        cli.ok("rm", "-f", "told")


def line_of(process: subprocess.Popen[bytes]) -> bytes:
    assert process.stdout is not None
    return process.stdout.readline()


@pytest.mark.parametrize("way", ["run", "start", "attach"])
def test_every_signal_that_can_be_goes_to_the_container(cli: Wherry, way: str) -> None:
    command: Sequence[str] = ["run", "--name", "told", "busybox", "sh", "-c", HEARS]
    if way != "run":
        cli.ok("create", "--name", "told", *command[3:])
        command = ["start", "-a", "told"]
    if way == "attach":
        cli.ok("start", "told")
        eventually(lambda: cli.ok("logs", "told") == "ready\n")
        command = ["attach", "told"]
    with subprocess.Popen([*cli.command, *command], stdout=subprocess.PIPE) as process:
        if way == "attach":
            eventually(lambda: is_caught(process, signal.SIGHUP))
        else:
            assert line_of(process) == b"ready\n"
        process.send_signal(signal.SIGWINCH)  # of this client's own terminal: not the container's
        for number, name in [*((number, name) for name, number in HEARD.items()), (34, "34"), (50, "50")]:
            process.send_signal(number)
            assert line_of(process).decode() == f"heard {name}\n"
        process.send_signal(signal.SIGTERM)
        assert line_of(process) == b"ended\n"
        assert process.wait(20) == 9
    cli.ok("rm", "told")


def is_caught(process: subprocess.Popen[bytes], number: signal.Signals) -> bool:
    with open(f"/proc/{process.pid}/status") as status:
        (mask,) = (int(line.split()[1], 16) for line in status if line.startswith("SigCgt:"))
    return bool(mask >> (number - 1) & 1)


def test_a_signal_that_was_to_be_ignored_stays_so(cli: Wherry) -> None:
    command = ["sh", "-c", 'trap "" HUP; exec "$@"', "nohup", *cli.command, "run", "--rm", "busybox", "sh", "-c", HEARS]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert line_of(process) == b"ready\n"
        process.send_signal(signal.SIGHUP)
        process.send_signal(signal.SIGUSR1)
        assert line_of(process) == b"heard USR1\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 9


@pytest.mark.parametrize("options", [["-it"], ["-t"]])
def test_the_size_follows_this_terminal_s(cli: Wherry, options: list[str]) -> None:
    script = "trap 'stty size' WINCH; trap 'exit 3' TERM; echo ready; while :; do stty size; sleep 0.2; done"
    command = [*cli.command, "run", "--rm", "--name", "sized", *options, "busybox", "sh", "-c", script]
    with Terminal(command, os.environ, 31, 71) as terminal:
        terminal.expect(b"31 71")
        terminal.resize(40, 100)
        terminal.expect(b"40 100")
        cli.ok("kill", "-s", "TERM", "sized")
        assert terminal.wait() == 3
