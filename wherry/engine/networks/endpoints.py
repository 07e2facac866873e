"""Containers' places in networks: given, moved, taken back.

A container has one way out at a time, its gateway endpoint, and its published ports lead there. Which one that is, every
endpoint's row says, so that it can be told whatever the moment at which an engine died.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import secrets
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from ipaddress import IPv4Address, IPv6Address, ip_interface
from pathlib import Path
from typing import Protocol

from wherry.api.errors import ApiError, BadRequest, Forbidden, NotFound, ServerError, in_words
from wherry.api.models.networks import EndpointIPAMConfig, EndpointSettings, PortMap
from wherry.engine.blocking import in_thread
from wherry.engine.networks import bridge, netns
from wherry.engine.networks.asked import check_address, check_wishes, link_local, relays_of, take_address, targets
from wherry.engine.networks.bridge import Attachment
from wherry.engine.networks.catalog import Catalog
from wherry.engine.networks.ipam import Address, NoAddress, mac_for
from wherry.engine.networks.names import Entry, Membership, Names, NamesError
from wherry.engine.networks.netlink import mac_bytes
from wherry.engine.networks.nftables import NftError
from wherry.engine.networks.ports import (
    ANY,
    HostPorts,
    PortError,
    Published,
    Wish,
    is_ipv6,
    parse_wishes,
    port_map,
)
from wherry.engine.networks.records import BRIDGE, HOST, Endpoint, EndpointRecord, NetworkRecord
from wherry.engine.networks.rules import Rules
from wherry.engine.store.layout import Layout

log = logging.getLogger(__name__)


class Emit(Protocol):
    def __call__(self, action: str, network: NetworkRecord, container: str = "") -> None: ...


class Endpoints:
    """For the engine's loop. ``ensure`` sees to it that a network's bridge is there."""

    def __init__(
        self,
        layout: Layout,
        catalog: Catalog,
        rules: Rules,
        ports: HostPorts,
        names: Names,
        ensure: Callable[..., Awaitable[None]],
        emit: Emit,
    ) -> None:
        self._layout = layout
        self._catalog = catalog
        self._rules = rules
        self._ports = ports
        self._names = names
        self._ensure = ensure
        self._emit = emit

    def of(self, container: str) -> list[Endpoint]:
        return [self._endpoint(record) for record in self._catalog.of(container)]

    # connecting

    async def connect(
        self,
        container: str,
        sandbox: Path | None,
        network: NetworkRecord,
        asked: EndpointSettings,
        *,
        name: str,
        bindings: PortMap | None,
        exposed: Iterable[str] | None,
        publish_all: bool,
        gateway: bool | None,
        names: Sequence[str],
        links: Mapping[str, str],
        servers: Sequence[str],
        running: bool,
    ) -> Endpoint:
        if network.config_only:
            raise Forbidden("cannot create endpoint on configuration-only network")
        path = sandbox or self._sandbox(container)
        siblings = self._catalog.of(container)
        if any(record.network == network.id for record in siblings):
            raise Forbidden(f"endpoint with name {name} already exists in network {network.name}")
        wishes, only_exposed = parse_wishes(
            bindings, exposed, publish_all, network.host_binding or ANY, ipv6=network.six is not None
        )
        held = netns.is_held(path)
        record = EndpointRecord(
            id=secrets.token_hex(32), container=container, network=network.id, gateway=False, pending=running
        )
        if network.driver == BRIDGE:
            await self._ensure(network)
            if network.pending or network.id not in self._catalog.networks:
                raise NotFound(f"network {network.name} not found")
            if gateway is None:
                gateway = not any(sibling.gateway for sibling in siblings)
            record.gateway = gateway and network.leads_out
            record.number = min(set(range(len(siblings) + 1)) - {sibling.number for sibling in siblings})
            if record.gateway:
                record.only_exposed = only_exposed
            elif not siblings:
                record.only_exposed = sorted({*only_exposed, *(f"{w.container_port}/{w.protocol}" for w in wishes)})
            if network.user_defined:
                record.names, record.links, record.servers = list(names), dict(links), list(servers)
            if record.gateway:
                check_wishes(network, wishes)
            self._reserve(record, network, asked, wishes if record.gateway else (), name)
        try:
            self._catalog.save(record)
            if network.driver != HOST:
                await self._build(record, network, path)
            if record.names or relays_of(record):
                await self._tell(container)
            if running:
                record.pending = False
                self._catalog.save(record)
        except BaseException as error:
            await self._undo(record, None if held else path)
            if isinstance(error, OSError | NftError | NamesError):
                raise ServerError(f"failed to set up the network of {name}: {in_words(error)}") from None
            raise
        self._emit("connect", network, container)
        return self._endpoint(record)

    def _reserve(
        self, record: EndpointRecord, network: NetworkRecord, asked: EndpointSettings, wishes: Sequence[Wish], name: str
    ) -> None:
        """Take an address and host ports, or raise with nothing taken."""
        # with an endpoint's id it isn't a wish, but what an earlier run had: it went with that run's address
        mac = "" if asked.endpoint_id else asked.mac_address
        if mac:
            try:
                mac_bytes(mac)
            except ValueError as error:
                raise BadRequest(str(error)) from None
        check_address(network, asked)
        pool, pool6 = self._catalog.pool(network), self._catalog.pool6(network)
        ipam = asked.ipam_config or EndpointIPAMConfig()
        record.address = take_address(
            pool, IPv4Address(ipam.ipv4_address) if ipam.ipv4_address else None, record.container
        )
        if pool6 is not None:
            wanted6 = IPv6Address(ipam.ipv6_address) if ipam.ipv6_address else None
            try:
                record.address6 = take_address(pool6, wanted6, record.container)
            except ApiError:
                pool.release(record.interface.ip)
                raise
        record.link_local = [str(link_local(text)) for text in ipam.link_local_ips or ()]
        record.mac = mac or mac_for(record.interface.ip)
        record.veth = self._veth()
        try:
            record.ports = self._ports.allocate(wishes)
        except PortError as error:
            pool.release(record.interface.ip)
            if pool6 is not None and record.interface6 is not None:
                pool6.release(record.interface6.ip)
            text = f"driver failed programming external connectivity on endpoint {name} ({record.id}): {error}"
            raise ServerError(text) from None

    def _veth(self) -> str:
        return f"v{self._layout.tag}{secrets.token_hex(3)}"

    async def _build(self, record: EndpointRecord, network: NetworkRecord, path: Path) -> None:
        try:
            await self._build_once(record, network, path)
        except OSError as error:
            # the bridge was taken away behind our back, or a name was drawn twice: once more, from the ground
            if network.driver != BRIDGE or error.errno not in (errno.ENODEV, errno.EEXIST, errno.EINVAL):
                raise
            await self._ensure(network, restore=True)
            record.veth = self._veth()
            self._catalog.save(record)
            await self._build_once(record, network, path)

    async def _build_once(self, record: EndpointRecord, network: NetworkRecord, path: Path) -> None:
        attachment = None
        if network.driver == BRIDGE:
            attachment = Attachment(
                bridge=network.bridge,
                veth=record.veth,
                address=record.interface,
                gateway=network.gateway,
                mac=record.mac,
                number=record.number,
                default_route=record.gateway,
                isolated=not network.icc,
                address6=record.interface6,
                gateway6=network.six.gateway if network.six else None,
                more=tuple(map(ip_interface, record.link_local)),
            )
        ports = targets(record)

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

        async def take_back() -> None:
            if record.names:
                record.names = []
                with contextlib.suppress(NamesError):
                    await self._tell(record.container)
            try:
                await in_thread(work)
            except OSError as error:
                log.error("link left over: %s", error)
            relayed = bool(relays_of(record))
            self._ports.release(record.ports)
            self._catalog.forget(record)
            if relayed:
                with contextlib.suppress(NamesError):
                    await self._tell(record.container)

        await netns.to_the_end(take_back())

    # names

    async def _tell(self, container: str) -> None:
        """Have the name server know what is true of a container now. Raises ``NamesError``."""
        entry = self._entry(container)
        if entry is None:
            await self._names.drop(container)
        else:
            await self._names.put(container, entry)

    def _entry(self, container: str) -> Entry | None:
        records = self._catalog.of(container)
        members = []
        for record in records:
            network = self._catalog.networks.get(record.network)
            if record.names and network is not None:
                members.append(
                    Membership(network.id, network.name, tuple(record.addresses), tuple(record.names), record.links)
                )
        relays = tuple(relay for record in records for relay in relays_of(record))
        if not members and not relays:
            return None
        servers = next((tuple(record.servers) for record in records if record.servers), ())
        # the network that leads out is asked first
        gateways = {record.network for record in records if record.gateway}
        members.sort(key=lambda member: member.network not in gateways)
        return Entry(self._sandbox(container), tuple(members), servers, outside=bool(gateways), relays=relays)

    async def rename(self, container: str, names: Mapping[str, Sequence[str]]) -> None:
        """See ``Networks.rename``."""
        changed = []
        for record in self._catalog.of(container):
            network = self._catalog.networks.get(record.network)
            if record.names and network is not None and network.name in names:
                record.names = list(names[network.name])
                changed.append(record)
        if changed:
            self._catalog.save(*changed)
            try:
                await self._tell(container)
            except NamesError as error:
                raise ServerError(str(error)) from None

    # taking back

    async def release(self, container: str) -> None:
        """See ``Networks.release``."""
        records = self._catalog.of(container)
        path = self._sandbox(container)
        if any(record.names or relays_of(record) for record in records):
            await self._names.drop(container)  # its sockets would keep the namespace
        if records or path.exists():
            ports = [port for record in records for port in record.ports]
            await in_thread(self._withdraw, ports, path)
        for record in records:
            self._ports.release(record.ports)
            self._catalog.forget(record)
            if record.network in self._catalog.networks:
                self._emit("disconnect", self._catalog.networks[record.network], container)

    async def disconnect(self, container: str, network: NetworkRecord) -> None:
        """See ``Networks.disconnect``."""
        record = next((one for one in self._catalog.of(container) if one.network == network.id), None)
        if record is None:
            raise ServerError(f"container {container} is not connected to network {network.name}")
        record.pending = True
        way = record if record.gateway else None
        if way is not None and (successor := self._successor(record)) is not None:
            way = successor
            # without IPv6 in the other network the ports on the host's IPv6 addresses lead nowhere
            way.ports = [port for port in record.ports if way.address6 or not is_ipv6(port.host_ip)]
            way.gateway, way.only_exposed = True, record.only_exposed
            record.ports = [port for port in record.ports if port not in way.ports]
            record.gateway, record.only_exposed = False, []
            self._catalog.save(record, way)
        else:
            self._catalog.save(record)
        try:
            await self._finish_disconnect(record, way)
        except (OSError, NftError) as error:
            raise ServerError(
                f"failed to disconnect {container[:12]} from network {network.name}: {in_words(error)}"
            ) from None
        self._emit("disconnect", network, container)

    def _successor(self, leaving: EndpointRecord) -> EndpointRecord | None:
        """The endpoint that becomes the container's way out: of networks that lead out, the first by name."""
        others = [record for record in self._catalog.of(leaving.container) if record is not leaving]
        named = [(self._catalog.networks.get(record.network), record) for record in others]
        fit = [(network.name, record) for network, record in named if network is not None and network.leads_out]
        return min(fit, key=lambda pair: pair[0])[1] if fit else None

    async def _finish_disconnect(self, record: EndpointRecord, way: EndpointRecord | None) -> None:
        """Everything after the rows; may be done twice. ``way`` is the container's way out from now on, which has its ports,
        or ``record`` where there is none left; None where nothing changes. Raises ``OSError``, ``NftError``.
        """
        container, path = record.container, self._sandbox(record.container)
        names, record.names = record.names, []
        if names:
            try:
                await self._tell(container)
            except NamesError as error:
                log.error("names of %s: %s", container[:12], error)
        network = self._catalog.networks.get(way.network) if way is not None and way is not record else None

        def on_host() -> None:
            if way is not None:
                self._rules.unpublish({*way.ports, *record.ports})
                if way is not record:
                    self._rules.publish(targets(way))
            if record.veth:
                bridge.remove_link(record.veth)

        await in_thread(on_host)
        if network is not None and netns.is_held(path):
            gateways: list[Address] = [network.gateway.ip]
            if network.six is not None:
                gateways.append(network.six.gateway.ip)
            await netns.in_own_thread(lambda: bridge.lead_out(path, *gateways))
        relayed = any(map(relays_of, self._catalog.of(container)))
        self._ports.release(record.ports)
        self._catalog.forget(record)
        if relayed:
            try:
                await self._tell(container)
            except NamesError as error:
                log.error("ports of %s on ::1: %s", container[:12], error)

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

    # recovery

    def readopt(self, record: EndpointRecord) -> None:
        """Take over the address and the ports of a live container's endpoint."""
        network = self._catalog.networks.get(record.network)
        if network is None or network.driver != BRIDGE:
            return
        if not netns.is_held(self._sandbox(record.container)):
            log.warning("container %s has lost its network namespace's mount", record.container[:12])
        try:
            self._catalog.pool(network).take(record.interface.ip, record.container)
            pool6 = self._catalog.pool6(network)
            if pool6 is not None and record.interface6 is not None:
                pool6.take(record.interface6.ip, record.container)
        except NoAddress as error:
            log.warning("container %s: %s", record.container[:12], error)
        for port in record.ports:
            try:
                self._ports.hold(port)
            except PortError as error:
                log.warning("container %s keeps its port, but cannot hold it: %s", record.container[:12], error)

    async def recover(self, live: Collection[str]) -> None:
        """Undo what was half done for running containers, and have the name server know the live ones alone."""
        for record in [record for record in self._catalog if record.pending and record.container in live]:
            record.names = []
            way = next((one for one in self._catalog.of(record.container) if one.gateway), None)
            try:
                await self._finish_disconnect(record, way)
            except (OSError, NftError) as error:
                log.error("endpoint left over: %s", error)
        entries = {container: self._entry(container) for container in self._catalog.containers() if container in live}
        await self._names.recover({container: entry for container, entry in entries.items() if entry is not None})

    # small things

    def _sandbox(self, container: str) -> Path:
        return self._layout.netns / container

    def _endpoint(self, record: EndpointRecord) -> Endpoint:
        network = self._catalog.networks[record.network]
        address = record.interface if record.address else None
        address6 = record.interface6
        return Endpoint(
            id=record.id,
            network_id=network.id,
            network_name=network.name,
            driver=network.driver,
            sandbox=None if network.driver == HOST else self._sandbox(record.container),
            ip_address=str(address.ip) if address else "",
            ip_prefix_len=address.network.prefixlen if address else 0,
            gateway=str(network.gateway.ip) if address and not network.internal else "",
            ipv6_address=str(address6.ip) if address6 else "",
            ipv6_prefix_len=address6.network.prefixlen if address6 else 0,
            ipv6_gateway=str(network.six.gateway.ip) if network.six and not network.internal else "",
            mac_address=record.mac,
            ports=port_map(record.ports, record.only_exposed),
            dns_names=tuple(record.names) if network.user_defined else None,
        )
