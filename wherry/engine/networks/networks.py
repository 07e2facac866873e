"""The networks of an engine: made, found, shown, removed, and taken over from an earlier engine.

Three are always there: ``bridge``, ``host`` and ``none``. An engine that never ran a container on a bridge leaves the
host as it found it: the default bridge, table and forwarding are set up for the first container that needs them; a
user-defined network's bridge is there from its creation on.

Every step is safe against the engine's death. A network's or an endpoint's row is written before the kernel is asked for
anything, and deleted after everything is taken back; ``recover`` compares the rows and the kernel's objects, told by the
engine's tag in their names, with the containers that live. A container's network goes on without the engine: namespaces,
links, rules and the name server stay, only the sockets that hold host ports close, and ``recover`` opens them again.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import secrets
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from ipaddress import IPv4Address
from pathlib import Path

from wherry.api.errors import ApiError, BadRequest, Conflict, Forbidden, ServerError, in_words
from wherry.api.models.networks import EndpointSettings, Network, NetworkCreateRequest, NetworkPruneResponse, PortMap
from wherry.engine.blocking import in_thread
from wherry.engine.events import Events
from wherry.engine.filters import check_keys, match_labels, parse_until
from wherry.engine.networks import bridge, netns, view
from wherry.engine.networks.asked import targets
from wherry.engine.networks.catalog import Catalog
from wherry.engine.networks.definition import define
from wherry.engine.networks.endpoints import Endpoints
from wherry.engine.networks.facts import NetworkFacts
from wherry.engine.networks.firewall import Segment
from wherry.engine.networks.ipam import Address, NoAddress, choose_subnet, choose_subnet6
from wherry.engine.networks.names import Names
from wherry.engine.networks.nftables import NftError
from wherry.engine.networks.ports import HostPorts, Published
from wherry.engine.networks.records import BRIDGE, HOST, NETWORK, NULL, Endpoint, EndpointRecord, NetworkRecord, Pool6
from wherry.engine.networks.rules import Rules
from wherry.engine.store.database import Database, NameTaken
from wherry.engine.store.layout import Layout

log = logging.getLogger(__name__)

DEFAULT = "bridge"
_PREDEFINED = ((DEFAULT, BRIDGE), ("host", HOST), ("none", NULL))


class Networks:
    """All methods are for the engine's loop; those that wait for the kernel are coroutines."""

    def __init__(self, layout: Layout, database: Database, events: Events, default_pool6: Pool6 | None = None) -> None:
        """``default_pool6``: the default bridge has IPv6, with these addresses."""
        self._default_pool6 = default_pool6
        self._layout = layout
        self._events = events
        self._tag = layout.tag
        self._rules = Rules(layout.tag)
        self._ports = HostPorts()
        self._catalog = Catalog(database)
        self._names = Names(layout.exec_root)
        self._ready: set[str] = set()  # networks whose bridge is up
        self._setup = asyncio.Lock()
        self._pruning = False
        self._endpoints = Endpoints(
            layout, self._catalog, self._rules, self._ports, self._names, self._ensure, self._emit
        )

    # life

    async def start(self) -> None:
        """Load the networks, and make the three that are always there. ``recover`` comes next."""
        catalog = self._catalog
        catalog.load()
        for name, driver in _PREDEFINED:
            if catalog.database.named(NETWORK, name) is None:
                catalog.save_network(
                    NetworkRecord(
                        id=secrets.token_hex(32), name=name, driver=driver, created=time.time_ns(), default=True
                    )
                )
        for record in catalog.visible():
            if record.driver == BRIDGE and not record.subnet:
                await self._elect_subnet(record)
        default = catalog.find(DEFAULT)
        # not below running containers, which may have addresses of another engine's choice
        if default.pool6 != self._default_pool6 and not any(one.address6 for one in catalog.within(default)):
            default.ipv6, default.pool6 = self._default_pool6 is not None, self._default_pool6
            catalog.save_network(default)

    async def recover(self, live: Collection[str]) -> None:
        """Make the host hold what the containers ``live`` (full ids) need, and nothing else that carries our tag.

        Never raises for what the host refuses: it is logged, and a container is worse off by just that.
        """
        catalog = self._catalog
        stale = [record for record in catalog if record.container not in live]
        kept = [record for record in catalog if record.container in live]
        for record in kept:
            self._endpoints.readopt(record)
        used = {record.network for record in kept}
        for network in list(catalog.networks.values()):
            if network.driver != BRIDGE:
                continue
            try:
                if network.pending:
                    await in_thread(bridge.remove_own, network.bridge, self._mac(network))
                    catalog.forget_network(network)
                elif network.id in used or await in_thread(bridge.exists, network.bridge):
                    await self._ensure_bridge(network)
                    self._ready.add(network.id)
            except (NoAddress, OSError) as error:
                log.error("network %s could not be restored: %s", network.name, error)
        if self._ready:
            # all at once: what an earlier engine left goes on working until then
            await self._restore_ports(kept)
        await self._endpoints.recover(live)
        try:
            links = {record.veth for record in kept}
            await in_thread(bridge.sweep, self._layout.netns, set(live), f"v{self._tag}", links)
        except OSError as error:
            log.error("left-over links could not be removed: %s", error)
        catalog.forget(*stale)

    async def close(self, remove: bool = False) -> None:
        """Let go of sockets; with ``remove`` also take away everything on the host, containers' networks included."""
        if remove:
            for container in self._catalog.containers():
                await self.release(container)
            await self._names.rest()
            await self._take_away()
        await self._names.close()
        self._ports.close()
        await self._rules.close()

    async def _take_away(self) -> None:
        await in_thread(bridge.sweep, self._layout.netns, set(), f"v{self._tag}", set())
        # the bridges go last: as long as they are there, recover looks for the rest
        bridges = {record.bridge: self._mac(record) for record in self._catalog.visible() if record.driver == BRIDGE}
        there = [name for name in bridges if await in_thread(bridge.exists, name)]
        if there:
            try:
                await self._rules.remove()
            except NftError as error:
                log.error("nftables rules left over: %s", error)
        for name in there:
            await in_thread(bridge.remove_own, name, bridges[name])
        for name in await in_thread(bridge.link_names, f"wh-{self._tag}"):
            await in_thread(bridge.remove_link, name)
        self._ready.clear()

    # looking

    @property
    def gateway(self) -> str:
        """The address of the host on the default bridge: what ``host-gateway`` means. Empty while it has none."""
        record = self._catalog.find(DEFAULT)
        return str(record.gateway.ip) if record.subnet else ""

    def get(self, name: str) -> NetworkRecord:
        """The network of this id, name or beginning of an id; ``default`` is the bridge.

        Raises ``NotFound`` and, for the beginning of several ids, ``BadRequest``.
        """
        return self._catalog.find(DEFAULT if name == "default" else name)

    def list(self, filters: view.Filters | None = None) -> Sequence[Network]:
        """NetworkList. Raises ``BadRequest`` for a filter that isn't one."""
        used = {record.network for record in self._catalog}
        keep = view.select(self._catalog.visible(), filters or {}, used)
        return [view.describe(record) for record in sorted(keep, key=lambda record: record.created)]

    def inspect(self, name: str, container_names: Mapping[str, str] | None = None) -> Network:
        """NetworkInspect, with its running containers; ``container_names`` maps their ids to names.

        Raises as ``get``.
        """
        record = self.get(name)
        return view.describe(record, self._catalog.within(record), container_names or {})

    def endpoints(self, container: str) -> Sequence[Endpoint]:
        """What a container has now; empty when it does not run."""
        return self._endpoints.of(container)

    def sandbox(self, container: str) -> Path:
        """Where a container's network namespace is mounted while it runs."""
        return self._layout.netns / container

    async def facts(self) -> NetworkFacts:
        """What this machine gives, for ``info`` and ``doctor``."""
        return await self._rules.facts()

    # user-defined networks

    async def create(self, request: NetworkCreateRequest) -> NetworkRecord:
        """NetworkCreate: the network is there on return, its bridge too. Emits ``network create``.

        Raises as ``define`` does, ``Conflict`` for a name that is taken, ``ServerError`` for what the machine refuses.
        """
        record = define(request, secrets.token_hex(32), time.time_ns(), self._catalog.networks.values())
        if record.config_only:
            record.pending = False
        else:
            record.bridge = record.bridge or self._bridge_name(record)
        try:
            self._catalog.save_network(record)
        except NameTaken:
            raise Conflict(f"network with name {record.name} already exists") from None
        if not record.config_only:
            await netns.to_the_end(self._create(record))
        self._emit("create", record)
        return record

    async def _create(self, record: NetworkRecord) -> None:
        made = False
        try:
            async with self._setup:
                if record.ipv6 and record.pool6 is None:
                    taken = [*await in_thread(bridge.occupied), *self._catalog.subnets(record)]
                    record.pool6 = Pool6(subnet=str(choose_subnet6(record.id, taken)), given=False)
                subnet = await in_thread(
                    bridge.claim_new,
                    record.bridge,
                    self._mac(record),
                    record.network if record.subnet else None,
                    IPv4Address(record.gateway_address) if record.gateway_address else None,
                    mtu=record.mtu,
                    reserved=self._catalog.subnets(record),
                    gateway6=record.six.gateway if record.six else None,
                )
                made = True
                record.subnet = str(subnet)
                await self._restore_rules(record)
        except (OSError, NftError, NoAddress) as error:
            if made:
                await in_thread(bridge.remove_own, record.bridge, self._mac(record))
            self._ready.discard(record.id)
            self._catalog.forget_network(record)
            if isinstance(error, OSError) and error.errno == errno.EEXIST:
                raise Forbidden(
                    f"cannot create network {record.id} ({record.bridge}): a link of this name exists already"
                ) from None
            raise ServerError(f"failed to set up network {record.name}: {in_words(error)}") from None
        record.pending = False
        self._catalog.save_network(record)

    async def remove(self, name: str) -> None:
        """NetworkDelete. Emits ``network destroy``. Raises ``NotFound``, ``Forbidden`` (predefined, or in use)."""
        record = self.get(name)
        if record.default:
            raise Forbidden(f"{record.name} is a pre-defined network and cannot be removed")
        if self._catalog.within(record):
            raise Forbidden(f"error while removing network: network {record.name} id {record.id} has active endpoints")
        if record.config_only:
            if any(other.config_from == record.name for other in self._catalog.networks.values()):
                raise Forbidden(f'error while removing network: configuration network "{record.name}" is in use')
            self._catalog.forget_network(record)
            self._emit("destroy", record)
            return
        record.pending = True
        self._catalog.save_network(record)
        await netns.to_the_end(self._remove(record))

    async def _remove(self, record: NetworkRecord) -> None:
        async with self._setup:
            self._ready.discard(record.id)
            try:
                if self._ready:
                    await self._restore_rules()
                else:
                    await self._rules.remove()
                await in_thread(bridge.remove_own, record.bridge, self._mac(record))
            except (OSError, NftError) as error:
                record.pending = False
                self._catalog.save_network(record)
                raise ServerError(f"error while removing network: {in_words(error)}") from None
            self._catalog.forget_network(record)
        if not any(other.user_defined for other in self._catalog.networks.values()):
            await self._names.rest()
        self._emit("destroy", record)

    async def prune(self, filters: view.Filters | None = None) -> NetworkPruneResponse:
        """NetworkPrune: remove the user-defined networks without running containers, by ``label``, ``label!``, ``until``.

        Raises ``BadRequest`` for a bad filter, ``Conflict`` when another prune is under way.
        """
        filters = filters or {}
        check_keys(filters, {"label", "label!", "until"})
        until = filters.get("until") or []
        if len(until) > 1:
            raise BadRequest("more than one until filter specified")
        before = parse_until(until[0]) if until else None
        if self._pruning:
            raise Conflict("a prune operation is already running")
        self._pruning = True
        removed = []
        try:
            for record in self._catalog.visible():
                if (
                    record.default
                    or record.config_only
                    or self._catalog.within(record)
                    or not match_labels(record.labels, filters)
                ):
                    continue
                if before is not None and record.created > before:
                    continue
                try:
                    await self.remove(record.id)
                except ApiError as error:
                    log.warning("network %s could not be pruned: %s", record.name, error.message)
                    continue
                removed.append(record.name)
        finally:
            self._pruning = False
        self._events.emit("network", "prune", "", {"reclaimed": "0"})
        return NetworkPruneResponse(networks_deleted=removed or None)

    def _bridge_name(self, record: NetworkRecord) -> str:
        """``wh-``, the tag and the beginning of the id fill the 15 bytes of a link's name."""
        taken = {other.bridge for other in self._catalog.networks.values()}
        names = (f"wh-{self._tag}{record.id[start : start + 4]}" for start in range(60))
        return next(name for name in names if name not in taken)

    def _mac(self, record: NetworkRecord) -> str:
        return bridge.bridge_mac(self._tag if record.default else record.id[:8])

    # containers

    async def create_sandbox(self, container: str) -> Path:
        """A fresh network namespace with its loopback up. ``connect`` makes one too, in the same go as the link.

        Raises ``ServerError``.
        """
        path = self.sandbox(container)
        try:
            await netns.to_the_end(netns.in_own_thread(lambda: bridge.build(path, None)))
        except OSError as error:
            raise ServerError(f"network namespace: {in_words(error)}") from None
        return path

    async def connect(
        self,
        container: str,
        sandbox: Path | None,
        network: str,
        asked: EndpointSettings | None = None,
        *,
        name: str = "",
        bindings: PortMap | None = None,
        exposed: Iterable[str] | None = None,
        publish_all: bool = False,
        gateway: bool | None = None,
        names: Sequence[str] = (),
        links: Mapping[str, str] | None = None,
        servers: Sequence[str] = (),
        running: bool = False,
    ) -> Endpoint:
        """Give a container its place in a network, making its namespace if there is none, and publish its ports.

        ``sandbox`` is what ``create_sandbox`` gave; with None the namespace is made here, which is faster. ``name``
        is the container's, for messages. ``gateway`` says whether the container's way out, and with it its ports, are
        here (None: if it has none yet). In a user-defined network it has ``names``, the first its own, calls containers
        by ``links`` (alias to name), and asks ``servers`` (none: the host's) for names outside. ``running`` tells that its
        process is there already.

        On failure, and when cancelled, nothing is left; a namespace that was there before stays. Emits ``network
        connect``. Raises ``NotFound``, ``BadRequest``, ``Forbidden`` (it is there already, the address is taken), and
        ``ServerError`` with moby's texts for ports and addresses that can't be had (STA3).
        """
        return await self._endpoints.connect(
            container,
            sandbox,
            self.get(network),
            asked or EndpointSettings(),
            name=name or container[:12],
            bindings=bindings,
            exposed=exposed,
            publish_all=publish_all,
            gateway=gateway,
            names=names,
            links=links or {},
            servers=servers,
            running=running,
        )

    async def disconnect(self, container: str, network: str) -> None:
        """Take a running container out of a network; its way out and its ports move to another one if it has one.

        Emits ``network disconnect``. Raises ``NotFound``, ``ServerError`` (also where it is not in it, as moby).
        """
        await netns.to_the_end(self._endpoints.disconnect(container, self.get(network)))

    def announce_disconnect(self, container: str, network: NetworkRecord) -> None:
        """Emit ``network disconnect`` for a container that does not run: nothing is to be taken back."""
        self._emit("disconnect", network, container)

    async def rename(self, container: str, names: Mapping[str, Sequence[str]]) -> None:
        """Give a running container other names, by the network's name. Raises ``ServerError``."""
        await self._endpoints.rename(container, names)

    async def release(self, container: str) -> None:
        """Take back all that a container has: ports and addresses are free on return, its namespace is dropped.

        Idempotent. Emits ``network disconnect``. What the host refuses is logged and left to ``recover``.
        """
        await netns.to_the_end(self._endpoints.release(container))

    # bridges

    async def _elect_subnet(self, record: NetworkRecord) -> None:
        """Name a subnet, to be shown and claimed by the first container; without one now, it is chosen then."""
        record.bridge = record.bridge or f"wh-{self._tag}"
        try:
            taken = await in_thread(bridge.occupied, record.bridge)
            record.subnet = str(choose_subnet([*taken, *self._catalog.subnets(record)]))
        except (OSError, NoAddress) as error:
            log.warning("no subnet for network %s: %s", record.name, error)
        self._catalog.save_network(record)

    async def _ensure(self, network: NetworkRecord, *, restore: bool = False) -> None:
        """Bridge, table, forwarding: there on return. Raises ``ServerError`` with what the machine refuses."""
        if network.id in self._ready and not restore:
            return
        async with self._setup:
            if network.id in self._ready and not restore:
                return
            try:
                await self._ensure_bridge(network)
                await self._restore_rules(network)
            except (OSError, NftError, NoAddress) as error:
                self._ready.discard(network.id)
                raise ServerError(f"failed to set up network {network.name}: {in_words(error)}") from None

    async def _restore_rules(self, *more: NetworkRecord) -> None:
        """Make the firewall serve the bridges that are up, and these."""
        self._ready.update(record.id for record in more)
        await self._rules.restore(self._segments())

    def _segments(self) -> dict[str, Segment]:
        return {
            network.bridge: Segment(
                network.network,
                network.masquerade,
                network.icc,
                network.internal,
                network.six.network if network.six else None,
            )
            for network in self._catalog.networks.values()
            if network.id in self._ready
        }

    async def _restore_ports(self, records: Iterable[EndpointRecord]) -> None:
        ports: dict[Published, Address] = {}
        for record in records:
            ports |= targets(record)
        try:
            await self._rules.restore(self._segments(), ports)
        except NftError as error:
            self._ready.clear()  # the next container tries again
            log.error("the firewall and published ports could not be restored: %s", error)

    async def _ensure_bridge(self, network: NetworkRecord) -> None:
        gateway6 = network.six.gateway if network.six else None
        if network.user_defined:
            gateway = self._catalog.pool(network).gateway
            await in_thread(bridge.ensure_bridge, network.bridge, self._mac(network), gateway, network.mtu, gateway6)
            return
        subnet = await in_thread(
            bridge.claim,
            network.bridge,
            self._mac(network),
            network.network if network.subnet else None,
            in_use=bool(self._catalog.within(network)),
            reserved=self._catalog.subnets(network),
            gateway6=gateway6,
        )
        if str(subnet) != network.subnet:
            network.subnet = str(subnet)
            self._catalog.forget_pool(network)
            self._catalog.save_network(network)

    # small things

    def _emit(self, action: str, network: NetworkRecord, container: str = "") -> None:
        attributes = {"name": network.name, "type": network.driver}
        if container:
            attributes = {"container": container, **attributes}
        self._events.emit("network", action, network.id, attributes)
