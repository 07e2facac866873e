"""GET logs."""

from __future__ import annotations

import json
import re
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from tests.support.engines import Engine
from tests.support.http import eventually


def ended(engine: Engine, script: str, **options: Any) -> str:
    container = engine.run("sh", "-c", script, **options)
    engine.wait(container)
    return container


TIME = rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z "


def frames(engine: Engine, container: str, **query: Any) -> list[tuple[int, bytes]]:
    with engine.open_logs(container, **query) as logs:
        return list(logs.frames())


def times(engine: Engine, container: str) -> list[str]:
    """The times of the lines as seconds with nanoseconds."""
    from datetime import datetime

    found = []
    for _, data in frames(engine, container, timestamps=1):
        stamp = data.split(b" ", 1)[0].decode()
        seconds = datetime.fromisoformat(stamp[:19] + "+00:00").timestamp()
        found.append(f"{int(seconds)}.{stamp[20:29]}")
    return found


def test_LOG1_a_stream_must_be_chosen(engine: Engine) -> None:
    container = ended(engine, "echo out; echo err >&2")
    answer = engine.http.get(f"/containers/{container}/logs")
    assert (answer.status, answer.message) == (400, "Bad parameters: you must choose at least one stream")
    assert engine.logs(container, stderr=0) == (b"out\n", b"")
    assert engine.logs(container, stdout=0) == (b"", b"err\n")


def test_LOG2c_before_1_42_without_a_content_type(engine: Engine) -> None:
    container = ended(engine, "echo x")
    with engine.http.open("GET", f"/containers/{container}/logs?stdout=1", prefix="/v1.41") as logs:
        assert logs.status == 200
        assert logs.headers.get("content-type") in (None, "application/octet-stream")
        assert list(logs.frames()) == [(1, b"x\n")]


def test_LOG2_headers_come_at_once(engine: Engine) -> None:
    for tty in (False, True):
        container = engine.run("sleep", "1000", Tty=tty)
        with engine.open_logs(container, follow=1) as logs:
            assert logs.chunked
            if not engine.is_dockerd:  # since API 1.42
                kind = "raw" if tty else "multiplexed"
                assert logs.headers["content-type"] == f"application/vnd.docker.{kind}-stream"


def test_LOG3d_each_piece_has_its_time(engine: Engine) -> None:
    container = ended(engine, "head -c 40000 /dev/zero | tr '\\0' x; echo")
    seen = [data for _, data in frames(engine, container, timestamps=1)]
    assert [len(data) for data in seen] == [16384 + 31, 16384 + 31, 7233 + 31]
    assert all(re.match(TIME, data) for data in seen)
    assert len({data[:31] for data in seen}) == 1, "the time of the first piece, again and again"


def test_LOG3_a_frame_a_line_and_pieces_of_16_KiB(engine: Engine) -> None:
    container = ended(engine, "echo one; printf 'noeol'; echo err >&2")
    assert sorted(frames(engine, container)) == [(1, b"noeol"), (1, b"one\n"), (2, b"err\n")]
    container = ended(engine, "head -c 40000 /dev/zero | tr '\\0' x; echo")
    assert [len(data) for _, data in frames(engine, container)] == [16384, 16384, 7233]


def test_LOG4_timestamps_and_details(engine: Engine) -> None:
    container = ended(engine, "echo one; echo two")
    seen = frames(engine, container, timestamps=1)
    assert [stream for stream, _ in seen] == [1, 1]
    for (_, data), line in zip(seen, (b"one\n", b"two\n"), strict=True):
        assert re.fullmatch(TIME + line, data)
    assert frames(engine, container, details=1) == [(1, b" one\n"), (1, b" two\n")]


def test_LOG4_details_show_the_chosen_labels(engine: Engine) -> None:
    log = {"Type": "json-file", "Config": {"labels": "colour,size", "env": "KEY"}}
    container = ended(
        engine,
        "echo x",
        Labels={"colour": "red", "size": "a b", "z": "1"},
        Env=["KEY=v"],
        HostConfig={"LogConfig": log},
    )
    ((_, data),) = frames(engine, container, details=1)
    assert data == b"KEY=v,colour=red,size=a+b x\n"


@pytest.mark.parametrize(
    ("tail", "count"), [("0", 0), ("1", 1), ("3", 3), ("99", 5), ("all", 5), ("-1", 5), ("nonsense", 5), ("", 5)]
)
def test_LOG5_tail(engine: Engine, tail: str, count: int) -> None:
    container = ended(engine, "for i in 1 2 3 4 5; do echo $i; done")
    assert engine.logs(container, tail=tail)[0].split() == [b"%d" % i for i in range(6 - count, 6)]


def test_LOG5_tail_counts_entries_before_the_stream_is_chosen(engine: Engine) -> None:
    container = ended(engine, "echo err >&2; sleep 0.05; echo out")
    assert engine.logs(container, stdout=0, tail=1) == (b"", b"")
    container = ended(engine, "echo short; head -c 40000 /dev/zero | tr '\\0' x; echo")
    assert [len(data) for _, data in frames(engine, container, tail=2)] == [16384, 7233]


@pytest.mark.parametrize("value", ["2024-01-01T00:00:00Z", "abc"])
def test_LOG6a_other_times_are_an_error(engine: Engine, value: str) -> None:
    container = ended(engine, "echo x")
    for name in ("since", "until"):
        answer = engine.http.get(f"/containers/{container}/logs?stdout=1&{name}={value}")
        assert answer.status == 500
        assert answer.message == f'strconv.ParseInt: parsing "{value}": invalid syntax'


def test_LOG6d_fractions_are_padded_on_the_right(engine: Engine) -> None:
    container = ended(engine, "echo x")
    ((_, data),) = frames(engine, container, timestamps=1)
    whole = int(datetime.fromisoformat(data[:19].decode() + "+00:00").timestamp())
    # A fraction of .9 is nine tenths of a second and not nine nanoseconds.
    assert frames(engine, container, since=f"{whole + 1}.9") == []
    assert frames(engine, container, until=f"{whole - 1}.999999999") == []
    assert frames(engine, container, since=f"{whole - 1}.9", until=f"{whole + 1}.1") == [(1, b"x\n")]


def test_LOG6_since_and_until(engine: Engine) -> None:
    container = ended(engine, "for i in 1 2 3; do echo $i; sleep 0.05; done")
    first, second, third = times(engine, container)
    assert engine.logs(container, since=second)[0] == b"2\n3\n"
    assert engine.logs(container, until=second)[0] == b"1\n2\n"
    assert engine.logs(container, since=second, until=second)[0] == b"2\n"
    assert engine.logs(container, since=first.split(".")[0])[0] == b"1\n2\n3\n"
    assert engine.logs(container, until=0)[0] == engine.logs(container, until="")[0] == b"1\n2\n3\n"
    assert engine.logs(container, since=int(third.split(".")[0]) + 100) == (b"", b"")


def test_LOG6_bad_times(engine: Engine) -> None:
    container = ended(engine, "echo x")
    answer = engine.http.get(f"/containers/{container}/logs?stdout=1&since=2024-01-01T00:00:00Z")
    assert answer.status in (400, 500)
    assert "2024-01-01T00:00:00Z" in answer.message


def test_LOG7b_follow_of_a_stopped_one_ends_at_once(engine: Engine) -> None:
    container = ended(engine, "echo x")
    with engine.open_logs(container, follow=1) as logs:
        logs.sock.settimeout(5)
        assert list(logs.frames()) == [(1, b"x\n")]


def test_LOG7_follow_ends_with_the_container(engine: Engine) -> None:
    container = engine.run("sh", "-c", "echo first; read line; echo $line", OpenStdin=True)
    with engine.open_logs(container, follow=1) as logs, engine.attach(container) as attached:
        seen = logs.frames()
        assert next(seen) == (1, b"first\n")
        attached.send(b"second\n")
        assert next(seen) == (1, b"second\n")
        assert list(seen) == []
    assert engine.logs(container, follow=1)[0] == b"first\nsecond\n"


def test_LOG7_follow_with_tail(engine: Engine) -> None:
    container = engine.run("sh", "-c", "echo a; echo b; read line; echo $line", OpenStdin=True)
    eventually(lambda: engine.logs(container)[0] == b"a\nb\n")
    with (
        engine.open_logs(container, follow=1, tail=0) as nothing_old,
        engine.open_logs(container, follow=1, tail=1) as one_old,
        engine.attach(container) as attached,
    ):
        attached.send(b"new\n")
        assert list(nothing_old.frames()) == [(1, b"new\n")]
        assert list(one_old.frames()) == [(1, b"b\n"), (1, b"new\n")]


def test_LOG8abd_rotated_and_compressed_files_are_read(engine: Engine) -> None:
    log = {"Type": "json-file", "Config": {"max-size": "8k", "max-file": "4", "compress": "true"}}
    script = (
        "i=0; while [ $i -lt 1200 ]; do i=$((i+1)); echo line $i; [ $((i % 40)) = 0 ] && usleep 30000; done; sleep 1"
    )
    container = ended(engine, script, HostConfig={"LogConfig": log})
    directory = Path(engine.inspect(container)["LogPath"]).parent
    eventually(lambda: list(directory.glob("*.gz")), what="compressed files")
    numbers = [int(line.split()[1]) for line in engine.logs(container)[0].splitlines()]
    assert numbers == list(range(numbers[0], 1201)), "the newest lines, whole and in order"
    if not engine.is_dockerd:  # 20.10 stops at the border of a compressed file
        tail = engine.logs(container, tail=100)[0].splitlines()
        assert tail == [b"line %d" % i for i in range(1101, 1201)]


def test_LOG8_rotation(engine: Engine) -> None:
    log = {"Type": "json-file", "Config": {"max-size": "10k", "max-file": "3"}}
    script = "i=0; while [ $i -lt 2000 ]; do i=$((i+1)); echo line $i; [ $((i % 100)) = 0 ] && sleep 0.02; done"
    container = ended(engine, script, HostConfig={"LogConfig": log})
    numbers = [int(line.split()[1]) for line in engine.logs(container)[0].splitlines()]
    assert numbers == list(range(numbers[0], 2001)), "the newest lines, whole and in order"
    assert 100 < len(numbers) < 2000
    if not engine.is_dockerd:  # 20.10 gave fewer lines than asked for where the newest file is short
        assert len(engine.logs(container, tail=60)[0].splitlines()) == 60


def test_LOG8_follow_crosses_rotations(engine: Engine) -> None:
    log = {"Type": "json-file", "Config": {"max-size": "20k", "max-file": "3"}}
    script = "read go; i=0; while [ $i -lt 1000 ]; do i=$((i+1)); echo line $i; [ $((i % 50)) = 0 ] && sleep 0.02; done"
    container = engine.run("sh", "-c", script, OpenStdin=True, HostConfig={"LogConfig": log})
    with engine.open_logs(container, follow=1) as logs, engine.attach(container) as attached:
        attached.send(b"go\n")
        seen = b"".join(data for _, data in logs.frames())
    if engine.is_dockerd:  # 20.10 may lose lines at a rotation
        assert seen.endswith(b"line 1000\n")
    else:
        assert seen == b"".join(b"line %d\n" % i for i in range(1, 1001))


def test_LOG9a_driver_none_with_follow(engine: Engine) -> None:
    container = engine.run_idle(HostConfig={"LogConfig": {"Type": "none"}})
    answer = engine.http.get(f"/containers/{container}/logs?stdout=1&follow=1")
    assert (answer.status, answer.message) == (501, "configured logging driver does not support reading")


def test_LOG9_driver_none(engine: Engine) -> None:
    container = ended(engine, "echo unseen", HostConfig={"LogConfig": {"Type": "none"}})
    answer = engine.http.get(f"/containers/{container}/logs?stdout=1")
    assert (answer.status, answer.message) == (501, "configured logging driver does not support reading")


def test_LOG10a_the_file(engine: Engine) -> None:
    container = ended(engine, "echo one; printf two >&2")
    path = Path(engine.inspect(container)["LogPath"])
    lines = path.read_bytes().splitlines()
    assert len(lines) == 2
    if engine.is_dockerd:
        first = json.loads(min(lines, key=len) if b"one" in min(lines, key=len) else max(lines, key=len))
        assert (first["log"], first["stream"], set(first)) == ("one\n", "stdout", {"log", "stream", "time"})
        assert path.name == f"{container}-json.log"
    else:  # the monitor's own format
        assert sorted(re.sub(rb"^\S+ ", b"", line) for line in lines) == [b"stderr P two", b"stdout F one"]


def test_LOG10b_who_may_read_it(engine: Engine) -> None:
    container = ended(engine, "echo one")
    assert Path(engine.inspect(container)["LogPath"]).stat().st_mode & 0o777 == 0o640


def test_LOG12_terminal(engine: Engine) -> None:
    container = ended(engine, "echo out; echo err >&2", Tty=True)
    with engine.open_logs(container) as logs:
        assert logs.read() == b"out\r\nerr\r\n"
    with engine.open_logs(container, stdout=0) as logs:
        assert logs.read() == b""


def test_LOG13a_a_follower_that_does_not_read(engine: Engine) -> None:
    script = "read go; i=0; while [ $i -lt 20000 ]; do i=$((i+1)); echo line $i; done; exit 4"
    container = engine.run("sh", "-c", script, OpenStdin=True)
    with engine.open_logs(container, follow=1) as stuck, engine.attach(container, stdout=0, stderr=0) as attached:
        attached.send(b"go\n")
        assert engine.wait(container) == 4
        assert len(b"".join(data for _, data in stuck.frames()).splitlines()) == 20000


def test_LOG13_a_stuck_reader_does_not_hold_up_the_container(engine: Engine) -> None:
    container = engine.create(
        "sh", "-c", "read go; dd if=/dev/zero bs=65536 count=64 2>/dev/null | tr '\\0' x; exit 4", OpenStdin=True
    )
    engine.start(container)
    with engine.open_logs(container, follow=1), engine.attach(container, stdout=0, stderr=0) as attached:
        attached.send(b"go\n")
        assert engine.wait(container) == 4


def test_LOG14_bytes_are_kept(engine: Engine) -> None:
    container = ended(engine, "printf '\\001\\r tab\\there \\342\\202\\254 \"quoted\" \\\\ \\n\\n'")
    assert engine.logs(container)[0] == b'\x01\r tab\there \xe2\x82\xac "quoted" \\ \n\n'
    container = ended(engine, "printf '\\377\\376raw\\n'")
    expected = "\ufffd\ufffdraw\n".encode() if engine.is_dockerd else b"\xff\xferaw\n"  # LOG10: moby's format is JSON
    assert engine.logs(container)[0] == expected


def test_LOG_many_lines(engine: Engine) -> None:
    container = ended(engine, "seq 1 20000")
    assert engine.logs(container)[0] == b"".join(b"%d\n" % i for i in range(1, 20001))
    assert engine.logs(container, tail=1000)[0].splitlines()[0] == b"19001"
