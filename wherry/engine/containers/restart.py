"""Restart policies: whether and when a container that ended is started again (AUT2 to AUT6)."""

from __future__ import annotations

from wherry.engine.containers.container import Container
from wherry.engine.containers.registry import Containers

FIRST_DELAY = 0.1  # seconds
LONGEST_DELAY = 60.0
STEADY_RUN = 10_000_000_000  # ns: a run this long begins the delays anew


def should_restart(container: Container, exit_code: int, *, engine_start: bool = False) -> bool:
    """Whether the policy wants another run.

    After the engine's own start ``always`` counts even after a manual stop, and so does ``on-failure`` with a failure
    (STP5).
    """
    policy = container.host_config.restart_policy
    stopped = container.state.manually_stopped
    match policy.name:
        case "always":
            return engine_start or not stopped
        case "unless-stopped":
            return not stopped
        case "on-failure":
            if exit_code == 0 or (stopped and not engine_start):
                return False
            limit = policy.maximum_retry_count
            return not limit or container.state.restart_count < limit
    return False


def next_delay(container: Container, ran_for: int) -> float:
    """Seconds to wait before the next automatic start; ``ran_for`` is nanoseconds (AUT2)."""
    if container.restart_delay == 0 or ran_for >= STEADY_RUN:
        container.restart_delay = FIRST_DELAY
    else:
        container.restart_delay = min(container.restart_delay * 2, LONGEST_DELAY)
    return container.restart_delay


def cancel_restart(containers: Containers, container: Container) -> None:
    """End the wait before an automatic restart: the container is exited (STP6, AUT6).

    The caller holds the lock, so that a restart is either still to come and never begins, or has been done.
    """
    task, container.restart_timer = container.restart_timer, None
    if task is not None:
        task.cancel()
    container.state.restarting = container.state.running = False
    containers.note(container)
    container.announce_exit()
