"""Health checks: a command is run in the container again and again, and its exit code becomes the container's health
(HEA1 to HEA4).

A container has one prober for each run. The health itself is part of the container's row: an engine that takes a running
container over goes on from the status that was there.
"""

from __future__ import annotations

import asyncio
import logging
import time

from wherry.api.errors import ApiError
from wherry.api.models.containers import Health, HealthcheckResult, HealthConfig
from wherry.api.models.exec import ExecConfig
from wherry.engine.containers import exec as exec_verb
from wherry.engine.containers.container import Container
from wherry.engine.containers.registry import Containers
from wherry.engine.containers.run import Run
from wherry.engine.containers.times import rfc3339nano
from wherry.engine.durations import format_duration
from wherry.engine.oci.errors import RuntimeFailure

log = logging.getLogger(__name__)

SECOND = 10**9  # ns
DEFAULT_INTERVAL = 30 * SECOND
DEFAULT_TIMEOUT = 30 * SECOND
DEFAULT_RETRIES = 3
KEPT = 5  # results
LONGEST_OUTPUT = 4096  # bytes of a probe's output that are kept
SHELL = ["/bin/sh", "-c"]
KILL_GRACE = 2.0  # seconds to wait for a command that was killed
EXIT_GRACE = 0.05  # seconds in which a failure may turn out to be the container's own end
STARTING, HEALTHY, UNHEALTHY = "starting", "healthy", "unhealthy"


def begin(containers: Containers, container: Container, run: Run) -> None:
    """A run has begun, or was taken over: probe from here on. Without a health check nothing happens.

    A run that begins has no health in its state yet; one that is taken over goes on from what it had.
    """
    _cancel(container)
    words = command(container)
    if not words:
        container.state.health = None
        return
    if container.state.health is None:
        container.state.health = Health(status=STARTING, log=[])
    containers.note(container)
    container.prober = Prober(containers, container, run, words)


def end(container: Container) -> None:
    """The run is over: no more probes, and nothing that does not run is healthy (HEA4)."""
    _cancel(container)
    if container.state.health is not None:
        container.state.health.status = UNHEALTHY


def _cancel(container: Container) -> None:
    prober, container.prober = container.prober, None
    if prober is not None:
        prober.close()


def command(container: Container) -> list[str]:
    """What a probe runs, empty for none (HEA1)."""
    check = container.config.healthcheck
    if not isinstance(check, HealthConfig) or not check.test:
        return []
    kind, *words = check.test
    if kind == "CMD":
        return words
    if kind == "CMD-SHELL":
        return [*(container.config.shell or SHELL), *words]
    if kind != "NONE":
        log.warning("%s: unknown type of health check %r: there will be none", container.short_id, kind)
    return []


def judge(health: Health, result: HealthcheckResult, *, retries: int, in_start_period: bool) -> bool:
    """Enter a probe's result; whether the status changed (HEA2)."""
    before = health.status
    health.log = [*(health.log or []), result][-KEPT:]
    if result.exit_code == 0:
        health.failing_streak = 0
        health.status = HEALTHY
    elif not (health.status == STARTING and in_start_period):
        health.failing_streak += 1
        if health.failing_streak >= retries:
            health.status = UNHEALTHY
    return health.status != before


class Output:
    """The beginning of what a probe's command said."""

    def __init__(self) -> None:
        self._data = b""
        self._more = False

    def feed(self, stream: int, data: bytes) -> None:
        room = LONGEST_OUTPUT - len(self._data)
        self._data += data[:room]
        self._more = self._more or len(data) > room

    def __str__(self) -> str:
        return self._data.decode(errors="replace") + ("..." if self._more else "")


class Prober:
    """Probes one run until it is closed."""

    def __init__(self, containers: Containers, container: Container, run: Run, words: list[str]) -> None:
        self._containers = containers
        self._container = container
        self._run = run
        self._words = words
        check = container.config.healthcheck
        assert isinstance(check, HealthConfig)
        self._interval = check.interval or DEFAULT_INTERVAL
        self._timeout = check.timeout or DEFAULT_TIMEOUT
        self._start_period = check.start_period or 0
        self._start_interval = check.start_interval or self._interval
        self._retries = check.retries or DEFAULT_RETRIES
        self._task = containers.spawn(self._watch(), f"health of {container.short_id}", waits=True)

    def close(self) -> None:
        self._task.cancel()

    async def _watch(self) -> None:
        """The interval lies between the end of a probe and the next; none is due while the container is paused."""
        container, run = self._container, self._run
        while True:
            await asyncio.sleep(self._pause() / SECOND)
            if container.state.paused:
                continue
            age = run.age
            result = await self._probe()
            if result is None or container.state.paused:
                continue
            if result.exit_code:
                await asyncio.sleep(EXIT_GRACE)
            if container.run is not run or run.exiting:
                return
            self._record(result, age)

    def _in_start_period(self, age: int) -> bool:
        return age < self._start_period

    def _pause(self) -> int:
        health = self._container.health
        starting = health is not None and health.status == STARTING and self._in_start_period(self._run.age)
        return self._start_interval if starting else self._interval

    def _record(self, result: HealthcheckResult, age: int) -> None:
        container = self._container
        health = container.health
        if health is None:
            return
        in_start_period = self._in_start_period(age)
        if judge(health, result, retries=self._retries, in_start_period=in_start_period):
            self._containers.note(container)
            self._containers.emit(container, f"health_status: {health.status}")

    async def _probe(self) -> HealthcheckResult | None:
        """One probe; None when there is no container to ask."""
        began = time.time_ns()
        output = Output()
        config = ExecConfig(cmd=self._words, attach_stdout=True, attach_stderr=True)
        try:
            exec_id = exec_verb.create(self._containers, self._container.id, config)
            instance = exec_verb.find(self._containers, exec_id)
        except ApiError:
            return None
        try:
            code, text = await self._ask(instance, output)
        finally:
            exec_verb.forget(self._containers, instance)
        return HealthcheckResult(start=rfc3339nano(began), end=rfc3339nano(time.time_ns()), exit_code=code, output=text)

    async def _ask(self, instance: exec_verb.Exec, output: Output) -> tuple[int, str]:
        """The exit code, -1 where there is none, and the output or what went wrong (HEA3)."""
        ending: asyncio.Task[None] | None = None
        try:
            async with asyncio.timeout(self._timeout / SECOND):
                ending = await exec_verb.start_probe(self._containers, instance, output.feed)
                await asyncio.shield(ending)
        except TimeoutError:
            if ending is not None and instance.process is not None:
                instance.process.kill()
                await asyncio.wait({ending}, timeout=KILL_GRACE)
            said = str(output)
            return -1, f"Health check exceeded timeout ({format_duration(self._timeout)}){': ' if said else ''}{said}"
        except (ApiError, RuntimeFailure) as error:
            return -1, error.message
        return -1 if instance.exit_code is None else instance.exit_code, str(output)
