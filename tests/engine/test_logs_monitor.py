"""The log as conmon really writes it: pieces, ends, places, and rotation under a reader that follows."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.engine.oci_machine import Machine, nothing_left
from wherry.engine.containers.logfile import mark_run
from wherry.engine.containers.logplace import LogSet
from wherry.engine.containers.logs import LogOptions, read_logs
from wherry.engine.containers.output import Output
from wherry.engine.containers.rotation import create_log
from wherry.engine.oci.conmon import reopen_log
from wherry.wire.frames import STDERR, STDOUT, FrameDecoder

Run = Callable[[Callable[[Machine], Awaitable[Any]]], Any]
BOTH = LogOptions(stdout=True, stderr=True)


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    machine = Machine(tmp_path, "crun")

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


async def read(path: Path, options: LogOptions = BOTH, **more: Any) -> list[tuple[int, bytes]]:
    decoder = FrameDecoder(whole=True)
    return decoder.feed(b"".join([batch async for batch in read_logs(path, options, tty=False, **more)]))


class Follow:
    """Wakes a reader with every piece of output."""

    def __init__(self) -> None:
        self.event = asyncio.Event()
        self.stopped = False

    async def wait(self, position: int) -> bool:
        if not self.stopped:
            await self.event.wait()
            self.event.clear()
        return not self.stopped


def test_LOG3_LOG14_long_lines_and_last_words(run: Run) -> None:
    script = "head -c 40000 /dev/zero | tr '\\0' z; echo; echo err >&2; sleep 0.1; printf noeol"

    async def body(machine: Machine) -> None:
        container = await machine.run("sh", "-c", script)
        entries = await read(container.bundle / "log")
        assert [len(data) for stream, data in entries if stream == STDOUT] == [16384, 16384, 7233, 5]
        assert [data for stream, data in entries if stream == STDERR] == [b"err\n"]
        assert entries[-1] == (STDOUT, b"noeol")

    run(body)


def test_two_runs_in_one_log(run: Run) -> None:
    async def body(machine: Machine) -> None:
        log = machine.base / "log"
        for text in ("one", "two"):
            mark_run(log)
            container = await machine.create(machine.spec("printf", text), log_path=log)
            await container.start()
            await container.finish()
        assert await read(log) == [(STDOUT, b"one"), (STDOUT, b"two")]

    run(body)


_PIECES = """
i=0
while [ $i -lt 150 ]; do
    i=$((i + 1)); echo "line $i"; printf "piece $i " >&2
    if [ $((i % 7)) = 0 ]; then echo >&2; head -c $((i * 131)) /dev/zero | tr '\\0' x; fi
    if [ $((i % 50)) = 0 ]; then sleep 0.02; fi
done
"""


def test_places_in_the_log_follow_from_the_output(run: Run) -> None:
    async def body(machine: Machine) -> None:
        container = await machine.create(machine.spec("sh", "-c", _PIECES))
        output = Output()
        passed: list[tuple[int, int, bytes]] = []

        def feed(stream: int, data: bytes) -> None:
            assert output.position is not None
            passed.append((output.position, stream, data))
            output.feed(stream, data)

        container.attachment._on_output = feed
        await container.start()
        await container.finish()
        log = container.bundle / "log"
        assert output.position == log.stat().st_size

        class Places:
            start = 0
            rotating = False

        for first in range(0, len(passed), len(passed) // 7 + 1):
            reader = LogSet(log, Places()).reader(passed[first][0])
            got: list[tuple[int, bytes]] = []
            while reader.position < output.position:
                got += await reader.read(output.position)
            reader.close()
            for wanted in (STDOUT, STDERR):
                expected = b"".join(data for _, stream, data in passed[first:] if stream == wanted)
                assert b"".join(data for stream, data in got if stream == wanted) == expected

    run(body)


def test_LOG8_followed_over_rotations_by_a_real_monitor(run: Run) -> None:
    """The engine renames and the monitor reopens, under load; every line is there once."""

    async def body(machine: Machine) -> None:
        container = await machine.create(machine.spec("seq", "1", "400000"))
        log = container.bundle / "log"
        follow = Follow()
        container.attachment._on_output = lambda stream, data: follow.event.set()
        following = asyncio.get_running_loop().create_task(read(log, follow=follow))
        rotations = 0

        async def rotate() -> None:
            nonlocal rotations
            while not container.ended.is_set():
                if log.exists() and log.stat().st_size > 1_000_000:
                    for number in range(rotations, -1, -1):
                        old = log if number == 0 else log.with_name(f"log.{number}")
                        os.rename(old, log.with_name(f"log.{number + 1}"))
                    rotations += 1
                    if not reopen_log(container.bundle):
                        break  # the monitor has ended: nothing more is written
                await asyncio.sleep(0.01)
            if not log.exists():  # nor will it open a new file
                create_log(log)

        rotating = asyncio.get_running_loop().create_task(rotate())
        await container.start()
        await container.finish(60)
        await rotating
        follow.stopped = True
        follow.event.set()
        lines = b"".join(data for _, data in await asyncio.wait_for(following, 30))
        assert rotations >= 2
        expected = b"".join(b"%d\n" % number for number in range(1, 400_001))
        assert lines == expected
        assert b"".join(data for _, data in await read(log)) == expected
        tail = await read(log, LogOptions(stdout=True, tail=60_000))
        assert b"".join(data for _, data in tail) == expected[expected.index(b"\n340001\n") + 1 :]

    run(body)
