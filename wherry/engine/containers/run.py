"""One run of a container: the process, its monitor, and the way to its end."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from wherry.engine.oci.cgroup_stats import ticks
from wherry.engine.oci.conmon import Attachment
from wherry.engine.oci.process import Pidfd, start_time


class Run:
    """What the engine holds of a container while its process lives.

    ``pid`` is the init's, ``started`` its start time. ``drained`` is set when all output has passed, ``over`` when the
    exit has been dealt with and the container is no longer running.
    """

    def __init__(self, bundle: Path, process: Pidfd, conmon_pid: int) -> None:
        self.bundle = bundle
        self.process = process
        try:
            self.started = start_time(process.pid)
        except OSError:
            process.close()
            raise
        self.conmon_pid = conmon_pid
        self.attachment: Attachment | None = None
        self.drained = asyncio.Event()
        self.over = asyncio.Event()
        self.exit_code: int | None = None
        self.exiting = False
        self.killed = False  # SIGKILL is on its way: a freezer now would hold it up

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def alive(self) -> bool:
        """False once the process has ended, which the engine may not have heard yet."""
        return self.process.alive

    @property
    def age(self) -> int:
        """Nanoseconds since the process began, whatever has become of the machine's clock."""
        return max(0, time.clock_gettime_ns(time.CLOCK_BOOTTIME) - ticks(self.started))

    def signal(self, number: int) -> bool:
        """Send a signal to the container's first process; False when it is gone."""
        return self.process.signal(number)

    async def until_over(self, seconds: float | None) -> bool:
        """Wait for the end, ``seconds`` at most (None: for ever); whether it came."""
        try:
            await asyncio.wait_for(self.over.wait(), seconds)
        except TimeoutError:
            return self.over.is_set()
        return True

    def close(self) -> None:
        """Let go of the process and the monitor; both live on if they do."""
        if self.attachment is not None:
            self.attachment.close()
        self.process.close()
