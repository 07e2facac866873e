"""What a container takes from its image: the two configurations become one (CRE5)."""

from __future__ import annotations

from collections.abc import Mapping

from wherry.api.errors import BadRequest
from wherry.api.models.containers import ContainerConfig, HealthConfig

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def merge(config: ContainerConfig, image: ContainerConfig | None) -> None:
    """Fill what the request left open from the image's configuration, in place."""
    if image is not None:
        if not config.entrypoint:  # null or [], but not [""], which stands for "none at all"
            config.cmd = config.cmd or image.cmd
            if config.entrypoint is None:
                config.entrypoint = image.entrypoint
        config.user = config.user or image.user
        config.working_dir = config.working_dir or image.working_dir
        config.stop_signal = config.stop_signal or image.stop_signal
        config.labels = {**(image.labels or {}), **(config.labels or {})}
        config.exposed_ports = {**(image.exposed_ports or {}), **(config.exposed_ports or {})} or image.exposed_ports
        config.volumes = {**(image.volumes or {}), **(config.volumes or {})} or image.volumes
        config.env = _merge_env(config.env, image.env)
        _merge_healthcheck(config, image)
    if config.entrypoint == [""]:
        config.entrypoint = None
    config.labels = config.labels or {}


def command(config: ContainerConfig) -> tuple[str, list[str]]:
    """``Path`` and ``Args``: the entrypoint followed by the command. Raises ``BadRequest`` when both are empty."""
    words = [*(config.entrypoint or []), *(config.cmd or [])]
    if not words:
        raise BadRequest("No command specified")
    return words[0], words[1:]


def process_env(config: ContainerConfig, hostname: str, linked: Mapping[str, str] | None = None) -> list[str]:
    """The environment of the container's process (CRE6): an entry without ``=`` removes a variable. ``linked`` is what links
    put into it."""
    env = {"PATH": DEFAULT_PATH, "HOSTNAME": hostname}
    if config.tty:
        env["TERM"] = "xterm"
    return override(env | dict(linked or {}), config.env or [])


def override(env: dict[str, str], entries: list[str]) -> list[str]:
    """``env`` with the ``K=V`` entries put over it; a bare ``K`` takes the variable away."""
    result = dict(env)
    for entry in entries:
        key, equals, value = entry.partition("=")
        if equals:
            result[key] = value
        else:
            result.pop(key, None)
    return [f"{key}={value}" for key, value in result.items()]


def _merge_env(wanted: list[str] | None, image: list[str] | None) -> list[str] | None:
    if not wanted:
        return None if image is None else list(image)
    merged = list(wanted)
    keys = {entry.partition("=")[0] for entry in merged}
    return merged + [entry for entry in image or [] if entry.partition("=")[0] not in keys]


def _merge_healthcheck(config: ContainerConfig, image: ContainerConfig) -> None:
    wanted, given = config.healthcheck, image.healthcheck
    if not isinstance(given, HealthConfig):
        return
    if not isinstance(wanted, HealthConfig):
        config.healthcheck = given
        return
    wanted.test = wanted.test or given.test
    wanted.interval = wanted.interval or given.interval
    wanted.timeout = wanted.timeout or given.timeout
    wanted.start_period = wanted.start_period or given.start_period
    wanted.start_interval = wanted.start_interval or given.start_interval
    wanted.retries = wanted.retries or given.retries
