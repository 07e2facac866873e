# Made from _async/containers.py by scripts/generate_sync.py: change that, and run it.
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
from wherry.client._sync.answer import Answer
from wherry.client._sync.channel import Channel
from wherry.client._sync.group import Group
from wherry.client._sync.run import run_container
from wherry.client._sync.streams import Archive, Bytes, Frames, JsonStream, Upload
from wherry.client.arguments import FilterArgument, Moment, create_request, filters_of, seconds_text, update_request
from wherry.client.request import build, read_value
from wherry.client.results import RunResult

if TYPE_CHECKING:
    from wherry.client.bodies import Body
    from wherry.client.options import CreateOptions, UpdateOptions
    from wherry.wire.pathstat import PathStat

MULTIPLEXED = "application/vnd.docker.multiplexed-stream"


class Waiting:
    """A wait that the engine has taken note of: what ends from now on is not missed. ``result`` gives its end.

    waiting = docker.containers.begin_wait("job", condition="next-exit")
    docker.containers.start("job")
    print((waiting.result()).status_code)
    """

    def __init__(self, answer: Answer) -> None:
        self._answer = answer

    def result(self) -> models.ContainerWaitResponse:
        """Wait for the end. Once only."""
        result: models.ContainerWaitResponse = read_value(self._answer.request, self._answer.read_all())
        return result

    def close(self) -> None:
        """Give the wait up."""
        self._answer.close()

    def abort(self) -> None:
        """Give the wait up from elsewhere: who waits gets ``ProtocolError``."""
        self._answer.abort()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Containers(Group):
    """``docker.containers``. ``id`` is a container's id, the beginning of one, or a name."""

    __slots__ = ()

    def run(
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

            result = docker.containers.run("busybox", "sort", input=b"b\\na\\n")
            assert result.stdout == b"a\\nb\\n"
        """
        request = create_request(image, command, config, host_config, networking_config, options)
        return run_container(self, request, name=name, platform=platform, input=input, remove=remove, timeout=timeout)

    def create(
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

            created = docker.containers.create("busybox", ["sleep", "60"], name="nap", memory="64m")
        """
        request = create_request(image, command, config, host_config, networking_config, options)
        return self.create_from(request, name=name, platform=platform)

    def create_from(
        self, request: models.ContainerCreateRequest, *, name: str | None = None, platform: str | None = None
    ) -> models.ContainerCreateResponse:
        """Make a container from the API's own request body (ContainerCreate)."""
        query = ops.ContainerCreateQuery(name=name, platform=platform)
        created: models.ContainerCreateResponse = self._call(ops.ContainerCreate, None, query, request)
        return created

    def list(
        self,
        *,
        all: bool | None = None,
        limit: int | None = None,
        size: bool | None = None,
        filters: FilterArgument | None = None,
    ) -> builtins.list[models.ContainerSummary]:
        """The containers, newest first; only running ones unless ``all`` (ContainerList).

        for container in docker.containers.list(filters={"label": "app=shop"}):
            print(container.names, container.status)
        """
        query = ops.ContainerListQuery(all=all, limit=limit, size=size, filters=filters_of(filters))
        containers: builtins.list[models.ContainerSummary] | None = self._call(ops.ContainerList, None, query)
        return containers or []

    def inspect(self, id: str, *, size: bool | None = None) -> models.ContainerInspect:
        """All about a container (ContainerInspect). ``size``: with the bytes it uses, which takes time.

        print((docker.containers.inspect("web")).state.status)
        """
        query = None if size is None else ops.ContainerInspectQuery(size=size)
        container: models.ContainerInspect = self._call(ops.ContainerInspect, {"id": id}, query)
        return container

    def top(self, id: str, *, ps_args: str | None = None) -> models.ContainerTopResponse:
        """The processes of a running container, as ps shows them (ContainerTop)."""
        query = ops.ContainerTopQuery(ps_args=ps_args)
        top: models.ContainerTopResponse = self._call(ops.ContainerTop, {"id": id}, query)
        return top

    def logs(
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
    ) -> Frames:
        """What a container has written, and with ``follow`` what it goes on to write (ContainerLogs).

        ``tail``: only so many lines from the end. ``timestamps``: each line begins with its time. ``since`` and ``until``:
        a datetime, seconds since 1970, a timedelta or a text such as ``10m`` for so long ago.

            output = (docker.containers.logs("web", tail=10)).read_all()
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
        answer = self._open(ops.ContainerLogs, {"id": id}, query)
        try:
            return Frames(answer, multiplexed=not self._is_raw(answer, id))
        except BaseException:
            answer.close()
            raise

    def changes(self, id: str) -> builtins.list[models.FilesystemChange]:
        """What differs between a container's files and its image's (ContainerChanges)."""
        changes: builtins.list[models.FilesystemChange] | None = self._call(ops.ContainerChanges, {"id": id})
        return changes or []

    def export(self, id: str) -> Bytes:
        """All files of a container as a tar archive (ContainerExport).

        with docker.containers.export("web") as archive:
            archive.write_to("web.tar")
        """
        return Bytes(self._open(ops.ContainerExport, {"id": id}))

    def stats(self, id: str, *, one_shot: bool | None = None) -> ContainerStatsResponse:
        """One sample of what a container uses (ContainerStats).

        It takes two looks a second apart, so that rates can be told; ``one_shot`` takes one, at once.
        """
        query = ops.ContainerStatsQuery(stream=False, one_shot=one_shot)
        stats: ContainerStatsResponse = self._call(ops.ContainerStats, {"id": id}, query)
        return stats

    def stats_stream(self, id: str) -> JsonStream[ContainerStatsResponse]:
        """A sample about every second, until the container is removed (ContainerStats)."""
        answer = self._open(ops.ContainerStats, {"id": id}, ops.ContainerStatsQuery(stream=True))
        return JsonStream(answer, ContainerStatsResponse)

    def resize(self, id: str, *, h: int, w: int) -> None:
        """Set the size of a container's terminal: height and width in characters (ContainerResize)."""
        self._call(ops.ContainerResize, {"id": id}, ops.ContainerResizeQuery(h=h, w=w))

    def start(
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
        self._call(ops.ContainerStart, {"id": id}, query)

    def stop(self, id: str, *, t: int | None = None, signal: str | None = None) -> None:
        """Ask a container to end, and kill it after ``t`` seconds; no error if it does not run (ContainerStop).

        ``t`` is the container's own setting or 10 if not given, -1 waits for ever.
        """
        self._call(ops.ContainerStop, {"id": id}, ops.ContainerStopQuery(t=t, signal=signal))

    def restart(self, id: str, *, t: int | None = None, signal: str | None = None) -> None:
        """Stop, as ``stop`` does, and start (ContainerRestart)."""
        self._call(ops.ContainerRestart, {"id": id}, ops.ContainerRestartQuery(t=t, signal=signal))

    def kill(self, id: str, *, signal: str | int | None = None) -> None:
        """Send a signal, SIGKILL if not given, to a container's first process (ContainerKill).

        Raises ``Conflict`` if it does not run.

            docker.containers.kill("web", signal="SIGHUP")
        """
        text = str(int(signal)) if isinstance(signal, int) else signal
        self._call(ops.ContainerKill, {"id": id}, ops.ContainerKillQuery(signal=text))

    def update(
        self, id: str, update: models.ContainerUpdateRequest | None = None, **options: Unpack[UpdateOptions]
    ) -> models.ContainerUpdateResponse:
        """Change limits and the restart policy (ContainerUpdate), by name or by the API's own ``update``; what is 0 or
        unset stays.

        Raises ``BadRequest`` for bad values, ``Conflict`` for what does not go with the other settings.

            docker.containers.update("web", memory="256m", memory_swap="512m", restart_policy="on-failure:3")
        """
        request = update_request(update, options)
        updated: models.ContainerUpdateResponse = self._call(ops.ContainerUpdate, {"id": id}, None, request)
        return updated

    def rename(self, id: str, name: str) -> None:
        """Give a container another name (ContainerRename). Raises ``Conflict`` if it is taken."""
        self._call(ops.ContainerRename, {"id": id}, ops.ContainerRenameQuery(name=name))

    def pause(self, id: str) -> None:
        """Freeze a container's processes (ContainerPause)."""
        self._call(ops.ContainerPause, {"id": id})

    def unpause(self, id: str) -> None:
        """Let a frozen container go on (ContainerUnpause)."""
        self._call(ops.ContainerUnpause, {"id": id})

    def attach(
        self,
        id: str,
        *,
        stdin: bool = False,
        stdout: bool = True,
        stderr: bool = True,
        stream: bool = True,
        logs: bool | None = None,
        detach_keys: str | None = None,
    ) -> Channel:
        """Take part in a container's stdin, stdout and stderr (ContainerAttach).

        Attached before it is started, nothing of the output is missed. ``logs``: what was written before comes first.

            with docker.containers.attach("web", stdin=True) as channel:
                channel.send(b"reload\\n")
                for stream, data in channel:
                    ...
        """
        query = ops.ContainerAttachQuery(
            detach_keys=detach_keys, logs=logs, stream=stream, stdin=stdin, stdout=stdout, stderr=stderr
        )
        return self.open_channel(id, query)

    def open_channel(self, id: str, query: ops.ContainerAttachQuery, *, tty: bool | None = None) -> Channel:
        """As ``attach``, by the API's own query; ``tty``, if known, spares asking the container for it."""
        answer = self._open(ops.ContainerAttach, {"id": id}, query)
        try:
            if tty is None:
                tty = self._is_raw(answer, id)
            connection, early = answer.take_stream()
        except BaseException:
            answer.close()
            raise
        return Channel(
            connection, early, tty=tty, multiplexed=not tty, resize=self._resizer(id), stdin=bool(query.stdin)
        )

    def attach_websocket(
        self,
        id: str,
        *,
        stdin: bool = False,
        stdout: bool = True,
        stderr: bool = True,
        stream: bool = True,
        logs: bool | None = None,
        detach_keys: str | None = None,
    ) -> Channel:
        """As ``attach``, over a websocket (ContainerAttachWebsocket): stdout and stderr come mixed, as stdout.

        A websocket has no half-close: ``send_eof`` of this channel begins to close it.
        """
        from wherry.client._sync.websocket import WebSocketStream
        from wherry.wire.websocket import ClientHandshake, WebSocketError

        query = ops.ContainerAttachWebsocketQuery(
            detach_keys=detach_keys, logs=logs, stream=stream, stdin=stdin, stdout=stdout, stderr=stderr
        )
        handshake = ClientHandshake()
        answer = self._open(ops.ContainerAttachWebsocket, {"id": id}, query, headers=tuple(handshake.headers))
        try:
            handshake.check(answer.head.status, answer.headers)
            connection, early = answer.take_stream()
        except WebSocketError as error:
            answer.close()
            raise ProtocolError(str(error)) from error
        except BaseException:
            answer.close()
            raise
        socket = WebSocketStream(connection, early)
        return Channel(socket, b"", tty=False, multiplexed=False, resize=self._resizer(id), stdin=stdin)

    def wait(self, id: str, *, condition: str | None = None) -> models.ContainerWaitResponse:
        """Wait until a container has ended; its exit code (ContainerWait).

        ``condition``: ``not-running`` (if not given; at once if it does not run), ``next-exit`` or ``removed``.
        """
        return (self.begin_wait(id, condition=condition)).result()

    def begin_wait(self, id: str, *, condition: str | None = None) -> Waiting:
        """Arm a wait: it stands when this returns, so that a start after it cannot end unseen (ContainerWait)."""
        return Waiting(self._open(ops.ContainerWait, {"id": id}, ops.ContainerWaitQuery(condition=condition)))

    def delete(self, id: str, *, v: bool | None = None, force: bool | None = None, link: bool | None = None) -> None:
        """Remove a container (ContainerDelete).

        ``v``: with its anonymous volumes; ``force``: kill it first if it runs; ``link``: only the link of that name.
        Raises ``Conflict`` if it runs, or is being removed already.
        """
        self._call(ops.ContainerDelete, {"id": id}, ops.ContainerDeleteQuery(v=v, force=force, link=link))

    def archive_info(self, id: str, path: str) -> PathStat:
        """What a path in a container is (ContainerArchiveInfo). Raises ``NotFound`` if it is not there.

        print((docker.containers.archive_info("web", "/etc/passwd")).size)
        """
        answer = self._open(ops.ContainerArchiveInfo, {"id": id}, ops.ContainerArchiveInfoQuery(path=path))
        answer.read_all()
        return _path_stat(answer)

    def archive(self, id: str, path: str) -> Archive:
        """A file or directory of a container as a tar archive (ContainerArchive).

        The archive's root is the last part of the path; with ``/.`` at its end the directory's content.

            with docker.containers.archive("web", "/etc") as archive:
                archive.write_to("etc.tar")
        """
        answer = self._open(ops.ContainerArchive, {"id": id}, ops.ContainerArchiveQuery(path=path))
        try:
            return Archive(answer, _path_stat(answer))
        except BaseException:
            answer.close()
            raise

    def put_archive(
        self,
        id: str,
        path: str,
        archive: Body,
        *,
        no_overwrite_dir_non_dir: bool | None = None,
        copy_uid_gid: bool | None = None,
    ) -> None:
        """Extract a tar archive into a directory of a container (PutContainerArchive).

        ``archive``: bytes, a file open for reading bytes, or an iterable of bytes; plain, gzip, bzip2, xz or zstd.
        ``no_overwrite_dir_non_dir``: an error rather than a directory replaced by a file, or the reverse.
        ``copy_uid_gid``: what is extracted belongs to the container's user.

            with open("site.tar", "rb") as tar:
                docker.containers.put_archive("web", "/srv", tar)
        """
        query = ops.PutContainerArchiveQuery(
            path=path, no_overwrite_dir_non_dir=no_overwrite_dir_non_dir, copy_uid_gid=copy_uid_gid
        )
        answer = self._open(ops.PutContainerArchive, {"id": id}, query, stream=archive)
        answer.read_all()

    def put_archive_writer(
        self,
        id: str,
        path: str,
        *,
        no_overwrite_dir_non_dir: bool | None = None,
        copy_uid_gid: bool | None = None,
    ) -> Upload:
        """As ``put_archive``, for an archive that is still being made: write it piece by piece.

        The sync client's is a file for ``tarfile.open(fileobj=upload, mode="w|")``.

            with docker.containers.put_archive_writer("web", "/srv") as upload:
                upload.write(data)
        """
        query = ops.PutContainerArchiveQuery(
            path=path, no_overwrite_dir_non_dir=no_overwrite_dir_non_dir, copy_uid_gid=copy_uid_gid
        )
        request = build(ops.PutContainerArchive, {"id": id}, query, stream=())
        transport = self._client.transport
        return Upload(transport, transport.begin(request, self._client.timeouts), request)

    def prune(self, *, filters: FilterArgument | None = None) -> models.ContainerPruneResponse:
        """Remove all containers that do not run (ContainerPrune). ``filters``: until, label, label!."""
        query = ops.ContainerPruneQuery(filters=filters_of(filters))
        pruned: models.ContainerPruneResponse = self._call(ops.ContainerPrune, None, query)
        return pruned

    def _is_raw(self, answer: Answer, id: str) -> bool:
        """Whether an output is a terminal's. Only one content type is to be believed; else the container tells."""
        if answer.headers.get("content-type") == MULTIPLEXED:
            return False
        return (self.inspect(id)).config.tty

    def _resizer(self, id: str) -> Any:
        def resize(height: int, width: int) -> None:
            self.resize(id, h=height, w=width)

        return resize


def _path_stat(answer: Answer) -> PathStat:
    from wherry.wire import pathstat

    try:
        return pathstat.decode(answer.headers.get(pathstat.HEADER))
    except ValueError as error:
        raise ProtocolError(f"{answer.request.path}: {error}") from error
