"""Wherry's own client, both colours, against every engine."""

from __future__ import annotations

import asyncio
import io
import tarfile
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest

import wherry
from tests.support.engines import Engine
from tests.support.http import PATIENCE, eventually

IDLE = ["sh", "-c", "trap 'exit 0' TERM; echo ready; while :; do sleep 3600 & wait $!; done"]


@pytest.fixture
def docker(engine: Engine) -> Iterator[wherry.Client]:
    with wherry.connect(engine.address) as client:
        yield client


@asynccontextmanager
async def connected(engine: Engine) -> AsyncIterator[wherry.AsyncClient]:
    async with wherry.connect_async(engine.address) as client:
        yield client


def test_versions_are_agreed_on(docker: wherry.Client, engine: Engine) -> None:
    assert docker.system.ping().os_type == "linux"
    assert docker.api_version() == ("1.41" if engine.is_dockerd else "1.43")
    assert docker.system.version().api_version == ("1.41" if engine.is_dockerd else "1.44")
    assert docker.system.info().containers == 0


def test_run(docker: wherry.Client) -> None:
    result = docker.containers.run("busybox", ["sh", "-c", "echo out; echo err >&2; exit 3"])
    assert (result.exit_code, result.stdout, result.stderr) == (3, b"out\n", b"err\n")
    assert docker.containers.list(all=True) == []
    result = docker.containers.run("busybox", "sort", input=b"b\na\n", remove=False, name="sorter")
    assert (result.exit_code, result.text) == (0, "a\nb\n")
    assert docker.containers.inspect("sorter").state.exit_code == 0


def test_run_loses_nothing_of_a_short_or_a_large_output(docker: wherry.Client) -> None:
    for _ in range(3):
        assert docker.containers.run("busybox", ["echo", "short"]).stdout == b"short\n"
    result = docker.containers.run("busybox", ["dd", "if=/dev/zero", "bs=65536", "count=160"])
    assert len(result.stdout) == 160 * 65536


def test_run_with_a_timeout_leaves_nothing(docker: wherry.Client) -> None:
    with pytest.raises(wherry.Timeout):
        docker.containers.run("busybox", ["sleep", "100"], timeout=0.5)
    assert docker.containers.list(all=True) == []


def test_run_options(docker: wherry.Client) -> None:
    result = docker.containers.run(
        "busybox",
        ["sh", "-c", "echo $A; pwd; id -u; hostname; touch /x 2>/dev/null || echo read-only"],
        env={"A": "1"},
        working_dir="/tmp",
        user="1000",
        hostname="boat",
        readonly_rootfs=True,
        network_mode="none",
        memory=32 << 20,
        labels={"k": "v"},
    )
    assert result.text.split() == ["1", "/tmp", "1000", "boat", "read-only"]


def test_errors_have_their_classes(docker: wherry.Client) -> None:
    with pytest.raises(wherry.NotFound) as missing:
        docker.containers.inspect("nope")
    assert (missing.value.status, missing.value.message) == (404, "No such container: nope")
    with pytest.raises(wherry.NotFound):
        docker.containers.run("nosuch:img", "true")
    with pytest.raises(wherry.BadRequest):
        docker.containers.run("busybox", ["nosuchcommand"])
    assert docker.containers.list(all=True) == []
    docker.containers.create("busybox", name="taken")
    with pytest.raises(wherry.Conflict):
        docker.containers.create("busybox", name="taken")
    with pytest.raises(wherry.ConnectError):
        wherry.connect("unix:///nonexistent.sock").system.ping()


def test_a_long_life(docker: wherry.Client, engine: Engine) -> None:
    id = docker.containers.create("busybox", IDLE, name="life", labels={"app": "x"}).id
    docker.containers.start(id)
    docker.containers.start(id)  # 304 is no error
    summary = docker.containers.list(filters={"label": ["app=x"]})
    assert [(c.id, c.state, c.names) for c in summary] == [(id, "running", ["/life"])]
    with docker.containers.logs(id, follow=True) as logs:
        assert next(iter(logs)) == (1, b"ready\n")
    assert docker.exec.run(id, ["cat"], input=b"through exec").stdout == b"through exec"
    docker.containers.rename(id, "renamed")
    docker.containers.restart("renamed", t=5)
    eventually(lambda: docker.containers.logs(id).read_all().stdout == b"ready\n" * 2)
    stats = docker.containers.stats(id, one_shot=True)
    assert stats.pids_stats is not None
    docker.containers.stop(id, t=5)
    docker.containers.stop(id)  # 304 is no error
    assert docker.containers.wait(id).status_code == 0
    with pytest.raises(wherry.Conflict):
        docker.containers.kill(id)
    docker.containers.delete(id, v=True)
    with pytest.raises(wherry.NotFound):
        docker.containers.inspect(id)


def test_wait_armed_before_the_start(docker: wherry.Client) -> None:
    id = docker.containers.create("busybox", ["sh", "-c", "exit 9"]).id
    with docker.containers.begin_wait(id, condition="next-exit") as waiting:
        docker.containers.start(id)
        assert waiting.result().status_code == 9


def test_what_nobody_reads_is_not_sent(docker: wherry.Client) -> None:
    id = docker.containers.create("busybox", "cat", open_stdin=True).id
    for opened in docker.containers.attach(id), docker.containers.attach_websocket(id):
        with opened as channel, pytest.raises(ValueError, match="attach with stdin=True"):
            channel.send(b"lost")


def test_attach(docker: wherry.Client) -> None:
    id = docker.containers.create("busybox", "cat", open_stdin=True, stdin_once=True).id
    with docker.containers.attach(id, stdin=True) as channel:
        docker.containers.start(id)
        channel.send(b"one\n")
        assert next(iter(channel)) == (1, b"one\n")
        channel.send(b"two\n")
        channel.send_eof()
        assert channel.read_all().stdout == b"two\n"


def test_attach_to_a_terminal(docker: wherry.Client) -> None:
    id = docker.containers.create("busybox", "sh", tty=True, open_stdin=True).id
    with docker.containers.attach(id, stdin=True) as channel:
        docker.containers.start(id)
        channel.resize(33, 77)
        seen = b""
        channel.send(b"stty size; exit 4\n")
        for _, data in channel:
            seen += data
        assert b"33 77" in seen
    assert docker.containers.wait(id).status_code == 4


def test_exec(docker: wherry.Client) -> None:
    id = docker.containers.create("busybox", IDLE).id
    docker.containers.start(id)
    result = docker.exec.run(id, ["sh", "-c", "echo out; echo err >&2; exit 7"])
    assert (result.exit_code, result.stdout, result.stderr) == (7, b"out\n", b"err\n")
    created = docker.exec.create(id, ["cat"], attach_stdin=True, tty=True)
    with docker.exec.start(created.id, tty=True) as channel:
        channel.send(b"typed\r")
        assert b"typed" in next(iter(channel))[1]


def test_logs(docker: wherry.Client) -> None:
    id = docker.containers.create("busybox", ["sh", "-c", "seq 1 50; echo err >&2"]).id
    docker.containers.start(id)
    docker.containers.wait(id)
    output = docker.containers.logs(id).read_all()
    assert (output.stdout.split()[-1], output.stderr) == (b"50", b"err\n")
    assert len(docker.containers.logs(id, tail=3).read_all().stdout.split()) in (2, 3)
    assert docker.containers.logs(id, stdout=False).read_all().stdout == b""


def test_archives(docker: wherry.Client) -> None:
    id = docker.containers.create("busybox", "true").id
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        info = tarfile.TarInfo("in.txt")
        info.size = 5
        tar.addfile(info, io.BytesIO(b"hello"))
    docker.containers.put_archive(id, "/tmp", out.getvalue())
    stat = docker.containers.archive_info(id, "/tmp/in.txt")
    assert (stat.name, stat.size) == ("in.txt", 5)
    with (
        docker.containers.archive(id, "/tmp/in.txt") as archive,
        tarfile.open(fileobj=io.BytesIO(archive.read())) as tar,
    ):
        assert tar.extractfile("in.txt").read() == b"hello"  # type: ignore[union-attr]
    with pytest.raises(wherry.NotFound):
        docker.containers.archive_info(id, "/nope")


def test_images(docker: wherry.Client, engine: Engine) -> None:
    docker.images.tag("busybox", "copy", "1")
    assert "copy:1" in (docker.images.inspect("busybox").repo_tags or [])
    with docker.images.get("copy:1") as archive:
        data = archive.read()
    docker.images.delete("copy:1")
    assert docker.images.load(data) == ["copy:1"]
    assert any("copy:1" in (image.repo_tags or []) for image in docker.images.list())
    docker.images.delete("copy:1")
    with pytest.raises(wherry.StreamError):
        docker.images.load(b"garbage" * 1000)


def test_events(docker: wherry.Client) -> None:
    with docker.system.events(filters={"type": ["container"]}) as events:
        docker.containers.run("busybox", "true", name="eventful")
        seen = []
        for event in events:
            seen.append(event.action)
            if event.action == "destroy":
                break
    assert seen == ["create", "attach", "start", "die", "destroy"]


def test_networks(docker: wherry.Client) -> None:
    assert {"bridge", "host", "none"} <= {network.name for network in docker.networks.list()}
    assert docker.networks.inspect("bridge").driver == "bridge"
    id = docker.containers.create("busybox", ["httpd", "-f", "-h", "/var/www"], ports={80: None}).id
    docker.containers.start(id)
    ports = docker.containers.inspect(id).network_settings.ports or {}
    assert int((ports["80/tcp"] or [])[0].host_port) > 0


def test_async_runs_at_once(engine: Engine) -> None:
    async def main() -> list[wherry.RunResult]:
        async with connected(engine) as docker:
            return await asyncio.gather(
                *(docker.containers.run("busybox", ["sh", "-c", f"cat; exit {n}"], input=b"%d" % n) for n in range(5))
            )

    assert [(r.exit_code, r.stdout) for r in asyncio.run(main())] == [(n, b"%d" % n) for n in range(5)]


def test_async_life(engine: Engine) -> None:
    async def main() -> None:
        async with connected(engine) as docker:
            id = (await docker.containers.create("busybox", IDLE)).id
            await docker.containers.start(id)
            async with await docker.containers.logs(id, follow=True) as logs:
                async for _, data in logs:
                    assert data == b"ready\n"
                    break
            assert (await docker.exec.run(id, ["cat"], input=b"x")).stdout == b"x"
            waiting = asyncio.create_task(docker.containers.wait(id))
            await docker.containers.kill(id)
            assert (await waiting).status_code == 137
            await docker.containers.delete(id)

    asyncio.run(main())


def test_async_cancellation_frees_the_connection(engine: Engine) -> None:
    async def main() -> None:
        async with connected(engine) as docker:
            id = (await docker.containers.create("busybox", IDLE)).id
            await docker.containers.start(id)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.3):
                    await docker.containers.wait(id)
            assert (await docker.containers.inspect(id)).state.running
            await docker.containers.delete(id, force=True)

    asyncio.run(main())


def test_a_stop_waits_and_a_kill_ends_it(docker: wherry.Client, engine: Engine) -> None:
    id = docker.containers.create(
        "busybox", ["sh", "-c", "trap '' TERM; echo ready; while :; do sleep 3600 & wait $!; done"]
    ).id
    docker.containers.start(id)
    with docker.containers.logs(id, follow=True) as logs:
        next(iter(logs))
    thread = threading.Thread(target=lambda: docker.containers.stop(id, t=60))
    thread.start()
    filters = {"event": ["kill"], "container": [id]}
    with docker.system.events(since=1, filters=filters) as events:
        next(iter(events))
    started = time.monotonic()
    docker.containers.kill(id)
    assert time.monotonic() - started < 1 * PATIENCE
    thread.join(5)
    assert not thread.is_alive()
    eventually(lambda: docker.containers.inspect(id).state.status == "exited")
