"""What all attached clients of an engine share: memory for what they have not read yet, and the loop's time."""

from __future__ import annotations

import asyncio
from collections import deque

QUEUED = 16 << 20
"""Bytes that may be queued for all clients together, as long as there are fewer than 256."""

MOST, LEAST = 1 << 20, 1 << 16
"""Bytes that may be queued for one, however few or many there are."""


class Crowd:
    """The attached clients of one engine."""

    def __init__(self) -> None:
        self._members = 0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._calling = False

    def enter(self) -> None:
        self._members += 1

    def leave(self) -> None:
        self._members -= 1

    @property
    def share(self) -> int:
        """Bytes that may be queued for each client."""
        return max(LEAST, min(MOST, QUEUED // max(1, self._members)))

    async def turn(self) -> None:
        """Wait for one's turn to do a few milliseconds of work: one a round of the loop, first come, first served.

        Otherwise a hundred clients that are served from the log would do theirs between two looks at everything else.
        """
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        self._call()
        await turn

    def _call(self) -> None:
        if self._waiting and not self._calling:
            self._calling = True
            asyncio.get_running_loop().call_soon(self._next)

    def _next(self) -> None:
        self._calling = False
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                break
        self._call()
