"""What networks and endpoints there are: rows in the database, held in memory with the addresses in use."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

import msgspec

from wherry.api.errors import BadRequest, NotFound
from wherry.engine.networks.ipam import Addresses, Subnet
from wherry.engine.networks.records import ENDPOINT, NETWORK, EndpointRecord, NetworkRecord
from wherry.engine.store.database import Database


class Catalog:
    """A record is changed by its owner and saved here; nothing here waits."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.networks: dict[str, NetworkRecord] = {}
        self._endpoints: dict[str, list[EndpointRecord]] = {}  # by container
        self._pools: dict[str, Addresses] = {}  # by network
        self._pools6: dict[str, Addresses] = {}

    def load(self) -> None:
        """Read every row; called once."""
        decode = msgspec.json.decode
        for _, _, body in self.database.all(NETWORK):
            network = decode(body, type=NetworkRecord)
            self.networks[network.id] = network
        for _, _, body in self.database.all(ENDPOINT):
            endpoint = decode(body, type=EndpointRecord)
            self._endpoints.setdefault(endpoint.container, []).append(endpoint)

    # networks

    def find(self, name: str) -> NetworkRecord:
        """The network of this id, name or beginning of an id.

        Raises ``NotFound`` and, for the beginning of several ids, ``BadRequest``.
        """
        found = self.networks.get(name) or self.networks.get(self.database.named(NETWORK, name) or "")
        if found is None or found.pending:
            begin = [record for record in self.visible() if name and record.id.startswith(name)]
            if len(begin) > 1:
                raise BadRequest(f"network {name} is ambiguous ({len(begin)} matches found based on ID prefix)")
            if not begin:
                raise NotFound(f"network {name} not found")
            return begin[0]
        return found

    def visible(self) -> list[NetworkRecord]:
        """The networks that are there, neither half made nor half gone."""
        return [record for record in self.networks.values() if not record.pending]

    def save_network(self, record: NetworkRecord) -> None:
        """Raises ``NameTaken``."""
        self.database.put(NETWORK, record.id, msgspec.json.encode(record), record.name)
        self.networks[record.id] = record

    def forget_network(self, record: NetworkRecord) -> None:
        self.database.delete(NETWORK, record.id)
        self.networks.pop(record.id, None)
        self.forget_pool(record)

    def subnets(self, but: NetworkRecord | None = None) -> Sequence[Subnet]:
        """The subnets of all networks but one."""
        others = [record for record in self.networks.values() if record is not but and not record.config_only]
        found: list[Subnet] = [record.network for record in others if record.subnet]
        return found + [record.six.network for record in others if record.six]

    # endpoints

    def __iter__(self) -> Iterator[EndpointRecord]:
        return (record for records in list(self._endpoints.values()) for record in list(records))

    def containers(self) -> list[str]:
        return list(self._endpoints)

    def of(self, container: str) -> list[EndpointRecord]:
        """A container's endpoints, in the order in which they were made."""
        return list(self._endpoints.get(container, ()))

    def within(self, network: NetworkRecord) -> list[EndpointRecord]:
        return [record for record in self if record.network == network.id]

    def save(self, *records: EndpointRecord) -> None:
        """Write endpoints' rows, all or none."""
        with self.database.transaction():
            for record in records:
                self.database.put(ENDPOINT, record.id, msgspec.json.encode(record))
        for record in records:
            siblings = self._endpoints.setdefault(record.container, [])
            if record not in siblings:
                siblings.append(record)

    def forget(self, *records: EndpointRecord) -> None:
        """Delete endpoints' rows; their addresses are free."""
        with self.database.transaction():
            for record in records:
                self.database.delete(ENDPOINT, record.id)
        for record in records:
            siblings = self._endpoints.get(record.container, [])
            if record in siblings:
                siblings.remove(record)
            if not siblings:
                self._endpoints.pop(record.container, None)
            if record.address and record.network in self._pools:
                self._pools[record.network].release(record.interface.ip)
            if record.interface6 and record.network in self._pools6:
                self._pools6[record.network].release(record.interface6.ip)

    # addresses

    def pool(self, network: NetworkRecord) -> Addresses:
        """The addresses of a network with a subnet."""
        pool = self._pools.get(network.id)
        if pool is None:
            pool = self._pools[network.id] = Addresses(
                network.network,
                network.gateway.ip,
                IPv4Network(network.ip_range) if network.ip_range else None,
                [IPv4Address(address) for address in network.auxiliary.values()],
            )
        return pool

    def pool6(self, network: NetworkRecord) -> Addresses | None:
        """The IPv6 addresses of a network, None if it has none."""
        six = network.six
        if six is None:
            return None
        pool = self._pools6.get(network.id)
        if pool is None:
            pool = self._pools6[network.id] = Addresses(
                six.network,
                six.gateway.ip,
                IPv6Network(six.ip_range) if six.ip_range else None,
                [IPv6Address(address) for address in six.auxiliary.values()],
            )
        return pool

    def forget_pool(self, network: NetworkRecord) -> None:
        """The network's subnet was exchanged."""
        self._pools.pop(network.id, None)
        self._pools6.pop(network.id, None)
