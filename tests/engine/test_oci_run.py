"""Containers by conmon and a runtime: their whole life, on this kernel."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.engine.oci_machine import Machine, nothing_left
from wherry.api.models.containers import DeviceMapping, HostConfig
from wherry.engine.oci import conmon
from wherry.engine.oci.errors import RuntimeFailure
from wherry.engine.oci.executable import check_executable
from wherry.engine.oci.process import Pidfd, start_time
from wherry.engine.oci.spec import OciMount

Run = Callable[[Callable[[Machine], Awaitable[Any]]], Any]


@pytest.fixture(params=["crun", "runc"])
def run(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Run]:
    """Runs a coroutine function on a machine of its own, and sees that nothing stays behind."""
    machine = Machine(tmp_path, request.param)

    def go(body: Callable[[Machine], Awaitable[Any]]) -> Any:
        async def main() -> Any:
            await machine.open()
            try:
                return await body(machine)
            finally:
                await machine.clean()

        return asyncio.run(main())

    with nothing_left(machine.tag):
        yield go


def test_output_exit_code_and_log(run: Run) -> None:
    async def body(machine: Machine) -> None:
        container = await machine.create(machine.spec("sh", "-c", "echo out; echo err >&2; exit 3"))
        assert container.out == ""
        await container.start()
        assert await container.finish() == 3
        assert (container.out, container.err) == ("out\n", "err\n")
        log = (container.bundle / "log").read_text().splitlines()
        assert [line.split(" ", 1)[1] for line in log] == ["stdout F out", "stderr F err"]

    run(body)


def test_no_output_is_lost_at_the_end(run: Run) -> None:
    async def body(machine: Machine) -> None:
        container = await machine.create(
            machine.spec("sh", "-c", "dd if=/dev/zero bs=64k count=160 2>/dev/null"), log_path=None
        )
        await container.start()
        assert await container.finish() == 0
        assert len(container.streams[1]) == 160 * 65536

    run(body)


@pytest.mark.parametrize(
    ("command", "text", "code"),
    [
        ("nosuch", 'exec: "nosuch": executable file not found in $PATH', 127),
        ("/no/such", 'exec: "/no/such": stat /no/such: no such file or directory', 127),
        ("/tmp", 'exec: "/tmp": permission denied', 126),
        ("/etc/passwd", 'exec: "/etc/passwd": permission denied', 126),
    ],
)
def test_STA3_commands_that_cannot_run(run: Run, command: str, text: str, code: int) -> None:
    async def body(machine: Machine) -> None:
        with pytest.raises(RuntimeFailure) as raised:
            await machine.create(machine.spec(command))
        assert text in raised.value.message
        assert raised.value.exit_code == code
        assert raised.value.bad_request

    run(body)


def test_STA3_a_format_that_the_kernel_does_not_know_is_seen_before_the_release(run: Run) -> None:
    async def body(machine: Machine) -> None:
        (machine.rootfs / "bad").write_text("garbage\n")
        (machine.rootfs / "bad").chmod(0o755)
        (machine.rootfs / "good").write_text("hidden by a mount\n")
        (machine.rootfs / "good").chmod(0o755)
        container = await machine.create(machine.spec("/bad"))
        with pytest.raises(RuntimeFailure, match="exec /bad: exec format error") as raised:
            check_executable(container.pid, ["/bad"], [], "/")
        assert raised.value.exit_code == 126
        mounted = await machine.create(
            machine.spec("/good", mounts=[OciMount(str(machine.rootfs / "bin/busybox"), "/good", "bind", ["bind"])])
        )
        check_executable(mounted.pid, ["/good"], [], "/")

    run(body)


def test_stdin_with_half_close_and_more_than_a_packet(run: Run) -> None:
    async def body(machine: Machine) -> None:
        container = await machine.create(machine.spec("sh", "-c", "wc -c; echo after"), stdin=True)
        await container.start()
        for size in (1, 32767, 32768, 60000, 3_000_000):
            await container.attachment.send(b"x" * size)
        await container.attachment.send_eof()
        assert await container.finish() == 0
        assert container.out == f"{1 + 32767 + 32768 + 60000 + 3_000_000}\nafter\n"
        with pytest.raises(ConnectionError):
            await container.attachment.send(b"x")

    run(body)


def test_stdin_that_stays_open(run: Run) -> None:
    async def body(machine: Machine) -> None:
        container = await machine.create(machine.spec("head", "-n", "2"), stdin=True, leave_stdin_open=True)
        await container.start()
        await container.attachment.send(b"one\n")
        await container.attachment.send_eof()
        container.attachment.close()
        await container.attach()
        await container.attachment.send(b"two\n")
        assert await container.finish() == 0
        assert container.out.splitlines()[-1] == "two"

    run(body)


def test_CRE25_RES1_terminal_with_its_size(run: Run) -> None:
    async def body(machine: Machine) -> None:
        script = "stty size; trap 'stty size; exit' WINCH; echo ready; while :; do sleep 0.05; done"
        container = await machine.create(
            machine.spec("sh", "-c", script, tty=True, console_size=(40, 100)), stdin=True, leave_stdin_open=True
        )
        await container.start()
        while "ready" not in container.out:
            await asyncio.sleep(0.01)
        assert conmon.resize(container.bundle, 33, 77)
        await container.finish()
        assert container.out.replace("\r", "").split() == [
            "40",
            "100",
            "ready",
            "33",
            "77",
        ] or machine.runtime_name == ("runc")
        assert not container.err
        while conmon.resize(container.bundle, 1, 1):  # the monitor ends a moment after the container
            await asyncio.sleep(0.01)

    run(body)


def test_signals_by_pidfd(run: Run) -> None:
    async def body(machine: Machine) -> None:
        container = await machine.create(machine.spec("sleep", "100"))
        await container.start()
        held = Pidfd(container.pid, start_time(container.pid))
        held.signal(signal.SIGKILL)
        await held.wait()
        assert await container.finish() == 137
        held.close()

    run(body)


def test_exits_are_told_by_file(run: Run) -> None:
    async def body(machine: Machine) -> None:
        seen: asyncio.Queue[tuple[str, int]] = asyncio.Queue()
        watcher = conmon.ExitWatcher(machine.exits, lambda id, code: seen.put_nowait((id, code)))
        watcher.start()
        container = await machine.run("sh", "-c", "exit 5")
        assert await asyncio.wait_for(seen.get(), 5) == (container.id, 5)
        watcher.close()

    run(body)


def test_a_later_engine_takes_over(run: Run) -> None:
    """What a killed engine leaves: container and monitor live, output goes into the log, another connection works."""

    async def body(machine: Machine) -> None:
        container = await machine.create(
            machine.spec("sh", "-c", "for i in 1 2 3 4 5 6; do echo $i; sleep 0.1; done; exit 4")
        )
        await container.start()
        container.attachment.close()
        await asyncio.sleep(0.2)
        await container.attach()
        assert await container.finish() == 4
        assert container.out.split()[-1] == "6"
        lines = (container.bundle / "log").read_text().splitlines()
        assert [line.split()[-1] for line in lines] == ["1", "2", "3", "4", "5", "6"]

    run(body)


def test_rotation_loses_no_line(run: Run) -> None:
    async def body(machine: Machine) -> None:
        container = await machine.create(
            machine.spec("sh", "-c", "i=0; while [ $i -lt 60 ]; do echo $i; i=$((i+1)); sleep 0.01; done")
        )
        await container.start()
        log = container.bundle / "log"
        for number in (2, 1):
            await asyncio.sleep(0.15)
            log.rename(f"{log}.{number}")
            assert conmon.reopen_log(container.bundle)
        await container.finish()
        text = "".join(Path(f"{log}{suffix}").read_text() for suffix in (".2", ".1", ""))
        assert [int(line.split()[-1]) for line in text.splitlines()] == list(range(60))

    run(body)


def test_a_launch_that_is_cancelled_leaves_nothing_running(run: Run) -> None:
    async def body(machine: Machine) -> None:
        for delay in (0.0, 0.005, 0.015, 0.03):
            task = asyncio.ensure_future(machine.create(machine.spec("sleep", "100")))
            await asyncio.sleep(delay)
            task.cancel()
            await asyncio.wait({task})
            id = machine.started[-1]
            if not task.cancelled():  # it was quicker
                await machine.runtime.delete(id)
            assert not machine.runtime.knows(id)
            await asyncio.sleep(0.05)
            assert not [pid for pid in os.listdir("/proc") if pid.isdigit() and id.encode() in _command_line(pid)]

    run(body)


def _command_line(pid: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def test_INS7_an_end_for_want_of_memory_is_seen(run: Run) -> None:
    async def body(machine: Machine) -> None:
        from wherry.engine.oci.cgroups import detect

        setup = detect(machine.tag)
        given = machine.spec("sh", "-c", "tail /dev/zero", host=HostConfig(memory=16 << 20, memory_swap=16 << 20))
        given.cgroup_path = f"/wherry-{machine.tag}/{given.id}"
        container = await machine.create(given)
        await container.start()
        assert await container.finish() == 137
        assert setup.container(given.id).oom_killed() or conmon.oom_marked(container.bundle)

    run(body)


def test_inside(run: Run) -> None:
    """Read-only root, tmpfs, binds, devices, user, groups, hostname, sysctls, limits."""

    async def body(machine: Machine) -> None:
        host = HostConfig(
            readonly_rootfs=True,
            tmpfs={"/t": "size=64k"},
            devices=[DeviceMapping(path_on_host="/dev/zero", path_in_container="/dev/mine")],
            sysctls={"net.ipv4.ip_forward": "1"},
            pids_limit=50,
            nano_cpus=500_000_000,
        )
        (machine.base / "bound").mkdir()
        (machine.base / "bound/file").write_text("bound")
        container = await machine.run(
            "sh",
            "-c",
            "id; hostname; cat /b/file; touch /x; touch /b/y; echo t > /t/z && cat /t/z; ls -l /dev/mine;"
            "cat /proc/sys/net/ipv4/ip_forward; pwd; echo $HOME",
            host=host,
            hostname="web",
            uid=1000,
            gid=1000,
            groups=[1000, 100],
            home="/home/user",
            cwd="/tmp",
            mounts=[OciMount(str(machine.base / "bound"), "/b", "bind", ["rbind", "ro", "rprivate"])],
        )
        lines = container.out.replace("bound", "bound\n").splitlines()
        assert lines[0] == "uid=1000(user) gid=1000(user) groups=100(users),1000(user)"
        assert lines[1:3] == ["web", "bound"]
        assert lines[3].startswith("t") or "Permission denied" in container.err
        assert "1,   5" in container.out
        assert lines[-3:] == ["1", "/tmp", "/home/user"]
        assert container.err.count("Read-only file system") == 2

    run(body)


def test_two_hundred_bytes_of_bundle_path_are_no_obstacle(run: Run, tmp_path: Path) -> None:
    async def body(machine: Machine) -> None:
        machine.base = tmp_path / ("d" * 120)
        container = await machine.run("echo", "far")
        assert container.out == "far\n"

    run(body)


def test_deleting_what_is_not_there_is_no_error(run: Run) -> None:
    async def body(machine: Machine) -> None:
        await machine.runtime.delete("never-was")
        assert machine.runtime.list() == []
        container = await machine.create(machine.spec("sleep", "100"))
        assert machine.runtime.list() == [container.id]
        await container.start()
        await machine.runtime.delete(container.id)
        assert machine.runtime.list() == []
        assert await container.finish() == 137

    run(body)


def test_a_monitor_works_in_its_bundle_and_leaves_the_programs_directory_alone(run: Run) -> None:
    """Its mark of want of memory is written to its working directory."""

    async def body(machine: Machine) -> None:
        before = os.getcwd()
        container = await machine.create(machine.spec("sleep", "60"))
        monitor = int((container.bundle / "conmon.pid").read_text())
        assert os.readlink(f"/proc/{monitor}/cwd") == str(container.bundle)
        assert os.getcwd() == before

    run(body)
