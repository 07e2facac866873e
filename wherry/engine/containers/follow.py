"""Following a log: how a reader of the file learns that there is more, and that the run is over."""

from __future__ import annotations

import asyncio

from wherry.engine.containers.container import Container


class Follower:
    """One reader's wake-up (``logs.LogFollow``), bound to the run that was present when it was made.

    With ``next_run`` a container that does not run is waited for, and its next run followed (ATT4).
    """

    def __init__(self, container: Container, *, next_run: bool = False) -> None:
        self._container = container
        self._run = container.run
        self._next_run = next_run
        self._event = asyncio.Event()

    async def wait(self, position: int) -> bool:
        """True when there may be more to read, False once the run is over and all of it is in the file (LOG7)."""
        if self._run is None and self._next_run:
            await self._container.attachable.wait()
            self._run, self._next_run = self._container.run, False
            return self._run is not None
        run = self._run
        if run is None or run.over.is_set():
            return False
        output = self._container.output
        output.follow(self._event)
        try:
            await self._event.wait()
        finally:
            output.unfollow(self._event)
        self._event.clear()
        return not run.over.is_set()
