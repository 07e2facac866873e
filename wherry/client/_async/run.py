"""A container, or a command in one, from its start to its end.

The order is what makes it safe: attached before it is started, so that no output is missed; waited for before it is
started, so that its end is not; removed in any case.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from wherry.api.errors import Conflict, NotFound, ProtocolError, WherryError
from wherry.api.models.containers import ContainerCreateRequest, ContainerCreateResponse
from wherry.api.models.exec import ExecConfig
from wherry.api.operations.containers import ContainerAttachQuery
from wherry.client._async import io
from wherry.client._async.channel import AsyncChannel
from wherry.client._async.group import within
from wherry.client.results import ExecResult, Output, RunResult

if TYPE_CHECKING:
    from wherry.client._async.containers import AsyncContainers
    from wherry.client._async.exec import AsyncExec


async def run_container(
    containers: AsyncContainers,
    request: ContainerCreateRequest,
    *,
    name: str | None,
    platform: str | None,
    input: bytes | None,
    remove: bool,
    timeout: float | None,
) -> RunResult:
    """See ``AsyncContainers.run``."""
    check_input(input)
    request.attach_stdout = request.attach_stderr = True
    if input is not None:
        request.open_stdin = request.stdin_once = request.attach_stdin = True

    async def create() -> ContainerCreateResponse:
        return await containers.create_from(request, name=name, platform=platform)

    async def undo(created: ContainerCreateResponse) -> None:
        await _clean_up(containers, created.id, True)

    created = await io.make(create, undo)
    own_remove = remove and not (request.host_config and request.host_config.auto_remove)
    condition = "next-exit" if own_remove or not remove else "removed"
    query = ContainerAttachQuery(stream=True, stdin=input is not None, stdout=True, stderr=True)
    try:
        async with (
            io.Deadline(timeout, f"container {created.id[:12]} did not end") as deadline,
            await within(containers, deadline).open_channel(created.id, query, tty=request.tty) as channel,
            await within(containers, deadline).begin_wait(created.id, condition=condition) as waiting,
        ):
            deadline.watch(channel.abort)
            deadline.watch(waiting.abort)
            await within(containers, deadline).start(created.id)
            output = await communicate(channel, input)
            ended = await waiting.result()
        if own_remove:
            await _remove(containers, created.id)
    except BaseException:
        await io.shielded(_clean_up, containers, created.id, remove)
        raise
    return RunResult(created.id, ended.status_code, output.stdout, output.stderr, tuple(created.warnings or ()))


async def run_exec(
    execs: AsyncExec, container: str, config: ExecConfig, *, input: bytes | None, timeout: float | None
) -> ExecResult:
    """See ``AsyncExec.run``."""
    check_input(input)
    config.attach_stdout = config.attach_stderr = True
    config.attach_stdin = input is not None
    created = await execs.create_from(container, config)
    async with (
        io.Deadline(timeout, f"the command in container {container} did not end") as deadline,
        await within(execs, deadline).start(created.id, tty=config.tty) as channel,
    ):
        deadline.watch(channel.abort)
        output = await communicate(channel, input)
        pause = 0.001
        while (process := await within(execs, deadline).inspect(created.id)).exit_code is None and process.running:
            # its end shows a moment after the stream's, or much later if it closed its output
            await deadline.sleep(pause)
            pause = min(pause * 2, 0.1)
    return ExecResult(created.id, process.exit_code or 0, output.stdout, output.stderr)


def check_input(input: object) -> None:
    """Raises ``TypeError`` before anything is begun: a process that never gets its input's end never ends."""
    if not (input is None or isinstance(input, (bytes, bytearray, memoryview))):
        raise TypeError(f"input must be bytes, not {type(input).__name__}; a text goes as text.encode()")


async def communicate(channel: AsyncChannel, input: bytes | None) -> Output:
    """Feed a process and close its stdin, while reading all of its output."""
    if input is None:
        return await channel.read_all()

    async def feed() -> None:
        try:
            if input:
                await channel.send(input)
            await channel.send_eof()
        except ProtocolError:
            pass  # a process may end without having read all; its exit code tells

    return await io.both(feed, channel.read_all)


async def _clean_up(containers: AsyncContainers, id: str, remove: bool) -> None:
    """After a failure, which is what the caller is to see; not one of this."""
    try:
        if remove:
            await _remove(containers, id)
        else:
            await containers.kill(id)
    except WherryError:
        pass


async def _remove(containers: AsyncContainers, id: str) -> None:
    try:
        await containers.delete(id, force=True, v=True)
    except NotFound:
        pass
    except Conflict as error:
        if "already in progress" not in error.message:
            raise
