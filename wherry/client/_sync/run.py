# Made from _async/run.py by scripts/generate_sync.py: change that, and run it.
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
from wherry.client._sync import io
from wherry.client._sync.channel import Channel
from wherry.client._sync.group import within
from wherry.client.results import ExecResult, Output, RunResult

if TYPE_CHECKING:
    from wherry.client._sync.containers import Containers
    from wherry.client._sync.exec import Exec


def run_container(
    containers: Containers,
    request: ContainerCreateRequest,
    *,
    name: str | None,
    platform: str | None,
    input: bytes | None,
    remove: bool,
    timeout: float | None,
) -> RunResult:
    """See ``Containers.run``."""
    check_input(input)
    request.attach_stdout = request.attach_stderr = True
    if input is not None:
        request.open_stdin = request.stdin_once = request.attach_stdin = True

    def create() -> ContainerCreateResponse:
        return containers.create_from(request, name=name, platform=platform)

    def undo(created: ContainerCreateResponse) -> None:
        _clean_up(containers, created.id, True)

    created = io.make(create, undo)
    own_remove = remove and not (request.host_config and request.host_config.auto_remove)
    condition = "next-exit" if own_remove or not remove else "removed"
    query = ContainerAttachQuery(stream=True, stdin=input is not None, stdout=True, stderr=True)
    try:
        with (
            io.Deadline(timeout, f"container {created.id[:12]} did not end") as deadline,
            within(containers, deadline).open_channel(created.id, query, tty=request.tty) as channel,
            within(containers, deadline).begin_wait(created.id, condition=condition) as waiting,
        ):
            deadline.watch(channel.abort)
            deadline.watch(waiting.abort)
            within(containers, deadline).start(created.id)
            output = communicate(channel, input)
            ended = waiting.result()
        if own_remove:
            _remove(containers, created.id)
    except BaseException:
        io.shielded(_clean_up, containers, created.id, remove)
        raise
    return RunResult(created.id, ended.status_code, output.stdout, output.stderr, tuple(created.warnings or ()))


def run_exec(
    execs: Exec, container: str, config: ExecConfig, *, input: bytes | None, timeout: float | None
) -> ExecResult:
    """See ``Exec.run``."""
    check_input(input)
    config.attach_stdout = config.attach_stderr = True
    config.attach_stdin = input is not None
    created = execs.create_from(container, config)
    with (
        io.Deadline(timeout, f"the command in container {container} did not end") as deadline,
        within(execs, deadline).start(created.id, tty=config.tty) as channel,
    ):
        deadline.watch(channel.abort)
        output = communicate(channel, input)
        pause = 0.001
        while (process := within(execs, deadline).inspect(created.id)).exit_code is None and process.running:
            # its end shows a moment after the stream's, or much later if it closed its output
            deadline.sleep(pause)
            pause = min(pause * 2, 0.1)
    return ExecResult(created.id, process.exit_code or 0, output.stdout, output.stderr)


def check_input(input: object) -> None:
    """Raises ``TypeError`` before anything is begun: a process that never gets its input's end never ends."""
    if not (input is None or isinstance(input, (bytes, bytearray, memoryview))):
        raise TypeError(f"input must be bytes, not {type(input).__name__}; a text goes as text.encode()")


def communicate(channel: Channel, input: bytes | None) -> Output:
    """Feed a process and close its stdin, while reading all of its output."""
    if input is None:
        return channel.read_all()

    def feed() -> None:
        try:
            if input:
                channel.send(input)
            channel.send_eof()
        except ProtocolError:
            pass  # a process may end without having read all; its exit code tells

    return io.both(feed, channel.read_all)


def _clean_up(containers: Containers, id: str, remove: bool) -> None:
    """After a failure, which is what the caller is to see; not one of this."""
    try:
        if remove:
            _remove(containers, id)
        else:
            containers.kill(id)
    except WherryError:
        pass


def _remove(containers: Containers, id: str) -> None:
    try:
        containers.delete(id, force=True, v=True)
    except NotFound:
        pass
    except Conflict as error:
        if "already in progress" not in error.message:
            raise
