"""The engines that the tests run against: Wherry's own and Debian's dockerd, each on scratch roots of its own.

dockerd lives in its own network, mount and process-id namespaces: its bridge, firewall rules and FORWARD policy never touch
the machine's, and killing the first process of the namespace ends its containerd, shims and containers with it.
"""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from scripts.make_images import DEFAULT_PATH, busybox_archive, docker_archive, small_layer
from tests.support.http import TIMEOUT, Answer, Exchange, Http, eventually
from tests.support.machine import left_by_ended

REPOSITORY = Path(__file__).resolve().parents[2]
CLONE_NEWNET = 0x40000000
OWN_NAMESPACES = ("unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc")


class Engine:
    """A running engine: raw HTTP calls, and what the tests ask again and again."""

    def __init__(self, name: str, root: Path, process: subprocess.Popen[bytes], version: str, netns: str) -> None:
        self.name = name
        self.root = root
        self.process = process
        self.version = version
        self.netns = netns
        self.socket_path = str(root / "engine.sock")
        self.address = f"unix://{self.socket_path}"
        self.http = Http(self.socket_path, f"/v{version}")

    def __repr__(self) -> str:
        return f"<engine {self.name} at {self.address}>"

    @property
    def is_dockerd(self) -> bool:
        """True for Debian's 20.10 (API 1.41), where the rules of later versions do not hold."""
        return self.name == "dockerd"

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def log(self) -> str:
        return (self.root / "engine.log").read_text(errors="replace")

    def create(self, *command: str, name: str | None = None, **body: Any) -> str:
        """Create a container of busybox and give its id; keywords are the body's fields."""
        answer = self.try_create(*command, name=name, **body)
        assert answer.status == 201, answer
        return str(answer.json["Id"])

    def try_create(self, *command: str, name: str | None = None, **body: Any) -> Answer:
        fields: dict[str, Any] = {"Image": "busybox"}
        if command:
            fields["Cmd"] = list(command)
        return self.http.post("/containers/create", query={"name": name} if name else None, json=fields | body)

    def start(self, container: str) -> None:
        answer = self.http.post(f"/containers/{container}/start")
        assert answer.status == 204, answer

    def run(self, *command: str, **options: Any) -> str:
        """Create and start; give the id."""
        container = self.create(*command, **options)
        self.start(container)
        return container

    def run_idle(self, **options: Any) -> str:
        """A running container that does nothing until it is told to stop, and then ends at once with 0."""
        return self.run("sh", "-c", "trap 'exit 0' TERM; while :; do sleep 3600 & wait $!; done", **options)

    def wait(self, container: str, condition: str = "not-running") -> int:
        answer = self.http.post(f"/containers/{container}/wait", query={"condition": condition}, timeout=60)
        assert answer.status == 200, answer
        return int(answer.json["StatusCode"])

    def run_to_end(self, *command: str, **options: Any) -> tuple[int, bytes, bytes]:
        """Run, wait, and give exit code, stdout and stderr (from the log)."""
        container = self.run(*command, **options)
        code = self.wait(container)
        out, err = self.logs(container)
        return code, out, err

    def logs(self, container: str, **query: Any) -> tuple[bytes, bytes]:
        streams = {1: b"", 2: b""}
        with self.open_logs(container, **query) as exchange:
            for stream, data in exchange.frames():
                streams[stream] += data
        return streams[1], streams[2]

    def open_logs(self, container: str, **query: Any) -> Exchange:
        exchange = self.http.open("GET", f"/containers/{container}/logs", query={"stdout": 1, "stderr": 1} | query)
        assert exchange.status == 200, exchange.read()
        return exchange

    def inspect(self, container: str) -> Any:
        answer = self.http.get(f"/containers/{container}/json")
        assert answer.status == 200, answer
        return answer.json

    def state(self, container: str) -> Any:
        return self.inspect(container)["State"]

    def status(self, container: str) -> str:
        return str(self.state(container)["Status"])

    def exec(self, container: str, *command: str, **body: Any) -> tuple[int, bytes, bytes]:
        """Run a command in the container; exit code, stdout, stderr."""
        fields = {"AttachStdout": True, "AttachStderr": True, "Cmd": list(command)} | body
        created = self.http.post(f"/containers/{container}/exec", json=fields)
        assert created.status == 201, created
        streams = {1: b"", 2: b""}
        with self.http.open("POST", f"/exec/{created.json['Id']}/start", json={}) as exchange:
            assert exchange.status == 200, exchange.read()
            for stream, data in exchange.frames():
                streams[stream] += data
        code = self.http.get(f"/exec/{created.json['Id']}/json").json["ExitCode"]
        return code, streams[1], streams[2]

    def attach(self, container: str, *, upgrade: bool = True, **query: Any) -> Exchange:
        asked = {"stream": 1, "stdin": 1, "stdout": 1, "stderr": 1} | query
        return self.http.open("POST", f"/containers/{container}/attach", query=asked, upgrade=upgrade)

    def load(self, archive: bytes) -> None:
        answer = self.http.post(
            "/images/load", body=archive, headers={"Content-Type": "application/x-tar"}, timeout=120
        )
        assert (answer.status, b"errorDetail" in answer.body) == (200, False), answer

    def load_image(self, tag: str, config: dict[str, Any], files: dict[str, bytes | None] | None = None) -> None:
        """An image over busybox's layer with a configuration of its own."""
        layers = [busybox_layer_once()]
        if files:
            layers.append(small_layer(files))
        self.load(docker_archive(layers, {"Env": [DEFAULT_PATH]} | config, [tag]))

    def containers(self) -> list[str]:
        return [c["Id"] for c in self.http.get("/containers/json", query={"all": 1}).json]

    def remove_all(self) -> None:
        """Remove every container, as the end of a test does."""
        for container in self.containers():
            answer = self.http.delete(f"/containers/{container}", query={"force": 1, "v": 1})
            assert answer.status in (204, 404, 409), answer
        eventually(lambda: not self.containers(), what="all containers removed")

    def remove_volumes(self) -> None:
        """Remove every container and every volume."""
        self.remove_all()
        for volume in self.http.get("/volumes").json["Volumes"] or []:
            answer = self.http.delete(f"/volumes/{volume['Name']}")
            assert answer.status == 204, answer

    def connect_tcp(self, address: str, port: int) -> socket.socket:
        """A TCP connection from where the engine's published ports are (for dockerd that is its network namespace)."""
        made: list[socket.socket] = []
        failed: list[OSError] = []

        def connect() -> None:
            try:
                if self.netns:
                    _enter_netns(self.netns)
                made.append(socket.create_connection((address, port), timeout=TIMEOUT))
            except OSError as error:
                failed.append(error)

        thread = threading.Thread(target=connect)
        thread.start()
        thread.join()
        if failed:
            raise failed[0]
        return made[0]


def _enter_netns(path: str) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if libc.setns(descriptor, CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), f"setns {path}")
    finally:
        os.close(descriptor)


_layer: list[bytes] = []


def busybox_layer_once() -> bytes:
    if not _layer:
        from scripts.make_images import busybox_layer

        _layer.append(busybox_layer())
    return _layer[0]


@contextmanager
def scratch_root(name: str) -> Iterator[Path]:
    """A short path: unix socket addresses end at 108 bytes."""
    root = Path(tempfile.mkdtemp(prefix=f"wt-{name}-", dir="/tmp"))
    try:
        yield root
    finally:
        shutil.rmtree(root, ignore_errors=True)


def _wait_for_ping(process: subprocess.Popen[bytes], root: Path) -> None:
    http = Http(str(root / "engine.sock"))

    def answers() -> bool:
        if process.poll() is not None:
            raise AssertionError(f"the engine ended with {process.returncode}:\n{(root / 'engine.log').read_text()}")
        try:
            return http.get("/_ping", timeout=5).status == 200
        except OSError:
            return False

    eventually(answers, within=60, what=f"the engine answers ({(root / 'engine.log').read_text()[-2000:]})")


def end_process(process: subprocess.Popen[bytes], seconds: float = 30.0) -> None:
    """SIGTERM, and SIGKILL when that was not enough."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()
    process.wait()


def wherry_command(root: Path, *more: str) -> list[str]:
    """The command line of Wherry's engine on this scratch root."""
    return [
        sys.executable,
        "-m",
        "wherry.cli",
        "serve",
        "--host",
        f"unix://{root / 'engine.sock'}",
        "--data-root",
        str(root / "data"),
        "--exec-root",
        str(root / "exec"),
        *more,
    ]


@contextmanager
def running_wherry() -> Iterator[Engine]:
    """Wherry's engine on scratch roots; ended with everything it ran."""
    with scratch_root("wherry") as root, (root / "engine.log").open("wb") as log:
        process = subprocess.Popen(
            wherry_command(root, "--stop-containers"), stdout=log, stderr=log, stdin=subprocess.DEVNULL, cwd=root
        )
        try:
            _wait_for_ping(process, root)
            yield Engine("wherry", root, process, "1.43", "")
        finally:
            end_process(process)
            left = left_by_ended(root)
        assert not left, f"the engine ended with its containers, and left {left}"


def dockerd_command(root: Path, cgroup: str) -> list[str]:
    """The command line of dockerd on this scratch root, whose control groups go below ``cgroup``."""
    (root / "daemon.json").write_text("{}")
    arguments = {
        "host": f"unix://{root / 'engine.sock'}",
        "data-root": root / "data",
        "exec-root": root / "exec",
        "pidfile": root / "docker.pid",
        "config-file": root / "daemon.json",
        "cgroup-parent": cgroup,
        "exec-opt": "native.cgroupdriver=cgroupfs",
        "log-level": "error",
    }
    return [shutil.which("dockerd") or "/usr/sbin/dockerd", *(f"--{name}={value}" for name, value in arguments.items())]


@contextmanager
def running_dockerd() -> Iterator[Engine]:
    """Debian's dockerd on scratch roots and in namespaces of its own."""
    with scratch_root("dockerd") as root, (root / "engine.log").open("wb") as log:
        cgroup = f"/wherry-tests-{os.getpid()}"
        command = dockerd_command(root, cgroup)
        process = subprocess.Popen(
            [*OWN_NAMESPACES, "sh", "-c", 'ip link set lo up && exec "$@"', "sh", *command],
            stdout=log,
            stderr=log,
            stdin=subprocess.DEVNULL,
            env=os.environ | {"PATH": "/usr/local/sbin:/usr/sbin:/sbin:" + os.environ["PATH"]},
        )
        try:
            _wait_for_ping(process, root)
            inner = _children(process.pid)[0]
            yield Engine("dockerd", root, process, "1.41", f"/proc/{inner}/ns/net")
        finally:
            inner_pids = _children(process.pid) if process.poll() is None else []
            for pid in inner_pids:
                os.kill(pid, signal.SIGTERM)
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            _remove_cgroups(cgroup)


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _remove_cgroups(name: str) -> None:
    """What a killed dockerd leaves: its empty control groups."""
    for parent in {path.parent for path in Path("/sys/fs/cgroup").glob(f"*{name}")} | {Path("/sys/fs/cgroup")}:
        tree = Path(f"{parent}{name}")
        for directory, _, _ in os.walk(tree, topdown=False):
            try:
                os.rmdir(directory)
            except OSError:
                pass


ENGINES = {"wherry": running_wherry, "dockerd": running_dockerd}


@contextmanager
def prepared(name: str) -> Iterator[Engine]:
    """An engine by name, with busybox:latest loaded."""
    with ENGINES[name]() as engine:
        engine.load(busybox_archive())
        yield engine


def decode_lines(body: bytes) -> list[Any]:
    return [json.loads(line) for line in body.splitlines() if line.strip()]
