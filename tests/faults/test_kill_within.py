"""kill -9 in the middle of one operation: after the restart nothing is lost, stuck, or left behind."""

from __future__ import annotations

import io
import os
import random
import socket
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from scripts.make_images import busybox_archive
from tests.faults.machine import IDLE, CrashEngine, rows
from tests.faults.test_storm import lasting_inconsistencies
from tests.support.http import eventually

ROUNDS = 30 if os.environ.get("WHERRY_SOAK") else 2
LATEST = 0.06
"""Seconds after its begin within which an operation is hit."""


@contextmanager
def killed_within(engine: CrashEngine, work: Callable[[], Any], randomness: random.Random) -> Iterator[list[Any]]:
    """Run ``work`` beside, kill the engine in it, start it again; gives the work's answer, if there was one."""
    answers: list[Any] = []

    def run() -> None:
        try:
            answers.append(work())
        except (OSError, ValueError):  # the engine was faster dead
            pass

    thread = threading.Thread(target=run)
    thread.start()
    time.sleep(randomness.uniform(0, LATEST))
    engine.crash()
    thread.join(30)
    engine.boot()
    yield answers
    wrong = lasting_inconsistencies(engine)
    assert not wrong, f"{wrong}\n{engine.log[-3000:]}"
    assert "Traceback" not in engine.log


def rounds() -> Iterator[random.Random]:
    for number in range(ROUNDS):
        yield random.Random(f"{os.environ.get('WHERRY_SEED', '1')} {number}")


def works(engine: CrashEngine, container: str) -> None:
    """The container can be told everything that a container can."""
    assert engine.status(container) == "running"
    assert engine.exec(container, "echo", "here") == (0, b"here\n", b"")
    assert engine.http.post(f"/containers/{container}/pause").status == 204
    assert engine.http.post(f"/containers/{container}/unpause").status == 204
    assert engine.http.post(f"/containers/{container}/stop", query={"t": 5}).status == 204
    engine.start(container)


def archive(entries: int = 40, size: int = 200_000) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for number in range(entries):
            entry = tarfile.TarInfo(f"f{number}")
            entry.size = size
            tar.addfile(entry, io.BytesIO(bytes([number]) * size))
    return out.getvalue()


@pytest.mark.timeout(600)
@pytest.mark.parametrize("running", [True, False])
def test_archive_upload(crashable: CrashEngine, running: bool) -> None:
    data = archive()
    for randomness in rounds():
        container = crashable.run(*IDLE) if running else crashable.create(*IDLE)

        def upload(container: str = container) -> int:
            return crashable.http.call("PUT", f"/containers/{container}/archive?path=/tmp", body=data).status

        with killed_within(crashable, upload, randomness):
            if not running:
                crashable.start(container)
            works(crashable, container)
            assert crashable.http.call("PUT", f"/containers/{container}/archive?path=/tmp", body=data).status == 200
            code, out, _ = crashable.exec(container, "sh", "-c", "cat /tmp/f* | wc -c")
            assert (code, int(out)) == (0, 40 * 200_000)
        crashable.remove_all()


@pytest.mark.timeout(600)
def test_exec(crashable: CrashEngine) -> None:
    for randomness in rounds():
        container = crashable.run(*IDLE)

        def execute(container: str = container) -> None:
            for _ in range(5):
                crashable.exec(container, "sh", "-c", "echo begun; sleep 0.02; echo ended")

        with killed_within(crashable, execute, randomness):
            works(crashable, container)
            assert not crashable.inspect(container)["ExecIDs"], "what an earlier engine began is none of this one's"

            def alone(container: str = container) -> bool:
                processes = crashable.http.get(f"/containers/{container}/top", query={"ps_args": "-o pid,args"}).json
                return not [process for process in processes["Processes"] if "begun" in process[-1]]

            eventually(alone, within=10, what="the command has ended")
        crashable.remove_all()


@pytest.mark.timeout(600)
def test_pause(crashable: CrashEngine) -> None:
    for randomness in rounds():
        container = crashable.run(*IDLE)

        def pause(container: str = container) -> None:
            for _ in range(10):
                crashable.http.post(f"/containers/{container}/pause")
                crashable.http.post(f"/containers/{container}/unpause")

        with killed_within(crashable, pause, randomness):
            status = crashable.status(container)
            assert status in ("running", "paused")
            if status == "paused":  # as the kernel has it
                assert crashable.http.post(f"/containers/{container}/unpause").status == 204
            works(crashable, container)
        crashable.remove_all()


@pytest.mark.timeout(600)
def test_update(crashable: CrashEngine) -> None:
    for randomness in rounds():
        container = crashable.run(*IDLE, HostConfig={"Memory": 64 << 20})
        sizes = [(64 + number) << 20 for number in range(20)]

        def update(container: str = container, sizes: list[int] = sizes) -> None:
            for size in sizes:
                crashable.http.post(f"/containers/{container}/update", json={"Memory": size, "MemorySwap": size * 2})

        with killed_within(crashable, update, randomness):
            stored = crashable.inspect(container)["HostConfig"]["Memory"]
            assert stored in sizes
            works(crashable, container)  # begun anew, it has what is stored
            limit = crashable.exec(
                container, "sh", "-c", "cat /sys/fs/cgroup/memory*/memory.limit_in_bytes /sys/fs/cgroup/memory.max"
            )
            assert str(stored).encode() in limit[1].split()
        crashable.remove_all()


@pytest.mark.timeout(600)
def test_rename(crashable: CrashEngine) -> None:
    for number, randomness in enumerate(rounds()):
        names = [f"name{number}x{step}" for step in range(30)]
        container = crashable.run(*IDLE, name=names[0])

        def rename(container: str = container, names: list[str] = names) -> None:
            for name in names[1:]:
                crashable.http.post(f"/containers/{container}/rename", query={"name": name})

        with killed_within(crashable, rename, randomness):
            name = crashable.inspect(container)["Name"].removeprefix("/")
            assert name in names
            for other in names:
                found = crashable.http.get(f"/containers/{other}/json").status
                assert found == (200 if other == name else 404), "one name, and it is free for nobody else"
                if other != name:
                    crashable.http.delete(f"/containers/{crashable.create('true', name=other)}")
            works(crashable, container)
        crashable.remove_all()


@pytest.mark.timeout(600)
def test_volume_creation(crashable: CrashEngine) -> None:
    for number, randomness in enumerate(rounds()):
        names = [f"volume{number}x{step}" for step in range(40)]

        def create(names: list[str] = names) -> None:
            for name in names:
                crashable.http.post("/volumes/create", json={"Name": name, "Labels": {"a": "b"}})

        with killed_within(crashable, create, randomness):
            listed = {volume["Name"] for volume in crashable.http.get("/volumes").json["Volumes"] or []}
            kept = {id for kind, id in rows(crashable.layout) if kind == "volume"}
            directories = set(os.listdir(crashable.layout.volumes)) if crashable.layout.volumes.is_dir() else set()
            assert listed == kept == directories, "a row and a directory, or neither"
            for name in names:
                made = crashable.http.post("/volumes/create", json={"Name": name, "Labels": {"a": "b"}})
                assert made.status == 201, made
                assert crashable.http.delete(f"/volumes/{name}").status == 204


@pytest.mark.timeout(600)
def test_image_load(crashable: CrashEngine) -> None:
    for number, randomness in enumerate(rounds()):
        tag = f"loaded:{number}"
        data = busybox_archive(tag)

        def load(data: bytes = data) -> None:
            crashable.http.post("/images/load", body=data, headers={"Content-Type": "application/x-tar"}, timeout=60)

        with killed_within(crashable, load, randomness):
            crashable.load(data)
            assert crashable.run_to_end("echo", "whole", Image=tag)[:2] == (0, b"whole\n")
            crashable.remove_all()
            assert crashable.http.delete(f"/images/{tag}").status == 200
            eventually(lambda: not os.listdir(crashable.layout.tmp), within=10, what="nothing half loaded")
            assert crashable.run_to_end("true")[0] == 0, "the other image is whole"
            crashable.remove_all()


@pytest.mark.timeout(600)
def test_streams_end_with_the_engine(crashable: CrashEngine) -> None:
    """Clients of the engine that dies see the end at once; the container does not."""
    container = crashable.run("sh", "-c", "i=0; while :; do echo $i; i=$((i+1)); usleep 1000; done")
    targets = ("logs?stdout=1&follow=1", "stats", "attach?stream=1&stdout=1")
    opened = []
    for target in targets:
        sock = socket.socket(socket.AF_UNIX)
        sock.settimeout(10)
        sock.connect(crashable.socket_path)
        method = "POST" if target.startswith("attach") else "GET"
        sock.sendall(f"{method} /v1.43/containers/{container}/{target} HTTP/1.1\r\nHost: d\r\n\r\n".encode())
        assert sock.recv(10)
        opened.append(sock)
    crashable.crash()
    for sock in opened:
        while sock.recv(65536):
            pass
        sock.close()
    crashable.boot()
    assert crashable.status(container) == "running"
    numbers = crashable.lines(container)
    assert numbers == list(range(len(numbers))), "every line, once"
