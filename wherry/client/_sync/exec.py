# Made from _async/exec.py by scripts/generate_sync.py: change that, and run it.
"""Calls on processes started in running containers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from wherry.api.models import exec as models
from wherry.api.models.common import UNSET, IdResponse
from wherry.api.operations import exec as ops
from wherry.client._sync.channel import Channel
from wherry.client._sync.group import Group
from wherry.client._sync.run import run_exec
from wherry.client.arguments import env_list, split_command
from wherry.client.results import ExecResult


class Exec(Group):
    """``docker.exec``. ``container`` is a container's id or name, ``id`` an exec instance's id."""

    __slots__ = ()

    def run(
        self,
        container: str,
        cmd: str | Sequence[str],
        *,
        input: bytes | None = None,
        timeout: float | None = None,
        env: Mapping[str, str | None] | Sequence[str] | None = None,
        user: str = "",
        working_dir: str = "",
        tty: bool = False,
        privileged: bool = False,
    ) -> ExecResult:
        """Run a command in a running container to its end: create, start, read, inspect.

        ``input`` is fed to its stdin, which is then closed. After ``timeout`` seconds ``Timeout`` is raised; the API
        has no way to end the command. An exit code other than 0 is no error.

            result = docker.exec.run("web", ["cat", "/etc/hostname"])
        """
        config = models.ExecConfig(
            cmd=split_command(cmd),
            env=None if env is None else env_list(env),
            user=user,
            working_dir=working_dir,
            tty=tty,
            privileged=privileged,
        )
        return run_exec(self, container, config, input=input, timeout=timeout)

    def create(
        self,
        container: str,
        cmd: str | Sequence[str],
        *,
        attach_stdin: bool = False,
        attach_stdout: bool = True,
        attach_stderr: bool = True,
        detach_keys: str = "",
        tty: bool = False,
        console_size: tuple[int, int] | None = None,
        env: Mapping[str, str | None] | Sequence[str] | None = None,
        user: str = "",
        working_dir: str = "",
        privileged: bool = False,
    ) -> IdResponse:
        """Prepare a command in a running container (ContainerExec).

        ``console_size`` is height and width, with ``tty``. Raises ``Conflict`` if the container does not run.

            created = docker.exec.create("web", ["sh"], tty=True, attach_stdin=True)
        """
        config = models.ExecConfig(
            cmd=split_command(cmd),
            attach_stdin=attach_stdin,
            attach_stdout=attach_stdout,
            attach_stderr=attach_stderr,
            detach_keys=detach_keys,
            tty=tty,
            console_size=UNSET if console_size is None else console_size,
            env=None if env is None else env_list(env),
            user=user,
            working_dir=working_dir,
            privileged=privileged,
        )
        return self.create_from(container, config)

    def create_from(self, container: str, config: models.ExecConfig) -> IdResponse:
        """Prepare a command from the API's own request body (ContainerExec)."""
        created: IdResponse = self._call(ops.ContainerExec, {"id": container}, None, config)
        return created

    def start(self, id: str, *, tty: bool = False, console_size: tuple[int, int] | None = None) -> Channel:
        """Start a prepared command and take part in its streams (ExecStart).

        ``tty`` must be what it was prepared with. A command that cannot be executed says so in the stream.

            with docker.exec.start(created.id, tty=True) as channel:
                channel.send(b"ls\\n")
        """
        body = models.ExecStartConfig(tty=tty, console_size=UNSET if console_size is None else console_size)
        answer = self._open(ops.ExecStart, {"id": id}, None, body)
        try:
            connection, early = answer.take_stream()
        except BaseException:
            answer.close()
            raise
        return Channel(connection, early, tty=tty, multiplexed=not tty, resize=self._resizer(id))

    def start_detached(self, id: str, *, tty: bool = False) -> None:
        """Start a prepared command and leave it to itself (ExecStart with Detach)."""
        answer = self._open(ops.ExecStart, {"id": id}, None, models.ExecStartConfig(detach=True, tty=tty))
        answer.read_all()

    def resize(self, id: str, *, h: int, w: int) -> None:
        """Set the size of a command's terminal: height and width in characters (ExecResize)."""
        self._call(ops.ExecResize, {"id": id}, ops.ExecResizeQuery(h=h, w=w))

    def inspect(self, id: str) -> models.ExecInspect:
        """All about a command; ``exit_code`` is None while it runs (ExecInspect)."""
        process: models.ExecInspect = self._call(ops.ExecInspect, {"id": id})
        return process

    def _resizer(self, id: str) -> Any:
        def resize(height: int, width: int) -> None:
            self.resize(id, h=height, w=width)

        return resize
