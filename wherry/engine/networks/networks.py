"""The networks of an engine, and containers' places in them.

Three networks are always there: ``bridge``, ``host`` and ``none``. An engine that never ran a container on a bridge
leaves the host as it found it: bridge, table and forwarding are set up for the first container that needs them.

Every step is safe against the engine's death. An endpoint's row, with its address, link name and ports, is written
before the kernel is asked for anything, and deleted after everything is taken back; ``recover`` compares the rows and
the kernel's objects, told by the engine's tag in their names, with the containers that live. A container's network goes
on without the engine: namespaces, links and rules stay, only the sockets that hold host ports close, and ``recover``
opens them again.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import secrets
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import msgspec

from wherry.api.errors import ApiError, BadRequest, Forbidden, NotFound, ServerError
from wherry.api.models.networks import EndpointSettings, Network, PortMap
from wherry.engine.blocking import in_thread
from wherry.engine.events import Events
from wherry.engine.networks import bridge, netns, view
from wherry.engine.networks.bridge import Attachment
from wherry.engine.networks.facts import NetworkFacts
from wherry.engine.networks.ipam import Addresses, NoAddress, choose_subnet, mac_for
from wherry.engine.networks.netlink import mac_bytes
from wherry.engine.networks.nftables import NftError
from wherry.engine.networks.ports import HostPorts, PortError, Published, Wish, parse_wishes, port_map
from wherry.engine.networks.records import (
    BRIDGE,
    ENDPOINT,
    HOST,
    NETWORK,
    NULL,
    Endpoint,
    EndpointRecord,
    NetworkRecord,
)
from wherry.engine.networks.rules import Rules
from wherry.engine.store.database import Database
from wherry.engine.store.layout import Layout

log = logging.getLogger(__name__)

DEFAULT = "bridge"
_PREDEFINED = ((DEFAULT, BRIDGE), ("host", HOST), ("none", NULL))


class Networks:
    """All methods are for the engine's loop; those that wait for the kernel are coroutines."""

    def __init__(self, layout: Layout, database: Database, events: Events) -> None:
        self._layout = layout
        self._database = database
        self._events = events
        self._tag = layout.tag
        self._rules = Rules(layout.tag)
        self._ports = HostPorts()
        self._networks: dict[str, NetworkRecord] = {}
        self._endpoints: dict[str, list[EndpointRecord]] = {}  # by container
        self._addresses: dict[str, Addresses] = {}  # by network
        self._ready: set[str] = set()  # networks whose bridge is up
        self._setup = asyncio.Lock()

    # life

    async def start(self) -> None:
        """Load the networks, and make the three that are always there. ``recover`` comes next."""
        decode = msgspec.json.decode
        for _, _, body in self._database.all(NETWORK):
            record = decode(body, type=NetworkRecord)
            self._networks[record.id] = record
        for name, driver in _PREDEFINED:
            if self._database.named(NETWORK, name) is None:
                self._put_network(
                    NetworkRecord(
                        id=secrets.token_hex(32), name=name, driver=driver, created=time.time_ns(), default=True
                    )
                )
        for _, _, body in self._database.all(ENDPOINT):
            endpoint = decode(body, type=EndpointRecord)
            self._endpoints.setdefault(endpoint.container, []).append(endpoint)
        for record in self._networks.values():
            if record.driver == BRIDGE and not record.subnet:
                await self._elect_subnet(record)

    async def recover(self, live: Collection[str]) -> None:
        """Make the host hold what the containers ``live`` (full ids) need, and nothing else that carries our tag.

        Never raises for what the host refuses: it is logged, and a container is worse off by just that.
        """
        stale = [self._endpoints.pop(container) for container in [*self._endpoints] if container not in live]
        used: set[str] = set()
        for records in self._endpoints.values():
            for record in records:
                used.add(record.network)
                self._readopt(record)
        for network in self._networks.values():
            if network.driver != BRIDGE:
                continue
            try:
                there = bool(await in_thread(bridge.link_names, network.bridge))
                if there or network.id in used:
                    await self._ensure(network, restore=True)
            except (ApiError, OSError) as error:
                log.error("network %s could not be restored: %s", network.name, error)
        try:
            links = {record.veth for record in self._records()}
            await in_thread(bridge.sweep, self._layout.netns, set(live), f"v{self._tag}", links)
        except OSError as error:
            log.error("left-over links could not be removed: %s", error)
        with self._database.transaction():
            for records in stale:
                for record in records:
                    self._database.delete(ENDPOINT, record.id)

    async def close(self, remove: bool = False) -> None:
        """Let go of sockets; with ``remove`` also take away everything on the host, containers' networks included."""
        if remove:
            for container in [*self._endpoints]:
                await self.release(container)
            await self._take_away()
        self._ports.close()
        await self._rules.close()

    async def _take_away(self) -> None:
        await in_thread(bridge.sweep, self._layout.netns, set(), f"v{self._tag}", set())
        # the bridge goes last: as long as it is there, recover looks for the rest
        bridges = await in_thread(bridge.link_names, f"wh-{self._tag}")
        if bridges:
            try:
                await self._rules.remove()
            except NftError as error:
                log.error("nftables rules left over: %s", error)
        for name in bridges:
            await in_thread(bridge.remove_link, name)
        self._ready.clear()

    # looking

    @property
    def gateway(self) -> str:
        """The address of the host on the default bridge: what ``host-gateway`` means. Empty while it has none."""
        record = self._find(DEFAULT)
        return str(record.gateway.ip) if record.subnet else ""

    def get(self, name: str) -> NetworkRecord:
        """The network of this id, name or beginning of an id; ``default`` is the bridge.

        Raises ``NotFound`` and, for the beginning of several ids, ``BadRequest``.
        """
        return self._find(DEFAULT if name == "default" else name)

    def list(self, filters: view.Filters | None = None) -> Sequence[Network]:
        """NetworkList. Raises ``BadRequest`` for a filter that isn't one."""
        keep = view.select(self._networks.values(), filters or {}, {record.network for record in self._records()})
        return [view.describe(record) for record in sorted(keep, key=lambda record: record.created)]

    def inspect(self, name: str, container_names: Mapping[str, str] | None = None) -> Network:
        """NetworkInspect, with its running containers; ``container_names`` maps their ids to names.

        Raises as ``get``.
        """
        record = self.get(name)
        return view.describe(record, [e for e in self._records() if e.network == record.id], container_names or {})

    def endpoints(self, container: str) -> Sequence[Endpoint]:
        """What a container has now; empty when it does not run."""
        return [self._endpoint(record) for record in self._endpoints.get(container, ())]

    def sandbox(self, container: str) -> Path:
        """Where a container's network namespace is mounted while it runs."""
        return self._layout.netns / container

    async def facts(self) -> NetworkFacts:
        """What this machine gives, for ``info`` and ``doctor``."""
        return await self._rules.facts()

    # containers

    async def create_sandbox(self, container: str) -> Path:
        """A fresh network namespace with its loopback up. ``connect`` makes one too, in the same go as the link.

        Raises ``ServerError``.
        """
        path = self.sandbox(container)
        try:
            await netns.to_the_end(netns.in_own_thread(lambda: bridge.build(path, None)))
        except OSError as error:
            raise ServerError(f"network namespace: {error}") from None
        return path

    async def connect(
        self,
        container: str,
        sandbox: Path | None,
        network: str,
        asked: EndpointSettings | None = None,
        *,
        name: str = "",
        hostname: str = "",
        bindings: PortMap | None = None,
        exposed: Iterable[str] | None = None,
        publish_all: bool = False,
    ) -> Endpoint:
        """Give a container its place in a network, making its namespace if there is none, and publish its ports.

        ``sandbox`` is what ``create_sandbox`` gave; with None the namespace is made here, which is faster. ``name``
        is the container's, for messages. On failure, and when cancelled, nothing is left; a namespace that was there
        before stays. Emits ``network connect``. Raises ``NotFound``, ``BadRequest``, and ``ServerError`` with
        moby's texts for ports and addresses that can't be had (STA3).
        """
        target = self.get(network)
        path = sandbox or self.sandbox(container)
        name = name or hostname or container[:12]
        if any(record.network == target.id for record in self._endpoints.get(container, ())):
            raise Forbidden(f"endpoint with name {name} already exists in network {target.name}")
        wishes, only_exposed = parse_wishes(bindings, exposed, publish_all)
        held = netns.is_held(path)
        record = EndpointRecord(id=secrets.token_hex(32), container=container, network=target.id)
        if target.driver == BRIDGE:
            await self._ensure(target)
            record.only_exposed = only_exposed
            self._reserve(record, target, asked or EndpointSettings(), wishes, name)
        try:
            self._database.put(ENDPOINT, record.id, msgspec.json.encode(record))
            number = len(self._endpoints.setdefault(container, []))
            self._endpoints[container].append(record)
            if target.driver != HOST:
                await self._build(record, target, path, number)
        except BaseException as error:
            await self._undo(record, None if held else path)
            if isinstance(error, OSError | NftError):
                raise ServerError(f"failed to set up the network of {name}: {error}") from None
            raise
        self._emit("connect", record, target)
        return self._endpoint(record)

    async def release(self, container: str) -> None:
        """Take back all that a container has: ports and addresses are free on return, its namespace is dropped.

        Idempotent. Emits ``network disconnect``. What the host refuses is logged and left to ``recover``.
        """
        await netns.to_the_end(self._release(container))

    async def _release(self, container: str) -> None:
        records = self._endpoints.get(container, [])
        path = self.sandbox(container)
        if records or path.exists():
            ports = [port for record in records for port in record.ports]
            await in_thread(self._withdraw, ports, path)
        for record in records:
            self._forget(record)
            if record.network in self._networks:
                self._emit("disconnect", record, self._networks[record.network])
        self._endpoints.pop(container, None)

    # parts of connect

    def _reserve(
        self, record: EndpointRecord, network: NetworkRecord, asked: EndpointSettings, wishes: Sequence[Wish], name: str
    ) -> None:
        """Take an address and host ports, or raise with nothing taken."""
        if asked.ipam_config and asked.ipam_config.ipv4_address and network.default:
            raise BadRequest("user specified IP address is supported on user defined networks only")
        # with an endpoint's id it isn't a wish, but what an earlier run had: it went with that run's address
        mac = "" if asked.endpoint_id else asked.mac_address
        if mac:
            try:
                mac_bytes(mac)
            except ValueError as error:
                raise BadRequest(str(error)) from None
        addresses = self._addresses[network.id]
        try:
            if asked.ipam_config and asked.ipam_config.ipv4_address:
                wanted = IPv4Address(asked.ipam_config.ipv4_address)
                addresses.take(wanted, record.container)
                record.address = f"{wanted}/{addresses.subnet.prefixlen}"
            else:
                record.address = str(addresses.allocate(record.container))
        except NoAddress as error:
            raise ServerError(str(error)) from None
        except ValueError:
            raise BadRequest(f"invalid IPv4 address: {asked.ipam_config}") from None
        record.mac = mac or mac_for(record.interface.ip)
        record.veth = f"v{self._tag}{secrets.token_hex(3)}"
        try:
            record.ports = self._ports.allocate(wishes)
        except PortError as error:
            addresses.release(record.interface.ip)
            text = f"driver failed programming external connectivity on endpoint {name} ({record.id}): {error}"
            raise ServerError(text) from None

    async def _build(self, record: EndpointRecord, network: NetworkRecord, path: Path, number: int) -> None:
        try:
            await self._build_once(record, network, path, number)
        except OSError as error:
            # the bridge was taken away behind our back, or a name was drawn twice: once more, from the ground
            if network.driver != BRIDGE or error.errno not in (errno.ENODEV, errno.EEXIST, errno.EINVAL):
                raise
            self._ready.discard(network.id)
            await self._ensure(network)
            record.veth = f"v{self._tag}{secrets.token_hex(3)}"
            self._database.put(ENDPOINT, record.id, msgspec.json.encode(record))
            await self._build_once(record, network, path, number)

    async def _build_once(self, record: EndpointRecord, network: NetworkRecord, path: Path, number: int) -> None:
        attachment = None
        if network.driver == BRIDGE:
            attachment = Attachment(
                bridge=network.bridge,
                veth=record.veth,
                address=record.interface,
                gateway=network.gateway,
                mac=record.mac,
                number=number,
            )
        ports = dict.fromkeys(record.ports, record.interface.ip) if record.ports else {}

        def work() -> None:
            # first, for the library may only now open its socket, which must be the host's namespace's
            self._rules.publish(ports)
            bridge.build(path, attachment)

        await netns.to_the_end(netns.in_own_thread(work))

    async def _undo(self, record: EndpointRecord, path: Path | None) -> None:
        """After a failed connect; ``path`` is the namespace to drop, None if it was there before."""

        def work() -> None:
            self._withdraw(record.ports, path)
            if path is None and record.veth:
                bridge.remove_link(record.veth)

        try:
            await netns.to_the_end(in_thread(work))
        except OSError as error:
            log.error("link left over: %s", error)
        siblings = self._endpoints.get(record.container, [])
        if record in siblings:
            siblings.remove(record)
        if not siblings:
            self._endpoints.pop(record.container, None)
        self._forget(record)

    def _withdraw(self, ports: Sequence[Published], path: Path | None) -> None:
        try:
            self._rules.unpublish(ports)
        except NftError as error:
            log.error("published ports could not be withdrawn: %s", error)
        try:
            if path is not None:
                netns.drop(path)
        except OSError as error:
            log.error("network namespace left over: %s", error)

    def _forget(self, record: EndpointRecord) -> None:
        self._ports.release(record.ports)
        if record.address and record.network in self._addresses:
            self._addresses[record.network].release(record.interface.ip)
        self._database.delete(ENDPOINT, record.id)

    # bridges

    async def _elect_subnet(self, record: NetworkRecord) -> None:
        """Name a subnet, to be shown and claimed by the first container; without one now, it is chosen then."""
        record.bridge = record.bridge or f"wh-{self._tag}"
        try:
            subnet = choose_subnet([*await in_thread(bridge.occupied, record.bridge), *self._reserved(record)])
            record.subnet = str(subnet)
        except (OSError, NoAddress) as error:
            log.warning("no subnet for network %s: %s", record.name, error)
        self._put_network(record)

    async def _ensure(self, network: NetworkRecord, *, restore: bool = False) -> None:
        """Bridge, table, forwarding: there on return. Raises ``ServerError`` with what the machine refuses."""
        if network.id in self._ready and not restore:
            return
        async with self._setup:
            if network.id in self._ready and not restore:
                return
            try:
                await self._ensure_bridge(network)
                ports = {
                    port: record.interface.ip for record in self._records() for port in record.ports if record.address
                }
                ready = {*self._ready, network.id}
                served = {other.bridge: other.network for other in self._networks.values() if other.id in ready}
                await self._rules.restore(served, ports)
            except (OSError, NftError, NoAddress) as error:
                raise ServerError(f"failed to set up network {network.name}: {error}") from None
            self._ready.add(network.id)

    async def _ensure_bridge(self, network: NetworkRecord) -> None:
        subnet = await in_thread(
            bridge.claim,
            network.bridge,
            bridge.bridge_mac(self._tag),
            network.network if network.subnet else None,
            in_use=any(record.network == network.id for record in self._records()),
            reserved=self._reserved(network),
        )
        if str(subnet) != network.subnet:
            network.subnet = str(subnet)
            self._addresses.pop(network.id, None)
            self._put_network(network)
        self._pool(network)

    def _reserved(self, network: NetworkRecord) -> Sequence[IPv4Network]:
        return [other.network for other in self._networks.values() if other.subnet and other.id != network.id]

    def _pool(self, network: NetworkRecord) -> Addresses:
        pool = self._addresses.get(network.id)
        if pool is None:
            pool = self._addresses[network.id] = Addresses(network.network)
        return pool

    # recovery

    def _readopt(self, record: EndpointRecord) -> None:
        network = self._networks.get(record.network)
        if network is None or network.driver != BRIDGE:
            return
        if not netns.is_held(self.sandbox(record.container)):
            log.warning("container %s has lost its network namespace's mount", record.container[:12])
        try:
            self._pool(network).take(record.interface.ip, record.container)
        except NoAddress as error:
            log.warning("container %s: %s", record.container[:12], error)
        for port in record.ports:
            try:
                self._ports.hold(port)
            except PortError as error:
                log.warning("container %s keeps its port, but cannot hold it: %s", record.container[:12], error)

    # small things

    def _find(self, name: str) -> NetworkRecord:
        if name in self._networks:
            return self._networks[name]
        known = self._database.named(NETWORK, name)
        if known is not None:
            return self._networks[known]
        found = [record for id, record in self._networks.items() if name and id.startswith(name)]
        if len(found) > 1:
            raise BadRequest(f"network {name} is ambiguous ({len(found)} matches found based on ID prefix)")
        if not found:
            raise NotFound(f"network {name} not found")
        return found[0]

    def _records(self) -> Iterable[EndpointRecord]:
        return (record for records in self._endpoints.values() for record in records)

    def _put_network(self, record: NetworkRecord) -> None:
        self._database.put(NETWORK, record.id, msgspec.json.encode(record), record.name)
        self._networks[record.id] = record

    def _endpoint(self, record: EndpointRecord) -> Endpoint:
        network = self._networks[record.network]
        address = record.interface if record.address else None
        return Endpoint(
            id=record.id,
            network_id=network.id,
            network_name=network.name,
            driver=network.driver,
            sandbox=None if network.driver == HOST else self.sandbox(record.container),
            ip_address=str(address.ip) if address else "",
            ip_prefix_len=address.network.prefixlen if address else 0,
            gateway=str(network.gateway.ip) if address else "",
            mac_address=record.mac,
            ports=port_map(record.ports, record.only_exposed),
        )

    def _emit(self, action: str, record: EndpointRecord, network: NetworkRecord) -> None:
        attributes = {"container": record.container, "name": network.name, "type": network.driver}
        self._events.emit("network", action, network.id, attributes)
