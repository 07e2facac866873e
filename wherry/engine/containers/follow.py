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
        self._places = container.log_places
        self._next_run = next_run
        self._event = asyncio.Event()

    async def wait(self, position: int) -> bool:
        """True when there may be more to read, False once the run is over and all of it is in the file (LOG7)."""
        if self._run is None and self._next_run:
            await self._container.attachable.wait()
            self._run, self._places, self._next_run = self._container.run, self._container.log_places, False
            return self._run is not None
        if self._ended():
            return False
        output = self._container.output
        output.follow(self._event)
        try:
            await self._event.wait()
        finally:
            output.unfollow(self._event)
        self._event.clear()
        return not self._ended()

    def _ended(self) -> bool:
        """A rotation that the end of the run met must be over too: before it, the renamed file may not be the last."""
        if self._run is None:
            return True
        rotating = self._places is not None and self._places.rotating
        return self._run.over.is_set() and not rotating
