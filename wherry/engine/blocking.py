"""Blocking calls, off the loop: mounts, unmounts, removals, walks and the like run in a bounded pool of threads."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, Protocol, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class Closable(Protocol):
    def close(self) -> None: ...


C = TypeVar("C", bound=Closable)

_POOL = ThreadPoolExecutor(max_workers=16, thread_name_prefix="wherry-blocking")


async def in_thread(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run ``function`` in the pool and return its result; cancelling the caller does not stop the call.

    A function that changes its thread's namespaces must not be run here: start a thread of its own for it.
    """
    return await asyncio.wrap_future(_POOL.submit(function, *args, **kwargs))


async def opened_in_thread(function: Callable[P, C], *args: P.args, **kwargs: P.kwargs) -> C:
    """As ``in_thread``, for a function that opens something: where the caller is cancelled it is closed once it is there."""
    work = asyncio.ensure_future(in_thread(function, *args, **kwargs))
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        work.add_done_callback(_close)
        raise


def _close(work: asyncio.Future[C]) -> None:
    if not work.cancelled() and work.exception() is None:
        work.result().close()


async def in_thread_until(cancelled: threading.Event, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """As ``in_thread``, for a function that looks at ``cancelled``: when the caller is cancelled the event is set, and the
    function has ended before this raises. What it may have given nevertheless is discarded (``discard()``), if it can be.
    """
    work = asyncio.ensure_future(in_thread(function, *args, **kwargs))
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        cancelled.set()
        await asyncio.wait([work])
        if not work.cancelled() and work.exception() is None:
            discard = getattr(work.result(), "discard", None)
            if discard is not None:
                await in_thread(discard)
        raise
