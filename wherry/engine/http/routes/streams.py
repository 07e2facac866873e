"""The operations on containers that stream: wait, logs, stats, attach, archives, export."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from wherry.api.errors import ApiError
from wherry.api.json import encode
from wherry.api.models.containers import ContainerWaitExitError, ContainerWaitResponse
from wherry.engine.containers import attach as attach_verb
from wherry.engine.containers import files
from wherry.engine.containers import stats as stats_verb
from wherry.engine.containers import wait as wait_verb
from wherry.engine.containers.attach import AttachOptions
from wherry.engine.containers.container import Container
from wherry.engine.containers.read_log import read_log
from wherry.engine.http.call import Call
from wherry.engine.http.respond import Answer
from wherry.engine.streams import Duplex
from wherry.wire import pathstat

if TYPE_CHECKING:
    from wherry.engine.engine import Engine

RAW = "application/vnd.docker.raw-stream"
MULTIPLEXED = "application/vnd.docker.multiplexed-stream"
TAR = "application/x-tar"
STAT_HEADER = "X-Docker-Container-Path-Stat"


def stream_type(version: tuple[int, int], *, tty: bool) -> str:
    """The Content-Type of a hijacked stream (ATT1)."""
    return MULTIPLEXED if version >= (1, 42) and not tty else RAW


async def wait(engine: Engine, call: Call) -> object:
    container = engine.containers.find(call.params["id"])
    waiter = wait_verb.arm(container, call.query.condition)  # before the head is out (WAI4)
    writer = await call.start(200, "application/json")
    gone = asyncio.ensure_future(call.disconnected())
    try:
        ends: set[asyncio.Future[Any]] = {waiter, gone}
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        if not waiter.done():
            return None
        try:
            answer = ContainerWaitResponse(status_code=waiter.result())
        except ApiError as error:
            answer = ContainerWaitResponse(
                status_code=container.state.exit_code, error=ContainerWaitExitError(message=error.message)
            )
        await writer.write(encode(answer) + b"\n")
    finally:
        gone.cancel()
        waiter.cancel()
    return None


async def logs(engine: Engine, call: Call) -> object:
    container = engine.containers.find(call.params["id"])
    async with aclosing(await read_log(engine.containers, container, call.query)) as batches:
        kind = stream_type(call.version, tty=container.tty) if call.version >= (1, 42) else None
        writer = await call.start(200, kind)
        await _while_connected(call, writer.copy(batches))
    return None


async def _while_connected(call: Call, work: Coroutine[Any, Any, None]) -> None:
    """Run ``work`` to its end, or until the client has left."""
    working = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(call.disconnected())
    try:
        await asyncio.wait({working, gone}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            await working
    finally:
        gone.cancel()
        working.cancel()
        await asyncio.wait({working})


async def stats(engine: Engine, call: Call) -> object:
    container = engine.containers.find(call.params["id"])
    query = call.query
    stats_verb.check(stream=query.stream, one_shot=bool(query.one_shot))
    sampler = engine.containers.sampler(container)
    if not query.stream:
        return await sampler.once(one_shot=bool(query.one_shot))
    writer = await call.start(200, None)
    samples = sampler.stream()

    async def copy() -> None:
        async with aclosing(samples):
            async for sample in samples:
                await writer.write(encode(sample) + b"\n")

    await _while_connected(call, copy())
    return None


def _options(call: Call, container: Container, *, multiplexed: bool) -> AttachOptions:
    query = call.query
    return AttachOptions(
        logs=bool(query.logs),
        stream=bool(query.stream),
        stdin=bool(query.stdin),
        stdout=bool(query.stdout),
        stderr=bool(query.stderr),
        detach_keys=attach_verb.detach_keys(query.detach_keys),
        multiplexed=multiplexed,
    )


async def attach(engine: Engine, call: Call) -> object:
    container = engine.containers.find(call.params["id"])
    options = _options(call, container, multiplexed=not container.tty)
    attach_verb.check(container, call.params["id"])
    duplex: Duplex = await call.hijack(stream_type(call.version, tty=container.tty))
    await attach_verb.attach(engine.containers, container, options, duplex)
    return None


async def attach_websocket(engine: Engine, call: Call) -> object:
    container = engine.containers.find(call.params["id"])
    options = _options(call, container, multiplexed=False)
    if call.version < (1, 42):
        options = AttachOptions(
            logs=options.logs, stream=options.stream, stdin=True, stdout=True, stderr=True,
            detach_keys=options.detach_keys, multiplexed=False,
        )  # fmt: skip
    attach_verb.check(container, call.params["id"])
    duplex: Duplex = await call.websocket()
    await attach_verb.attach(engine.containers, container, options, duplex)
    return None


async def archive_info(engine: Engine, call: Call) -> object:
    stat = await files.stat(engine.containers, call.params["id"], call.query.path)
    return Answer(200, b"", headers=[(STAT_HEADER, pathstat.encode(stat))])


async def archive_get(engine: Engine, call: Call) -> object:
    async with files.get(engine.containers, call.params["id"], call.query.path) as (stat, body):
        writer = await call.start(200, TAR, headers=[(STAT_HEADER, pathstat.encode(stat))])
        await writer.copy(body)
    return None


async def archive_put(engine: Engine, call: Call) -> object:
    query = call.query
    await files.put(
        engine.containers,
        call.params["id"],
        query.path,
        call.stream(),
        no_overwrite_dir_non_dir=_flag(query.no_overwrite_dir_non_dir),
        copy_uid_gid=_flag(query.copy_uid_gid),
    )
    return None


def _flag(value: object) -> bool:
    return value is True or (isinstance(value, str) and value.strip().lower() not in ("", "0", "no", "false", "none"))


async def export_container(engine: Engine, call: Call) -> object:
    async with files.export(engine.containers, call.params["id"]) as body:
        writer = await call.start(200, None)
        await writer.copy(body)
    return None


HANDLERS = {
    "ContainerWait": wait,
    "ContainerLogs": logs,
    "ContainerStats": stats,
    "ContainerAttach": attach,
    "ContainerAttachWebsocket": attach_websocket,
    "ContainerArchiveInfo": archive_info,
    "ContainerArchive": archive_get,
    "PutContainerArchive": archive_put,
    "ContainerExport": export_container,
}
