"""The docker command line at a terminal: ``run -it``, resize, ctrl-c, detach and reattach, ``exec -it``."""

from __future__ import annotations

import json
from collections.abc import Callable

from tests.cli.conftest import Docker
from tests.support.http import eventually

CTRL_C, CTRL_P, CTRL_Q = b"\x03", b"\x10", b"\x11"


def test_run_it(docker: Docker) -> None:
    with docker.terminal("run", "--rm", "-it", "busybox", rows=31, columns=71) as terminal:
        terminal.expect(b"/ # ")
        terminal.send(b"echo $((6 * 7))\r")
        terminal.expect(b"\r\n42\r\n")
        terminal.send(b"tty && exit 5\r")
        terminal.expect(b"/dev/")
        assert terminal.wait() == 5


def test_size_at_start_and_resize(docker: Docker) -> None:
    with docker.terminal("run", "--rm", "-it", "busybox", rows=31, columns=71) as terminal:
        terminal.expect(b"/ # ")

        def size_is(wanted: bytes) -> bool:
            terminal.send(b"stty size\r")
            return wanted in terminal.expect(b"/ # ")

        eventually(lambda: size_is(b"31 71"))
        terminal.resize(40, 100)
        eventually(lambda: size_is(b"40 100"))
        terminal.send(b"exit\r")
        assert terminal.wait() == 0


def test_ctrl_c_goes_to_the_container(docker: Docker) -> None:
    with docker.terminal(
        "run", "--rm", "-it", "busybox", "sh", "-c", "trap 'exit 9' INT; echo ready; sleep 1000"
    ) as terminal:
        terminal.expect(b"ready")
        terminal.send(CTRL_C)
        assert terminal.wait() == 9


def test_detach_and_reattach(docker: Docker) -> None:
    with docker.terminal("run", "-it", "--name", "kept", "busybox") as terminal:
        terminal.expect(b"/ # ")
        terminal.send(b"mark=here\r")
        terminal.expect(b"/ # ")
        terminal.send(CTRL_P + CTRL_Q)
        assert terminal.wait() == 0
    assert json.loads(docker.ok("inspect", "kept"))[0]["State"]["Running"] is True
    with docker.terminal("attach", "kept") as terminal:
        terminal.send(b"echo still $mark\r")
        terminal.expect(b"\r\nstill here\r\n")
        terminal.send(b"exit 6\r")
        assert terminal.wait() == 6


def test_own_detach_keys(docker: Docker) -> None:
    with docker.terminal("run", "-it", "--name", "kept", "--detach-keys", "ctrl-x,y", "busybox", "cat") as terminal:
        terminal.send(b"line\r")
        terminal.expect(b"line\r\nline\r\n")
        terminal.send(b"\x18y")
        assert terminal.wait() == 0
    assert docker.ok("ps", "--format", "{{.Names}}") == "kept\n"


def test_exec_it(docker: Docker, idle: Callable[..., str]) -> None:
    idle("box")
    with docker.terminal("exec", "-it", "box", "sh", rows=33, columns=77) as terminal:
        terminal.expect(b"/ # ")

        def size_is(wanted: bytes) -> bool:
            terminal.send(b"stty size\r")
            return wanted in terminal.expect(b"/ # ")

        eventually(lambda: size_is(b"33 77"))
        terminal.send(b"exit 4\r")
        assert terminal.wait() == 4
    assert docker.ok("ps", "--format", "{{.Names}}") == "box\n"


def test_start_ai(docker: Docker) -> None:
    docker.ok("create", "-it", "--name", "later", "busybox")
    with docker.terminal("start", "-ai", "later") as terminal:
        terminal.expect(b"/ # ")
        terminal.send(b"exit 3\r")
        assert terminal.wait() == 3
