"""Calls on containers."""

from __future__ import annotations

import builtins
from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, Unpack

from wherry.api.errors import ProtocolError
from wherry.api.models import containers as models
from wherry.api.models.stats import ContainerStatsResponse
from wherry.api.operations import containers as ops
from wherry.client._async.answer import AsyncAnswer
from wherry.client._async.channel import AsyncChannel
from wherry.client._async.group import AsyncGroup
from wherry.client._async.run import run_container
from wherry.client._async.streams import AsyncArchive, AsyncBytes, AsyncFrames, AsyncJsonStream, AsyncUpload
from wherry.client.arguments import FilterArgument, Moment, create_request, filters_of, seconds_text, update_request
from wherry.client.request import build, read_value
from wherry.client.results import RunResult

if TYPE_CHECKING:
    from wherry.client.bodies import AsyncBody
    from wherry.client.options import CreateOptions, UpdateOptions
    from wherry.wire.pathstat import PathStat

MULTIPLEXED = "application/vnd.docker.multiplexed-stream"


class AsyncWaiting:
    """A wait that the engine has taken note of: what ends from now on is not missed. ``result`` gives its end.

    waiting = await docker.containers.begin_wait("job", condition="next-exit")
    await docker.containers.start("job")
    print((await waiting.result()).status_code)
    """

    def __init__(self, answer: AsyncAnswer) -> None:
        self._answer = answer

    async def result(self) -> models.ContainerWaitResponse:
        """Wait for the end. Once only."""
        result: models.ContainerWaitResponse = read_value(self._answer.request, await self._answer.read_all())
        return result

    async def close(self) -> None:
        """Give the wait up."""
        self._answer.close()

    def abort(self) -> None:
        """Give the wait up from elsewhere: who waits gets ``ProtocolError``."""
        self._answer.abort()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


class AsyncContainers(AsyncGroup):
    """``docker.containers``. ``id`` is a container's id, the beginning of one, or a name."""

    __slots__ = ()

    async def run(
        self,
        image: str | None = None,
        command: str | Sequence[str] | None = None,
        *,
        input: bytes | None = None,
        remove: bool = True,
        timeout: float | None = None,
        name: str | None = None,
        platform: str | None = None,
        config: models.ContainerConfig | None = None,
        host_config: models.HostConfig | None = None,
        networking_config: models.NetworkingConfig | None = None,
        **options: Unpack[CreateOptions],
    ) -> RunResult:
        """Run a container to its end: create, attach, wait, start, read, remove.

        ``input`` is fed to its stdin, which is then closed. Nothing of the output is lost, however short the run. The
        container is removed with its anonymous volumes, whatever happens, unless ``remove`` is False. ``timeout``, in
        seconds, is for the whole run: ``Timeout`` after it, and the container is killed. The rest is as in ``create``.
        An exit code other than 0 is no error.

            result = await docker.containers.run("busybox", "sort", input=b"b\\na\\n")
            assert result.stdout == b"a\\nb\\n"
        """
        request = create_request(image, command, config, host_config, networking_config, options)
        return await run_container(
            self, request, name=name, platform=platform, input=input, remove=remove, timeout=timeout
        )

    async def create(
        self,
        image: str | None = None,
        command: str | Sequence[str] | None = None,
        *,
        name: str | None = None,
        platform: str | None = None,
        config: models.ContainerConfig | None = None,
        host_config: models.HostConfig | None = None,
        networking_config: models.NetworkingConfig | None = None,
        **options: Unpack[CreateOptions],
    ) -> models.ContainerCreateResponse:
        """Make a container (ContainerCreate).

        Every setting goes by name, see ``CreateOptions``, or by the API's own ``config``, ``host_config`` and
        ``networking_config``; names go first. ``platform`` is ``os[/arch[/variant]]``.
        Raises ``NotFound`` without the image, ``Conflict`` for a name that is taken, ``BadRequest`` for bad settings.

            created = await docker.containers.create("busybox", ["sleep", "60"], name="nap", memory="64m")
        """
        request = create_request(image, command, config, host_config, networking_config, options)
        return await self.create_from(request, name=name, platform=platform)

    async def create_from(
        self, request: models.ContainerCreateRequest, *, name: str | None = None, platform: str | None = None
    ) -> models.ContainerCreateResponse:
        """Make a container from the API's own request body (ContainerCreate)."""
        query = ops.ContainerCreateQuery(name=name, platform=platform)
        created: models.ContainerCreateResponse = await self._call(ops.ContainerCreate, None, query, request)
        return created

    async def list(
        self,
        *,
        all: bool | None = None,
        limit: int | None = None,
        size: bool | None = None,
        filters: FilterArgument | None = None,
    ) -> builtins.list[models.ContainerSummary]:
        """The containers, newest first; only running ones unless ``all`` (ContainerList).

        for container in await docker.containers.list(filters={"label": "app=shop"}):
            print(container.names, container.status)
        """
        query = ops.ContainerListQuery(all=all, limit=limit, size=size, filters=filters_of(filters))
        containers: builtins.list[models.ContainerSummary] | None = await self._call(ops.ContainerList, None, query)
        return containers or []

    async def inspect(self, id: str, *, size: bool | None = None) -> models.ContainerInspect:
        """All about a container (ContainerInspect). ``size``: with the bytes it uses, which takes time.

        print((await docker.containers.inspect("web")).state.status)
        """
        query = None if size is None else ops.ContainerInspectQuery(size=size)
        container: models.ContainerInspect = await self._call(ops.ContainerInspect, {"id": id}, query)
        return container

    async def top(self, id: str, *, ps_args: str | None = None) -> models.ContainerTopResponse:
        """The processes of a running container, as ps shows them (ContainerTop)."""
        query = ops.ContainerTopQuery(ps_args=ps_args)
        top: models.ContainerTopResponse = await self._call(ops.ContainerTop, {"id": id}, query)
        return top

    async def logs(
        self,
        id: str,
        *,
        stdout: bool = True,
        stderr: bool = True,
        follow: bool | None = None,
        since: Moment | None = None,
        until: Moment | None = None,
        timestamps: bool | None = None,
        details: bool | None = None,
        tail: int | str | None = None,
    ) -> AsyncFrames:
        """What a container has written, and with ``follow`` what it goes on to write (ContainerLogs).

        ``tail``: only so many lines from the end. ``timestamps``: each line begins with its time. ``since`` and ``until``:
        a datetime, seconds since 1970, a timedelta or a text such as ``10m`` for so long ago.

            output = await (await docker.containers.logs("web", tail=10)).read_all()
        """
        query = ops.ContainerLogsQuery(
            follow=follow,
            stdout=stdout,
            stderr=stderr,
            since=seconds_text(since),
            until=seconds_text(until),
            timestamps=timestamps,
            details=details,
            tail=None if tail is None else str(tail),
        )
        answer = await self._open(ops.ContainerLogs, {"id": id}, query)
        try:
            return AsyncFrames(answer, multiplexed=not await self._is_raw(answer, id))
        except BaseException:
            answer.close()
            raise

    async def changes(self, id: str) -> builtins.list[models.FilesystemChange]:
        """What differs between a container's files and its image's (ContainerChanges)."""
        changes: builtins.list[models.FilesystemChange] | None = await self._call(ops.ContainerChanges, {"id": id})
        return changes or []

    async def export(self, id: str) -> AsyncBytes:
        """All files of a container as a tar archive (ContainerExport).

        async with await docker.containers.export("web") as archive:
            await archive.write_to("web.tar")
        """
        return AsyncBytes(await self._open(ops.ContainerExport, {"id": id}))

    async def stats(self, id: str, *, one_shot: bool | None = None) -> ContainerStatsResponse:
        """One sample of what a container uses (ContainerStats).

        It takes two looks a second apart, so that rates can be told; ``one_shot`` takes one, at once.
        """
        query = ops.ContainerStatsQuery(stream=False, one_shot=one_shot)
        stats: ContainerStatsResponse = await self._call(ops.ContainerStats, {"id": id}, query)
        return stats

    async def stats_stream(self, id: str) -> AsyncJsonStream[ContainerStatsResponse]:
        """A sample about every second, until the container is removed (ContainerStats)."""
        answer = await self._open(ops.ContainerStats, {"id": id}, ops.ContainerStatsQuery(stream=True))
        return AsyncJsonStream(answer, ContainerStatsResponse)

    async def resize(self, id: str, *, h: int, w: int) -> None:
        """Set the size of a container's terminal: height and width in characters (ContainerResize)."""
        await self._call(ops.ContainerResize, {"id": id}, ops.ContainerResizeQuery(h=h, w=w))

    async def start(
        self,
        id: str,
        *,
        detach_keys: str | None = None,
        checkpoint: str | None = None,
        checkpoint_dir: str | None = None,
    ) -> None:
        """Start a container; no error if it runs already (ContainerStart).

        Raises ``BadRequest`` when its command cannot be executed.
        """
        query = None
        if detach_keys is not None or checkpoint is not None or checkpoint_dir is not None:
            query = ops.ContainerStartQuery(
                detach_keys=detach_keys, checkpoint=checkpoint, checkpoint_dir=checkpoint_dir
            )
        await self._call(ops.ContainerStart, {"id": id}, query)

    async def stop(self, id: str, *, t: int | None = None, signal: str | None = None) -> None:
        """Ask a container to end, and kill it after ``t`` seconds; no error if it does not run (ContainerStop).

        ``t`` is the container's own setting or 10 if not given, -1 waits for ever.
        """
        await self._call(ops.ContainerStop, {"id": id}, ops.ContainerStopQuery(t=t, signal=signal))

    async def restart(self, id: str, *, t: int | None = None, signal: str | None = None) -> None:
        """Stop, as ``stop`` does, and start (ContainerRestart)."""
        await self._call(ops.ContainerRestart, {"id": id}, ops.ContainerRestartQuery(t=t, signal=signal))

    async def kill(self, id: str, *, signal: str | int | None = None) -> None:
        """Send a signal, SIGKILL if not given, to a container's first process (ContainerKill).

        Raises ``Conflict`` if it does not run.

            await docker.containers.kill("web", signal="SIGHUP")
        """
        text = str(int(signal)) if isinstance(signal, int) else signal
        await self._call(ops.ContainerKill, {"id": id}, ops.ContainerKillQuery(signal=text))

    async def update(
        self, id: str, update: models.ContainerUpdateRequest | None = None, **options: Unpack[UpdateOptions]
    ) -> models.ContainerUpdateResponse:
        """Change limits and the restart policy (ContainerUpdate), by name or by the API's own ``update``; what is 0 or
        unset stays.

        Raises ``BadRequest`` for bad values, ``Conflict`` for what does not go with the other settings.

            await docker.containers.update("web", memory="256m", memory_swap="512m", restart_policy="on-failure:3")
        """
        request = update_request(update, options)
        updated: models.ContainerUpdateResponse = await self._call(ops.ContainerUpdate, {"id": id}, None, request)
        return updated

    async def rename(self, id: str, name: str) -> None:
        """Give a container another name (ContainerRename). Raises ``Conflict`` if it is taken."""
        await self._call(ops.ContainerRename, {"id": id}, ops.ContainerRenameQuery(name=name))

    async def pause(self, id: str) -> None:
        """Freeze a container's processes (ContainerPause)."""
        await self._call(ops.ContainerPause, {"id": id})

    async def unpause(self, id: str) -> None:
        """Let a frozen container go on (ContainerUnpause)."""
        await self._call(ops.ContainerUnpause, {"id": id})

    async def attach(
        self,
        id: str,
        *,
        stdin: bool = False,
        stdout: bool = True,
        stderr: bool = True,
        stream: bool = True,
        logs: bool | None = None,
        detach_keys: str | None = None,
    ) -> AsyncChannel:
        """Take part in a container's stdin, stdout and stderr (ContainerAttach).

        Attached before it is started, nothing of the output is missed. ``logs``: what was written before comes first.

            async with await docker.containers.attach("web", stdin=True) as channel:
                await channel.send(b"reload\\n")
                async for stream, data in channel:
                    ...
        """
        query = ops.ContainerAttachQuery(
            detach_keys=detach_keys, logs=logs, stream=stream, stdin=stdin, stdout=stdout, stderr=stderr
        )
        return await self.open_channel(id, query)

    async def open_channel(self, id: str, query: ops.ContainerAttachQuery, *, tty: bool | None = None) -> AsyncChannel:
        """As ``attach``, by the API's own query; ``tty``, if known, spares asking the container for it."""
        answer = await self._open(ops.ContainerAttach, {"id": id}, query)
        try:
            if tty is None:
                tty = await self._is_raw(answer, id)
            connection, early = answer.take_stream()
        except BaseException:
            answer.close()
            raise
        return AsyncChannel(
            connection, early, tty=tty, multiplexed=not tty, resize=self._resizer(id), stdin=bool(query.stdin)
        )

    async def attach_websocket(
        self,
        id: str,
        *,
        stdin: bool = False,
        stdout: bool = True,
        stderr: bool = True,
        stream: bool = True,
        logs: bool | None = None,
        detach_keys: str | None = None,
    ) -> AsyncChannel:
        """As ``attach``, over a websocket (ContainerAttachWebsocket): stdout and stderr come mixed, as stdout.

        A websocket has no half-close: ``send_eof`` of this channel begins to close it.
        """
        from wherry.client._async.websocket import AsyncWebSocketStream
        from wherry.wire.websocket import ClientHandshake, WebSocketError

        query = ops.ContainerAttachWebsocketQuery(
            detach_keys=detach_keys, logs=logs, stream=stream, stdin=stdin, stdout=stdout, stderr=stderr
        )
        handshake = ClientHandshake()
        answer = await self._open(ops.ContainerAttachWebsocket, {"id": id}, query, headers=tuple(handshake.headers))
        try:
            handshake.check(answer.head.status, answer.headers)
            connection, early = answer.take_stream()
        except WebSocketError as error:
            answer.close()
            raise ProtocolError(str(error)) from error
        except BaseException:
            answer.close()
            raise
        socket = AsyncWebSocketStream(connection, early)
        return AsyncChannel(socket, b"", tty=False, multiplexed=False, resize=self._resizer(id), stdin=stdin)

    async def wait(self, id: str, *, condition: str | None = None) -> models.ContainerWaitResponse:
        """Wait until a container has ended; its exit code (ContainerWait).

        ``condition``: ``not-running`` (if not given; at once if it does not run), ``next-exit`` or ``removed``.
        """
        return await (await self.begin_wait(id, condition=condition)).result()

    async def begin_wait(self, id: str, *, condition: str | None = None) -> AsyncWaiting:
        """Arm a wait: it stands when this returns, so that a start after it cannot end unseen (ContainerWait)."""
        return AsyncWaiting(
            await self._open(ops.ContainerWait, {"id": id}, ops.ContainerWaitQuery(condition=condition))
        )

    async def delete(
        self, id: str, *, v: bool | None = None, force: bool | None = None, link: bool | None = None
    ) -> None:
        """Remove a container (ContainerDelete).

        ``v``: with its anonymous volumes; ``force``: kill it first if it runs; ``link``: only the link of that name.
        Raises ``Conflict`` if it runs, or is being removed already.
        """
        await self._call(ops.ContainerDelete, {"id": id}, ops.ContainerDeleteQuery(v=v, force=force, link=link))

    async def archive_info(self, id: str, path: str) -> PathStat:
        """What a path in a container is (ContainerArchiveInfo). Raises ``NotFound`` if it is not there.

        print((await docker.containers.archive_info("web", "/etc/passwd")).size)
        """
        answer = await self._open(ops.ContainerArchiveInfo, {"id": id}, ops.ContainerArchiveInfoQuery(path=path))
        await answer.read_all()
        return _path_stat(answer)

    async def archive(self, id: str, path: str) -> AsyncArchive:
        """A file or directory of a container as a tar archive (ContainerArchive).

        The archive's root is the last part of the path; with ``/.`` at its end the directory's content.

            async with await docker.containers.archive("web", "/etc") as archive:
                await archive.write_to("etc.tar")
        """
        answer = await self._open(ops.ContainerArchive, {"id": id}, ops.ContainerArchiveQuery(path=path))
        try:
            return AsyncArchive(answer, _path_stat(answer))
        except BaseException:
            answer.close()
            raise

    async def put_archive(
        self,
        id: str,
        path: str,
        archive: AsyncBody,
        *,
        no_overwrite_dir_non_dir: bool | None = None,
        copy_uid_gid: bool | None = None,
    ) -> None:
        """Extract a tar archive into a directory of a container (PutContainerArchive).

        ``archive``: bytes, a file open for reading bytes, or an iterable of bytes; plain, gzip, bzip2, xz or zstd.
        ``no_overwrite_dir_non_dir``: an error rather than a directory replaced by a file, or the reverse.
        ``copy_uid_gid``: what is extracted belongs to the container's user.

            with open("site.tar", "rb") as tar:
                await docker.containers.put_archive("web", "/srv", tar)
        """
        query = ops.PutContainerArchiveQuery(
            path=path, no_overwrite_dir_non_dir=no_overwrite_dir_non_dir, copy_uid_gid=copy_uid_gid
        )
        answer = await self._open(ops.PutContainerArchive, {"id": id}, query, stream=archive)
        await answer.read_all()

    async def put_archive_writer(
        self,
        id: str,
        path: str,
        *,
        no_overwrite_dir_non_dir: bool | None = None,
        copy_uid_gid: bool | None = None,
    ) -> AsyncUpload:
        """As ``put_archive``, for an archive that is still being made: write it piece by piece.

        The sync client's is a file for ``tarfile.open(fileobj=upload, mode="w|")``.

            async with await docker.containers.put_archive_writer("web", "/srv") as upload:
                await upload.write(data)
        """
        query = ops.PutContainerArchiveQuery(
            path=path, no_overwrite_dir_non_dir=no_overwrite_dir_non_dir, copy_uid_gid=copy_uid_gid
        )
        request = build(ops.PutContainerArchive, {"id": id}, query, stream=())
        transport = self._client.transport
        return AsyncUpload(transport, await transport.begin(request, self._client.timeouts), request)

    async def prune(self, *, filters: FilterArgument | None = None) -> models.ContainerPruneResponse:
        """Remove all containers that do not run (ContainerPrune). ``filters``: until, label, label!."""
        query = ops.ContainerPruneQuery(filters=filters_of(filters))
        pruned: models.ContainerPruneResponse = await self._call(ops.ContainerPrune, None, query)
        return pruned

    async def _is_raw(self, answer: AsyncAnswer, id: str) -> bool:
        """Whether an output is a terminal's. Only one content type is to be believed; else the container tells."""
        if answer.headers.get("content-type") == MULTIPLEXED:
            return False
        return (await self.inspect(id)).config.tty

    def _resizer(self, id: str) -> Any:
        async def resize(height: int, width: int) -> None:
            await self.resize(id, h=height, w=width)

        return resize


def _path_stat(answer: AsyncAnswer) -> PathStat:
    from wherry.wire import pathstat

    try:
        return pathstat.decode(answer.headers.get(pathstat.HEADER))
    except ValueError as error:
        raise ProtocolError(f"{answer.request.path}: {error}") from error
