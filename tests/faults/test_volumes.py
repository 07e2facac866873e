"""kill -9 of the engine: no volume is forgotten, none left behind, and nothing stays mounted."""

from __future__ import annotations

import contextlib
import json
import os
import random
import sqlite3
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from tests.faults.machine import IDLE, CrashEngine
from tests.support.http import eventually
from wherry.engine.store.overlay import mounts_below


def mounted(engine: CrashEngine) -> list[str]:
    return [Path(point).parent.name for point in mounts_below(engine.layout.volumes)]


def volume_names(engine: CrashEngine) -> set[str]:
    return {volume["Name"] for volume in engine.http.get("/volumes").json["Volumes"]}


def used_volumes(engine: CrashEngine) -> set[str]:
    return {mount["Name"] for container in engine.containers() for mount in engine.inspect(container)["Mounts"]}


def on_disk(engine: CrashEngine) -> set[str]:
    return {path.name for path in engine.layout.volumes.iterdir()}


def remove_volumes(engine: CrashEngine) -> None:
    engine.remove_all()
    for name in volume_names(engine):
        assert engine.http.delete(f"/volumes/{name}").status == 204


def test_a_mounted_volume_stays_with_its_container(crashable: CrashEngine, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("shown\n")
    options = {
        "fast": {"type": "tmpfs", "device": "tmpfs"},
        "bound": {"type": "none", "device": str(tmp_path), "o": "bind"},
        "orphaned": {"type": "tmpfs", "device": "tmpfs"},
    }
    for name, given in options.items():
        answer = crashable.http.post("/volumes/create", json={"Name": name, "DriverOpts": given})
        assert answer.status == 201
    lives = crashable.run_idle(HostConfig={"Binds": ["fast:/fast", "bound:/bound"]})
    ends = crashable.run_idle(HostConfig={"Binds": ["orphaned:/x"]})
    crashable.exec(lives, "touch", "/fast/kept")
    assert sorted(mounted(crashable)) == ["bound", "fast", "orphaned"]
    pid = crashable.state(ends)["Pid"]
    crashable.crash()
    os.kill(pid, 9)
    crashable.boot()
    assert sorted(mounted(crashable)) == ["bound", "fast"]
    second = crashable.run("ls", "/fast", HostConfig={"Binds": ["fast:/fast"]})
    crashable.wait(second)
    assert crashable.logs(second)[0] == b"kept\n"
    assert sorted(mounted(crashable)) == ["bound", "fast"]
    assert crashable.http.post(f"/containers/{lives}/stop").status == 204
    assert mounted(crashable) == []
    remove_volumes(crashable)
    assert (tmp_path / "file").exists()


def test_a_volume_that_was_being_removed_goes_without_what_it_shows(crashable: CrashEngine, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    given = {"type": "none", "device": str(tmp_path), "o": "bind"}
    crashable.http.post("/volumes/create", json={"Name": "bound", "DriverOpts": given})
    container = crashable.run_idle(HostConfig={"Binds": ["bound:/x"]})
    pid = crashable.state(container)["Pid"]
    crashable.crash()
    os.kill(pid, 9)
    with contextlib.closing(sqlite3.connect(crashable.layout.database)) as database, database:
        database.execute("UPDATE objects SET kind = 'pending-volume' WHERE kind = 'volume'")
    crashable.boot()
    assert mounted(crashable) == []
    assert on_disk(crashable) == set()
    crashable.remove_all()
    assert (tmp_path / "file").exists()


def test_DEL4_a_removal_that_was_cut_off_remembers_the_volumes(crashable: CrashEngine) -> None:
    """As an engine leaves it that is killed behind the intent: with ``v=1``, and without."""
    with_volumes, without = (crashable.create("true", Volumes={"/x": {}}) for _ in range(2))
    kept = crashable.inspect(without)["Mounts"][0]["Name"]
    crashable.crash()
    with contextlib.closing(sqlite3.connect(crashable.layout.database)) as database, database:
        for container, volumes in ((with_volumes, True), (without, False)):
            (body,) = database.execute("SELECT body FROM objects WHERE id = ?", (container,)).fetchone()
            spec = json.loads(body)
            spec["state"] |= {"removing": True, "remove_volumes": volumes}
            database.execute("UPDATE objects SET body = ? WHERE id = ?", (json.dumps(spec).encode(), container))
    crashable.boot()
    assert crashable.containers() == []
    assert volume_names(crashable) == on_disk(crashable) == {kept}
    remove_volumes(crashable)


def burst(engine: CrashEngine, randomness: random.Random, calls: list[Callable[[], object]]) -> None:
    """Everything at once, and the engine killed in its middle and started again."""

    def attempt(call: Callable[[], object]) -> None:
        with contextlib.suppress(OSError, AssertionError):
            call()

    threads = [threading.Thread(target=attempt, args=(call,)) for call in calls]
    for thread in threads:
        thread.start()
    time.sleep(randomness.uniform(0.005, 0.12))
    engine.crash()
    for thread in threads:
        thread.join()
    engine.boot()


@pytest.mark.parametrize("seed", [4, 5])
def test_starts_and_stops_cut_off_anywhere_leave_mounted_what_is_used(crashable: CrashEngine, seed: int) -> None:
    randomness = random.Random(seed)
    for name in ("one", "two"):
        given = {"Name": name, "DriverOpts": {"type": "tmpfs", "device": "tmpfs"}}
        assert crashable.http.post("/volumes/create", json=given).status == 201
    containers = [crashable.create(*IDLE, HostConfig={"Binds": [f"{name}:/x"]}) for name in ("one", "two") * 3]

    def used() -> list[str]:
        running = crashable.http.get("/containers/json").json
        return sorted({mount["Name"] for container in running for mount in container["Mounts"]})

    for verb in ("start", "stop", "start"):
        calls = [partial(crashable.http.post, f"/containers/{container}/{verb}") for container in containers]
        burst(crashable, randomness, calls)  # type: ignore[arg-type]
        eventually(lambda: sorted(mounted(crashable)) == used(), what=lambda: f"{mounted(crashable)} of {used()}")
    remove_volumes(crashable)
    assert mounted(crashable) == []


CREATE = {"Image": "busybox", "Cmd": ["true"], "Volumes": {"/x": {}, "/var/www": {}}}


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_DEL4_creates_and_removals_cut_off_anywhere_leave_no_volume(crashable: CrashEngine, seed: int) -> None:
    randomness = random.Random(seed)

    burst(crashable, randomness, [lambda: crashable.http.post("/containers/create", json=CREATE)] * 12)
    assert volume_names(crashable) == used_volumes(crashable) == on_disk(crashable)
    while len(crashable.containers()) < 12:
        crashable.http.post("/containers/create", json=CREATE)
    query = {"v": 1, "force": 1}
    calls = [partial(crashable.http.delete, f"/containers/{c}", query=query) for c in crashable.containers()]
    burst(crashable, randomness, calls)  # type: ignore[arg-type]
    eventually(
        lambda: volume_names(crashable) == used_volumes(crashable) == on_disk(crashable), what="no volume left over"
    )
    remove_volumes(crashable)
