"""What NetworkCreate asks for, checked and made a network's row. Pure."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable, Mapping, Sequence
from ipaddress import IPv4Address, IPv6Network, ip_address, ip_network

from msgspec import UNSET

from wherry.api.errors import BadRequest, Forbidden, NotFound, NotImplementedYet, Unavailable
from wherry.api.models.networks import IPAM, IPAMConfig, NetworkCreateRequest
from wherry.engine.networks.ipam import Address, Subnet
from wherry.engine.networks.netlink import NAME_LIMIT
from wherry.engine.networks.records import BRIDGE, HOST, NULL, NetworkRecord, Pool6

PREDEFINED = ("bridge", "host", "none", "default")
_BRIDGE_NAME = "com.docker.network.bridge.name"
_ICC = "com.docker.network.bridge.enable_icc"
_MASQUERADE = "com.docker.network.bridge.enable_ip_masquerade"
_HOST_BINDING = "com.docker.network.bridge.host_binding_ipv4"
_IPV6_MTU = 1280  # on a link with less the kernel ends IPv6
_MTU = "com.docker.network.driver.mtu"
# what a network has from the configuration-only one that it follows
_OF_CONFIGURATIONS = "labels subnet subnet_given gateway_address ip_range auxiliary ipam_options ipv6 pool6".split()
_INTERFACE = re.compile(r"[^\s/:\x00-\x1f]+\Z")
_TRUE = ("1", "t", "T", "TRUE", "true", "True")
_FALSE = ("0", "f", "F", "FALSE", "false", "False")


def define(request: NetworkCreateRequest, id: str, created: int, others: Iterable[NetworkRecord]) -> NetworkRecord:
    """The row of a new network, without a bridge's name or a subnet where none was asked for.

    Raises ``BadRequest``, ``Forbidden`` (predefined, or in conflict with one of ``others``), ``NotFound`` (a driver),
    ``NotImplementedYet``, ``Unavailable`` (a swarm's).
    """
    name = request.name
    if name in PREDEFINED:
        raise Forbidden(f"operation is not permitted on predefined {name} network ")
    if not name.strip():
        raise BadRequest("invalid name: name is empty")
    if any(ord(letter) < 32 for letter in name) or "/" in name or len(name) > 255:
        raise BadRequest(f"invalid name: {name!r}")
    _check_kind(request)
    others = list(others)
    source = _source(request, others)
    options = (source.options if source else request.options) or {}
    record = NetworkRecord(
        id=id,
        name=name,
        driver=NULL if request.config_only else BRIDGE,
        config_only=request.config_only,
        config_from=source.name if source else "",
        created=created,
        labels=dict(request.labels or {}),
        options=dict(options),
        internal=request.internal,
        attachable=request.attachable,
        ipv6=bool(request.enable_ipv6),
        bridge=_interface(options.get(_BRIDGE_NAME, "")),
        icc=_boolean(options, _ICC),
        masquerade=_boolean(options, _MASQUERADE),
        host_binding=_host_binding(options),
        mtu=_mtu(options),
        pending=True,
    )
    _addresses(record, request.ipam or IPAM())
    if source is not None:
        for field in _OF_CONFIGURATIONS:
            setattr(record, field, copy.copy(getattr(source, field)))
    if record.ipv6 and 0 < record.mtu < _IPV6_MTU:
        raise BadRequest(f'invalid value for {_MTU}: "{record.mtu}": IPv6 needs {_IPV6_MTU} bytes')
    if not record.config_only:
        _check_conflicts(record, others)
    return record


def _source(request: NetworkCreateRequest, others: Sequence[NetworkRecord]) -> NetworkRecord | None:
    """The configuration-only network that is to be followed, None for a network of its own settings."""
    wanted = request.config_from.network if request.config_from is not None else ""
    if request.config_only:
        if request.internal or request.attachable or request.ingress or request.scope:
            raise Forbidden(
                "configuration network can only contain network specific fields. Network operator fields like "
                "[ ingress | internal | attachable | scope ] are not supported."
            )
        if wanted:
            raise Forbidden("a configuration network cannot depend on another configuration network")
    if not wanted:
        return None
    ipam = request.ipam or IPAM()
    if request.labels or request.enable_ipv6 or ipam.config or ipam.options or ipam.driver not in ("", "default"):
        raise Forbidden(
            "user specified configurations are not supported if the network depends on a configuration network"
        )
    if request.options:
        raise Forbidden("network driver options are not supported if the network depends on a configuration network")
    for other in others:
        if other.config_only and other.name == wanted and not other.pending:
            return other
    raise NotFound(f'configuration network "{wanted}" does not exist')


def _check_kind(request: NetworkCreateRequest) -> None:
    if request.config_only:
        return  # a driver is named by the network that follows it
    driver = request.driver or BRIDGE
    if driver in (HOST, NULL):
        raise Forbidden(f'only one instance of "{driver}" network is allowed')
    if driver == "overlay" or request.scope in ("swarm", "global") or request.ingress:
        raise Unavailable(
            'This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" to connect this node to swarm '
            "and try again."
        )
    if driver != BRIDGE:
        raise NotFound(f'plugin "{driver}" not found')
    if request.scope not in ("", "local"):
        raise BadRequest(f"invalid scope: {request.scope}")
    if request.enable_ipv4 is False:
        raise NotImplementedYet("networks without IPv4 are not there yet")


def _boolean(options: Mapping[str, str], key: str) -> bool:
    text = options.get(key)
    if text in (None, "") or text in _TRUE:
        return True
    if text in _FALSE:
        return False
    raise BadRequest(f'invalid value for {key}: "{text}" is not true or false')


def _interface(name: str) -> str:
    if name and (len(name.encode()) > NAME_LIMIT or not _INTERFACE.match(name) or name in (".", "..")):
        raise BadRequest(f'invalid bridge name: "{name}"')
    return name


def _host_binding(options: Mapping[str, str]) -> str:
    text = options.get(_HOST_BINDING, "")
    if not text:
        return ""
    try:
        return str(IPv4Address(text))
    except ValueError:
        raise BadRequest(f'invalid value for {_HOST_BINDING}: "{text}"') from None


def _mtu(options: Mapping[str, str]) -> int:
    text = options.get(_MTU, "")
    if not text:
        return 0
    if not re.fullmatch(r"[0-9]{1,5}", text) or (int(text) and not 68 <= int(text) <= 65535):
        raise BadRequest(f'invalid value for {_MTU}: "{text}"')
    return int(text)


def _addresses(record: NetworkRecord, ipam: IPAM) -> None:
    if ipam.driver not in ("", "default"):
        raise NotFound(f'plugin "{ipam.driver}" not found')
    record.ipam_options = None if ipam.options is None else dict(ipam.options)
    pools = [pool for pool in ipam.config or () if pool.subnet or pool.ip_range or pool.gateway]
    read = [_pool(pool) for pool in pools]
    for version in (4, 6):
        if sum(subnet.version == version for subnet, _ in read) > 1:
            raise Forbidden("bridge driver doesn't support multiple subnets")
    for subnet, pool6 in read:
        if subnet.version == 6:
            record.pool6 = pool6
        else:
            record.subnet, record.subnet_given = pool6.subnet, True
            record.gateway_address, record.ip_range = pool6.gateway_address, pool6.ip_range
            record.auxiliary = pool6.auxiliary


def _pool(pool: IPAMConfig) -> tuple[Subnet, Pool6]:
    """The subnet, and what is asked for in it; of IPv4 too in a ``Pool6``."""
    if not pool.subnet:
        raise BadRequest("invalid network config:\ninvalid subnet : a gateway or an ip-range needs a subnet")
    subnet = _net(pool.subnet, "subnet")
    if (
        subnet.prefixlen > subnet.max_prefixlen - 2
        or subnet.prefixlen < 8
        or subnet.is_loopback
        or subnet.is_multicast
        or subnet.is_link_local
    ):
        raise BadRequest(f"invalid network config:\ninvalid subnet {subnet}: not a subnet for containers")
    found = Pool6(subnet=str(subnet))
    if pool.ip_range:
        ip_range = _net(pool.ip_range, "ip-range", strict=False)
        if ip_range.version != subnet.version or not ip_range.subnet_of(subnet):  # type: ignore[arg-type]
            raise BadRequest(f"invalid network config:\ninvalid ip-range {pool.ip_range}: it is not in subnet {subnet}")
        found.ip_range = str(ip_range)
    if pool.gateway:
        found.gateway_address = str(_member(pool.gateway, subnet, "gateway"))
    if pool.auxiliary_addresses is not UNSET:
        found.auxiliary = {
            name: str(_member(text, subnet, f"auxiliary address {name}"))
            for name, text in (pool.auxiliary_addresses or {}).items()
        }
    return subnet, found


def default_pool6(subnet: str) -> Pool6:
    """The IPv6 addresses of the default bridge. Raises ``BadRequest`` for what is no IPv6 subnet."""
    net, pool = _pool(IPAMConfig(subnet=subnet))
    if net.version != 6:
        raise BadRequest(f"{subnet} is no subnet of IPv6")
    return pool


def _net(text: str, what: str, *, strict: bool = True) -> Subnet:
    """``text`` in CIDR form; a strict one has no bits set behind its prefix."""
    try:
        if "/" not in text:
            raise ValueError
        net = ip_network(text, strict=False)
        if isinstance(net, IPv6Network) and "%" in text:
            raise ValueError
    except ValueError:
        raise BadRequest(f"invalid network config:\ninvalid {what} {text}: invalid CIDR block notation") from None
    if strict and net.network_address != ip_address(text.partition("/")[0]):
        raise BadRequest(f"invalid network config:\ninvalid {what} {text}: it should be {net}")
    return net


def _member(text: str, subnet: Subnet, what: str) -> Address:
    try:
        address = ip_address(text)
    except ValueError:
        raise BadRequest(f"invalid network config:\ninvalid {what} {text}: invalid address") from None
    if address not in subnet:
        raise BadRequest(f"invalid network config:\ninvalid {what} {text}: it is not in subnet {subnet}")
    if address == subnet.network_address or (address.version == 4 and address == subnet.broadcast_address):
        raise BadRequest(f"invalid network config:\ninvalid {what} {text}: it is the subnet's own")
    return address


def _check_conflicts(record: NetworkRecord, others: Iterable[NetworkRecord]) -> None:
    for other in others:
        if other.config_only:
            continue
        if (record.subnet and other.subnet and record.network.overlaps(other.network)) or (
            record.six and other.six and record.six.network.overlaps(other.six.network)
        ):
            raise Forbidden("Pool overlaps with other one on this address space")
        if record.bridge and record.bridge == other.bridge:
            raise Forbidden(
                f"cannot create network {record.id} ({record.bridge}): conflicts with network {other.id} ({other.bridge}): "
                "networks have same bridge name"
            )
