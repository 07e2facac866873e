"""The messages of a pull or a push, in moby's words; a slow reader sees fewer of the steps in between."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any

Message = dict[str, Any]

_EVERY = 0.1
_WIDTH = 50


class Progress:
    """Where work says how far it is. What waits to be read is bounded: a newer step replaces its unread predecessor."""

    def __init__(self) -> None:
        self._pending: dict[object, Message] = {}
        self._wake = asyncio.Event()
        self._said: dict[tuple[str, str], float] = {}
        self.spoken = False
        """Whether anything was said at all."""

    def say(self, status: str, id: str = "") -> None:
        """A message of its own."""
        self.put({"status": status, "id": id} if id else {"status": status})

    def step(self, status: str, id: str) -> None:
        """A step of a layer."""
        self.put({"status": status, "progressDetail": {}, "id": id})

    def update(self, status: str, id: str, current: int, total: int, *, last: bool = False) -> None:
        """How far a step is, in bytes; said ten times a second at most, unless it is the ``last`` word."""
        now = time.monotonic()
        if not last and now - self._said.get((status, id), 0.0) < _EVERY:
            return
        self._said[status, id] = now
        detail = {"current": current, "total": total}
        self.put({"status": status, "progressDetail": detail, "progress": bar(current, total), "id": id}, (status, id))

    def put(self, message: Message, key: object = None) -> None:
        self.spoken = True
        self._pending[object() if key is None else key] = message
        self._wake.set()

    async def during(self, work: Callable[[], Awaitable[None]]) -> AsyncGenerator[Message, None]:
        """Run ``work`` and give what it says. Its error is raised behind its last message; leaving early cancels it."""
        task = asyncio.ensure_future(work())
        task.add_done_callback(lambda _: self._wake.set())
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                while self._pending:
                    yield self._pending.pop(next(iter(self._pending)))
                if task.done() and not self._pending:
                    await task
                    return
        finally:
            task.cancel()
            await asyncio.wait([task])
            if not task.cancelled():
                task.exception()


def bar(current: int, total: int) -> str:
    """``[=====>     ]  1.05MB/10.5MB``, as old clients print it."""
    if total <= 0:
        return f"{human_size(current):>8}" if current > 0 else ""
    filled = min(_WIDTH, int(current / total * 100) // 2)
    counts = f"{human_size(current):>8}" + (f"/{human_size(total)}" if current <= total else "")
    return f"[{'=' * filled}>{' ' * (_WIDTH - filled)}] {counts}"


def human_size(size: float) -> str:
    """Bytes in four digits, in decimal units."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.4g}{unit}"
        size /= 1000
    return f"{size:.4g}TB"
