"""ContainerLogs as a verb: which log, with which options (LOG1, LOG2, LOG4, LOG9)."""

from __future__ import annotations

from urllib.parse import quote_plus

from wherry.api.errors import Conflict, NotImplementedYet
from wherry.api.operations.containers import ContainerLogsQuery
from wherry.engine.containers.container import Container
from wherry.engine.containers.follow import Follower
from wherry.engine.containers.logs import LogBatches, log_options, open_logs
from wherry.engine.containers.registry import Containers


async def read_log(containers: Containers, container: Container, query: ContainerLogsQuery) -> LogBatches:
    """The log in batches ready to be sent; where to begin is settled at return (LOG5, LOG7). To be closed.

    Raises ``BadRequest``, ``NotImplementedYet`` (the driver keeps nothing to read),
    ``Conflict`` (dead or being removed).
    """
    options = log_options(
        stdout=bool(query.stdout),
        stderr=bool(query.stderr),
        since=query.since,
        until=query.until,
        timestamps=bool(query.timestamps),
        tail=query.tail,
        details=_attributes(container) if query.details else None,
    )
    if container.host_config.log_config.type == "none":
        raise NotImplementedYet("configured logging driver does not support reading")
    if container.state.dead or container.state.removing:
        raise Conflict("can not get logs from container which is dead or marked for removal")
    running = container.run is not None
    return await open_logs(
        containers.layout.log(container.id),
        options,
        tty=container.tty,
        follow=Follower(container) if query.follow and running else None,
        running=running,
    )


def _attributes(container: Container) -> str:
    """The log driver's ``labels`` and ``env`` options: names of labels and variables shown with ``details``."""
    config = container.host_config.log_config.config or {}
    wanted: dict[str, str] = {}
    labels = container.config.labels or {}
    for name in filter(None, config.get("labels", "").split(",")):
        if name in labels:
            wanted[name] = labels[name]
    env = dict(entry.partition("=")[::2] for entry in container.config.env or [])
    for name in filter(None, config.get("env", "").split(",")):
        if name in env:
            wanted[name] = env[name]
    return ",".join(f"{quote_plus(key)}={quote_plus(value)}" for key, value in sorted(wanted.items()))
