"""ContainerStats: readings of a container's control group and network, one loop for all who read (STT1 to STT7)."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from wherry.api.errors import BadRequest
from wherry.api.models.common import UNSET, UnsetType
from wherry.api.models.stats import ContainerStatsResponse, CpuStats, NetworkStats
from wherry.engine.blocking import in_thread
from wherry.engine.containers.times import ZERO, rfc3339nano
from wherry.engine.oci.cgroup_stats import CgroupStats

if TYPE_CHECKING:
    from wherry.engine.containers.container import Container
    from wherry.engine.oci.cgroups import CgroupSetup

log = logging.getLogger(__name__)

INTERVAL = 1.0  # seconds


@dataclass(frozen=True, slots=True)
class Reading:
    """One sample. ``time`` is nanoseconds since the epoch; ``networks`` is None without a network of its own."""

    time: int
    group: CgroupStats
    networks: dict[str, NetworkStats] | None


def check(*, stream: bool, one_shot: bool) -> None:
    """Raises ``BadRequest`` for what excludes itself (STT1)."""
    if stream and one_shot:
        raise BadRequest("cannot have stream=true and one-shot=true")


class Sampler:
    """The readings of one container: taken every second while somebody subscribes, and not otherwise (STT6).

    Made once a container; ``close`` ends every stream when the container is removed (STT7).
    """

    def __init__(self, container: Container, cgroups: CgroupSetup) -> None:
        self._container = container
        self._cgroups = cgroups
        self._subscribers: set[_Subscriber] = set()
        self._task: asyncio.Task[None] | None = None
        self._closed = False

    async def once(self, *, one_shot: bool = False) -> ContainerStatsResponse:
        """A single answer; without ``one_shot`` after a second, so that ``precpu_stats`` is filled (STT2)."""
        first = await self.read()
        if first is None:
            return self.response(None, None)  # STT3
        if one_shot:
            return self.response(first, None, named=False)
        await asyncio.sleep(INTERVAL)
        second = await self.read()
        return self.response(second, first if second is not None else None)

    async def stream(self) -> AsyncGenerator[ContainerStatsResponse, None]:
        """An answer every second until the container is removed; an empty one while it does not run (STT3)."""
        if self._closed:
            return
        subscriber = _Subscriber()
        self._subscribers.add(subscriber)
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run())
        previous: Reading | None = None
        try:
            while await subscriber.wait():
                reading = subscriber.reading
                yield self.response(reading, previous)
                previous = reading
        finally:
            self._subscribers.discard(subscriber)
            if not self._subscribers and self._task is not None:
                self._task.cancel()
                self._task = None

    def close(self) -> None:
        """The container is gone: every stream ends."""
        self._closed = True
        for subscriber in self._subscribers:
            subscriber.end()
        if self._task is not None:
            self._task.cancel()
            self._task = None

    async def read(self) -> Reading | None:
        """A reading now; None when the container does not run."""
        state = self._container.state
        pid = state.pid
        if not state.running or not pid:
            return None
        group = self._cgroups.container(self._container.id, self._container.host_config.cgroup_parent)
        own_network = self._container.host_config.network_mode not in ("none", "host")
        own_network = own_network and not self._container.config.network_disabled

        def take() -> Reading:
            return Reading(time.time_ns(), group.stats(), network_stats(pid) if own_network else None)

        return await in_thread(take)

    def response(
        self, reading: Reading | None, previous: Reading | None, *, named: bool = True
    ) -> ContainerStatsResponse:
        """The answer for a reading and the one before it; both None while the container does not run."""
        name: str | UnsetType = f"/{self._container.name}" if named else UNSET
        container_id: str | UnsetType = self._container.id if named else UNSET
        if reading is None:
            return ContainerStatsResponse(read=ZERO, preread=ZERO, name=name, id=container_id)
        group = reading.group
        return ContainerStatsResponse(
            read=rfc3339nano(reading.time),
            preread=rfc3339nano(previous.time) if previous is not None else ZERO,
            pids_stats=group.pids,
            blkio_stats=group.blkio,
            cpu_stats=group.cpu,
            precpu_stats=previous.group.cpu if previous is not None else CpuStats(),
            memory_stats=group.memory,
            name=name,
            id=container_id,
            networks=reading.networks or UNSET,
        )

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time()
        while True:
            try:
                reading = await self.read()
            except OSError as error:  # no descriptor is left, perhaps: the next time will do
                log.warning("no statistics of %s now: %s", self._container.short_id, error)
            else:
                for subscriber in self._subscribers:
                    subscriber.put(reading)
            due = max(due + INTERVAL, loop.time())
            await asyncio.sleep(due - loop.time())


class _Subscriber:
    """One reader. A slow one misses readings, it never makes them wait."""

    def __init__(self) -> None:
        self.reading: Reading | None = None
        self._ended = False
        self._new = asyncio.Event()

    def put(self, reading: Reading | None) -> None:
        self.reading = reading
        self._new.set()

    def end(self) -> None:
        self._ended = True
        self._new.set()

    async def wait(self) -> bool:
        """Wait for a reading that was not seen yet; False when there will be none."""
        await self._new.wait()
        self._new.clear()
        return not self._ended


def network_stats(pid: int) -> dict[str, NetworkStats]:
    """The counters of every interface but the loopback, as the process's network namespace has them."""
    result: dict[str, NetworkStats] = {}
    try:
        with open(f"/proc/{pid}/net/dev", encoding="ascii", errors="replace") as file:
            lines = file.read().splitlines()[2:]
    except OSError:
        return result
    for line in lines:
        name, _, numbers = line.partition(":")
        name = name.strip()
        values = [int(value) for value in numbers.split()]
        if name != "lo" and len(values) >= 12:
            result[name] = NetworkStats(
                rx_bytes=values[0],
                rx_packets=values[1],
                rx_errors=values[2],
                rx_dropped=values[3],
                tx_bytes=values[8],
                tx_packets=values[9],
                tx_errors=values[10],
                tx_dropped=values[11],
            )
    return result
