"""Commands run inside a container (EXE1 to EXE7)."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from tests.engine.oci_machine import PATH, Machine, Running, nothing_left
from tests.support.http import PATIENCE
from wherry.engine.oci.errors import RuntimeFailure
from wherry.engine.oci.exec import ExecProcess
from wherry.engine.oci.spec import build_exec_process


class Inside:
    """A running container and commands in it."""

    def __init__(self, machine: Machine, container: Running) -> None:
        self.machine = machine
        self.container = container
        self.streams: dict[int, bytearray] = {1: bytearray(), 2: bytearray()}

    async def start(self, *args: str, stdin: bool = False, **process: Any) -> ExecProcess:
        return await ExecProcess.start(
            self.machine.runtime,
            self.container.id,
            build_exec_process(args=args, env=[PATH], granted=["CAP_CHOWN"], **process),
            lambda stream, data: self.streams[stream].extend(data),
            directory=self.machine.base,
            stdin=stdin,
        )

    async def run(self, *args: str, **process: Any) -> int:
        command = await self.start(*args, **process)
        return await command.wait()

    @property
    def out(self) -> str:
        return self.streams[1].decode()

    @property
    def err(self) -> str:
        return self.streams[2].decode()


@pytest.fixture(params=["crun", "runc"])
def inside(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[Callable[[Inside], Awaitable[None]]], None]:
    def go(body: Callable[[Inside], Awaitable[None]]) -> None:
        async def main() -> None:
            machine = Machine(tmp_path, request.param)
            with nothing_left(machine.tag):
                await machine.open()
                descriptors = len(os.listdir("/proc/self/fd"))
                try:
                    container = await machine.create(machine.spec("sleep", "100"))
                    await container.start()
                    await body(Inside(machine, container))
                    assert len(os.listdir("/proc/self/fd")) <= descriptors + 1  # the attachment's
                    assert not list(machine.base.glob("exec-*"))
                finally:
                    await machine.clean()

        asyncio.run(main())

    return go


def test_EXE6_output_and_exit_code(inside: Any) -> None:
    async def body(it: Inside) -> None:
        assert await it.run("sh", "-c", "echo out; echo err >&2; id; pwd; exit 7", uid=1000, gid=100, cwd="/tmp") == 7
        assert it.out == "out\nuid=1000(user) gid=100(users)\n/tmp\n"
        assert it.err == "err\n"
        assert await it.run("sh", "-c", "kill -9 $$") == 137

    inside(body)


def test_EXE5_stdin_half_close_and_much_of_it(inside: Any) -> None:
    async def body(it: Inside) -> None:
        command = await it.start("cat", stdin=True)
        await command.write(b"y" * 2_000_000)
        await command.close_stdin()
        assert await command.wait() == 0
        assert len(it.streams[1]) == 2_000_000
        with pytest.raises(BrokenPipeError):
            await command.write(b"z")

    inside(body)


def test_without_stdin_there_is_end_of_file(inside: Any) -> None:
    async def body(it: Inside) -> None:
        assert await it.run("cat") == 0

    inside(body)


def test_EXE4_terminal(inside: Any) -> None:
    async def body(it: Inside) -> None:
        # crun may set the size a moment after the command has begun
        wait = "until [ \"$(stty size 2>/dev/null)\" = '40 100' ]; do sleep 0.02; done"
        script = f"test -t 0 || exit 9; {wait}; stty size; read line; echo got $line; stty size"
        command = await it.start("sh", "-c", script, tty=True, console_size=(40, 100), stdin=True)
        while "100" not in it.out:
            await asyncio.sleep(0.01)
        assert command.resize(33, 77)
        await asyncio.sleep(0.1)
        await command.write(b"hello\n")
        assert await command.wait() == 0
        assert it.out.replace("\r", "").split() == ["40", "100", "hello", "got", "hello", "33", "77"]
        assert not command.resize(1, 1)

    inside(body)


@pytest.mark.parametrize(
    ("args", "cwd", "text", "code"),
    [
        (["nosuch"], "/", 'exec: "nosuch": executable file not found in $PATH', 127),
        (["/etc/passwd"], "/", 'exec: "/etc/passwd": permission denied', 126),
        (["true"], "/nocwd", 'chdir to cwd ("/nocwd") set in config.json failed: no such file or directory', 127),
    ],
)
def test_EXE2_commands_that_do_not_start(inside: Any, args: list[str], cwd: str, text: str, code: int) -> None:
    async def body(it: Inside) -> None:
        with pytest.raises(RuntimeFailure) as raised:
            await it.start(*args, cwd=cwd)
        assert raised.value.message == (
            f"OCI runtime exec failed: exec failed: unable to start container process: {text}: unknown"
        )
        assert raised.value.exit_code == code
        assert (it.out, it.err) == ("", "")

    inside(body)


def test_kill_and_pid(inside: Any) -> None:
    async def body(it: Inside) -> None:
        command = await it.start("sleep", "100")
        while "sleep" not in Path(f"/proc/{command.pid}/cmdline").read_text():  # told just before it is executed
            await asyncio.sleep(0.01)
        assert command.kill(signal.SIGTERM)
        assert await command.wait() == 143
        assert not command.kill()

    inside(body)


def test_paused_output_holds_the_command_back_and_loses_nothing(inside: Any) -> None:
    async def body(it: Inside) -> None:
        command = await it.start("sh", "-c", "dd if=/dev/zero bs=64k count=40 2>/dev/null")
        command.pause_output()
        await asyncio.sleep(0.2)
        held = len(it.streams[1])
        assert held < 40 * 65536
        waiting = asyncio.ensure_future(command.wait())
        await asyncio.sleep(0.1)
        command.resume_output()
        assert await waiting == 0
        assert len(it.streams[1]) == 40 * 65536

    inside(body)


def test_AUT1_what_the_command_leaves_behind_does_not_hold_it_for_ever(inside: Any) -> None:
    async def body(it: Inside) -> None:
        if it.machine.runtime_name == "runc":
            return  # it copies the output itself, and waits
        begin = time.monotonic()
        assert await it.run("sh", "-c", "sleep 20 & echo hi") == 0
        assert it.out == "hi\n"
        assert 1.5 < time.monotonic() - begin < 10 * PATIENCE

    inside(body)


def test_the_containers_end_is_the_commands_end(inside: Any) -> None:
    async def body(it: Inside) -> None:
        command = await it.start("sleep", "100")
        await it.machine.runtime.delete(it.container.id)
        assert await command.wait() == 137

    inside(body)


def test_a_container_that_is_gone(inside: Any) -> None:
    async def body(it: Inside) -> None:
        await it.machine.runtime.delete(it.container.id)
        with pytest.raises(RuntimeFailure):
            await it.start("true")

    inside(body)
