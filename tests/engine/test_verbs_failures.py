"""A start that fails, at each of its steps, undoes all that went before (STA3, STA4)."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

import wherry
from scripts.make_images import busybox_archive
from tests.faults.machine import CrashEngine, leavings
from tests.support.engines import scratch_root
from tests.support.http import Http, eventually
from tests.support.machine import Holdings, holdings

FAILURES: dict[str, tuple[dict[str, Any], int, int, str]] = {
    "unknown network": ({"HostConfig": {"NetworkMode": "nonet"}}, 404, 128, "network nonet not found"),
    "unknown container": ({"HostConfig": {"NetworkMode": "container:nope"}}, 404, 128, "No such container: nope"),
    "address not to be chosen": (
        {
            "HostConfig": {"NetworkMode": "bridge"},
            "NetworkingConfig": {"EndpointsConfig": {"bridge": {"IPAMConfig": {"IPv4Address": "10.99.0.5"}}}},
        },
        400,
        128,
        "user specified IP address is supported on user defined networks only",
    ),
    "bad log option": (
        {"HostConfig": {"LogConfig": {"Type": "json-file", "Config": {"max-size": "abc"}}}},
        500,
        128,
        "abc",
    ),
    "missing user": ({"User": "nosuchuser"}, 500, 128, "unable to find user nosuchuser"),
    "bind source": ({"HostConfig": {"Binds": ["/proc/1/nope/x:/x"]}}, 500, 128, "/proc/1/nope"),
    "bind over a file": (
        {"HostConfig": {"Binds": ["/tmp:/etc/passwd"]}},
        400,
        127,
        "Are you trying to mount a directory onto a file",
    ),
    "missing command": ({"Cmd": ["nosuch"]}, 400, 127, 'exec: "nosuch": executable file not found in $PATH'),
    "not executable": ({"Cmd": ["/etc/passwd"]}, 400, 126, "permission denied"),
    "shared ipc": ({"HostConfig": {"IpcMode": "container:nope"}}, 404, 128, "No such container: nope"),
    "sysctl": ({"HostConfig": {"Sysctls": {"net.nope.nope": "1"}}}, 400, 127, "/proc/sys/net/nope/nope"),
}


@pytest.mark.parametrize("case", FAILURES)
def test_STA4_each_step_is_undone(verbs: CrashEngine, case: str) -> None:
    body, status, exit_code, words = FAILURES[case]
    container = verbs.create(**({"Cmd": ["true"]} | body))
    before = leavings(verbs)
    answer = verbs.http.post(f"/containers/{container}/start")
    assert (answer.status, words in answer.message) == (status, True), answer
    details = verbs.inspect(container)
    state = details["State"]
    assert (state["Status"], state["Running"], state["Pid"]) == ("created", False, 0)
    assert (state["ExitCode"], state["Error"]) == (exit_code, answer.message)
    assert details["NetworkSettings"]["Ports"] == {}
    eventually(lambda: leavings(verbs) == before, within=5, what=f"{leavings(verbs)} == {before}")


def test_STA3_a_taken_port(verbs: CrashEngine) -> None:
    with socket.create_server(("0.0.0.0", 0)) as taken:
        port = taken.getsockname()[1]
        body = {"PortBindings": {"80/tcp": [{"HostPort": ""}], "81/tcp": [{"HostPort": str(port)}]}}
        container = verbs.create("sleep", "60", name="published", HostConfig=body)
        before = leavings(verbs)
        answer = verbs.http.post(f"/containers/{container}/start")
        assert answer.status == 500
        assert "driver failed programming external connectivity on endpoint published (" in answer.message
        assert leavings(verbs) == before
    verbs.start(container)
    assert verbs.inspect(container)["NetworkSettings"]["Ports"]["81/tcp"][0]["HostPort"] == str(port)
    assert verbs.state(container)["Error"] == ""


def test_STA4_waits_and_automatic_removal(verbs: CrashEngine) -> None:
    container = verbs.create("nosuch", HostConfig={"AutoRemove": True})
    with (
        verbs.http.open("POST", f"/containers/{container}/wait?condition=removed") as removed,
        verbs.http.open("POST", f"/containers/{container}/wait?condition=next-exit") as exited,
    ):
        assert verbs.http.post(f"/containers/{container}/start").status == 400
        assert removed.read() == exited.read() == b'{"StatusCode":127}\n'
    assert verbs.http.get(f"/containers/{container}/json").status == 404


def test_STP9_a_restart_that_fails_removes_a_container_that_removes_itself(verbs: CrashEngine) -> None:
    command = "rm /bin/sh; echo ready; exec sleep 60"
    container = verbs.run("/bin/sh", "-c", command, HostConfig={"AutoRemove": True})
    eventually(lambda: b"ready" in verbs.logs(container)[0])
    answer = verbs.http.post(f"/containers/{container}/restart?t=0")
    assert (answer.status, answer.message.startswith(f"Cannot restart container {container}: ")) == (400, True)
    assert verbs.http.get(f"/containers/{container}/json").status == 404


def test_INS3_an_exited_container_stays_exited(verbs: CrashEngine) -> None:
    container = verbs.run("/bin/sh", "-c", "rm /bin/sh; exit 3")
    assert verbs.wait(container) == 3
    finished = verbs.state(container)["FinishedAt"]
    assert verbs.http.post(f"/containers/{container}/start").status == 400
    state = verbs.state(container)
    assert (state["Status"], state["ExitCode"], state["FinishedAt"]) == ("exited", 127, finished)


# what the machine takes away


@contextmanager
def engine_on_little(root: Path, stack: ExitStack) -> Iterator[tuple[Http, Path, Path]]:
    """An engine in this process with a runtime of its own and an exec root of 2 MiB; its calls, and these two."""
    exec_root = root / "exec"
    exec_root.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "wherry-test", str(exec_root)], check=True)
    stack.callback(subprocess.run, ["umount", "-l", str(exec_root)], check=False)
    (root / "bin").mkdir()
    crun = shutil.which("crun") or shutil.which("runc")
    assert crun is not None
    runtime = Path(shutil.copy(crun, root / "bin"))
    with wherry.Engine(root / "data", exec_root, runtime=str(runtime), ephemeral=True) as engine:
        engine.serve(f"unix://{root}/engine.sock")
        http = Http(f"{root}/engine.sock", "/v1.43")
        loaded = http.post("/images/load", body=busybox_archive(), headers={"Content-Type": "application/x-tar"})
        assert loaded.status == 200
        yield http, exec_root, runtime


def test_STA4_full_exec_root_and_missing_runtime() -> None:
    with (
        scratch_root("little") as root,
        ExitStack() as stack,
        engine_on_little(root, stack) as (http, exec_root, runtime),
    ):
        container = http.post("/containers/create", json={"Image": "busybox", "Cmd": ["sleep", "60"]}).json["Id"]
        target = f"/containers/{container}"

        def works() -> None:
            assert http.post(f"{target}/start").status == 204
            assert http.post(f"{target}/kill").status == 204

        def quiet() -> Holdings | None:
            seen = holdings(root, os.getpid())
            return None if seen.processes or seen.links[1:] else seen  # its bridge stays

        works()  # makes what the engine keeps
        before = eventually(quiet, within=5)

        def fails(words: str) -> None:
            answer = http.post(f"{target}/start")
            assert (answer.status, words in answer.message.lower()) == (500, True), answer
            assert http.get(f"{target}/json").json["State"]["Running"] is False

        def undone() -> None:
            def more() -> dict[str, list[str]]:
                return holdings(root, os.getpid()).more_than(before)

            eventually(lambda: not more(), within=5, what=f"nothing left: {more()}")

        with fill(exec_root):
            fails("space")
        undone()
        works()
        aside = runtime.rename(runtime.with_name("aside"))
        # an engine that holds a copy of its runtime needs the file no more
        if http.post(f"{target}/start").status == 204:
            assert http.post(f"{target}/kill").status == 204
        else:
            fails("")
        aside.rename(runtime)
        undone()
        works()
        assert http.delete(target).status == 204


@contextmanager
def fill(directory: Path) -> Iterator[None]:
    ballast = directory / "ballast"
    try:
        with ballast.open("wb", buffering=0) as file, suppress(OSError):
            while file.write(bytes(4096)):
                pass
        yield
    finally:
        os.unlink(ballast)


def test_CRE18_containers_in_each_others_network_can_be_linked_to_by_nobody(verbs: CrashEngine) -> None:
    verbs.create("true", name="one", HostConfig={"NetworkMode": "container:two"})
    verbs.create("true", name="two", HostConfig={"NetworkMode": "container:one"})
    verbs.create("true", name="self", HostConfig={"NetworkMode": "container:self"})
    for name in ("one", "two", "self"):
        refused = verbs.try_create("true", HostConfig={"Links": [f"{name}:other"]})
        assert (refused.status, refused.message) == (
            400,
            f"could not get container for {name}: it is in its own network, by way of others",
        )
        assert verbs.http.post(f"/containers/{name}/start").status == 409
