"""What calls return where the API itself has no model for it."""

from __future__ import annotations

import msgspec


class Ping(msgspec.Struct, frozen=True):
    """What an engine says of itself before anything else. ``api_version`` is the newest it speaks."""

    api_version: str
    os_type: str
    builder_version: str
    swarm: str
    experimental: bool
    server: str


class Output(msgspec.Struct, frozen=True):
    """All that a stream brought, apart by stdout and stderr. With a terminal all is stdout."""

    stdout: bytes
    stderr: bytes


class RunResult(msgspec.Struct, frozen=True):
    """What a container that ran to its end left.

    ``id`` names the container, which is gone unless ``remove=False``. ``warnings`` are create's.
    """

    id: str
    exit_code: int
    stdout: bytes
    stderr: bytes
    warnings: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """stdout as text; bytes that are not UTF-8 show as U+FFFD."""
        return self.stdout.decode("utf-8", "replace")


class ExecResult(msgspec.Struct, frozen=True):
    """What a command in a running container left. ``id`` names the exec instance."""

    id: str
    exit_code: int
    stdout: bytes
    stderr: bytes

    @property
    def text(self) -> str:
        """stdout as text; bytes that are not UTF-8 show as U+FFFD."""
        return self.stdout.decode("utf-8", "replace")
