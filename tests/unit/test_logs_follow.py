"""Following a log while it is written and rotated, and reading it from a place on."""

from __future__ import annotations

import asyncio
import gzip
import os
import random
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from wherry.engine.containers import logfile, logplace, logs
from wherry.engine.containers.logfile import LogFiles, format_time
from wherry.engine.containers.logplace import LogSet
from wherry.engine.containers.logs import LogOptions, read_logs
from wherry.wire.frames import STDERR, STDOUT, FrameDecoder

START = 1_795_443_252 * 10**9
BOTH = LogOptions(stdout=True, stderr=True)


class Monitor:
    """Writes as conmon does, and is rotated as the engine rotates it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.number = 0
        self.fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self.start = 0
        self.written = 0
        self.rotating = False

    def write(self, text: bytes, stream: bytes = b"stdout", kind: bytes = b"F") -> None:
        self.number += 1
        line = b"%s+00:00 %s %s %s\n" % (format_time(START + self.number), stream, kind, text)
        os.write(self.fd, line)
        self.written += len(line)

    def shift(self, keep: int = 1000) -> None:
        """The engine's part: rename."""
        oldest = 1
        while self.path.with_name(f"{self.path.name}.{oldest}").exists():
            oldest += 1
        for number in range(oldest, 0, -1):
            source = self.path if number == 1 else self.path.with_name(f"{self.path.name}.{number - 1}")
            os.rename(source, self.path.with_name(f"{self.path.name}.{number}"))
        for number in range(keep, oldest + 1):
            self.path.with_name(f"{self.path.name}.{number}").unlink(missing_ok=True)

    def reopen(self) -> None:
        """The monitor's part: a new file."""
        os.close(self.fd)
        self.fd = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def rotate(self, keep: int = 1000) -> None:
        self.shift(keep)
        self.reopen()
        self.start = self.written


@pytest.fixture
def monitor(tmp_path: Path) -> Monitor:
    return Monitor(tmp_path / "c-json.log")


class Follow:
    """Wakes the reader whenever ``changed`` is called, until ``stop``."""

    def __init__(self) -> None:
        self.event = asyncio.Event()
        self.stopped = False

    def changed(self) -> None:
        self.event.set()

    def stop(self) -> None:
        self.stopped = True
        self.event.set()

    async def wait(self, position: int) -> bool:
        if not self.stopped:
            await self.event.wait()
            self.event.clear()
        return not self.stopped


@dataclass
class Reader:
    """A follower at work; ``text`` is what it has got."""

    follow: Follow
    task: asyncio.Task[None]
    received: list[bytes]

    @property
    def text(self) -> bytes:
        decoder = FrameDecoder()
        return b"".join(data for _, data in decoder.feed(b"".join(self.received)))

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not condition():
                await asyncio.sleep(0.002)


def follow(path: Path, options: LogOptions = BOTH) -> Reader:
    reader = Reader(Follow(), None, [])  # type: ignore[arg-type]

    async def read() -> None:
        async for batch in read_logs(path, options, tty=False, follow=reader.follow):
            reader.received.append(batch)

    reader.task = asyncio.get_running_loop().create_task(read())
    return reader


def test_LOG7_follow_ends_with_the_container(monitor: Monitor) -> None:
    async def main() -> None:
        monitor.write(b"old")
        reader = follow(monitor.path)
        await reader.until(lambda: reader.text == b"old\n")
        monitor.write(b"new")
        reader.follow.changed()
        await reader.until(lambda: reader.text == b"old\nnew\n")
        assert not reader.task.done()
        monitor.write(b"last", kind=b"P")
        reader.follow.stop()
        await asyncio.wait_for(reader.task, 5)
        assert reader.text == b"old\nnew\nlast"

    asyncio.run(main())


def test_a_follower_finds_growth_that_nobody_tells_it(monitor: Monitor) -> None:
    async def main() -> None:
        reader = follow(monitor.path)
        await asyncio.sleep(0.05)
        monitor.write(b"quiet")
        await reader.until(lambda: reader.text == b"quiet\n")
        reader.follow.stop()
        await reader.task

    asyncio.run(main())


def test_a_log_may_begin_after_its_follower(tmp_path: Path) -> None:
    async def main() -> None:
        reader = follow(tmp_path / "c-json.log")
        await asyncio.sleep(0.01)
        Monitor(tmp_path / "c-json.log").write(b"first")
        reader.follow.changed()
        await reader.until(lambda: reader.text == b"first\n")
        reader.follow.stop()
        await reader.task

    asyncio.run(main())


def test_LOG5_follow_with_tail_0_gives_only_what_is_new(monitor: Monitor) -> None:
    async def main() -> None:
        monitor.write(b"old")
        monitor.write(b"begun, ", kind=b"P")
        reader = follow(monitor.path, LogOptions(stdout=True, tail=0))
        await asyncio.sleep(0.05)
        monitor.write(b"ended")
        reader.follow.changed()
        await reader.until(lambda: reader.text == b"begun, ended\n")
        reader.follow.stop()
        await reader.task

    asyncio.run(main())


def test_LOG6_until_ends_a_follower(monitor: Monitor) -> None:
    async def main() -> None:
        reader = follow(monitor.path, LogOptions(stdout=True, until=START + 2))
        for text in (b"1", b"2", b"3"):
            monitor.write(text)
        reader.follow.changed()
        await asyncio.wait_for(reader.task, 5)
        assert reader.text == b"1\n2\n"

    asyncio.run(main())


def test_LOG8_writing_to_the_old_file_after_the_rename_is_not_lost(monitor: Monitor) -> None:
    async def main() -> None:
        reader = follow(monitor.path)
        monitor.write(b"1")
        await reader.until(lambda: reader.text == b"1\n")
        monitor.shift()
        monitor.write(b"2")
        reader.follow.changed()
        await reader.until(lambda: reader.text == b"1\n2\n")
        monitor.write(b"3, and", kind=b"P")
        monitor.reopen()
        monitor.write(b" on")
        monitor.rotate()
        monitor.rotate()
        monitor.write(b"4")
        reader.follow.changed()
        await reader.until(lambda: reader.text == b"1\n2\n3, and on\n4\n")
        reader.follow.stop()
        await reader.task

    asyncio.run(main())


def test_LOG8_a_follower_goes_on_where_files_were_compressed(monitor: Monitor) -> None:
    async def main() -> None:
        reader = follow(monitor.path)
        monitor.write(b"1")
        await reader.until(lambda: reader.text == b"1\n")
        monitor.write(b"2")
        monitor.rotate()
        _compress(monitor.path.with_name(f"{monitor.path.name}.1"))
        monitor.write(b"3")
        reader.follow.changed()
        await reader.until(lambda: reader.text == b"1\n2\n3\n")
        reader.follow.stop()
        await reader.task

    asyncio.run(main())


def _compress(path: Path) -> None:
    path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
    path.unlink()


def test_LOG8_a_follower_that_is_too_slow_loses_files_and_goes_on(
    monitor: Monitor, caplog: pytest.LogCaptureFixture
) -> None:
    monitor.write(b"1")
    files = LogFiles(monitor.path)
    for text in (b"2", b"3", b"4"):
        monitor.rotate(keep=2)
        monitor.write(text)
    assert files.advance()
    assert [file.read(0, 1000)[45:] for file in files.files] == [b"1\n", b"3\n", b"4\n"]
    assert "rotated away" in caplog.text
    files.close()


@pytest.mark.parametrize("seed", range(6))
def test_LOG8_nothing_is_lost_or_doubled_over_any_rotation(monitor: Monitor, seed: int) -> None:
    """A writer and rotator against followers that begin at any moment and readers that do not follow."""
    rng = random.Random(seed)
    total = 3000

    async def main() -> None:
        readers: list[tuple[int, Reader]] = []
        for number in range(total):
            monitor.write(b"%d" % number, rng.choice((b"stdout", b"stderr")))
            if rng.random() < 0.01:
                monitor.rotate()
            elif rng.random() < 0.01:
                monitor.shift()
                monitor.write(b"between")
                monitor.reopen()
                monitor.start = monitor.written
            if len(readers) < 4 and rng.random() < 0.01:
                readers.append((number, follow(monitor.path)))
            if rng.random() < 0.05:
                for _, reader in readers:
                    reader.follow.changed()
                await asyncio.sleep(rng.choice((0, 0, 0.002)))
            if rng.random() < 0.002:
                batches = [batch async for batch in read_logs(monitor.path, BOTH, tty=False, running=True)]
                assert _numbers(batches) == list(range(number + 1))
        for _, reader in readers:
            reader.follow.stop()
            await asyncio.wait_for(reader.task, 10)
            assert _numbers(reader.received) == list(range(total))

    asyncio.run(main())


def _numbers(batches: list[bytes]) -> list[int]:
    decoder = FrameDecoder()
    text = b"".join(data for _, data in decoder.feed(b"".join(batches)))
    return [int(line) for line in text.split() if line != b"between"]


def test_leaving_a_follower_closes_its_files(monitor: Monitor) -> None:
    async def main() -> None:
        monitor.write(b"x" * 100)
        before = len(os.listdir("/proc/self/fd"))
        batches = read_logs(monitor.path, BOTH, tty=False, follow=Follow())
        assert await anext(batches)
        await batches.aclose()  # type: ignore[attr-defined]
        reader = follow(monitor.path)
        await reader.until(lambda: bool(reader.received))
        reader.task.cancel()
        await asyncio.wait([reader.task])
        assert len(os.listdir("/proc/self/fd")) == before

    asyncio.run(main())


# from a place on


def test_a_place_is_found_in_any_file_and_read_as_it_passed_live(monitor: Monitor) -> None:
    async def main() -> None:
        places: list[tuple[int, int]] = []
        sent: list[tuple[int, bytes]] = []
        rng = random.Random(1)
        for number in range(200):
            places.append((monitor.written, len(sent)))
            stream, kind = rng.choice((b"stdout", b"stderr")), rng.choice((b"F", b"F", b"P"))
            monitor.write(b"%d " % number, stream, kind)
            sent.append((STDOUT if stream == b"stdout" else STDERR, b"%d " % number + (b"\n" if kind == b"F" else b"")))
            if rng.random() < 0.05:
                monitor.rotate()
        for place, count in places[::7]:
            reader = LogSet(monitor.path, monitor).reader(place)
            target = places[150][0] if place < places[150][0] else monitor.written
            upto = 150 if place < places[150][0] else len(sent)
            got: list[tuple[int, bytes]] = []
            while reader.position < target:
                got += await reader.read(target)
            reader.close()
            for stream in (STDOUT, STDERR):
                expected = b"".join(data for number, data in sent[count:upto] if number == stream)
                assert b"".join(data for number, data in got if number == stream) == expected

    asyncio.run(main())


def test_a_place_that_was_rotated_away_is_an_error(monitor: Monitor) -> None:
    async def main() -> None:
        monitor.write(b"1")
        monitor.rotate(keep=1)
        monitor.write(b"2")
        reader = LogSet(monitor.path, monitor).reader(0)
        with pytest.raises(OSError, match="no longer has"):
            await reader.read(monitor.written)
        reader.close()

    asyncio.run(main())


def test_a_log_that_ends_too_early_is_an_error(monitor: Monitor, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        monkeypatch.setattr(logplace, "_PATIENCE", 0.05)
        monitor.write(b"1")
        reader = LogSet(monitor.path, monitor).reader(0)
        assert await reader.read(monitor.written + 50) == [(STDOUT, b"1\n")]
        with pytest.raises(OSError, match="ends at"):
            await reader.read(monitor.written + 50)
        reader.close()

    asyncio.run(main())


def test_memory_stays_constant(monitor: Monitor, monkeypatch: pytest.MonkeyPatch) -> None:
    """No batch is much larger than a block of the file."""

    async def main() -> None:
        monkeypatch.setattr(logs, "BLOCK", 64 * 1024)
        for _ in range(3000):
            monitor.write(b"x" * 100)
        monitor.write(b"y" * 8192, kind=b"P")
        sizes = [len(batch) async for batch in read_logs(monitor.path, BOTH, tty=False)]
        assert max(sizes) <= 64 * 1024
        assert sum(sizes) == 3000 * 109 + 8192 + 8

    asyncio.run(main())


def _descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_a_file_that_is_rotated_away_while_the_log_is_opened_leaves_none_open(
    monitor: Monitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monitor.write(b"1")
    monitor.rotate()
    monitor.write(b"2")
    real, calls = logfile._listing, 0

    def listing(path: Path) -> list[tuple[int, str, logfile.Key]]:
        nonlocal calls
        calls += 1
        found = real(path)
        return [(0, "moved-on", found[0][2]), *found[1:]] if calls == 1 else found

    monkeypatch.setattr(logfile, "_listing", listing)
    before = _descriptors()
    files = LogFiles(monitor.path)
    assert (calls, len(files.files)) == (3, 2)
    files.close()
    assert _descriptors() == before


def test_a_reader_that_is_given_up_while_it_opens_the_log_leaves_nothing_open(
    monitor: Monitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go_on, opened = threading.Event(), threading.Event(), threading.Event()

    def slowly(path: Path) -> LogFiles:
        begun.set()
        assert go_on.wait(10)
        try:
            return LogFiles(path)
        finally:
            opened.set()

    async def main() -> None:
        monitor.write(b"1")
        await asyncio.to_thread(lambda: None)
        before = _descriptors()
        reader = LogSet(monitor.path, monitor).reader(0)
        reading = asyncio.ensure_future(reader.read(monitor.written))
        await asyncio.to_thread(begun.wait, 10)
        reading.cancel()
        await asyncio.wait([reading])
        reader.close()
        go_on.set()
        await asyncio.to_thread(opened.wait, 10)
        async with asyncio.timeout(10):
            while _descriptors() != before:
                await asyncio.sleep(0.005)

    monkeypatch.setattr(logplace, "LogFiles", slowly)
    asyncio.run(main())


def test_a_reader_that_is_closed_as_its_step_ends_leaves_nothing_open(monitor: Monitor) -> None:
    class Lock:
        def __init__(self) -> None:
            self.lock = threading.Lock()
            self.acquire, self.release = self.lock.acquire, self.lock.release

        def __enter__(self) -> None:
            self.lock.acquire()

        def __exit__(self, *error: object) -> None:
            reader.close()  # by another thread, in the last moment
            self.lock.release()

    monitor.write(b"1")
    before = _descriptors()
    reader = logs.LogReader(monitor.path, BOTH, framed=False, follow=False, running=False)
    reader._lock = Lock()  # type: ignore[assignment]
    assert reader.step()[0] == b"1\n"
    assert _descriptors() == before
