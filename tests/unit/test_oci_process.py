"""Processes by pidfd, programs run with a deadline, exit files, and what the kernel would not execute."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.support.http import PATIENCE
from wherry.engine.inroot import open_in_root, read_small
from wherry.engine.oci import null, tool
from wherry.engine.oci.errors import RuntimeFailure
from wherry.engine.oci.executable import check_executable
from wherry.engine.oci.exits import ExitWatcher, read_exit
from wherry.engine.oci.process import (
    Pidfd,
    executable_of,
    pidfd_open,
    spawn,
    start_time,
    until_executed,
    wait_pidfd,
)


def test_exit_codes_and_signals() -> None:
    async def main() -> None:
        assert await spawn(["/bin/sh", "-c", "exit 3"]).wait() == 3
        child = spawn(["/bin/sleep", "60"])
        child.kill()
        assert await child.wait() == 137
        assert await child.wait() == 255  # asked twice

    asyncio.run(main())


def test_STA3_a_process_runs_another_program_or_has_ended() -> None:
    async def main() -> None:
        for command in "sleep 0.2; exec sleep 60", "sleep 0.2":
            child = spawn(["/bin/sh", "-c", command])
            shell = os.path.realpath("/bin/sh")
            while executable_of(child.pid) != shell:
                await asyncio.sleep(0.001)
            await until_executed(child.pid, shell, seconds=20 * PATIENCE)
            assert executable_of(child.pid) in (os.path.realpath("/bin/sleep"), "")
            child.kill()
            await child.wait()
        child = spawn(["/bin/sleep", "60"])
        while executable_of(child.pid) != os.path.realpath("/bin/sleep"):
            await asyncio.sleep(0.001)
        await until_executed(child.pid, executable_of(child.pid), seconds=0.01)
        child.kill()
        await child.wait()

    asyncio.run(main())


def test_a_child_starts_clean() -> None:
    """No fd of ours, default signals, a session of its own."""

    async def main() -> str:
        code = "import os,signal;print(os.getsid(0)==os.getpid(), signal.getsignal(signal.SIGPIPE).name)"
        read_end, write_end = os.pipe()
        os.set_inheritable(read_end, False)
        result = await tool.run([sys.executable, "-I", "-c", f"{code};print(sorted(os.listdir('/proc/self/fd'))[:3])"])
        os.close(read_end)
        os.close(write_end)
        return result.output

    lines = asyncio.run(main()).splitlines()
    assert lines[0].startswith("True")


def test_pass_fds_that_stand_in_each_others_way() -> None:
    async def main() -> None:
        a_read, a_write = os.pipe()
        b_read, b_write = os.pipe()
        # crossed on purpose: each is handed over under the other's number
        child = spawn(
            [sys.executable, "-c", f"import os; os.write({b_write}, b'a'); os.write({a_write}, b'b')"],
            pass_fds={b_write: a_write, a_write: b_write},
        )
        assert await child.wait() == 0
        assert (os.read(a_read, 9), os.read(b_read, 9)) == (b"a", b"b")
        for fd in (a_read, a_write, b_read, b_write):
            os.close(fd)

    asyncio.run(main())


def test_an_ignored_sigchld_is_no_obstacle() -> None:
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        assert asyncio.run(spawn(["/bin/sh", "-c", "exit 3"]).wait()) in (3, 255)
    finally:
        signal.signal(signal.SIGCHLD, before)


def test_pidfds() -> None:
    async def main() -> None:
        child = spawn(["/bin/sleep", "60"])
        started = start_time(child.pid)
        assert started > 0
        with pytest.raises(ProcessLookupError):
            pidfd_open(child.pid, started + 1)
        held = Pidfd(child.pid, started)
        waits = [asyncio.ensure_future(wait_pidfd(held.fd)) for _ in range(2)]
        await asyncio.sleep(0)
        assert held.signal(signal.SIGTERM)
        await asyncio.gather(*waits, held.wait())
        assert start_time(child.pid) == 0  # a zombie counts as gone
        assert await child.wait() == 143
        assert not held.signal(signal.SIGTERM)
        held.close()
        held.close()
        assert not held.signal(0)

    asyncio.run(main())


def test_a_tool_that_hangs_is_killed() -> None:
    async def main() -> None:
        begin = time.monotonic()
        with pytest.raises(TimeoutError):
            await tool.run(["/bin/sleep", "60"], deadline=0.1)
        assert time.monotonic() - begin < 5
        with pytest.raises(OSError, match="No such file"):
            await tool.run(["/nonexistent"])
        assert (await tool.run(["/bin/sh", "-c", "echo out; echo err >&2; exit 4"])).code == 4

    asyncio.run(main())


def test_exit_watcher_reports_each_exit_once(tmp_path: Path) -> None:
    async def main() -> list[tuple[str, int]]:
        seen: list[tuple[str, int]] = []
        (tmp_path / "old").write_text("7")
        watcher = ExitWatcher(tmp_path, lambda id, code: seen.append((id, code)))
        watcher.start()
        watcher.scan()
        watcher.scan()
        for name, text in (("new", "137"), ("torn", "x")):
            (tmp_path / f"{name}.AB12CD").write_text(text)
            (tmp_path / f"{name}.AB12CD").rename(tmp_path / name)
        await asyncio.sleep(0.05)
        watcher.scan()
        watcher.forget("new")
        assert watcher.read("new") is None
        (tmp_path / "new.XX").write_text("1")
        (tmp_path / "new.XX").rename(tmp_path / "new")
        await asyncio.sleep(0.05)
        watcher.close()
        return seen

    assert asyncio.run(main()) == [("old", 7), ("new", 137), ("torn", 255), ("new", 1)]
    assert read_exit(tmp_path, "none") is None


def test_paths_stay_in_the_root(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "d").mkdir(parents=True)
    (root / "f").write_text("inside")
    (tmp_path / "f").write_text("outside")
    (root / "d/up").symlink_to("../../../../f")
    (root / "d/absolute").symlink_to("/f")
    fd = os.open(root, os.O_PATH)
    try:
        for name in ("f", "/f", "../f", "d/up", "d/absolute"):
            assert read_small(fd, name, 100) == b"inside"
        assert read_small(fd, "f", 3) == b"ins"
        assert read_small(fd, "d", 9) == b""
        with pytest.raises(OSError, match="nope"):
            open_in_root(fd, "nope")
    finally:
        os.close(fd)


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"garbage\n", 126),
        (b"", 126),
        (b"\x7fELF\x02\x01\x01" + bytes(11) + b"\xff\xfe" + bytes(40), 126),
        (b"#!/nope/interpreter\n", 127),
        (b"#!/bin/sh\nexit 0\n", None),
        (Path(sys.executable).resolve().read_bytes()[:256], None),
    ],
)
def test_STA3_what_the_kernel_would_not_execute(tmp_path: Path, content: bytes, code: int | None) -> None:
    file = tmp_path / "command"
    file.write_bytes(content)
    file.chmod(0o755)
    for args, env in (([str(file)], []), (["command"], [f"PATH=/nope:{tmp_path}"])):
        if code is None:
            check_executable(os.getpid(), args, env, "/")
            continue
        with pytest.raises(RuntimeFailure) as raised:
            check_executable(os.getpid(), args, env, "/")
        assert raised.value.exit_code == code
        assert ("exec format error" if code == 126 else "no such file or directory") in raised.value.message
    check_executable(os.getpid(), ["surely-not-there"], ["PATH=/bin"], "/")


def test_a_child_that_nobody_could_wait_for_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """No descriptor is left for its pidfd."""
    begun: list[int] = []
    start = os.posix_spawn

    def noted(*arguments: Any, **options: Any) -> int:
        begun.append(start(*arguments, **options))
        return begun[0]

    def none_left(pid: int) -> int:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(os, "posix_spawn", noted)
    monkeypatch.setattr(os, "pidfd_open", none_left)
    with pytest.raises(OSError, match="Too many open files"):
        spawn(["/bin/sleep", "60"])
    assert start_time(begun[0]) == 0
    with pytest.raises(ChildProcessError):
        os.waitpid(begun[0], os.WNOHANG)


def test_a_null_device_that_cannot_be_had_just_now_is_had_later(monkeypatch: pytest.MonkeyPatch) -> None:
    """Were the machine's own remembered in its place, a runtime would give that to a command's user."""

    def no_descriptor(number: int, *arguments: bytes | int | None) -> int:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    null._directory.cache_clear()
    with monkeypatch.context() as patch:
        patch.setattr(null, "_call", no_descriptor)
        with pytest.raises(OSError, match="Too many open files"):
            null.open_null()
    fd = null.open_null()
    assert os.fstat(fd).st_rdev == os.makedev(1, 3)
    os.close(fd)
