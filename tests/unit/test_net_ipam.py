"""Subnets and addresses."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

import pytest

from wherry.engine.networks.ipam import POOLS, Addresses, NoAddress, NotInSubnet, choose_subnet, choose_subnet6, mac_for


def test_the_first_pool_that_overlaps_nothing() -> None:
    assert str(choose_subnet([IPv4Network("0.0.0.0/0")])) == "172.17.0.0/16"
    occupied = [IPv4Network("172.17.0.0/16"), IPv4Network("172.18.4.0/24"), IPv4Network("172.18.0.0/15")]
    assert str(choose_subnet(occupied)) == "172.20.0.0/16"
    assert str(choose_subnet([IPv4Network("172.16.0.0/12")])) == "192.168.0.0/20"
    with pytest.raises(NoAddress, match="non-overlapping IPv4 address pool"):
        choose_subnet(POOLS)


def test_an_ipv6_subnet_is_unique_and_local() -> None:
    id = "0123456789abcdef" * 4
    assert str(choose_subnet6(id, [])) == "fd01:2345:6789::/64"
    assert str(choose_subnet6(id, [IPv6Network("fd01::/16"), IPv6Network("::/0")])) == "fd12:3456:789a::/64"
    with pytest.raises(NoAddress, match="non-overlapping IPv6 address pool"):
        choose_subnet6(id, [IPv6Network("fd00::/8")])


def test_ipv6_addresses() -> None:
    pool = Addresses(IPv6Network("fd00::/64"), None, IPv6Network("fd00::fffe/127"), [IPv6Address("fd00::5")])
    assert str(pool.gateway) == "fd00::1/64"
    assert [str(pool.allocate(owner)) for owner in "ab"] == ["fd00::fffe/64", "fd00::ffff/64"]
    with pytest.raises(NoAddress, match="no available IPv6 addresses"):
        pool.allocate("c")
    for taken in ("fd00::", "fd00::1", "fd00::5", "fd00::ffff"):
        with pytest.raises(NoAddress, match="Address already in use"):
            pool.take(IPv6Address(taken), "c")
    with pytest.raises(NotInSubnet):
        pool.take(IPv6Address("fd01::7"), "c")
    last = IPv6Address("fd00::ffff:ffff:ffff:ffff")
    pool.take(last, "c")
    pool.release(last)
    wide = Addresses(IPv6Network("fd00::/16"))
    assert str(wide.allocate("a").ip) == "fd00::2", "also of very many"


def test_mac_addresses_follow_from_addresses() -> None:
    assert mac_for(IPv4Address("172.17.0.2")) == "02:42:ac:11:00:02"


def test_addresses_rotate_and_owners_get_theirs_back() -> None:
    pool = Addresses(IPv4Network("10.0.0.0/29"))
    assert str(pool.gateway) == "10.0.0.1/29"
    given = [str(pool.allocate(owner).ip) for owner in "abcde"]
    assert given == ["10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.5", "10.0.0.6"]
    with pytest.raises(NoAddress, match="no available IPv4 addresses"):
        pool.allocate("f")
    for address in given[:3]:
        pool.release(IPv4Address(address))
    pool.release(IPv4Address(given[0]))
    assert str(pool.allocate("b").ip) == "10.0.0.3"
    assert str(pool.allocate("f").ip) == "10.0.0.2"
    assert str(pool.allocate("a").ip) == "10.0.0.4", "its own was given away meanwhile"
    assert len(pool) == 5


def test_a_freed_address_rests() -> None:
    pool = Addresses(IPv4Network("10.0.0.0/24"))
    first = pool.allocate("a")
    pool.release(first.ip)
    assert pool.allocate("b") != first


def test_addresses_of_an_earlier_engine_are_taken() -> None:
    pool = Addresses(IPv4Network("10.0.0.0/24"))
    pool.take(IPv4Address("10.0.0.2"), "a")
    assert str(pool.allocate("b").ip) == "10.0.0.3"
    for bad in ("10.0.0.2", "10.0.0.1", "10.0.0.255", "10.0.1.2"):
        with pytest.raises(NoAddress):
            pool.take(IPv4Address(bad), "c")


def test_a_subnet_without_room_is_refused() -> None:
    with pytest.raises(ValueError, match="no room"):
        Addresses(IPv4Network("10.0.0.0/31"))


def test_a_range_a_gateway_and_reserved_addresses() -> None:
    pool = Addresses(
        IPv4Network("10.0.0.0/24"), IPv4Address("10.0.0.129"), IPv4Network("10.0.0.128/30"), [IPv4Address("10.0.0.128")]
    )
    assert str(pool.gateway) == "10.0.0.129/24"
    assert [str(pool.allocate(owner)) for owner in "ab"] == ["10.0.0.130/24", "10.0.0.131/24"]
    with pytest.raises(NoAddress, match="no available"):
        pool.allocate("c")
    pool.take(IPv4Address("10.0.0.7"), "c")
    for taken in ("10.0.0.7", "10.0.0.128", "10.0.0.129"):
        with pytest.raises(NoAddress, match="Address already in use"):
            pool.take(IPv4Address(taken), "d")
    with pytest.raises(NotInSubnet, match="It does not belong to any of this network's subnets"):
        pool.take(IPv4Address("10.0.1.7"), "d")
