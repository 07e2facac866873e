"""What happened, in order: one bus for the API's ``/events`` and for the engine's own parts.

Whatever must travel up from a lower part travels as an event. The last 256 are kept for ``since`` (EVT3).
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass

BUFFER = 256
QUEUE = 10_000


@dataclass(frozen=True, slots=True)
class Event:
    """One event; ``time_nano`` is nanoseconds since the epoch."""

    type: str
    action: str
    id: str
    attributes: Mapping[str, str]
    time_nano: int


class Subscription:
    """A reader's queue. It is closed (``None`` at its end) when the reader falls ``QUEUE`` events behind (EVT5)."""

    def __init__(self, events: Events) -> None:
        self._events = events
        self._queue: deque[Event | None] = deque()
        self._wake = asyncio.Event()
        self._overrun = False

    def put(self, event: Event) -> None:
        if self._overrun:
            return
        if len(self._queue) >= QUEUE:
            self._overrun = True
            self._queue.append(None)
        else:
            self._queue.append(event)
        self._wake.set()

    async def get(self) -> Event | None:
        """The next event, or None once this reader fell too far behind."""
        while not self._queue:
            self._wake.clear()
            await self._wake.wait()
        return self._queue.popleft()

    def close(self) -> None:
        self._events.unsubscribe(self)


class Events:
    def __init__(self) -> None:
        self._buffer: deque[Event] = deque(maxlen=BUFFER)
        self._subscriptions: set[Subscription] = set()
        self._last = 0

    def emit(self, type: str, action: str, id: str, attributes: Mapping[str, str]) -> Event:
        """Publish an event to the buffer and to every subscriber. Times never run backwards or repeat."""
        self._last = max(time.time_ns(), self._last + 1)
        event = Event(type, action, id, dict(attributes), self._last)
        self._buffer.append(event)
        for subscription in self._subscriptions:
            subscription.put(event)
        return event

    def subscribe(self, keep: Callable[[Event], bool] | None = None) -> tuple[list[Event], Subscription]:
        """The buffered events and a subscription that begins right behind them: nothing falls between (EVT5)."""
        subscription = Subscription(self)
        self._subscriptions.add(subscription)
        return [event for event in self._buffer if keep is None or keep(event)], subscription

    @property
    def listeners(self) -> int:
        return len(self._subscriptions)

    def unsubscribe(self, subscription: Subscription) -> None:
        self._subscriptions.discard(subscription)
