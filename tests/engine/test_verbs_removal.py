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


def test_DEL7_a_volume_that_cannot_go_is_no_failure_of_its_containers(verbs: CrashEngine) -> None:
    container = verbs.create("true", name="holder", Volumes={"/v": {}})
    (point,) = verbs.http.get(f"/containers/{container}/json").json["Mounts"]
    directory = verbs.root / "data/volumes" / point["Name"]
    subprocess.run(["mount", "--bind", directory, directory], check=True)
    try:
        with verbs.http.open("POST", f"/containers/{container}/wait", query={"condition": "removed"}) as waiting:
            assert verbs.http.delete(f"/containers/{container}", query={"v": 1}).status == 204
            (answer,) = waiting.json_values()
            assert "Error" not in answer or not answer["Error"]
    finally:
        subprocess.run(["umount", directory], check=True)
    verbs.restart()
    assert not directory.exists()


def test_a_large_hosts_file_is_not_read(verbs: CrashEngine) -> None:
    script = "truncate -s 512M /etc/hosts; exec sleep 1000"
    container = verbs.create("sh", "-c", script, name="large")
    other = verbs.create("true", HostConfig={"NetworkMode": "container:large"})
    assert verbs.http.post("/networks/create", json={"Name": "more"}).status == 201
    verbs.http.post(f"/containers/{container}/start")
    hosts = verbs.root / f"data/containers/{container}/hosts"
    eventually(lambda: hosts.stat().st_size == 512 << 20)
    before = _highest(verbs)
    assert verbs.http.post("/networks/more/connect", json={"Container": container}).status == 200
    refused = verbs.http.post(f"/containers/{other}/start")
    assert (refused.status, "too large to be shared" in refused.message) == (500, True)
    assert hosts.stat().st_size == 512 << 20
    assert _highest(verbs) - before < 64 << 10
    verbs.http.delete(f"/containers/{container}", query={"force": 1})
    assert verbs.http.delete("/networks/more").status == 204


def _highest(engine: CrashEngine) -> int:
    """The most memory that the engine has had, in KiB."""
    lines = Path(f"/proc/{engine.process.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
