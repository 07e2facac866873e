"""Which subnet a network gets, and which address a container gets in it. Pure: it only remembers and computes."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
)

Address = IPv4Address | IPv6Address
Interface = IPv4Interface | IPv6Interface
Subnet = IPv4Network | IPv6Network

# dockerd's default pools, in its order
POOLS: tuple[IPv4Network, ...] = (
    *(IPv4Network((f"172.{second}.0.0", 16)) for second in range(17, 32)),
    *IPv4Network("192.168.0.0/16").subnets(new_prefix=20),
)


class NoAddress(Exception):
    """No free subnet, or no free address in one; the text says which."""


class NotInSubnet(NoAddress):
    """The address that was asked for is none for containers of this network."""


def choose_subnet(occupied: Iterable[Subnet]) -> IPv4Network:
    """The first pool that overlaps none of ``occupied``; a default route does not count. Raises ``NoAddress``."""
    nets = [net for net in occupied if net.prefixlen and isinstance(net, IPv4Network)]
    for pool in POOLS:
        if not any(pool.overlaps(net) for net in nets):
            return pool
    raise NoAddress(
        "could not find an available, non-overlapping IPv4 address pool among the defaults to assign to the network"
    )


def choose_subnet6(id: str, occupied: Iterable[Subnet]) -> IPv6Network:
    """A /64 of the unique local addresses (RFC 4193) whose random part is taken from a network's id, and which overlaps
    none of ``occupied``. Raises ``NoAddress``."""
    nets = [net for net in occupied if net.prefixlen and isinstance(net, IPv6Network)]
    for start in range(len(id) - 9):
        net = IPv6Network((int(f"fd{id[start : start + 10]}", 16) << 80, 64))
        if not any(net.overlaps(other) for other in nets):
            return net
    raise NoAddress(
        "could not find an available, non-overlapping IPv6 address pool among the defaults to assign to the network"
    )


def mac_for(address: IPv4Address) -> str:
    """The MAC address that goes with an address, as moby forms it: 172.17.0.2 is 02:42:ac:11:00:02."""
    return "02:42:" + ":".join(f"{byte:02x}" for byte in address.packed)


class Addresses:
    """The addresses of one subnet; its first is the gateway's unless another is given.

    They are chosen from ``ip_range`` if there is one; outside it only those are in use that are asked for. ``reserved``
    ones are never given.

    Addresses are given in rotation, so that one that was just freed rests as long as it can: the old container's link
    may still be on its way out, and peers remember it. A container that starts again gets its last one back if it is
    free, as it would with moby.
    """

    def __init__(
        self,
        subnet: Subnet,
        gateway: Address | None = None,
        ip_range: Subnet | None = None,
        reserved: Collection[Address] = (),
    ) -> None:
        if subnet.prefixlen > subnet.max_prefixlen - 2:
            raise ValueError(f"no room for containers in {subnet}")
        self.subnet = subnet
        self.gateway = self._interface(int(gateway or subnet.network_address + 1))
        # IPv6 has no broadcast, but the subnet's first address means any of its routers
        ends = (subnet.network_address, subnet.broadcast_address)[: 2 if subnet.version == 4 else 1]
        self._reserved = {int(address) for address in (*ends, self.gateway.ip, *reserved)}
        pool = ip_range or subnet
        self._first = int(pool.network_address)
        self._count = pool.num_addresses
        self._next = 0
        self._taken: set[int] = set()
        self._last: dict[str, int] = {}  # by owner, bounded

    def __len__(self) -> int:
        return len(self._taken)

    def allocate(self, owner: str) -> Interface:
        """A free address for a container's id. Raises ``NoAddress`` when there is none."""
        number = self._last.get(owner)
        if number is None or number in self._taken:
            number = self._rotate()
        self._taken.add(number)
        self._remember(owner, number)
        return self._interface(number)

    def take(self, address: Address, owner: str) -> None:
        """Mark an address as in use, as an earlier engine gave it. Raises ``NoAddress`` when it can't be."""
        number = int(address)
        if address not in self.subnet:
            raise NotInSubnet(f"Invalid address {address}: It does not belong to any of this network's subnets")
        if number in self._taken or number in self._reserved:
            raise NoAddress("Address already in use")
        self._taken.add(number)
        self._remember(owner, number)
        if 0 <= number - self._first < self._count:
            self._next = max(self._next, number - self._first + 1) % self._count

    def release(self, address: Address) -> None:
        """Free an address; nothing happens if it is free."""
        self._taken.discard(int(address))

    def _interface(self, number: int) -> Interface:
        kind = IPv4Interface if self.subnet.version == 4 else IPv6Interface
        return kind((number, self.subnet.prefixlen))

    def _rotate(self) -> int:
        for step in range(self._count):
            offset = (self._next + step) % self._count
            if self._first + offset not in self._taken and self._first + offset not in self._reserved:
                self._next = (offset + 1) % self._count
                return self._first + offset
        raise NoAddress(
            f"no available IPv{self.subnet.version} addresses on this network's address pool: {self.subnet}"
        )

    def _remember(self, owner: str, number: int) -> None:
        self._last.pop(owner, None)
        self._last[owner] = number
        if len(self._last) > 1024:
            del self._last[next(iter(self._last))]
