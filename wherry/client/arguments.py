"""What callers may pass, brought into the API's form. No I/O; both colours use it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, TypeAlias, Union, get_args, get_origin

import msgspec

from wherry.api.models.containers import (
    ContainerConfig,
    ContainerCreateRequest,
    ContainerUpdateRequest,
    HostConfig,
    PortBinding,
)
from wherry.api.models.host import RestartPolicy
from wherry.api.models.networks import NetworkingConfig
from wherry.api.query import Filters

if TYPE_CHECKING:
    from datetime import datetime, timedelta

    from wherry.client.options import CreateOptions, UpdateOptions

FilterArgument = Mapping[str, "str | int | bool | Sequence[str]"]
"""Filters: a name to its value or values, such as ``{"status": "running", "label": ["a=1", "b"]}``."""

Moment: TypeAlias = Union[str, int, float, "datetime", "timedelta"]
"""A time: seconds since the epoch, a datetime, a timedelta for so long ago, or a text: RFC 3339, a date, ``10m`` or ``1h30m``
for so long ago."""


_CONFIG_FIELDS = frozenset(ContainerConfig.__struct_fields__)
_SIZES = frozenset(
    "memory memory_swap memory_reservation kernel_memory kernel_memory_tcp io_maximum_bandwidth shm_size".split()
)
_UNITS = {"": 1, "b": 1} | {
    f"{letter}{rest}": 1 << 10 * power for power, letter in enumerate("kmgtp", 1) for rest in ("", "b", "ib")
}
_KNOWN = _CONFIG_FIELDS | frozenset(HostConfig.__struct_fields__) | {"ports"}


def create_request(
    image: str | None,
    command: str | Sequence[str] | None,
    config: ContainerConfig | None,
    host_config: HostConfig | None,
    networking_config: NetworkingConfig | None,
    options: CreateOptions,
) -> ContainerCreateRequest:
    """The body of ContainerCreate; what is given by name goes over what is in the structs, which are not changed.

    Raises ``ValueError`` without an image and for a text that is no size or policy, ``TypeError`` for an option that
    does not exist, and for a text where several are meant.

    >>> create_request("busybox", "echo hi", None, None, None, {}).cmd
    ['echo', 'hi']
    """
    request = ContainerCreateRequest(
        host_config=_copy(host_config) or HostConfig(), networking_config=networking_config
    )
    if config is not None:
        for name in ContainerConfig.__struct_fields__:
            setattr(request, name, getattr(config, name))
        if config.__dict__.get("_extra"):
            request.extra.update(config.extra)
        if isinstance(config, ContainerCreateRequest):
            if host_config is None and config.host_config is not None:
                request.host_config = _copy(config.host_config)
            if networking_config is None:
                request.networking_config = config.networking_config
    host = request.host_config
    assert host is not None
    if image is not None:
        request.image = image
    if not request.image:
        raise ValueError("a container needs an image")
    if command is not None:
        request.cmd = split_command(command)
    given: dict[str, Any] = dict(options)
    if unknown := given.keys() - _KNOWN:
        raise TypeError(
            f"{', '.join(sorted(unknown))}: no such option; the full set is in config=ContainerConfig(…) "
            "and host_config=HostConfig(…)"
        )
    for name, value in given.items():
        if value is None:
            continue
        if isinstance(value, str) and name in _several():
            # a type checker takes a text for a sequence of texts, and "/data" would be five volumes
            raise TypeError(f"{name} must be a list, not one text: [{value!r}]")
        if name == "env":
            request.env = env_list(value)
        elif name == "ports":
            _publish(request, host, value)
        elif name in ("exposed_ports", "volumes"):
            setattr(request, name, dict(value) if isinstance(value, Mapping) else {item: {} for item in value})
        else:
            target = request if name in _CONFIG_FIELDS else host
            setattr(target, name, _value(name, value))
    return request


@cache
def _several() -> frozenset[str]:
    """The names of the settings that are lists, or sets given as lists."""

    def is_list(type_: Any) -> bool:
        return get_origin(type_) is list or any(get_origin(one) is list for one in get_args(type_))

    fields = (*msgspec.structs.fields(ContainerConfig), *msgspec.structs.fields(HostConfig))
    return frozenset(field.name for field in fields if is_list(field.type)) | {"exposed_ports", "volumes"}


def update_request(update: ContainerUpdateRequest | None, options: UpdateOptions) -> ContainerUpdateRequest:
    """The body of ContainerUpdate; what is given by name goes over what is in the struct, which is not changed.

    Raises ``TypeError`` for an option that does not exist, ``ValueError`` for a text that is no size or policy.

    >>> update_request(None, {"memory": "64m"}).memory
    67108864
    """
    request = ContainerUpdateRequest() if update is None else msgspec.structs.replace(update)
    if update is not None and update.__dict__.get("_extra"):
        request.extra.update(update.extra)
    given: dict[str, Any] = dict(options)
    if unknown := given.keys() - set(ContainerUpdateRequest.__struct_fields__):
        raise TypeError(f"{', '.join(sorted(unknown))}: no such option of update")
    for name, value in given.items():
        if value is not None:
            setattr(request, name, _value(name, value))
    return request


def size_in_bytes(size: int | str) -> int:
    """A size as bytes. Raises ``ValueError``.

    >>> size_in_bytes("64m"), size_in_bytes("1.5GiB"), size_in_bytes("-1"), size_in_bytes(512)
    (67108864, 1610612736, -1, 512)
    """
    if isinstance(size, int):
        return size
    text = size.strip().lower()
    if text == "-1":
        return -1
    number = text.rstrip("bkmgtpi ")
    unit = text[len(number) :].strip()
    if unit in _UNITS and number.replace(".", "", 1).isdecimal():
        return int(float(number) * _UNITS[unit]) if "." in number else int(number) * _UNITS[unit]
    raise ValueError(f"{size!r} is no size: give bytes, or a text such as 64m or 1.5g")


def restart_policy_of(text: str) -> RestartPolicy:
    """``no``, ``always``, ``unless-stopped`` or ``on-failure[:N]``. Raises ``ValueError``.

    >>> restart_policy_of("on-failure:3").maximum_retry_count
    3
    """
    name, colon, count = text.partition(":")
    if colon and not count.isdecimal():
        raise ValueError(f"{text!r} is no restart policy: no, always, unless-stopped or on-failure[:N]")
    return RestartPolicy(name=name, maximum_retry_count=int(count or 0))


def split_command(command: str | Sequence[str]) -> list[str]:
    """A command as a list. A text is split at blanks as a shell would, and nothing else of a shell happens to it."""
    if not isinstance(command, str):
        return list(command)
    import shlex

    return shlex.split(command)


def env_list(env: Mapping[str, str | None] | Sequence[str]) -> list[str]:
    """Variables as ``KEY=value``; a value of None is ``KEY`` alone, which removes it.

    >>> env_list({"A": "1", "B": None})
    ['A=1', 'B']
    """
    if isinstance(env, Mapping):
        return [key if value is None else f"{key}={value}" for key, value in env.items()]
    return list(env)


def filters_of(filters: FilterArgument | None) -> Filters | None:
    """Filters in the API's form, None where there are none.

    >>> filters_of({"status": "running", "dangling": True})
    {'status': ['running'], 'dangling': ['true']}
    """
    if not filters:
        return None
    return {name: _filter_values(value) for name, value in filters.items()}


def seconds_text(moment: Moment | None) -> str | None:
    """A time as the API has it: seconds since the epoch with an optional fraction. Raises ``ValueError``."""
    if moment is None:
        return None
    from wherry.client.moments import to_seconds

    return to_seconds(moment)


def _filter_values(value: str | int | bool | Sequence[str]) -> list[str]:
    if isinstance(value, bool):
        return ["true" if value else "false"]
    if isinstance(value, (str, int)):
        return [str(value)]
    return [str(item) for item in value]


def _publish(request: ContainerCreateRequest, host: HostConfig, ports: Mapping[str | int, Any]) -> None:
    exposed = dict(request.exposed_ports or {})
    bindings = dict(host.port_bindings or {})
    for port, places in ports.items():
        key = str(port) if "/" in str(port) else f"{port}/tcp"
        exposed[key] = {}
        bindings[key] = [_binding(place) for place in (places if _is_several(places) else [places])]
    request.exposed_ports = exposed
    host.port_bindings = bindings


def _is_several(places: Any) -> bool:
    """A tuple that begins with a text is an address and its port."""
    if isinstance(places, tuple):
        return not (len(places) == 2 and isinstance(places[0], str))
    return isinstance(places, Sequence) and not isinstance(places, str)


def _binding(place: Any) -> PortBinding:
    if place is None:
        return PortBinding()
    if isinstance(place, PortBinding):
        return place
    if isinstance(place, tuple):
        return PortBinding(host_ip=str(place[0]), host_port=str(place[1]))
    ip, _, port = str(place).rpartition(":")
    return PortBinding(host_ip=ip.strip("[]"), host_port=port)


def _value(name: str, value: Any) -> Any:
    if name in _SIZES:
        return size_in_bytes(value)
    if name == "restart_policy" and isinstance(value, str):
        return restart_policy_of(value)
    return _plain(value)


def _copy(config: HostConfig | None) -> HostConfig | None:
    if config is None:
        return None
    copied = msgspec.structs.replace(config)
    if config.__dict__.get("_extra"):
        copied.extra.update(config.extra)
    return copied


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, (str, bytes)) or not isinstance(value, Sequence):
        return value
    return list(value)
