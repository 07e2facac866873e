"""What test_logs leaves open of semantics section 12."""

from __future__ import annotations

import json
import re
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from tests.support.engines import Engine
from tests.support.http import eventually

TIME = rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z "


def ended(engine: Engine, script: str, **options: Any) -> str:
    container = engine.run("sh", "-c", script, **options)
    engine.wait(container)
    return container


def frames(engine: Engine, container: str, **query: Any) -> list[tuple[int, bytes]]:
    with engine.open_logs(container, **query) as logs:
        return list(logs.frames())


def test_LOG2c_before_1_42_without_a_content_type(engine: Engine) -> None:
    container = ended(engine, "echo x")
    with engine.http.open("GET", f"/containers/{container}/logs?stdout=1", prefix="/v1.41") as logs:
        assert logs.status == 200
        assert logs.headers.get("content-type") in (None, "application/octet-stream")
        assert list(logs.frames()) == [(1, b"x\n")]


def test_LOG3d_each_piece_has_its_time(engine: Engine) -> None:
    container = ended(engine, "head -c 40000 /dev/zero | tr '\\0' x; echo")
    seen = [data for _, data in frames(engine, container, timestamps=1)]
    assert [len(data) for data in seen] == [16384 + 31, 16384 + 31, 7233 + 31]
    assert all(re.match(TIME, data) for data in seen)
    assert len({data[:31] for data in seen}) == 1, "the time of the first piece, again and again"


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


def test_LOG7b_follow_of_a_stopped_one_ends_at_once(engine: Engine) -> None:
    container = ended(engine, "echo x")
    with engine.open_logs(container, follow=1) as logs:
        logs.sock.settimeout(5)
        assert list(logs.frames()) == [(1, b"x\n")]


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


def test_LOG9a_driver_none_with_follow(engine: Engine) -> None:
    container = engine.run_idle(HostConfig={"LogConfig": {"Type": "none"}})
    answer = engine.http.get(f"/containers/{container}/logs?stdout=1&follow=1")
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


def test_LOG13a_a_follower_that_does_not_read(engine: Engine) -> None:
    script = "read go; i=0; while [ $i -lt 20000 ]; do i=$((i+1)); echo line $i; done; exit 4"
    container = engine.run("sh", "-c", script, OpenStdin=True)
    with engine.open_logs(container, follow=1) as stuck, engine.attach(container, stdout=0, stderr=0) as attached:
        attached.send(b"go\n")
        assert engine.wait(container) == 4
        assert len(b"".join(data for _, data in stuck.frames()).splitlines()) == 20000
