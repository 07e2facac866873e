"""Readers that read slowly or never, and many at once: nothing is lost, nothing piles up, nobody waits for them (ATT8)."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.faults.machine import CrashEngine
from tests.support.http import Exchange, eventually

MEBIBYTE = 1024 * 1024


def writer(lines: int) -> tuple[str, ...]:
    """A command that writes so many different lines of 100 bytes."""
    text = "x" * 89
    return ("awk", f'BEGIN {{ for (i = 0; i < {lines}; i++) printf "%09d {text}\\n", i }}')


def written(lines: int) -> str:
    """The digest of what ``writer`` writes."""
    digest = hashlib.sha256()
    text = b"x" * 89
    for start in range(0, lines, 10000):
        digest.update(b"".join(b"%09d %s\n" % (i, text) for i in range(start, min(lines, start + 10000))))
    return digest.hexdigest()


def read(exchange: Exchange) -> tuple[int, str]:
    """(bytes, digest) of everything up to the end, the frames taken off."""
    size, digest = 0, hashlib.sha256()
    for data in payloads(exchange):
        size += len(data)
        digest.update(data)
    return size, digest.hexdigest()


def payloads(exchange: Exchange) -> Iterator[bytes]:
    """As ``Exchange.frames``, fast enough for hundreds of megabytes."""
    file = exchange._file
    while head := file.read(8):
        assert len(head) == 8
        assert head[0] in (1, 2), head
        size = int.from_bytes(head[4:], "big")
        data = file.read(size)
        assert len(data) == size
        yield data


def begin(engine: CrashEngine, lines: int, *, attachments: int = 1, **body: Any) -> tuple[str, list[Exchange]]:
    container = engine.create(*writer(lines), **body)
    exchanges = [engine.attach(container, stdin=0) for _ in range(attachments)]
    assert {exchange.status for exchange in exchanges} == {101}
    engine.start(container)
    return container, exchanges


def finished(engine: CrashEngine, container: str) -> bool:
    return engine.http.get(f"/containers/{container}/json").status == 404 or engine.status(container) == "exited"


@pytest.mark.parametrize("auto_remove", [False, True])
def test_a_reader_left_standing_loses_nothing_and_costs_no_memory(crashable: CrashEngine, auto_remove: bool) -> None:
    lines = 1_000_000
    # on no network: firewall changes take memory for a second, and this is about readers
    host = {"AutoRemove": auto_remove, "NetworkMode": "none"}
    crashable.run_to_end("true", HostConfig={"NetworkMode": "none"})
    before = crashable.memory()
    container, [exchange] = begin(crashable, lines, HostConfig=host)
    with exchange:
        most = 0

        def over() -> bool:
            nonlocal most
            most = max(most, crashable.memory())
            return finished(crashable, container)

        eventually(over, within=60, what="the container does not wait for its reader")
        time.sleep(0.5)
        assert read(exchange) == (100 * lines, written(lines))
    most = max(most, crashable.memory())
    assert most - before < 12 * MEBIBYTE, (before, most)


def test_a_reader_that_stops_and_goes_loses_nothing(crashable: CrashEngine) -> None:
    lines = 300_000
    _, [exchange] = begin(
        crashable,
        lines,
        HostConfig={"LogConfig": {"Type": "json-file", "Config": {"max-size": "3m", "max-file": "99"}}},
    )
    with exchange:
        size, digest, pauses = 0, hashlib.sha256(), 0
        for data in payloads(exchange):
            size += len(data)
            digest.update(data)
            if size > pauses * 5 * MEBIBYTE:
                pauses += 1
                time.sleep(0.1)
    assert (size, digest.hexdigest()) == (100 * lines, written(lines))


def test_a_reader_that_never_reads_harms_nobody(crashable: CrashEngine) -> None:
    lines = 200_000
    container, [stuck, other] = begin(crashable, lines, attachments=2)
    with stuck, other, crashable.open_logs(container, follow=1) as stuck_logs:
        assert stuck_logs.status == 200
        assert read(other) == (100 * lines, written(lines))
        assert crashable.wait(container) == 0
        assert crashable.http.delete(f"/containers/{container}").status == 204


def test_the_memory_of_a_reader_that_left_is_given_back(crashable: CrashEngine) -> None:
    container = crashable.run("sh", "-c", "while :; do head -c 3000000 /dev/zero; usleep 100000; done")
    for _ in range(10):
        with crashable.attach(container, stdin=0):
            time.sleep(0.1)
    descriptors = len(list(crashable.descriptors()))
    for _ in range(10):
        with crashable.attach(container, stdin=0):
            time.sleep(0.1)
    eventually(lambda: len(list(crashable.descriptors())) <= descriptors, within=5, what="descriptors closed")


def test_forty_attachments_get_all(crashable: CrashEngine) -> None:
    lines = 20_000
    _, exchanges = begin(crashable, lines, attachments=40)
    outcomes: list[tuple[int, str]] = []
    threads = [threading.Thread(target=lambda e=e: outcomes.append(read(e))) for e in exchanges]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    for exchange in exchanges:
        exchange.close()
    assert outcomes == [(100 * lines, written(lines))] * 40


@pytest.mark.parametrize(
    ("kind", "command", "size"),
    [
        ("8 KiB writes", ("dd", "if=/dev/zero", "bs=8k", "count=16384"), 128 * MEBIBYTE),
        ("lines", writer(500_000), 50_000_000),
    ],
)
def test_attach_is_fast(crashable: CrashEngine, kind: str, command: tuple[str, ...], size: int) -> None:
    container = crashable.create(*command)
    with crashable.attach(container, stdin=0, stderr=0) as exchange:
        crashable.start(container)
        begun = time.monotonic()
        assert sum(map(len, payloads(exchange))) == size
        rate = size / (time.monotonic() - begun) / 1e6
    print(f"attach, {kind}: {rate:.0f} MB/s")
    assert rate > 15


def test_a_slow_reader_of_an_adopted_container_loses_nothing(crashable: CrashEngine) -> None:
    """After the engine's restart the log alone serves it; here nothing but what is written after the attach."""
    lines = 300_000
    container = crashable.create("sh", "-c", f"read go; {writer(lines)[0]} '{writer(lines)[1]}'", OpenStdin=True)
    crashable.start(container)
    crashable.restart()
    with crashable.attach(container) as exchange:
        exchange.send(b"\n")
        eventually(lambda: finished(crashable, container), within=60)
        assert read(exchange) == (100 * lines, written(lines))


def test_an_attach_to_a_busy_adopted_container_is_one_piece_of_its_log(crashable: CrashEngine) -> None:
    container = crashable.run("sh", "-c", "i=0; while :; do echo $i; i=$((i+1)); done")
    crashable.restart()
    with crashable.attach(container, stdin=0) as exchange:
        time.sleep(0.5)
        crashable.http.post(f"/containers/{container}/kill")
        text = b"".join(payloads(exchange))
    numbers = [int(line) for line in text.split()]
    log = crashable.lines(container)
    assert len(numbers) > 100
    assert numbers == log[-len(numbers) :]
    assert log == list(range(len(log)))


def test_stop_is_ended_by_kill_at_once(crashable: CrashEngine) -> None:
    container = crashable.run("sh", "-c", "trap '' TERM; while :; do sleep 1; done")
    answers: list[int] = []
    thread = threading.Thread(
        target=lambda: answers.append(crashable.http.post(f"/containers/{container}/stop", query={"t": 60}).status)
    )
    thread.start()
    time.sleep(0.5)
    assert not answers
    begun = time.monotonic()
    assert crashable.http.post(f"/containers/{container}/kill").status == 204
    thread.join(1)
    assert answers == [204]
    assert time.monotonic() - begun < 1
    assert crashable.state(container)["ExitCode"] == 137
    idle = crashable.run("sh", "-c", "trap 'exit 0' TERM; echo ready; while :; do sleep 3600 & wait $!; done")
    eventually(lambda: crashable.logs(idle)[0] == b"ready\n")
    begun = time.monotonic()
    assert crashable.http.post(f"/containers/{idle}/stop", query={"t": 60}).status == 204
    assert time.monotonic() - begun < 1
