"""Whether a container's settings make sense: checks and defaults of create and update (CRE8 to CRE20, CRE28).

Resource limits have a file of their own: limits.py.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping

from msgspec import UNSET

from wherry.api.errors import BadRequest, ServerError
from wherry.api.models.containers import (
    ContainerConfig,
    EndpointSettings,
    HealthConfig,
    HostConfig,
    LogConfig,
    RestartPolicy,
)
from wherry.engine.containers.limits import check_resources
from wherry.engine.oci.capabilities import check_capabilities
from wherry.engine.oci.cgroups import CgroupSetup
from wherry.engine.oci.limits import NAMES as ULIMITS
from wherry.engine.oci.seccomp import InvalidProfile, check_profile
from wherry.engine.oci.signals import parse_signal
from wherry.engine.oci.spec import MASKED_PATHS, READONLY_PATHS

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
_PORT = re.compile(r"([0-9]{1,5})(?:-([0-9]{1,5}))?(?:/(tcp|udp|sctp))?", re.IGNORECASE)
_BOOLEANS = frozenset("1 t T TRUE true True 0 f F FALSE false False".split())


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
    if version < (1, 44):
        health.start_interval = UNSET
    for name, value in (
        ("Interval", health.interval),
        ("Timeout", health.timeout),
        ("StartPeriod", health.start_period),
        ("StartInterval", health.start_interval),
    ):
        if value and value < MILLISECOND:
            raise BadRequest(f"{name} in Healthcheck cannot be less than 1ms")
    if (health.retries or 0) < 0:
        raise BadRequest("Retries in Healthcheck cannot be negative")


def parse_port(text: str) -> tuple[int, int, str]:
    """``80``, ``80/udp`` or ``80-90/tcp`` as (first, last, protocol)."""
    match = _PORT.fullmatch(text)
    if match:
        first = int(match[1])
        last = int(match[2] or first)
        if 0 < first <= last <= 65535 or first == last == 0:
            return first, last, (match[3] or "tcp").lower()
    raise BadRequest(f'invalid port specification: "{text.partition("/")[0]}"')


def check_host_config(
    config: ContainerConfig, host: HostConfig, setup: CgroupSetup, runtimes: list[str], version: tuple[int, int]
) -> list[str]:
    """Check the host's part, write the defaults that inspect shows (CRE14), and return the warnings."""
    _forget_the_future(host, version)
    warnings = _check_network_mode(config, host)
    check_restart_policy(host.restart_policy, auto_remove=host.auto_remove)
    warnings += check_resources(host, setup)
    check_capabilities(host.cap_add, "CapAdd")
    check_capabilities(host.cap_drop, "CapDrop")
    _check_log(host)
    if host.runtime and host.runtime not in runtimes:
        raise BadRequest(f"unknown or invalid runtime name: {host.runtime}")
    check_security_opts(host.security_opt)
    _check_modes(host)
    _check_ports(host)
    for entry in host.extra_hosts or []:
        check_extra_host(entry)
    if host.shm_size < 0:
        raise BadRequest("SHM size can not be less than 0")
    if not -1000 <= host.oom_score_adj <= 1000:
        raise BadRequest(f"Invalid value {host.oom_score_adj}, range for oom score adj is [-1000, 1000]")
    for ulimit in host.ulimits or []:
        if ulimit.name.lower() not in ULIMITS:
            raise BadRequest(f"invalid ulimit type: {ulimit.name[:100]}")
    if host.storage_opt:
        raise BadRequest("--storage-opt is supported only for overlay over xfs with 'pquota' mount option")
    if "\0" in host.cgroup_parent:
        raise BadRequest("invalid cgroup parent: it contains a NUL byte")
    _set_defaults(host, setup, version)
    return warnings


def _forget_the_future(host: HostConfig, version: tuple[int, int]) -> None:
    """What the asked-for version of the API does not know (yet, or any more) is as if it were not there."""
    if version < (1, 42):
        host.console_size = (0, 0)
    else:
        host.kernel_memory = UNSET
    if version < (1, 43):
        host.annotations = UNSET


def _check_modes(host: HostConfig) -> None:
    for kind, mode, words in (
        ("IPC mode", host.ipc_mode, ("", "none", "private", "shareable", "host")),
        ("PID mode", host.pid_mode, ("", "host")),
        ("cgroup namespace mode", host.cgroupns_mode, ("", "private", "host")),
        ("userns mode", host.userns_mode, ("", "host")),
    ):
        joined = kind in ("IPC mode", "PID mode") and mode.startswith("container:") and mode != "container:"
        if mode not in words and not joined:
            raise BadRequest(f"invalid {kind}: {mode}")
    if host.isolation.lower() not in ("", "default"):
        raise BadRequest(f"invalid isolation: \"{host.isolation}\" - linux only supports 'default'")


def _check_ports(host: HostConfig) -> None:
    """CRE20: the container's port is one, the host's may be a range or empty."""
    for port, bindings in (host.port_bindings or {}).items():
        first, last, _ = parse_port(port)
        if "-" in port or first != last:
            raise BadRequest(f'invalid port specification: "{port.partition("/")[0]}"')
        for binding in bindings or []:
            if binding.host_port:
                try:
                    parse_port(binding.host_port)
                except BadRequest:
                    raise BadRequest(f'invalid port specification: "{binding.host_port}"') from None


def check_extra_host(entry: str) -> None:
    """``name:address`` or ``name:host-gateway``. Raises ``BadRequest``."""
    name, colon, address = entry.partition(":")
    if not name or not colon:
        raise BadRequest(f'bad format for add-host: "{entry}"')
    if address != "host-gateway" and not _is_address(address):
        raise BadRequest(f'invalid IP address in add-host: "{address}"')


def check_endpoints(endpoints: Mapping[str, EndpointSettings], version: tuple[int, int]) -> None:
    """The networks asked for at create (CRE19). Raises ``BadRequest``."""
    if len(endpoints) > 1 and version < (1, 44):
        raise BadRequest(f"Container cannot be connected to network endpoints: {', '.join(sorted(endpoints))}")
    for endpoint in endpoints.values():
        asked = endpoint.ipam_config
        if asked is None:
            continue
        if asked.ipv4_address and not _is_address(asked.ipv4_address, 4):
            raise BadRequest(f"invalid IPv4 address: {asked.ipv4_address}")
        if asked.ipv6_address and not _is_address(asked.ipv6_address, 6):
            raise BadRequest(f"invalid IPv6 address: {asked.ipv6_address}")


def _is_address(text: str, family: int = 0) -> bool:
    try:
        address = ipaddress.ip_address(text.strip())
    except ValueError:
        return False
    return family in (0, address.version)


def _set_defaults(host: HostConfig, setup: CgroupSetup, version: tuple[int, int]) -> None:
    host.shm_size = host.shm_size or DEFAULT_SHM
    host.ipc_mode = host.ipc_mode or ("private" if version >= (1, 40) else "shareable")
    host.network_mode = host.network_mode or "default"
    if not host.cgroupns_mode:
        host.cgroupns_mode = "private" if setup.version == 2 else "host"
    if host.restart_policy is None:
        host.restart_policy = RestartPolicy()
    if host.oom_kill_disable is None:
        host.oom_kill_disable = False
    unconfined = "systempaths=unconfined" in (host.security_opt or [])
    labelled = any(re.match("label[:=]", option) for option in host.security_opt or [])
    if not labelled and (host.privileged or "host" in (host.ipc_mode, host.pid_mode)):
        # SELinux, where it is, would otherwise keep apart what is meant to be shared
        host.security_opt = [*(host.security_opt or []), "label=disable"]
    if host.masked_paths is None and not host.privileged:
        host.masked_paths = [] if unconfined else list(MASKED_PATHS)
    if host.readonly_paths is None and not host.privileged:
        host.readonly_paths = [] if unconfined else list(READONLY_PATHS)
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
    if policy.maximum_retry_count and policy.name not in ("", "on-failure"):
        raise BadRequest(f"maximum retry count cannot be used with restart policy '{policy.name}'")
    if policy.maximum_retry_count < 0 and policy.name:
        raise BadRequest("maximum retry count cannot be negative")
    if auto_remove and policy.name not in ("", "no"):
        raise BadRequest("can't create 'AutoRemove' container with restart policy")


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
            if value not in _BOOLEANS:
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
    if host.uts_mode == "host" and config.hostname:
        raise BadRequest("conflicting options: hostname and the UTS mode")
    if host.uts_mode not in ("", "host"):
        raise BadRequest(f"invalid UTS mode: {host.uts_mode}")
    if mode == "container" or mode.startswith("container:"):
        if mode in ("container", "container:"):
            raise BadRequest("invalid network mode: invalid container format container:<name|id>")
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
    return []


def log_limits(host: HostConfig) -> tuple[int, int, bool]:
    """(max size in bytes or 0, number of files, compress) of the log driver's options.

    A bad value passes create and fails start (CRE16): raises ``ServerError``.
    """
    config = host.log_config.config or {}
    local = host.log_config.type == "local"
    size_text = config.get("max-size", "20m" if local else "")
    files_text = config.get("max-file", "5" if local else "1")
    compress_text = config.get("compress", "true" if local else "false")
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
    if compress_text not in _BOOLEANS:
        raise ServerError(
            f'failed to initialize logging driver: strconv.ParseBool: parsing "{compress_text}": invalid syntax'
        )
    compress = compress_text[0] in "1tT"
    if compress and not local and (files == 1 or not size):
        raise ServerError(
            "failed to initialize logging driver: compress cannot be true when max-file is less than 2 or max-size is not set"
        )
    return size, files, compress


def parse_size(text: str) -> int:
    """``10m``, ``2kb``, ``1.5g`` in bytes, by powers of 1024. Raises ``ValueError``."""
    match = re.fullmatch(r"([0-9]{1,15}(?:\.[0-9]{1,15})?)\s*([kmgtp]?)i?b?", text.strip().lower())
    if not match:
        raise ValueError(text)
    return int(float(match[1]) * 1024 ** " kmgtp".index(match[2] or " "))
