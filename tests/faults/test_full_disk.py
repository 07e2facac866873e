"""A data root without a byte left: mostly a container's work, so that containers must still end and go."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from scripts.make_images import busybox_archive
from tests.faults.machine import IDLE, CrashEngine, rows
from tests.support.engines import scratch_root
from tests.support.http import eventually

HEALTH = {"Test": ["CMD", "test", "-e", "/dev/shm/well"], "Interval": 100_000_000, "Retries": 1}


@pytest.fixture
def small() -> Iterator[CrashEngine]:
    """An engine whose data root is a file system of 100 MiB."""
    with scratch_root("full") as root:
        data = root / "data"
        data.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=100m", "wherry-test", str(data)], check=True)
        try:
            engine = CrashEngine(root)
            try:
                engine.load(busybox_archive())
                yield engine
            finally:
                (data / "ballast").unlink(missing_ok=True)
                engine.end()
        finally:
            subprocess.run(["umount", "-l", str(data)], check=False, stderr=subprocess.DEVNULL)


@contextmanager
def full(engine: CrashEngine) -> Iterator[Path]:
    ballast = engine.layout.data_root / "ballast"
    fill(ballast)
    try:
        yield ballast
    finally:
        ballast.unlink()


def fill(ballast: Path) -> None:
    for size in (1 << 16, 1):
        with suppress(OSError), ballast.open("ab", buffering=0) as file:
            while file.write(bytes(size)):
                pass
    assert os.statvfs(ballast.parent).f_bfree == 0


def post(engine: CrashEngine, call: str) -> int:
    return engine.http.post(f"/containers/{call}").status


def delete(engine: CrashEngine, container: str) -> int:
    return engine.http.delete(f"/containers/{container}", query={"force": 1}).status


def test_a_full_disk_keeps_no_container_from_ending(small: CrashEngine) -> None:
    """What is set aside is enough for all of it, and comes back."""
    created = small.create("true")
    first, second, third, *many = [small.run(*IDLE) for _ in range(8)]
    with full(small):
        with small.http.open("POST", f"/containers/{first}/wait") as waiting:
            assert post(small, f"{first}/stop") == 204
            assert waiting.read() == b'{"StatusCode":0}\n'
        assert post(small, f"{second}/kill") == 204
        assert (post(small, f"{third}/pause"), post(small, f"{third}/unpause")) == (204, 204)
        assert small.http.post(f"/containers/{created}/rename", query={"name": "renamed"}).status == 204
        small.restart()
        assert small.status("renamed") == "created"
        assert (small.status(first), small.status(second), small.status(third)) == ("exited", "exited", "running")
        assert [delete(small, container) for container in (created, first, second, third, *many)] == [204] * 9
        assert small.containers() == []
        assert [row for row in rows(small.layout) if row[0] == "container"] == []
    small.restart()
    assert small.layout.database.with_name("state.db-reserve").stat().st_size > 0


def test_STP3_KIL3_DEL3_not_a_byte_to_write_with(small: CrashEngine) -> None:
    """What was set aside is used up as well: nothing new begins, what runs can be ended, and nobody waits in vain."""
    created = small.create("true")
    first, second, third, fourth = (small.run(*IDLE) for _ in range(4))
    assert small.exec(fourth, "dd", "if=/dev/zero", "of=/large", "bs=1024", "count=500")[0] == 0
    sick = small.run(*IDLE, Healthcheck=HEALTH)
    eventually(lambda: small.state(sick)["Health"]["Status"] == "unhealthy")
    with full(small) as ballast:
        reserve = small.layout.database.with_name("state.db-reserve")
        names = iter(range(10_000))

        def used_up() -> bool:
            """Until the database's log has no room for another row."""
            fill(ballast)
            name = f"name{next(names)}"
            refused = small.http.post(f"/containers/{created}/rename", query={"name": name})
            if refused.status == 204:
                return False
            assert (refused.status, refused.message) == (500, f"{small.layout.database}: no space left on device"), (
                refused
            )
            assert small.http.get(f"/containers/{name}/json").status == 404
            return True

        eventually(used_up, within=20)
        assert not reserve.exists()
        assert small.http.get(f"/containers/{small.inspect(created)['Name'][1:]}/json").status == 200
        refused = small.try_create("true")
        assert (refused.status, "no space left on device" in refused.message, "Errno" in refused.message) == (
            500,
            True,
            False,
        )
        with small.http.open("POST", f"/containers/{first}/wait") as stopped:
            assert post(small, f"{first}/stop") == 204
            assert stopped.read() == b'{"StatusCode":0}\n'
        assert post(small, f"{second}/kill") == 204
        assert (post(small, f"{third}/pause"), post(small, f"{third}/unpause")) == (204, 204)
        assert [small.status(each) for each in (first, second, third)] == ["exited", "exited", "running"]
        assert small.exec(sick, "touch", "/dev/shm/well")[0] == 0
        eventually(lambda: small.state(sick)["Health"]["Status"] == "healthy")
        assert small.exec(sick, "rm", "/dev/shm/well")[0] == 0
        eventually(lambda: small.state(sick)["Health"]["Status"] == "unhealthy")
        assert delete(small, fourth) == 204, "its own files make room"
    assert [delete(small, each) for each in (created, first, second, third, sick)] == [204] * 5
    assert small.containers() == []
    assert [row for row in rows(small.layout) if row[0] == "container"] == []
