"""Blocking calls, off the loop: mounts, unmounts, removals, walks and the like run in a bounded pool of threads."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

_POOL = ThreadPoolExecutor(max_workers=16, thread_name_prefix="wherry-blocking")


async def in_thread(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run ``function`` in the pool and return its result; cancelling the caller does not stop the call.

    A function that changes its thread's namespaces must not be run here: start a thread of its own for it.
    """
    return await asyncio.wrap_future(_POOL.submit(function, *args, **kwargs))
