"""What users write, for the type checker alone: ``mypy`` (make check) reads this, nothing runs it.

Every call on containers, in both colours, gives what its documentation says, with every setting by name.
"""

from __future__ import annotations

import io
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import assert_type

import wherry
from wherry import AsyncClient, Client, Output, RunResult
from wherry.api.models import containers as models
from wherry.api.models.stats import ContainerStatsResponse
from wherry.api.operations.containers import ContainerAttachQuery
from wherry.client.options import CreateOptions
from wherry.wire.pathstat import PathStat


def connected() -> None:
    with wherry.connect() as docker:
        assert_type(docker, Client)
    with wherry.connect("unix:///run/wherry/wherry.sock", timeouts=wherry.Timeouts(idle=5)) as docker:
        assert_type(docker.system.ping().api_version, str)


def names_that_are_not_there() -> None:
    wherry.conect()  # type: ignore[attr-defined]


def bodies(docker: Client, path: Path, archive: wherry.Archive, ports: dict[str, int]) -> None:
    docker.images.load("busybox.tar")  # type: ignore[arg-type]
    docker.images.load(path)  # type: ignore[arg-type]
    docker.images.load(path.open("rb"))
    docker.images.load(piece for piece in (b"a", b"b"))
    docker.containers.put_archive("web", "/srv", archive)
    docker.containers.put_archive("web", "/srv", ["text"])  # type: ignore[list-item]
    docker.images.build(path, t="app")
    docker.images.build(3)  # type: ignore[arg-type]
    docker.containers.run("busybox", ports=ports)
    docker.containers.run("busybox", ports={"80/tcp": [8080, "127.0.0.1:81"], 53: ("127.0.0.1", 53)})
    docker.containers.run("busybox", ports={80: 8.5})  # type: ignore[dict-item]
    assert_type(archive.write_to(path), int)


def pump(channel: wherry.Channel, logs: wherry.Frames) -> None:
    for frames in (channel, logs):
        for number, data in frames:
            assert_type((number, data), tuple[int, bytes])


async def async_bodies(docker: AsyncClient, archive: wherry.AsyncBytes, pieces: AsyncIterator[bytes]) -> None:
    await docker.images.load("busybox.tar")  # type: ignore[arg-type]
    await docker.images.load(archive)
    await docker.images.load(pieces)
    await docker.images.load(io.BytesIO(b""))


def values(docker: Client) -> None:
    result = docker.containers.run("busybox", "sort", input=b"b\na\n", memory="64m", timeout=10, env={"A": "1"})
    assert_type(result, RunResult)
    assert_type((result.exit_code, result.stdout, result.stderr, result.text), tuple[int, bytes, bytes, str])
    created = docker.containers.create(
        "busybox",
        ["sleep", "60"],
        name="nap",
        tty=True,
        open_stdin=True,
        env={"COLOUR": "red", "SIZE": None},
        labels={"a": "b"},
        memory=64 << 20,
        memory_swap="128m",
        restart_policy="on-failure:3",
        ports={80: 8080, "53/udp": ("127.0.0.1", 53), 81: None},
        volumes=["/data"],
        binds=["/srv:/srv:ro"],
        mounts=[wherry.Mount(type="tmpfs", target="/tmp")],
        healthcheck=wherry.HealthConfig(test=["CMD", "true"], interval=10**9),
        log_config=wherry.LogConfig(type="json-file", config={"max-size": "1m"}),
        tmpfs={"/t": "size=1m"},
        dns=("10.0.0.1",),
        ulimits=[wherry.Ulimit(name="nofile", soft=100, hard=200)],
        devices=[wherry.DeviceMapping(path_on_host="/dev/fuse", path_in_container="/dev/fuse")],
    )
    assert_type(created, models.ContainerCreateResponse)
    assert_type(created.id, str)
    options: CreateOptions = {"user": "1000", "init": True}
    docker.containers.create("busybox", **options)
    assert_type(docker.containers.list(all=True, filters={"label": ["a=b"]}), list[models.ContainerSummary])
    details = docker.containers.inspect("nap", size=True)
    assert_type(details, models.ContainerInspect)
    assert_type(details.state.running, bool)
    assert_type(details.host_config.memory, int)
    assert_type(docker.containers.top("nap", ps_args="aux").titles, list[str] | None)
    assert_type(docker.containers.changes("nap")[0].path, str)
    assert_type(docker.containers.stats("nap", one_shot=True), ContainerStatsResponse)
    assert_type(docker.containers.wait("nap", condition="removed").status_code, int)
    assert_type(docker.containers.update("nap", memory="1g", pids_limit=-1).warnings, list[str] | None)
    docker.containers.update("nap", models.ContainerUpdateRequest(cpu_shares=5))
    assert_type(docker.containers.prune(filters={"until": "1h"}), models.ContainerPruneResponse)
    assert_type(docker.containers.archive_info("nap", "/etc"), PathStat)
    docker.containers.create_from(models.ContainerCreateRequest(image="busybox"), name="raw")
    docker.containers.start("nap", detach_keys="ctrl-a", checkpoint=None, checkpoint_dir=None)
    docker.containers.stop("nap", t=5, signal="SIGINT")
    docker.containers.restart("nap", t=5, signal="SIGINT")
    docker.containers.kill("nap", signal=9)
    docker.containers.pause("nap")
    docker.containers.unpause("nap")
    docker.containers.rename("nap", "rest")
    docker.containers.resize("nap", h=24, w=80)
    docker.containers.put_archive("nap", "/srv", io.BytesIO(b""), copy_uid_gid=True, no_overwrite_dir_non_dir=True)
    docker.containers.delete("nap", force=True, v=True, link=False)


def streams(docker: Client) -> Iterator[bytes]:
    with docker.containers.logs(
        "web", follow=True, since=timedelta(minutes=5), until=datetime.now(UTC), tail=5
    ) as logs:
        for stream, data in logs:
            assert_type((stream, data), tuple[int, bytes])
            yield data
    assert_type(docker.containers.logs("web", since="10m").read_all(), Output)
    with docker.containers.stats_stream("web") as samples:
        for sample in samples:
            assert_type(sample, ContainerStatsResponse)
    with docker.containers.attach("web", stdin=True, logs=True, detach_keys="ctrl-a") as channel:
        channel.send(b"x")
        channel.send_eof()
        channel.resize(24, 80)
        for stream, data in channel:
            assert_type((stream, data), tuple[int, bytes])
    with docker.containers.attach_websocket("web", stdin=True) as channel:
        channel.send(b"x")
    with docker.containers.begin_wait("web", condition="next-exit") as waiting:
        assert_type(waiting.result().status_code, int)
    with docker.containers.archive("web", "/etc") as archive:
        assert_type(archive.stat.size, int)
        assert_type(archive.read(10), bytes)
        archive.write_to("etc.tar")
    with docker.containers.export("web") as exported:
        exported.write_to(io.BytesIO())
    with docker.containers.put_archive_writer("web", "/srv") as upload:
        upload.write(b"x")
    docker.containers.open_channel("web", ContainerAttachQuery(stream=True))


async def asynchronous(docker: AsyncClient) -> None:
    async with wherry.connect_async() as client:
        assert_type(client, AsyncClient)
    assert_type(await docker.containers.run("busybox", "true", memory="64m"), RunResult)
    created = await docker.containers.create("busybox", name="nap", ports={80: None})
    assert_type(created, models.ContainerCreateResponse)
    await docker.containers.create_from(models.ContainerCreateRequest(image="busybox"))
    assert_type(await docker.containers.list(limit=5, size=True), list[models.ContainerSummary])
    assert_type(await docker.containers.inspect("nap"), models.ContainerInspect)
    assert_type(await docker.containers.top("nap"), models.ContainerTopResponse)
    assert_type(await docker.containers.changes("nap"), list[models.FilesystemChange])
    assert_type(await docker.containers.stats("nap"), ContainerStatsResponse)
    assert_type(await docker.containers.wait("nap"), models.ContainerWaitResponse)
    assert_type(await docker.containers.update("nap", nano_cpus=5), models.ContainerUpdateResponse)
    assert_type(await docker.containers.prune(), models.ContainerPruneResponse)
    assert_type(await docker.containers.archive_info("nap", "/"), PathStat)
    await docker.containers.start("nap")
    await docker.containers.stop("nap", t=-1)
    await docker.containers.restart("nap")
    await docker.containers.kill("nap")
    await docker.containers.pause("nap")
    await docker.containers.unpause("nap")
    await docker.containers.rename("nap", "rest")
    await docker.containers.resize("nap", h=24, w=80)
    await docker.containers.put_archive("nap", "/srv", b"")
    await docker.containers.delete("nap")
    async with await docker.containers.logs("web", since=5.0) as logs:
        async for stream, data in logs:
            assert_type((stream, data), tuple[int, bytes])
    async with await docker.containers.stats_stream("web") as samples:
        async for sample in samples:
            assert_type(sample, ContainerStatsResponse)
    async with await docker.containers.attach("web", stdin=True) as channel:
        await channel.send(b"x")
        await channel.send_eof()
        await channel.resize(24, 80)
    async with await docker.containers.attach_websocket("web") as channel:
        async for stream, data in channel:
            assert_type((stream, data), tuple[int, bytes])
    async with await docker.containers.begin_wait("web") as waiting:
        assert_type((await waiting.result()).status_code, int)
    async with await docker.containers.archive("web", "/etc") as archive:
        assert_type(await archive.read(10), bytes)
    async with await docker.containers.export("web") as exported:
        await exported.write_to("all.tar")
    async with await docker.containers.put_archive_writer("web", "/srv") as upload:
        await upload.write(b"x")


def mistakes(docker: Client) -> None:
    docker.containers.create("busybox", memmory="64m")  # type: ignore[call-arg]
    docker.containers.create("busybox", memory=[64])  # type: ignore[arg-type]
    docker.containers.update("nap", tty=True)  # type: ignore[call-arg]
    docker.containers.resize("nap", h="24", w=80)  # type: ignore[arg-type]
    docker.containers.inspect("nap").state.status.nope  # type: ignore[attr-defined]  # noqa: B018
