"""What NetworkCreate may ask for."""

from __future__ import annotations

from typing import Any

import pytest

from wherry.api.errors import ApiError, BadRequest, Forbidden, NotFound, Unavailable
from wherry.api.models.networks import IPAM, ConfigReference, IPAMConfig, NetworkCreateRequest
from wherry.engine.networks.definition import define
from wherry.engine.networks.records import NetworkRecord, Pool6
from wherry.engine.networks.view import describe

OTHER = NetworkRecord(
    id="o" * 64, name="other", driver="bridge", created=0, subnet="172.18.0.0/16", bridge="br-other", ipv6=True,
    pool6=Pool6(subnet="fd12::/64"),
)  # fmt: skip


def make(**asked: Any) -> NetworkRecord:
    return define(NetworkCreateRequest(**{"name": "own", **asked}), "a" * 64, 1, [OTHER])


def pool(**config: Any) -> dict[str, Any]:
    return {"ipam": IPAM(config=[IPAMConfig(**config)])}


def test_a_plain_network_leaves_the_choice_to_the_engine() -> None:
    record = make()
    assert (record.subnet, record.bridge, record.internal, record.pending) == ("", "", False, True)
    assert record.icc
    assert record.masquerade
    assert make(**pool()).subnet == ""


def test_everything_that_can_be_asked_for() -> None:
    options = {
        "com.docker.network.bridge.name": "br-own",
        "com.docker.network.bridge.enable_icc": "false",
        "com.docker.network.bridge.enable_ip_masquerade": "0",
        "com.docker.network.bridge.host_binding_ipv4": "127.0.0.1",
        "com.docker.network.driver.mtu": "1400",
        "of.somebody.else": "x",
    }
    config = {
        "subnet": "10.9.0.0/24",
        "ip_range": "10.9.0.64/26",
        "gateway": "10.9.0.9",
        "auxiliary_addresses": {"a": "10.9.0.5"},
    }
    record = make(internal=True, attachable=True, labels={"l": ""}, options=options, **pool(**config))
    assert (record.bridge, record.icc, record.masquerade, record.host_binding, record.mtu) == (
        "br-own", False, False, "127.0.0.1", 1400,
    )  # fmt: skip
    assert str(record.gateway) == "10.9.0.9/24"
    assert not record.leads_out
    shown = describe(record)
    assert (shown.internal, shown.attachable, shown.labels, shown.options) == (True, True, {"l": ""}, options)
    assert shown.ipam.config == [IPAMConfig(**config)]


def test_ipv6() -> None:
    config = {"subnet": "fd00:1::/64", "ip_range": "fd00:1::8000/113", "auxiliary_addresses": {"a": "fd00:1::8001"}}
    record = make(enable_ipv6=True, **pool(**config))
    assert record.six
    assert (record.subnet, str(record.six.gateway), record.six.ip_range) == ("", "fd00:1::1/64", "fd00:1::8000/113")
    shown = describe(record)
    assert (shown.enable_ipv6, shown.ipam.config) == (True, [IPAMConfig(**config)])
    both = make(
        enable_ipv6=True, ipam=IPAM(config=[IPAMConfig(subnet="fd00:1::/64"), IPAMConfig(subnet="10.9.0.0/24")])
    )
    assert [one.subnet for one in describe(both).ipam.config or ()] == ["10.9.0.0/24", "fd00:1::/64"]
    without = make(**pool(subnet="fd12::/64"))
    assert without.six is None, "asked for and shown, as with moby, but not used"
    assert [one.subnet for one in describe(without).ipam.config or ()] == ["fd12::/64"]
    assert make(enable_ipv6=True).pool6 is None, "chosen when it is made"


@pytest.mark.parametrize(
    ("asked", "error", "text"),
    [
        ({"name": "bridge"}, Forbidden, "operation is not permitted on predefined bridge network "),
        ({"name": "default"}, Forbidden, "predefined default network"),
        ({"name": " "}, BadRequest, "invalid name: name is empty"),
        ({"name": "a\nb"}, BadRequest, "invalid name"),
        ({"driver": "host"}, Forbidden, 'only one instance of "host" network is allowed'),
        ({"driver": "macvlan"}, NotFound, 'plugin "macvlan" not found'),
        ({"driver": "overlay"}, Unavailable, "not a swarm manager"),
        ({"scope": "swarm"}, Unavailable, "not a swarm manager"),
        ({"config_only": True, "internal": True}, Forbidden, "can only contain network specific fields"),
        ({"config_only": True, "config_from": ConfigReference(network="x")}, Forbidden, "cannot depend on another"),
        ({"config_from": ConfigReference(network="x")}, NotFound, 'configuration network "x" does not exist'),
        ({"config_from": ConfigReference(network="x"), "labels": {"a": ""}}, Forbidden, "user specified configurations"),
        ({"config_from": ConfigReference(network="x"), "options": {"a": ""}}, Forbidden, "network driver options"),
        ({"ipam": IPAM(driver="dhcp")}, NotFound, 'plugin "dhcp" not found'),
        (pool(subnet="10.9.0.0"), BadRequest, "invalid subnet 10.9.0.0: invalid CIDR block notation"),
        (pool(subnet="10.9.0.1/24"), BadRequest, "invalid subnet 10.9.0.1/24: it should be 10.9.0.0/24"),
        (pool(subnet="10.9.0.0/31"), BadRequest, "not a subnet for containers"),
        (pool(subnet="127.0.0.0/8"), BadRequest, "not a subnet for containers"),
        (pool(subnet="10.9.0.0/24", ip_range="fd00::/80"), BadRequest, "it is not in subnet"),
        (pool(subnet="fd00::/127"), BadRequest, "not a subnet for containers"),
        (pool(subnet="fe80::/64"), BadRequest, "not a subnet for containers"),
        (pool(subnet="ff00::/64"), BadRequest, "not a subnet for containers"),
        (pool(subnet="fd00::1/64"), BadRequest, "it should be fd00::/64"),
        (pool(subnet="fd00::/64", gateway="10.9.0.1"), BadRequest, "it is not in subnet"),
        (pool(subnet="fd00::/64", gateway="fd00::"), BadRequest, "it is the subnet's own"),
        ({"enable_ipv6": True, "options": {"com.docker.network.driver.mtu": "1279"}}, BadRequest, "IPv6 needs 1280"),
        ({"enable_ipv6": True, **pool(subnet="fd12::/48")}, Forbidden, "Pool overlaps with other one"),
        (
            {"ipam": IPAM(config=[IPAMConfig(subnet="10.9.0.0/24"), IPAMConfig(subnet="10.8.0.0/24")])},
            Forbidden,
            "bridge driver doesn't support multiple subnets",
        ),
        (pool(gateway="10.9.0.1"), BadRequest, "needs a subnet"),
        (pool(subnet="10.9.0.0/24", gateway="10.8.0.1"), BadRequest, "invalid gateway 10.8.0.1: it is not in subnet"),
        (pool(subnet="10.9.0.0/24", gateway="10.9.0.255"), BadRequest, "it is the subnet's own"),
        (pool(subnet="10.9.0.0/24", ip_range="10.8.0.0/25"), BadRequest, "it is not in subnet"),
        (pool(subnet="172.18.4.0/24"), Forbidden, "Pool overlaps with other one on this address space"),
        ({"options": {"com.docker.network.bridge.name": "br-other"}}, Forbidden, "networks have same bridge name"),
        ({"options": {"com.docker.network.bridge.name": "a/b"}}, BadRequest, "invalid bridge name"),
        ({"options": {"com.docker.network.bridge.name": "x" * 16}}, BadRequest, "invalid bridge name"),
        ({"options": {"com.docker.network.bridge.enable_icc": "maybe"}}, BadRequest, "not true or false"),
        ({"options": {"com.docker.network.driver.mtu": "-1"}}, BadRequest, "driver.mtu"),
        ({"options": {"com.docker.network.bridge.host_binding_ipv4": "x"}}, BadRequest, "host_binding"),
    ],
)  # fmt: skip
def test_what_is_refused(asked: dict[str, Any], error: type[ApiError], text: str) -> None:
    with pytest.raises(error, match=text):
        make(**asked)
