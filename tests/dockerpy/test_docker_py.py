"""docker-py, as its users write it, against each engine."""

from __future__ import annotations

import io
import socket
import struct
import tarfile
import time
from collections.abc import Iterator
from typing import Any

import docker
import docker.errors
import pytest

from tests.support.engines import Engine
from tests.support.http import eventually

IDLE = ["sh", "-c", "trap 'exit 0' TERM; echo ready; while :; do sleep 3600 & wait $!; done"]


@pytest.fixture
def client(engine: Engine) -> Iterator[Any]:
    client = docker.DockerClient(base_url=engine.address, version="auto", timeout=30)
    yield client
    client.close()


def test_ping_version_info(client: Any) -> None:
    assert client.ping() is True
    assert client.version()["Os"] == "linux"
    assert client.info()["Containers"] == 0


def test_run_with_output(client: Any) -> None:
    assert client.containers.run("busybox", "echo hello", remove=True) == b"hello\n"
    script = "echo out; echo err >&2"
    assert client.containers.run("busybox", ["sh", "-c", script], stderr=True, stdout=False, remove=True) == b"err\n"
    both = client.containers.run("busybox", ["sh", "-c", script], stderr=True, remove=True)
    assert sorted(both.splitlines()) == [b"err", b"out"]
    lines = client.containers.run("busybox", ["seq", "1", "3"], stream=True)
    assert b"".join(lines) == b"1\n2\n3\n"


def test_run_errors(client: Any) -> None:
    with pytest.raises(docker.errors.ContainerError) as failed:
        client.containers.run("busybox", ["sh", "-c", "echo bad >&2; exit 3"])
    assert (failed.value.exit_status, failed.value.stderr) == (3, b"bad\n")
    with pytest.raises(docker.errors.APIError) as missing:
        client.containers.run("busybox", "nosuchcommand")
    assert "executable file not found" in str(missing.value)
    with pytest.raises(docker.errors.ImageNotFound):
        client.images.get("nosuch:img")
    with pytest.raises(docker.errors.NotFound):
        client.containers.get("nope")


def test_detached_life(client: Any) -> None:
    container = client.containers.run(
        "busybox", IDLE, detach=True, name="life", labels={"a": "b"}, environment={"A": "1"}, mem_limit="32m"
    )
    container.reload()
    assert (container.status, container.name, container.labels) == ("running", "life", {"a": "b"})
    assert container.image.tags == ["busybox:latest"]
    assert [c.id for c in client.containers.list(filters={"label": "a=b"})] == [container.id]
    container.rename("renamed")
    eventually(lambda: container.logs() == b"ready\n")
    container.restart(timeout=5)
    eventually(lambda: container.logs() == b"ready\n" * 2)
    container.stop(timeout=5)
    assert container.wait()["StatusCode"] == 0
    container.start()
    container.kill()
    assert container.wait()["StatusCode"] == 137
    container.remove()
    with pytest.raises(docker.errors.NotFound):
        client.containers.get(container.id)


def test_logs_stream(client: Any) -> None:
    script = "for i in 1 2 3; do echo line $i; done; read x; echo last"
    container = client.containers.run("busybox", ["sh", "-c", script], detach=True, stdin_open=True)
    stream = container.logs(stream=True, follow=True)
    assert b"".join(next(stream) for _ in range(3)) == b"line 1\nline 2\nline 3\n"
    with container.attach_socket(params={"stdin": 1, "stream": 1}) as sock:
        sock._sock.sendall(b"go\n")
        assert b"".join(stream) == b"last\n"
    assert container.logs(tail=1) == b"last\n"
    assert container.logs(timestamps=True).startswith(b"20")


def test_exec_run(client: Any) -> None:
    container = client.containers.run("busybox", IDLE, detach=True)
    assert container.exec_run("echo hi") == (0, b"hi\n")
    code, (out, err) = container.exec_run(["sh", "-c", "echo out; echo err >&2; exit 7"], demux=True)
    assert (code, out, err) == (7, b"out\n", b"err\n")
    assert container.exec_run("id -u", user="user").output == b"1000\n"
    assert container.exec_run("pwd", workdir="/tmp", environment={"A": "1"}).output == b"/tmp\n"
    stream = container.exec_run(["seq", "1", "3"], stream=True).output
    assert b"".join(stream) == b"1\n2\n3\n"
    code, raw = container.exec_run("cat", stdin=True, socket=True)
    assert code is None
    raw._sock.sendall(b"typed\n")
    raw._sock.shutdown(socket.SHUT_WR)
    header = raw.read(8)
    assert raw.read(struct.unpack(">I", header[4:])[0]) == b"typed\n"


def test_attach_socket(client: Any) -> None:
    container = client.containers.create("busybox", "cat", stdin_open=True)
    attached = container.attach_socket(params={"stdin": 1, "stdout": 1, "stream": 1})
    container.start()
    attached._sock.sendall(b"through\n")
    header = attached.read(8)
    assert (header[0], attached.read(struct.unpack(">I", header[4:])[0])) == (1, b"through\n")
    attached.close()
    container.kill()


def test_attach_stream(client: Any) -> None:
    container = client.containers.create("busybox", ["sh", "-c", "echo one; echo two"])
    stream = container.attach(stream=True, logs=True)
    container.start()
    assert b"".join(stream) == b"one\ntwo\n"


def test_events(client: Any) -> None:
    started = int(time.time()) - 1
    client.containers.run("busybox", "true", name="eventful", remove=True)
    eventually(lambda: client.containers.list(all=True) == [])
    events = client.events(decode=True, since=started, filters={"container": "eventful", "type": "container"})
    seen = []
    for event in events:
        seen.append(event["Action"])
        if event["Action"] == "destroy":
            break
    assert [action for action in seen if action != "attach"] == ["create", "start", "die", "destroy"]


def test_archives(client: Any) -> None:
    container = client.containers.create("busybox", "true")
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        info = tarfile.TarInfo("f")
        info.size = 4
        tar.addfile(info, io.BytesIO(b"data"))
    assert container.put_archive("/tmp", data.getvalue()) is True
    chunks, stat = container.get_archive("/tmp/f")
    assert (stat["name"], stat["size"]) == ("f", 4)
    with tarfile.open(fileobj=io.BytesIO(b"".join(chunks))) as tar:
        assert tar.extractfile("f").read() == b"data"  # type: ignore[union-attr]


def test_stats_and_ports(client: Any) -> None:
    container = client.containers.run(
        "busybox", ["httpd", "-f", "-h", "/var/www"], detach=True, ports={"80/tcp": ("127.0.0.1", None)}
    )
    container.reload()
    assert container.ports["80/tcp"][0]["HostIp"] == "127.0.0.1"
    stats = container.stats(stream=False)
    assert stats["memory_stats"]["usage"] > 0


def test_images(client: Any) -> None:
    image = client.images.get("busybox")
    assert image.tag("copied", "v1") is True
    saved = b"".join(client.images.get("copied:v1").save(named="copied:v1"))
    client.images.remove("copied:v1")
    (loaded,) = client.images.load(saved)
    assert loaded.id == image.id
    client.images.remove("copied:v1")
    assert "busybox:latest" in [tag for i in client.images.list() for tag in i.tags]


def test_volumes(client: Any) -> None:
    volume = client.volumes.create("of-docker-py", driver="local", labels={"colour": "green"})
    fast = client.volumes.create("fast", driver_opts={"type": "tmpfs", "device": "tmpfs", "o": "size=1m"})
    try:
        assert (volume.name, volume.attrs["Labels"]) == ("of-docker-py", {"colour": "green"})
        assert [found.id for found in client.volumes.list(filters={"label": "colour=green"})] == ["of-docker-py"]
        mounts = [docker.types.Mount("/y", "fast", type="volume", read_only=False)]
        binds = {"of-docker-py": {"bind": "/x", "mode": "rw"}}
        script = "echo kept >/x/f; df -m /y | tail -1 | cut -d ' ' -f 1"
        out = client.containers.run("busybox", ["sh", "-c", script], volumes=binds, mounts=mounts, remove=True)
        assert out == b"tmpfs\n"
        holder = client.containers.create("busybox", "true", volumes=binds)
        with pytest.raises(docker.errors.APIError) as caught:
            volume.remove()
        assert caught.value.status_code == 409
        assert "volume is in use" in caught.value.explanation
        read = client.containers.run("busybox", "cat /x/f", volumes_from=[f"{holder.id}:ro"], remove=True)
        assert read == b"kept\n"
        used = {found["Name"]: found["UsageData"] for found in client.df()["Volumes"]}
        assert used["of-docker-py"] == {"Size": 5, "RefCount": 1}
        holder.remove()
        assert client.volumes.prune(filters={"label": "colour=red"})["SpaceReclaimed"] == 0
        assert client.volumes.get("of-docker-py") == volume
    finally:
        for left in (volume, fast):
            left.remove(force=True)
    with pytest.raises(docker.errors.NotFound):
        client.volumes.get("of-docker-py")
