"""Whether a container's settings make sense: checks and defaults of create and update (CRE8 to CRE20, CRE28).

What this machine cannot do is dropped with a warning, not refused (CRE12).
"""

from __future__ import annotations

import os
import re

from msgspec import UNSET

from wherry.api.errors import BadRequest, ServerError
from wherry.api.models.containers import ContainerConfig, HealthConfig, HostConfig, LogConfig, Resources, RestartPolicy
from wherry.engine.oci.capabilities import check_capabilities
from wherry.engine.oci.cgroups import CgroupSetup
from wherry.engine.oci.seccomp import InvalidProfile, check_profile
from wherry.engine.oci.signals import parse_signal
from wherry.engine.oci.spec import MASKED_PATHS, READONLY_PATHS

MINIMUM_MEMORY = 6 * 1024 * 1024
MILLISECOND = 1_000_000  # ns
DEFAULT_SHM = 64 * 1024 * 1024
RESTART_POLICIES = ("", "no", "always", "unless-stopped", "on-failure")
LOG_OPTIONS = {
    "json-file": {
        "max-size", "max-file", "compress", "labels", "labels-regex", "env", "env-regex", "tag", "mode", "max-buffer-size",
    },
    "local": {"max-size", "max-file", "compress", "mode", "max-buffer-size"},
    "none": None,
}  # fmt: skip
_PORT = re.compile(r"(\d+)(?:-(\d+))?(?:/(tcp|udp|sctp))?", re.IGNORECASE)


def check_config(config: ContainerConfig, version: tuple[int, int]) -> None:
    """The part that travels with an image. Raises ``BadRequest``."""
    if config.working_dir and not config.working_dir.startswith("/"):
        raise BadRequest(f"the working directory '{config.working_dir}' is invalid, it needs to be an absolute path")
    if config.stop_signal:
        try:
            parse_signal(config.stop_signal)
        except ValueError:
            raise BadRequest(f"invalid signal: {config.stop_signal}") from None
    for entry in config.env or []:
        if entry.startswith("=") or not entry:
            raise BadRequest(f"invalid environment variable: {entry}")
    if isinstance(config.healthcheck, HealthConfig):
        _check_health(config.healthcheck, version)
    for port in config.exposed_ports or {}:
        parse_port(port)


def _check_health(health: HealthConfig, version: tuple[int, int]) -> None:
    for name, value in (
        ("Interval", health.interval),
        ("Timeout", health.timeout),
        ("StartPeriod", health.start_period),
    ):
        if value and value < MILLISECOND:
            raise BadRequest(f"{name} in Healthcheck cannot be less than 1ms")
    if (health.retries or 0) < 0:
        raise BadRequest("Retries in Healthcheck cannot be negative")
    if version < (1, 44):
        health.start_interval = UNSET


def parse_port(text: str) -> tuple[int, int, str]:
    """``80``, ``80/udp`` or ``80-90/tcp`` as (first, last, protocol)."""
    match = _PORT.fullmatch(text)
    if match:
        first = int(match[1])
        last = int(match[2] or first)
        if 0 < first <= last <= 65535 or first == last == 0:
            return first, last, (match[3] or "tcp").lower()
    raise BadRequest(f'invalid port specification: "{text}"')


def check_host_config(
    config: ContainerConfig, host: HostConfig, setup: CgroupSetup, runtimes: list[str], version: tuple[int, int]
) -> list[str]:
    """Check the host's part, write the defaults that inspect shows (CRE14), and return the warnings."""
    check_restart_policy(host.restart_policy, auto_remove=host.auto_remove)
    warnings = check_resources(host, setup)
    check_capabilities(host.cap_add, "CapAdd")
    check_capabilities(host.cap_drop, "CapDrop")
    _check_log(host)
    if host.runtime and host.runtime not in runtimes:
        raise BadRequest(f"unknown or invalid runtime name: {host.runtime}")
    check_security_opts(host.security_opt)
    warnings += _check_network_mode(config, host)
    for port, bindings in (host.port_bindings or {}).items():
        parse_port(port)
        for binding in bindings or []:
            if binding.host_port:
                try:
                    parse_port(binding.host_port)
                except BadRequest:
                    raise BadRequest(f'invalid port specification: "{binding.host_port}"') from None
    if host.shm_size < 0:
        raise BadRequest("SHM size can not be less than 0")
    if not -1000 <= host.oom_score_adj <= 1000:
        raise BadRequest(f"Invalid value {host.oom_score_adj}, range for oom score adj is [-1000, 1000]")
    _set_defaults(host, setup, version)
    return warnings


def _set_defaults(host: HostConfig, setup: CgroupSetup, version: tuple[int, int]) -> None:
    host.shm_size = host.shm_size or DEFAULT_SHM
    host.ipc_mode = host.ipc_mode or ("private" if version >= (1, 40) else "shareable")
    host.network_mode = host.network_mode or "default"
    if not host.cgroupns_mode:
        host.cgroupns_mode = "private" if setup.version == 2 and not host.privileged else "host"
    if host.restart_policy is None:
        host.restart_policy = RestartPolicy()
    if host.oom_kill_disable is None:
        host.oom_kill_disable = False
    unconfined = "systempaths=unconfined" in (host.security_opt or [])
    if host.masked_paths is None and not host.privileged:
        host.masked_paths = [] if unconfined else list(MASKED_PATHS)
    if host.readonly_paths is None and not host.privileged:
        host.readonly_paths = [] if unconfined else list(READONLY_PATHS)
    if version < (1, 43):
        host.annotations = UNSET
    if isinstance(host.annotations, dict):
        for key in host.annotations:
            if not key:
                raise BadRequest("invalid Annotations: the empty string is not permitted as an annotation key")
            if key.startswith("run.oci."):
                raise BadRequest(f"invalid Annotations: {key} is reserved for the engine")


def check_restart_policy(policy: RestartPolicy | None, *, auto_remove: bool) -> None:
    """CRE11. Raises ``BadRequest``."""
    if policy is None:
        return
    if policy.name not in RESTART_POLICIES:
        raise BadRequest(f"invalid restart policy '{policy.name}'")
    if policy.maximum_retry_count and policy.name != "on-failure":
        raise BadRequest(f"maximum retry count cannot be used with restart policy '{policy.name}'")
    if policy.maximum_retry_count < 0:
        raise BadRequest("maximum retry count cannot be negative")
    if auto_remove and policy.name not in ("", "no"):
        raise BadRequest("can't create 'AutoRemove' container with restart policy")


def check_resources(resources: Resources, setup: CgroupSetup, *, update: bool = False) -> list[str]:
    """CRE12, CRE13: refuse what contradicts itself, drop with a warning what the machine lacks."""
    warnings: list[str] = []

    def lacking(given: object, supported: bool, text: str) -> bool:
        if given and not supported:
            warnings.append(text)
            return True
        return False

    _check_memory(resources, setup, lacking, update=update)
    if resources.pids_limit is not None and resources.pids_limit <= 0 and not update:
        resources.pids_limit = None
    if lacking(
        resources.pids_limit,
        setup.pids,
        "Your kernel does not support PIDs limit capabilities or the cgroup is not mounted. PIDs limit discarded.",
    ):
        resources.pids_limit = None
    _check_cpu(resources, setup, lacking)
    if lacking(
        resources.blkio_weight,
        setup.blkio_weight,
        "Your kernel does not support Block I/O weight or the cgroup is not mounted. Weight discarded.",
    ):
        resources.blkio_weight = 0
    if resources.blkio_weight and not 10 <= resources.blkio_weight <= 1000:
        raise BadRequest("Range of blkio weight is from 10 to 1000")
    return warnings


def _check_memory(resources: Resources, setup: CgroupSetup, lacking: object, *, update: bool) -> None:
    assert callable(lacking)
    if resources.memory and resources.memory < MINIMUM_MEMORY:
        raise BadRequest("Minimum memory limit allowed is 6MB")
    if lacking(
        resources.memory,
        setup.memory,
        "Your kernel does not support memory limit capabilities or the cgroup is not mounted. Limitation discarded.",
    ):
        resources.memory, resources.memory_swap = 0, -1
    if (
        resources.memory
        and resources.memory_swap != -1
        and lacking(
            not setup.swap,
            setup.swap,
            "Your kernel does not support swap limit capabilities or the cgroup is not mounted. Memory limited without swap.",
        )
    ):
        resources.memory_swap = -1
    if resources.memory and 0 < resources.memory_swap < resources.memory:
        raise BadRequest("Minimum memoryswap limit should be larger than memory limit, see usage")
    if not resources.memory and resources.memory_swap > 0 and not update:
        raise BadRequest("You should always set the Memory limit when using Memoryswap limit, see usage")
    if resources.memory and not resources.memory_swap and not update:
        resources.memory_swap = 2 * resources.memory
    if resources.memory_swappiness is not None:
        if lacking(
            resources.memory_swappiness != -1,
            setup.version == 1 and setup.memory,
            "Your kernel does not support memory swappiness capabilities or the cgroup is not mounted. Memory swappiness discarded.",
        ):
            resources.memory_swappiness = None
        elif not -1 <= resources.memory_swappiness <= 100:
            raise BadRequest(f"Invalid value: {resources.memory_swappiness}, valid memory swappiness range is 0-100")
    if resources.memory_reservation:
        if lacking(
            True,
            setup.memory,
            "Your kernel does not support memory soft limit capabilities or the cgroup is not mounted. Limitation discarded.",
        ):
            resources.memory_reservation = 0
        elif resources.memory_reservation < MINIMUM_MEMORY:
            raise BadRequest("Minimum memory reservation allowed is 6MB")
        elif resources.memory and resources.memory < resources.memory_reservation:
            raise BadRequest("Minimum memory limit can not be less than memory reservation limit, see usage")
    if resources.oom_kill_disable and lacking(
        True,
        setup.version == 1 and setup.memory,
        "Your kernel does not support OomKillDisable. OomKillDisable discarded.",
    ):
        resources.oom_kill_disable = None


def _check_cpu(resources: Resources, setup: CgroupSetup, lacking: object) -> None:
    assert callable(lacking)
    cpus = os.cpu_count() or 1
    if resources.nano_cpus:
        if resources.cpu_period:
            raise BadRequest("Conflicting options: Nano CPUs and CPU Period cannot both be set")
        if resources.cpu_quota:
            raise BadRequest("Conflicting options: Nano CPUs and CPU Quota cannot both be set")
        if not 0 < resources.nano_cpus <= cpus * 1_000_000_000:
            raise BadRequest(f"Range of CPUs is from 0.01 to {cpus:.2f}, as there are only {cpus} CPUs available")
        if lacking(
            True,
            setup.cpu,
            "Your kernel does not support CPU cfs period/quota or the cgroup is not mounted. CPUs discarded.",
        ):
            resources.nano_cpus = 0
    if lacking(
        resources.cpu_shares,
        setup.cpu,
        "Your kernel does not support CPU shares or the cgroup is not mounted. Shares discarded.",
    ):
        resources.cpu_shares = 0
    if lacking(
        resources.cpu_period or resources.cpu_quota,
        setup.cpu,
        "Your kernel does not support CPU CFS scheduler or the cgroup is not mounted. CFS settings discarded.",
    ):
        resources.cpu_period = resources.cpu_quota = 0
    if resources.cpu_period and not 1000 <= resources.cpu_period <= 1_000_000:
        raise BadRequest("CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)")
    if 0 < resources.cpu_quota < 1000:
        raise BadRequest("CPU cfs quota can not be less than 1ms (i.e. 1000)")
    if lacking(
        resources.cpuset_cpus or resources.cpuset_mems,
        setup.cpuset,
        "Your kernel does not support cpuset or the cgroup is not mounted. Cpuset discarded.",
    ):
        resources.cpuset_cpus = resources.cpuset_mems = ""
    for name, wanted, available in (
        ("CPUs", resources.cpuset_cpus, setup.available_cpus),
        ("memory nodes", resources.cpuset_mems, setup.available_mems),
    ):
        if wanted:
            option = "cpuset cpus" if name == "CPUs" else "cpuset mems"
            try:
                missing = parse_cpuset(wanted) - parse_cpuset(available)
            except ValueError:
                raise BadRequest(f"Invalid value {wanted} for {option}") from None
            if missing:
                raise BadRequest(f"Requested {name} are not available - requested {wanted}, available: {available}")


def parse_cpuset(text: str) -> set[int]:
    """``0-2,7`` as a set. Raises ``ValueError``."""
    numbers: set[int] = set()
    for part in text.strip().split(","):
        first, dash, last = part.partition("-")
        low = int(first)
        high = int(last) if dash else low
        if not 0 <= low <= high < 8192:
            raise ValueError(text)
        numbers.update(range(low, high + 1))
    return numbers


def _check_log(host: HostConfig) -> None:
    if host.log_config is None or not host.log_config.type:
        host.log_config = LogConfig(
            type="json-file", config=(host.log_config.config if host.log_config else None) or {}
        )
    driver = host.log_config.type
    if driver not in LOG_OPTIONS:
        raise BadRequest(f'error looking up logging plugin {driver}: plugin "{driver}" not found')
    known = LOG_OPTIONS[driver]
    if host.log_config.config is None:
        host.log_config.config = {}
    for option in host.log_config.config:
        if known is not None and option not in known:
            raise BadRequest(f"unknown log opt '{option}' for {driver} log driver")


def check_security_opts(options: list[str] | None) -> None:
    """CRE28. Raises ``BadRequest``."""
    for option in options or []:
        if option in ("no-new-privileges", "no-new-privileges:true", "no-new-privileges=true", "disable"):
            continue
        key, separator, value = option.partition("=")
        if not separator:
            key, separator, value = option.partition(":")
        if not separator:
            raise BadRequest(f'invalid --security-opt 1: "{option}"')
        if key == "no-new-privileges":
            if value.lower() not in ("true", "false", "1", "0"):
                raise BadRequest(f'invalid --security-opt 2: "{option}"')
        elif key == "seccomp":
            try:
                check_profile(value)
            except InvalidProfile as error:
                raise BadRequest(f"invalid --security-opt 2: {error}") from None
        elif key not in ("apparmor", "label", "systempaths"):
            raise BadRequest(f'invalid --security-opt 2: "{option}"')


def _check_network_mode(config: ContainerConfig, host: HostConfig) -> list[str]:
    """CRE18."""
    mode = host.network_mode or "default"
    if mode.startswith("container:"):
        if mode == "container:":
            raise BadRequest("invalid network mode: a container's name or id must follow container:")
        network = "conflicting options: {} and the network mode"
        if config.hostname:
            raise BadRequest(network.format("hostname"))
        if host.links:
            raise BadRequest(
                "conflicting options: container type network can't be used with links. This would result in undefined behavior"
            )
        if host.dns:
            raise BadRequest(network.format("dns"))
        if host.extra_hosts:
            raise BadRequest("conflicting options: custom host-to-IP mapping and the network mode")
        if config.mac_address:
            raise BadRequest("conflicting options: mac-address and the network mode")
        if host.port_bindings or host.publish_all_ports:
            raise BadRequest("conflicting options: port publishing and the container type network mode")
        if config.exposed_ports:
            raise BadRequest("conflicting options: port exposing and the container type network mode")
    if mode == "host":
        if host.links:
            raise BadRequest(
                "conflicting options: host type networking can't be used with links. This would result in undefined behavior"
            )
        if host.port_bindings:
            return ["Published ports are discarded when using host network mode"]
    if host.uts_mode == "host" and config.hostname:
        raise BadRequest("conflicting options: hostname and the UTS mode")
    if host.uts_mode not in ("", "host"):
        raise BadRequest(f"invalid UTS mode: {host.uts_mode}")
    return []


def log_limits(host: HostConfig) -> tuple[int, int, bool]:
    """(max size in bytes or 0, number of files, compress) of the log driver's options.

    A bad value passes create and fails start (CRE16): raises ``ServerError``.
    """
    config = (host.log_config.config if host.log_config else None) or {}
    size_text = config.get("max-size", "20m" if host.log_config and host.log_config.type == "local" else "")
    files_text = config.get("max-file", "5" if host.log_config and host.log_config.type == "local" else "1")
    try:
        size = parse_size(size_text) if size_text and size_text != "-1" else 0
    except ValueError:
        raise ServerError(f"failed to initialize logging driver: invalid size: '{size_text}'") from None
    try:
        files = int(files_text)
    except ValueError:
        raise ServerError(
            f'failed to initialize logging driver: strconv.Atoi: parsing "{files_text}": invalid syntax'
        ) from None
    if files < 1:
        raise ServerError("failed to initialize logging driver: max-file cannot be less than 1")
    compress = config.get("compress", "false").lower() in ("true", "1", "t")
    return size, files, compress


def parse_size(text: str) -> int:
    """``10m``, ``2kb``, ``1.5g`` in bytes, by powers of 1024. Raises ``ValueError``."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmgtp]?)i?b?", text.strip().lower())
    if not match:
        raise ValueError(text)
    return int(float(match[1]) * 1024 ** " kmgtp".index(match[2] or " "))
