"""Reading the monitor's log back: framing, pieces, filters and tails, against a slow and simple model."""

from __future__ import annotations

import asyncio
import gzip
import random
from pathlib import Path

import pytest

from wherry.api.errors import BadRequest, ServerError
from wherry.engine.containers import logs
from wherry.engine.containers.logfile import format_time, mark_run
from wherry.engine.containers.logs import LogOptions, log_options, parse_time, read_logs
from wherry.wire.frames import STDERR, STDOUT, FrameDecoder

BOTH = LogOptions(stdout=True, stderr=True)
START = 1_795_443_252 * 10**9


def line(number: int, text: bytes, stream: str = "stdout", kind: str = "F") -> bytes:
    return b"%s+00:00 %s %s %s\n" % (format_time(START + number), stream.encode(), kind.encode(), text)


def read(path: Path, options: LogOptions = BOTH, *, tty: bool = False, running: bool = False) -> bytes:
    async def collect() -> bytes:
        return b"".join([batch async for batch in read_logs(path, options, tty=tty, running=running)])

    return asyncio.run(collect())


def frames(data: bytes) -> list[tuple[int, bytes]]:
    decoder = FrameDecoder(whole=True)
    result = decoder.feed(data)
    decoder.finish()
    return result


def entries(path: Path, options: LogOptions = BOTH, *, running: bool = False) -> list[bytes]:
    return [data for _, data in frames(read(path, options, running=running))]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "c-json.log"


def test_LOG1_a_stream_must_be_chosen() -> None:
    with pytest.raises(BadRequest, match="must choose at least one stream"):
        log_options()


def test_LOG3_a_frame_a_line(path: Path) -> None:
    path.write_bytes(line(1, b"one") + line(2, b"two", "stderr") + line(3, b"") + line(4, b"no end", kind="P"))
    assert frames(read(path)) == [(STDOUT, b"one\n"), (STDERR, b"two\n"), (STDOUT, b"\n"), (STDOUT, b"no end")]


def test_LOG3_a_running_containers_last_words_wait_for_their_end(path: Path) -> None:
    path.write_bytes(line(1, b"one") + line(4, b"no end", kind="P"))
    assert entries(path, running=True) == [b"one\n"]


def test_LOG3_long_lines_are_cut_at_16_kib(path: Path) -> None:
    pieces = [line(n, b"z" * 8192, kind="P") for n in range(4)]
    path.write_bytes(b"".join(pieces) + line(9, b"z" * (40000 - 4 * 8192)))
    assert [len(data) for data in entries(path)] == [16384, 16384, 7233]
    stamped = entries(path, LogOptions(stdout=True, timestamps=True))
    assert {data[:31] for data in stamped} == {format_time(START) + b"Z "}


def test_LOG3_a_line_of_exactly_one_piece(path: Path) -> None:
    path.write_bytes(line(1, b"a" * 8192, kind="P") + line(2, b"b" * 8192, kind="P") + line(3, b""))
    assert [len(data) for data in entries(path)] == [16384, 1]


def test_pieces_of_two_streams_do_not_mix(path: Path) -> None:
    path.write_bytes(
        line(1, b"out", kind="P") + line(2, b"err", "stderr", "P") + line(3, b"put") + line(4, b"or", "stderr")
    )
    assert frames(read(path)) == [(STDOUT, b"output\n"), (STDERR, b"error\n")]


def test_runs_are_not_joined(path: Path) -> None:
    assert mark_run(path) == 0
    path.write_bytes(line(1, b"no end", kind="P"))
    before = path.stat().st_size
    assert mark_run(path) == path.stat().st_size - before
    with path.open("ab") as file:
        file.write(line(5, b"next run"))
    assert entries(path) == [b"no end", b"next run\n"]


def test_LOG4_timestamps_and_details(path: Path) -> None:
    path.write_bytes(line(383129510, b"text") + line(400000000, b"no end", kind="P"))
    time = b"2026-11-23T14:14:12."
    assert entries(path, LogOptions(stdout=True, timestamps=True)) == [
        time + b"383129510Z text\n",
        time + b"400000000Z no end",
    ]
    assert entries(path, LogOptions(stdout=True, details="")) == [b" text\n", b" no end"]
    assert entries(path, LogOptions(stdout=True, details="a=1,b=2", timestamps=True))[0] == (
        time + b"383129510Z a=1,b=2 text\n"
    )


@pytest.mark.parametrize(
    ("text", "tail"),
    [("", None), (None, None), ("all", None), ("-1", None), ("x", None), ("1.5", None), ("0", 0), ("7", 7), ("+7", 7)],
)
def test_LOG5_garbage_means_all(text: str | None, tail: int | None) -> None:
    assert log_options(stdout=True, tail=text).tail == tail


def test_LOG5_tail_counts_before_the_stream_filter(path: Path) -> None:
    path.write_bytes(line(1, b"err", "stderr") + line(2, b"out"))
    assert entries(path, LogOptions(stderr=True, tail=1)) == []
    assert entries(path, LogOptions(stderr=True, tail=2)) == [b"err\n"]
    assert entries(path, LogOptions(stdout=True, stderr=True, tail=0)) == []


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", None),
        (None, None),
        ("0", None),
        ("0.0", None),
        ("1", 10**9),
        ("1.5", 1_500_000_000),
        ("1.000000001", 10**9 + 1),
    ],
)
def test_LOG6_times(text: str | None, value: int | None) -> None:
    assert parse_time(text) == value


@pytest.mark.parametrize(("text", "shown"), [("2026-11-23T00:00:00Z", None), ("x", None), ("1.x", "x"), ("1.", "")])
def test_LOG6_other_times_are_refused(text: str, shown: str | None) -> None:
    with pytest.raises(ServerError) as error:
        log_options(stdout=True, since=text)
    assert error.value.message == f'strconv.ParseInt: parsing "{text if shown is None else shown}": invalid syntax'


def test_LOG6_since_and_until_are_inclusive(path: Path) -> None:
    path.write_bytes(b"".join(line(n, b"%d" % n) for n in range(10)))
    options = LogOptions(stdout=True, stderr=True, since=START + 3, until=START + 5)
    assert entries(path, options) == [b"3\n", b"4\n", b"5\n"]


def test_LOG6_since_is_done_with_at_the_first_line_that_is_late_enough(path: Path) -> None:
    path.write_bytes(b"".join(line(n, b"%d" % n) for n in (1, 5, 2, 6)))
    assert entries(path, LogOptions(stdout=True, since=START + 4)) == [b"5\n", b"2\n", b"6\n"]


def test_LOG11_torn_lines_are_skipped(path: Path) -> None:
    whole = line(1, b"one") + line(3, b"three")
    path.write_bytes(line(1, b"one") + b"2026-11-23T14:14:12.6\n\n\x00\x00garbage\n" + line(3, b"three") + b"2026-11")
    assert [data for _, data in frames(read(path))] == [b"one\n", b"three\n"]
    path.write_bytes(b"x" * 3 * logs.BLOCK + b"\n" + whole)
    assert entries(path)[-1] == b"three\n"
    assert entries(path, LogOptions(stdout=True, tail=1)) == [b"three\n"]


def test_LOG12_a_terminal_has_one_raw_stream(path: Path) -> None:
    path.write_bytes(line(1, b"one\r") + line(2, b"$ ", kind="P"))
    assert read(path, tty=True) == b"one\r\n$ "
    assert read(path, LogOptions(stderr=True), tty=True) == b""
    stamp = format_time(START + 1) + b"Z "
    assert read(path, LogOptions(stdout=True, timestamps=True), tty=True).startswith(stamp + b"one\r\n")


def test_no_log_is_an_empty_one(path: Path) -> None:
    assert read(path) == b""
    assert entries(path, LogOptions(stdout=True, tail=5)) == []


def test_bytes_are_kept(path: Path) -> None:
    text = bytes(byte for byte in range(256) if byte != 10)
    path.write_bytes(line(1, text))
    assert entries(path) == [text + b"\n"]


def test_lines_longer_than_the_monitors(path: Path) -> None:
    path.write_bytes(line(1, b"y" * 100_000) + line(2, b"next"))
    assert b"".join(entries(path)) == b"y" * 100_000 + b"\nnext\n"


# against a model


def _random_log(seed: int) -> tuple[bytes, list[tuple[int, int, bytes]]]:
    """A log, and its entries as (stream, time, data)."""
    rng = random.Random(seed)
    raw: list[bytes] = []
    model: list[tuple[int, int, bytes]] = []
    open_lines: dict[str, tuple[int, bytes]] = {}
    for number in range(rng.choice((0, 1, 3, 40, 400))):
        stream = rng.choice(("stdout", "stdout", "stderr"))
        kind = "P" if rng.random() < 0.2 else "F"
        text = rng.randbytes(rng.choice((0, 3, 60, 8192))).replace(b"\n", b"")
        raw.append(line(number, text, stream, kind))
        first, data = open_lines.pop(stream, (number, b""))
        data += text
        wire = STDOUT if stream == "stdout" else STDERR
        while len(data) >= 16384:
            model.append((wire, first, data[:16384]))
            data = data[16384:]
        if kind == "F":
            model.append((wire, first, data + b"\n"))
        else:
            open_lines[stream] = (first, data)
        if rng.random() < 0.02:
            raw.append(b"torn\n")
    for stream, (first, data) in open_lines.items():
        if data:
            model.append((STDOUT if stream == "stdout" else STDERR, first, data))
    return b"".join(raw), model


@pytest.mark.parametrize("block", [20_000, logs.BLOCK])
@pytest.mark.parametrize("seed", range(25))
def test_reading_equals_the_model(path: Path, seed: int, block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "BLOCK", block)
    raw, model = _random_log(seed)
    _write_rotated(path, raw, random.Random(seed))
    assert frames(read(path)) == [(stream, data) for stream, _, data in model]
    for tail in (0, 1, 2, 7, 100, 1000):
        for wanted in ((True, True), (True, False), (False, True)):
            options = LogOptions(stdout=wanted[0], stderr=wanted[1], tail=tail)
            streams = {number for number, want in zip((STDOUT, STDERR), wanted, strict=True) if want}
            kept = model[len(model) - tail :] if tail < len(model) else model
            expected = [(stream, data) for stream, _, data in (kept if tail else []) if stream in streams]
            assert frames(read(path, options)) == expected
    for since in (5, 200):
        first = next((index for index, entry in enumerate(model) if entry[1] >= since), len(model))
        late = [(stream, data) for stream, _, data in model[first:]]
        assert frames(read(path, LogOptions(stdout=True, stderr=True, since=START + since))) == late
        end = next((index for index, entry in enumerate(model) if entry[1] > since), len(model))
        early = [(stream, data) for stream, _, data in model[:end]]
        assert frames(read(path, LogOptions(stdout=True, stderr=True, until=START + since))) == early


def _write_rotated(path: Path, raw: bytes, rng: random.Random) -> None:
    """Spread the lines over a rotated set, some of it compressed (LOG8)."""
    lines = raw.splitlines(keepends=True) if b"\r" not in raw else [part + b"\n" for part in raw.split(b"\n")[:-1]]
    count = rng.choice((1, 1, 2, 3))
    share = len(lines) // count + 1
    for number in range(count):
        data = b"".join(lines[number * share : (number + 1) * share])
        age = count - 1 - number
        if age == 0:
            path.write_bytes(data)
        elif rng.random() < 0.5:
            path.with_name(f"{path.name}.{age}.gz").write_bytes(gzip.compress(data))
        else:
            path.with_name(f"{path.name}.{age}").write_bytes(data)
