"""What a container says while its removal is under way, and after one that failed."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.faults.machine import CrashEngine
from tests.support.http import eventually


@contextmanager
def held_files(engine: CrashEngine, container: str) -> Iterator[None]:
    """Something is mounted on the container's own directory, so that it cannot be moved away."""
    directory = engine.root / "data/containers" / container
    assert directory.is_dir(), list((engine.root / "data").iterdir())
    subprocess.run(["mount", "--bind", directory, directory], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", directory], check=True)


def test_DEL6ab_WAI5c_STA2d_LOG9b_EXP1e_UPD1g_a_removal_that_fails(verbs: CrashEngine) -> None:
    container = verbs.create("true", name="stuck")
    with verbs.http.open("POST", f"/containers/{container}/wait", query={"condition": "removed"}) as waiting:
        with held_files(verbs, container):
            failed = verbs.http.delete(f"/containers/{container}")
            assert failed.status == 500
            assert "driver failed to remove root filesystem" in failed.message
            (answer,) = waiting.json_values()
            assert "driver failed to remove root filesystem" in answer["Error"]["Message"]
            state = verbs.state(container)
            assert (state["Status"], state["Dead"], bool(state["Error"])) == ("dead", True, True)
            (listed,) = verbs.http.get("/containers/json", query={"all": 1}).json
            assert (listed["State"], listed["Status"]) == ("dead", "Dead")
            assert verbs.try_create("true", name="stuck").status == 409
            target = f"/containers/{container}"
            marked = verbs.http.post(f"{target}/start")
            assert (marked.status, marked.message) == (
                409,
                "container is marked for removal and cannot be started",
            )
            logs = verbs.http.get(f"{target}/logs?stdout=1")
            assert (logs.status, logs.message) == (
                409,
                "can not get logs from container which is dead or marked for removal",
            )
            export = verbs.http.get(f"{target}/export")
            assert (export.status, export.message) == (409, f"You cannot export container {container} which is Dead")
            update = verbs.http.post(f"{target}/update", json={"CpuShares": 5})
            assert update.status == 500
            assert update.message.endswith('container is marked for removal and cannot be "update"')
        assert verbs.http.delete(target).status == 204
    assert verbs.try_create("true", name="stuck").status == 201


def test_DEL2c_a_removal_under_way(verbs: CrashEngine) -> None:
    """Many at once: one removes, the others are told with the name as they typed it."""
    container = verbs.run("sh", "-c", "trap '' TERM; sleep 1000", name="contested")
    verbs.http.post(f"/containers/{container}/pause")
    answers: list[tuple[int, str]] = []

    def delete() -> None:
        answer = verbs.http.delete("/containers/contested?force=1")
        answers.append((answer.status, answer.message if answer.body else ""))

    threads = [threading.Thread(target=delete) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [status for status, _ in answers].count(204) == 1
    others = {answer for answer in answers if answer[0] != 204}
    assert others <= {
        (409, "removal of container contested is already in progress"),
        (404, "No such container: contested"),
    }
    assert (409, "removal of container contested is already in progress") in others
    eventually(lambda: not verbs.containers())


def test_EXP2c_sockets_are_left_out(verbs: CrashEngine) -> None:
    import socket
    import tarfile
    from io import BytesIO

    container = verbs.run_idle()
    place = Path(f"/proc/{verbs.state(container)['Pid']}/root")
    (place / "beside").write_bytes(b"x")
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(place / "socket"))
        archive = verbs.http.get(f"/containers/{container}/export", timeout=60).body
    with tarfile.open(fileobj=BytesIO(archive)) as tar:
        names = tar.getnames()
    assert ("beside" in names, "socket" in names) == (True, False)
