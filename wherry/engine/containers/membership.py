"""NetworkConnect and NetworkDisconnect: a container's networks change, whether it runs or not."""

from __future__ import annotations

import copy

from wherry.api.errors import BadRequest, Conflict, Forbidden, NotFound, ServerError
from wherry.api.models.networks import EndpointSettings, NetworkConnectRequest, NetworkDisconnectRequest
from wherry.engine.containers.container import Container
from wherry.engine.containers.create import rewrite_description
from wherry.engine.containers.network import dns_names, join, note_ports, rewrite_files, texts
from wherry.engine.containers.registry import Containers
from wherry.engine.networks.asked import check_address
from wherry.engine.networks.records import BRIDGE, HOST, NULL, NetworkRecord

_SHARED = "container sharing network namespace with another container or host cannot be connected to any other network"
_HOST = "container cannot be disconnected from host network or connected to host network"
_NONE = "container cannot be connected to multiple networks with one of the networks in private (none) mode"


async def connect(containers: Containers, network: str, request: NetworkConnectRequest) -> None:
    """Put a container into a network; one that runs has its link, address and names at once.

    Raises ``NotFound``, ``BadRequest`` (the networks do not go together, or the address is wrong), ``Forbidden`` (it is
    there already, the address is taken), ``Conflict`` (it is being removed), ``ServerError``.
    """
    container = containers.find(request.container)
    work = containers.spawn(_connect(containers, container, network, request), f"connect of {container.short_id}")
    await containers.shielded(work)


async def _connect(
    containers: Containers, container: Container, reference: str, request: NetworkConnectRequest
) -> None:
    async with container.lock:
        _check_state(containers, container)
        if container.host_config.network_mode.startswith("container:"):
            raise BadRequest(_SHARED)
        network = containers.parts.networks.get(reference)
        _check_company(containers, container, network)
        asked = _clean(request.endpoint_config)
        check_address(network, asked)
        spec, state = container.spec, container.state
        running = container.run is not None and bool(state.sandbox)
        if running:
            before_texts = texts(containers, container)
            known = spec.networks.get(network.name)
            # the row first: an engine that dies in the middle finds out what was meant
            spec.networks = {**spec.networks, network.name: asked if known is None else known}
            containers.save(container)
            try:
                if known is not None:
                    spec.networks[network.name] = asked
                await join(containers, container, network.name, running=True)
            except BaseException:
                if known is None:
                    spec.networks.pop(network.name, None)
                else:
                    spec.networks[network.name] = known
                containers.save(container)
                raise
            containers.save(container)
            rewrite_files(containers, container, before_texts)
        else:
            spec.networks = {**spec.networks, network.name: asked}
            if network.user_defined:
                state.endpoints[network.name] = _shown(container, network, asked)
            containers.save(container)
        await rewrite_description(containers.layout, container)


async def disconnect(containers: Containers, network: str, request: NetworkDisconnectRequest) -> None:
    """Take a container out of a network, also out of one that is gone if it does not run.

    Raises ``NotFound``, ``BadRequest`` (the host's network), ``Conflict`` (it is being removed), ``ServerError`` (it is not
    in that network, as moby).
    """
    container = containers.find(request.container)
    work = containers.spawn(
        _disconnect(containers, container, network, force=request.force), f"disconnect of {container.short_id}"
    )
    await containers.shielded(work)


async def _disconnect(containers: Containers, container: Container, reference: str, *, force: bool) -> None:
    networks = containers.parts.networks
    async with container.lock:
        _check_state(containers, container)
        spec, state = container.spec, container.state
        running = container.run is not None and bool(state.sandbox)
        record: NetworkRecord | None = None
        try:
            record = networks.get(reference)
        except NotFound:
            if running and not force:
                raise
        name = reference if record is None else record.name
        if "host" in spec.networks and name == "host":
            raise BadRequest(_HOST)
        if name not in spec.networks:
            the = "" if running else "the "  # moby's two texts
            raise ServerError(f"container {container.id} is not connected to {the}network {name}")
        before_texts = texts(containers, container) if running else None
        spec.networks = {key: asked for key, asked in spec.networks.items() if key != name}
        state.endpoints.pop(name, None)
        containers.save(container)
        if (
            running
            and record is not None
            and any(one.network_id == record.id for one in networks.endpoints(container.id))
        ):
            await networks.disconnect(container.id, record.id)
            note_ports(containers, container)
            containers.save(container)
            rewrite_files(containers, container, before_texts)
        elif record is not None:
            networks.announce_disconnect(container.id, record)
        await rewrite_description(containers.layout, container)


def _check_state(containers: Containers, container: Container) -> None:
    state = container.state
    if state.removing or state.dead or containers.by_id(container.id) is None:
        raise Conflict(
            f"Container {container.id} is marked for removal and cannot be connected or disconnected to the network"
        )


def _check_company(containers: Containers, container: Container, network: NetworkRecord) -> None:
    if network.config_only:
        raise Forbidden("cannot create endpoint on configuration-only network")
    if (network.driver == HOST) != (container.host_config.network_mode == "host"):
        raise BadRequest(_HOST)
    for name in container.spec.networks:
        if name != network.name and (network.driver == NULL or name == "none"):
            raise BadRequest(_NONE)


def _clean(given: EndpointSettings | None) -> EndpointSettings:
    """What was asked for, without what only the engine can say."""
    if given is None:
        return EndpointSettings()
    return EndpointSettings(
        ipam_config=given.ipam_config,
        links=given.links,
        aliases=given.aliases,
        driver_opts=given.driver_opts,
        mac_address=given.mac_address,
    )


def _shown(container: Container, network: NetworkRecord, asked: EndpointSettings) -> EndpointSettings:
    shown = copy.copy(asked)
    shown.network_id = network.id
    if network.driver == BRIDGE:
        shown.dns_names = dns_names(container, asked)
    return shown
