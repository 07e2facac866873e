"""Processes started in a running container."""

from __future__ import annotations

from typing import ClassVar

from msgspec import field

from wherry.api.models.common import UNSET, GoUint, Model, PlainModel, UnsetType


class ExecConfig(Model, kw_only=True):
    """The body of ContainerExec. ``cmd`` must be a list (P6); ``console_size`` is height and width."""

    GO: ClassVar = "types.ExecConfig"

    user: str = ""
    privileged: bool = False
    tty: bool = False
    console_size: tuple[GoUint, GoUint] | UnsetType = UNSET
    attach_stdin: bool = False
    attach_stderr: bool = False
    attach_stdout: bool = False
    detach: bool = False
    detach_keys: str = ""
    env: list[str] | None = None
    working_dir: str = ""
    cmd: list[str] | None = None


class ExecStartConfig(Model, kw_only=True):
    """The body of ExecStart. ``tty`` chooses the framing of the stream, the exec's own the terminal (EXE4)."""

    GO: ClassVar = "types.ExecStartCheck"

    detach: bool = False
    tty: bool = False
    console_size: tuple[GoUint, GoUint] | UnsetType = UNSET


class ProcessConfig(PlainModel, kw_only=True):
    """What an exec instance runs; ``entrypoint`` is the command, ``arguments`` what follows it."""

    tty: bool = False
    entrypoint: str = ""
    arguments: list[str] | None = None
    privileged: bool | UnsetType = UNSET
    user: str | UnsetType = UNSET


class ExecInspect(Model, kw_only=True):
    """An exec instance; ``exit_code`` is null while it runs or before it did (EXE6)."""

    id: str = field(default="", name="ID")
    running: bool = False
    exit_code: int | None = None
    process_config: ProcessConfig = field(default_factory=ProcessConfig)
    open_stdin: bool = False
    open_stderr: bool = False
    open_stdout: bool = False
    can_remove: bool = False
    container_id: str = ""
    detach_keys: str = ""
    pid: int = 0
