"""Byte streams that pass between the HTTP side and the parts below it, without either knowing the other."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Protocol


class Duplex(Protocol):
    """A connection that became a byte stream: hijacked HTTP, or a websocket's messages.

    Reads are not started before the first ``read`` and never run more than 64 KiB ahead of it.
    """

    async def read(self) -> bytes:
        """The next bytes; ``b""`` once the peer has closed its sending half.

        Raises ``ConnectionError`` when the connection is gone altogether.
        """

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Queue bytes for the peer; silently dropped once the connection is gone."""

    @property
    def pending(self) -> int:
        """Bytes written and not yet taken by the kernel."""

    async def drain(self) -> None:
        """Wait until ``pending`` is below the low-water mark. Raises ``ConnectionError`` if the peer is gone."""

    def on_writable(self, callback: Callable[[], object]) -> None:
        """Call ``callback()`` on the loop each time ``pending`` falls below the low-water mark after it was above the
        high one, and when the connection ends."""

    @property
    def closed(self) -> bool:
        """True once the connection is gone, whoever ended it."""

    async def wait_closed(self) -> None:
        """Wait until the connection is gone altogether. A peer's half-close does not count."""

    async def close(self) -> None:
        """Send what is queued, close both halves, and return when that is done or has failed."""


class ByteSource(Protocol):
    """A request body, read as it arrives."""

    def __aiter__(self) -> AsyncIterator[bytes]: ...
