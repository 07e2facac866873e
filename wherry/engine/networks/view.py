"""Networks as NetworkList and NetworkInspect show them, and the filters of the list. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from datetime import UTC, datetime

from msgspec import UNSET

from wherry.api.errors import BadRequest
from wherry.api.models.networks import IPAM, ConfigReference, IPAMConfig, Network, NetworkContainer
from wherry.engine.networks.records import BRIDGE, EndpointRecord, NetworkRecord, Pool6
from wherry.engine.regexp import Patterns

Filters = Mapping[str, list[str]]

_FILTERS = ("dangling", "driver", "id", "label", "name", "scope", "type")


def _time(nanoseconds: int) -> str:
    seconds, rest = divmod(nanoseconds, 1_000_000_000)
    text = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    fraction = f"{rest:09d}".rstrip("0")
    return f"{text}.{fraction}Z" if fraction else f"{text}Z"


def describe(
    record: NetworkRecord, endpoints: Iterable[EndpointRecord] = (), container_names: Mapping[str, str] | None = None
) -> Network:
    """A network's model; ``endpoints`` are the running containers' to show."""
    names = container_names or {}
    pools = []
    options = {}
    if record.driver == BRIDGE or record.config_only:
        if record.subnet:
            pools.append(_pool(record, record.subnet_given, record.gateway_address, str(record.gateway.ip)))
        if record.pool6:
            pools.append(
                _pool(record.pool6, record.pool6.given, record.pool6.gateway_address, str(record.pool6.gateway.ip))
            )
        options = (
            record.options
            if record.user_defined
            else {
                "com.docker.network.bridge.default_bridge": "true" if record.default else "false",
                "com.docker.network.bridge.enable_icc": "true",
                "com.docker.network.bridge.enable_ip_masquerade": "true",
                "com.docker.network.bridge.host_binding_ipv4": "0.0.0.0",
                "com.docker.network.bridge.name": record.bridge,
            }
        )
    return Network(
        name=record.name,
        id=record.id,
        created=_time(record.created),
        scope="local",
        driver=record.driver,
        enable_ipv6=record.ipv6,
        internal=record.internal,
        attachable=record.attachable,
        config_from=ConfigReference(network=record.config_from),
        config_only=record.config_only,
        ipam=IPAM(driver="default", options=record.ipam_options, config=pools),
        containers={
            endpoint.container: NetworkContainer(
                name=names.get(endpoint.container, ""),
                endpoint_id=endpoint.id,
                mac_address=endpoint.mac,
                ipv4_address=endpoint.address,
                ipv6_address=endpoint.address6,
            )
            for endpoint in endpoints
        },
        options=options,
        labels=dict(record.labels),
    )


def _pool(pool: NetworkRecord | Pool6, given: bool, gateway_given: str, gateway: str) -> IPAMConfig:
    """What was asked for is shown as it was, without the gateway that the engine chose (as moby)."""
    return IPAMConfig(
        subnet=pool.subnet,
        ip_range=pool.ip_range or UNSET,
        gateway=(gateway_given or UNSET) if given else gateway,
        auxiliary_addresses=pool.auxiliary or UNSET,
    )


def select(records: Iterable[NetworkRecord], filters: Filters, in_use: Collection[str]) -> list[NetworkRecord]:
    """The networks that a list with these filters shows; ``in_use`` are ids of networks with running containers.

    Raises ``BadRequest`` for a key or a value that isn't known (P7).
    """
    for key in filters:
        if key not in _FILTERS:
            raise BadRequest(f"invalid filter '{key}'")
    return [record for record in records if all(_match(record, key, filters[key], in_use) for key in filters)]


def _match(record: NetworkRecord, key: str, values: list[str], in_use: Collection[str]) -> bool:
    if not values:
        return True
    if key == "driver":
        return record.driver in values
    if key == "scope":
        return "local" in values
    if key == "id":
        return any(record.id.startswith(value) for value in values)
    if key == "name":
        return Patterns(values).search(record.name)
    if key == "label":
        pairs = (value.partition("=") for value in values)
        return all(
            name in record.labels and (not equals or record.labels[name] == wanted) for name, equals, wanted in pairs
        )
    if key == "type":
        for value in values:
            if value not in ("builtin", "custom"):
                raise BadRequest(f"invalid filter: 'type'='{value}'")
        return ("builtin" if record.default else "custom") in values
    dangling = not record.default and record.id not in in_use
    return dangling == _truth(values)


def _truth(values: list[str]) -> bool:
    """Raises ``BadRequest`` for values that say neither, or both."""
    true, false = not {"1", "true"}.isdisjoint(values), not {"0", "false"}.isdisjoint(values)
    if true == false:
        raise BadRequest(f"invalid filter 'dangling=[{' '.join(values)}]'")
    return true
