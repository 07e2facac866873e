"""What clients may take of the engine, and for how long.

Streams are exempt: once a request is being served, its log, attach, wait or upload may last and pause as it likes, as in
moby. What has an end is the time before a request is complete, the number of connections, and the bytes that requests
make the engine hold.
"""

from __future__ import annotations

import resource
from dataclasses import dataclass, field


def default_connections() -> int:
    """Half of the files this process may open, 4,096 at most: the other half is for containers."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 4096 if soft == resource.RLIM_INFINITY else max(16, min(4096, soft // 2))


@dataclass(frozen=True, slots=True)
class Limits:
    """``HttpServer``'s; times in seconds."""

    connections: int = field(default_factory=default_connections)
    """Connections at once. One more ends the longest idle one; where none is idle it is told so with 503."""
    head: float = 60.0
    """From the first byte of a request's head to its last (moby: 300)."""
    idle: float = 600.0
    """Between requests, and before the first. moby has no such limit; clients that keep connections reopen them."""
    body: float = 300.0
    """For a JSON body to arrive."""
    answer: float = 600.0
    """For a client to take an answer that is complete."""
    sweep: float = 5.0
    """Between looks at who is overdue."""
    bodies: int = 64 << 20
    """Bytes that all JSON bodies together may hold beyond the first 64 KiB of each."""


FREE_BODY = 65536
"""Bytes of a body that are always taken: a flood of large requests does not shut out small ones."""


class Budget:
    """A number of bytes that many share."""

    def __init__(self, size: int) -> None:
        self.left = size

    def take(self, size: int) -> bool:
        """Take bytes, all or none."""
        if size > self.left:
            return False
        self.left -= size
        return True

    def give(self, size: int) -> None:
        """Give bytes back."""
        self.left += size
