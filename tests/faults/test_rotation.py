"""Rotation of the log (LOG8): under followers, and cut off by the engine's death at its worst moments."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from typing import Any

import pytest

from tests.faults.machine import NUMBERS, CrashEngine
from tests.support.http import eventually


def rotating(size: str = "4k", files: int = 9999, **more: str) -> dict[str, Any]:
    config = {"max-size": size, "max-file": str(files), **more}
    return {"LogConfig": {"Type": "json-file", "Config": config}}


def stop(engine: CrashEngine, container: str) -> list[int]:
    assert engine.http.post(f"/containers/{container}/stop", query={"t": 10}).status == 204
    return engine.lines(container)


def files(engine: CrashEngine, container: str) -> list[str]:
    directory = engine.layout.container(container)
    return [name for name in os.listdir(directory) if "-json.log" in name]


def monitor(engine: CrashEngine, container: str) -> int:
    return int((engine.layout.bundle(container) / "conmon.pid").read_text())


@pytest.mark.parametrize("compress", ["false", "true"])
def test_LOG8_a_follower_across_rotations_sees_every_line_once(crashable: CrashEngine, compress: str) -> None:
    container = crashable.create("sh", "-c", NUMBERS, HostConfig=rotating(compress=compress))
    crashable.start(container)
    with crashable.open_logs(container, follow=1) as early, crashable.attach(container, logs=1, stdin=0) as attached:
        seen: list[bytes] = []

        def follow() -> None:
            seen.append(b"".join(data for _, data in early.frames()))
            seen.append(b"".join(data for _, data in attached.frames()))

        thread = threading.Thread(target=follow)
        thread.start()
        time.sleep(1.5)
        log = stop(crashable, container)
        thread.join(20)
    assert len(files(crashable, container)) > 5
    assert len(log) > 500
    assert log == list(range(len(log)))
    assert [int(line) for line in seen[0].split()] == log
    assert [int(line) for line in seen[1].split()] == log


def test_only_max_file_files_are_kept(crashable: CrashEngine) -> None:
    container = crashable.run("sh", "-c", NUMBERS, HostConfig=rotating(files=3))
    time.sleep(1)
    log = stop(crashable, container)
    assert len(files(crashable, container)) <= 3
    assert 50 < len(log) < 400
    assert log == list(range(log[0], log[-1] + 1))


def test_a_rotation_cut_off_before_the_monitor_was_told(crashable: CrashEngine) -> None:
    container = crashable.run("sh", "-c", NUMBERS, HostConfig=rotating("1m"))
    time.sleep(0.2)
    crashable.crash()
    log = crashable.layout.log(container)
    log.rename(log.with_name(log.name + ".1"))
    time.sleep(0.2)
    crashable.boot()
    eventually(log.exists, within=5, what="the rotation is finished")
    time.sleep(0.2)
    numbers = stop(crashable, container)
    assert numbers == list(range(len(numbers)))
    assert len(files(crashable, container)) == 2


def test_a_rotation_cut_off_after_the_monitor_was_told(crashable: CrashEngine) -> None:
    """Told twice, the monitor would throw the lines in between away."""
    container = crashable.run("sh", "-c", NUMBERS, HostConfig=rotating("1m"))
    time.sleep(0.2)
    crashable.crash()
    pid = monitor(crashable, container)
    os.kill(pid, signal.SIGSTOP)
    try:
        log = crashable.layout.log(container)
        log.rename(log.with_name(log.name + ".1"))
        (crashable.layout.bundle(container) / "ctl").write_bytes(b"2 0 0\n")
        crashable.boot()
        time.sleep(0.3)
    finally:
        os.kill(pid, signal.SIGCONT)
    eventually(log.exists, within=5, what="the rotation is finished")
    time.sleep(0.3)
    numbers = stop(crashable, container)
    assert numbers == list(range(len(numbers)))


def test_an_adopted_log_goes_on_being_rotated(crashable: CrashEngine) -> None:
    container = crashable.run("sh", "-c", NUMBERS, HostConfig=rotating("8k"))
    crashable.restart()
    before = len(files(crashable, container))
    with crashable.attach(container, stdin=0) as exchange:
        eventually(lambda: len(files(crashable, container)) > before + 3, within=10)
        numbers = stop(crashable, container)
        attached = [int(line) for _, data in exchange.frames() for line in data.split()]
    assert numbers == list(range(len(numbers)))
    assert len(attached) > 100
    assert attached == numbers[-len(attached) :]


@pytest.mark.timeout(600)
def test_kills_amid_rotations_lose_no_line(crashable: CrashEngine) -> None:
    containers = [crashable.run("sh", "-c", NUMBERS, HostConfig=rotating("2k")) for _ in range(2)]
    randomness = random.Random(os.environ.get("WHERRY_SEED", "3"))
    for _ in range(60 if os.environ.get("WHERRY_SOAK") else 6):
        time.sleep(randomness.uniform(0.02, 0.4))
        crashable.restart()
    for container in containers:
        numbers = stop(crashable, container)
        assert len(numbers) > 500
        assert numbers == list(range(len(numbers)))
