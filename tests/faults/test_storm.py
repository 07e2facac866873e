"""kill -9 at any instant of create, start, exit and removal: nothing is left half done, and nothing is left over."""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Callable

import pytest

from tests.faults.machine import CrashEngine, inconsistencies, leavings
from tests.support.http import eventually

ROUNDS = 100 if os.environ.get("WHERRY_SOAK") else 8


class Storm:
    """Threads that create, start, wait for and remove containers until the engine dies under them."""

    def __init__(self, engine: CrashEngine, seed: int) -> None:
        self._engine = engine
        self._over = False
        self.failures: list[BaseException] = []
        self._threads = [threading.Thread(target=self._work, args=(random.Random(f"{seed} {n}"),)) for n in range(3)]
        for thread in self._threads:
            thread.start()

    def end(self) -> None:
        self._over = True
        for thread in self._threads:
            thread.join(20)
        if self.failures:
            raise self.failures[0]

    def _work(self, randomness: random.Random) -> None:
        steps: list[Callable[[random.Random], None]] = [self._short, self._long, self._auto_remove]
        while not self._over:
            try:
                randomness.choice(steps)(randomness)
            except (OSError, ValueError):  # the engine is gone, or the answer was cut off
                return
            except BaseException as error:
                if not self._over:
                    self.failures.append(error)
                return

    def _short(self, randomness: random.Random) -> None:
        container = self._engine.create("true", HostConfig={"NetworkMode": randomness.choice(["bridge", "none"])})
        self._engine.start(container)
        self._engine.wait(container)
        self._engine.http.delete(f"/containers/{container}")

    def _long(self, randomness: random.Random) -> None:
        container = self._engine.run("sleep", "1000", Volumes={"/data": {}})
        time.sleep(randomness.uniform(0, 0.05))
        if randomness.random() < 0.8:
            self._engine.http.delete(f"/containers/{container}", query={"force": 1, "v": 1})

    def _auto_remove(self, randomness: random.Random) -> None:
        self._engine.run("sh", "-c", f"usleep {randomness.randrange(50000)}", HostConfig={"AutoRemove": True})


def lasting_inconsistencies(engine: CrashEngine) -> list[object]:
    """Those that are still there after a few seconds: what a running engine has under way is none."""
    wrong: list[object] = []

    def consistent() -> bool:
        wrong[:] = inconsistencies(engine)
        return not wrong

    try:
        eventually(consistent, within=5)
    except AssertionError:
        return wrong
    return []


@pytest.mark.timeout(1200)
def test_kills_in_a_storm_leave_nothing_half_done(crashable: CrashEngine) -> None:
    seed = int(os.environ.get("WHERRY_SEED", "1"))
    randomness = random.Random(seed)
    for number in range(ROUNDS):
        storm = Storm(crashable, seed * 1000 + number)
        time.sleep(randomness.uniform(0.02, 0.5))
        crashable.crash()
        storm.end()
        if randomness.random() < 0.3:
            time.sleep(randomness.uniform(0, 0.2))
        crashable.boot()
        if randomness.random() < 0.3:  # killed again while, or just after, it recovers
            crashable.crash()
            crashable.boot()
        if wrong := lasting_inconsistencies(crashable):
            raise AssertionError(f"seed {seed}, round {number}: {wrong}\n{crashable.log[-3000:]}")
    assert "Traceback" not in crashable.log


def test_two_hundred_containers_leave_nothing(crashable: CrashEngine) -> None:
    failures: list[BaseException] = []
    names = iter(range(200))
    lock = threading.Lock()

    def work() -> None:
        while True:
            with lock:
                if next(names, None) is None:
                    return
            try:
                container = crashable.create("true")
                crashable.start(container)
                assert crashable.wait(container) == 0
                answer = crashable.http.delete(f"/containers/{container}")
                assert answer.status == 204, answer
            except BaseException as error:
                failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures, failures[:3]
    eventually(lambda: not leavings(crashable), within=10, what="nothing left")
    assert "Traceback" not in crashable.log
