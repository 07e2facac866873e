"""A run's place in its networks, and the files that tell the container about it."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

import msgspec

from wherry.api.errors import ApiError, BadRequest, Conflict, ServerError
from wherry.api.models.networks import EndpointSettings
from wherry.engine.containers.container import Container
from wherry.engine.containers.links import endpoint_links, host_lines, tell_parents
from wherry.engine.containers.registry import Containers
from wherry.engine.networks.hosts import hostname_text, hosts_text, read_host_resolv_conf, read_own, resolv_conf_text
from wherry.engine.networks.names import NAMESERVER
from wherry.engine.networks.networks import Networks
from wherry.engine.networks.records import Endpoint

log = logging.getLogger(__name__)

_HOSTS = Path("/etc/hosts")


def networks_asked(
    networks: Networks, mode: str, given: Mapping[str, EndpointSettings], mac_address: str = ""
) -> dict[str, EndpointSettings]:
    """The endpoints that a create asks for, by network name, that of ``NetworkMode`` first.

    A network that does not exist is only found out at start (CRE18). Raises ``BadRequest``, ``Conflict``.
    """
    if mode.startswith("container:"):
        if given:
            raise BadRequest("conflicting options: a container network mode and endpoints of its own")
        return {}
    first = _name(networks, mode)
    endpoints = {_name(networks, name): settings for name, settings in given.items()} or {first: EndpointSettings()}
    if len(endpoints) > 1 and {"none", "host"} & {first, *endpoints}:
        raise Conflict(f"conflicting options: network mode {mode} and other networks")
    ordered = dict(sorted(endpoints.items(), key=lambda pair: pair[0] != first))
    main = ordered[next(iter(ordered))]
    main.mac_address = mac_address or main.mac_address
    return ordered


def _name(networks: Networks, reference: str) -> str:
    """A network's name, whatever it is called by; the reference itself where there is none."""
    try:
        return networks.get(reference).name
    except ApiError:
        return reference


async def connect(containers: Containers, container: Container) -> None:
    """Namespace, addresses and ports as the row asks; then ``hosts``, ``hostname`` and ``resolv.conf``.

    Raises ``NotFound`` for an unknown network or container (CRE18), ``ServerError`` for a port that is taken.
    """
    state, spec = container.state, container.spec
    networks = containers.parts.networks
    host = spec.host_config
    if host.network_mode.startswith("container:") and not spec.config.network_disabled:
        from wherry.engine.containers.process import namespace_of

        other = containers.find(host.network_mode.removeprefix("container:"))
        state.sandbox = namespace_of(other, "net")
        spec.config.hostname, spec.config.domainname = other.config.hostname, other.config.domainname
        _share_files(containers, container, other)
        return
    state.sandbox = ""
    state.ports = {}
    state.endpoints = {}
    wanted = {networks.get(name).name: asked for name, asked in spec.networks.items()}
    spec.networks = wanted
    gateway = min((name for name in wanted if networks.get(name).leads_out), default="")
    for name in wanted:
        await join(containers, container, name, gateway=name == gateway)
    if not wanted:  # it was disconnected from all
        state.sandbox = str(await networks.create_sandbox(container.id))
    links = host_lines(containers, container)
    for file, text in _texts(containers, container, links).items():
        _write(containers.layout.container(container.id) / file, text)
    tell_parents(containers, container)


async def join(
    containers: Containers, container: Container, name: str, *, gateway: bool | None = None, running: bool = False
) -> None:
    """Connect a container to one of ``spec.networks``, and note in its state what it got."""
    spec, state = container.spec, container.state
    host = spec.host_config
    asked = spec.networks[name]
    endpoint = await containers.parts.networks.connect(
        container.id,
        None,
        name,
        asked,
        name=spec.name,
        bindings=host.port_bindings if name not in ("host", "none") else None,
        exposed=spec.config.exposed_ports or (),
        publish_all=host.publish_all_ports,
        gateway=gateway,
        names=dns_names(container, asked),
        links=endpoint_links(asked.links),
        servers=host.dns or (),
        running=running,
    )
    state.endpoints[name] = endpoint.settings(asked)
    if endpoint.sandbox is not None:
        state.sandbox = str(endpoint.sandbox)
    note_ports(containers, container)


def note_ports(containers: Containers, container: Container) -> None:
    """Have the state show the ports that are published now."""
    container.state.ports = {}
    for endpoint in containers.parts.networks.endpoints(container.id):
        for port, bindings in endpoint.ports.items():
            if bindings is not None or port not in container.state.ports:
                container.state.ports[port] = bindings


def dns_names(container: Container, asked: EndpointSettings) -> list[str]:
    """What a container is called in a user-defined network, its own name first."""
    return list(
        dict.fromkeys(
            (container.name, *(asked.aliases or ()), container.short_id, *filter(None, [container.config.hostname]))
        )
    )


async def renamed(containers: Containers, container: Container) -> None:
    """Have a running container's networks know its new name, and the old one no longer (REN2)."""
    names = {name: dns_names(container, asked) for name, asked in container.spec.networks.items()}
    try:
        await containers.parts.networks.rename(container.id, names)
    except ApiError as error:
        log.error("%s goes by its old name in its networks: %s", container.short_id, error.message)
    for name, endpoint in container.state.endpoints.items():
        if isinstance(endpoint.dns_names, list) and name in names:
            endpoint.dns_names = names[name]
    containers.note(container)


async def disconnect(containers: Containers, container: Container) -> None:
    """Give addresses and ports back; what inspect shows of them goes too."""
    await containers.parts.networks.release(container.id)
    state = container.state
    for name, endpoint in state.endpoints.items():
        asked = container.spec.networks.get(name, EndpointSettings())
        state.endpoints[name] = msgspec.structs.replace(
            asked, network_id=endpoint.network_id, dns_names=endpoint.dns_names
        )


async def reconcile(containers: Containers, container: Container) -> None:
    """Make the row of a container that runs, and its networks, agree again after a change that was cut off.

    A connect whose row was written last is taken back, a disconnect whose row was written first is done.
    """
    networks = containers.parts.networks
    have = {endpoint.network_name for endpoint in networks.endpoints(container.id)}
    wanted = container.spec.networks
    lost = [name for name in wanted if name not in have and name not in container.state.endpoints]
    for name in lost:
        del wanted[name]
    late = [name for name in have if name in wanted and name not in container.state.endpoints]
    for name in late:
        endpoint = next(one for one in networks.endpoints(container.id) if one.network_name == name)
        container.state.endpoints[name] = endpoint.settings(wanted[name])
    for name in have - set(wanted):
        container.state.endpoints.pop(name, None)
        await networks.disconnect(container.id, name)
    if lost or late or have - set(wanted):
        note_ports(containers, container)
        containers.note(container)
        rewrite_files(containers, container)


# the files


def rewrite_files(containers: Containers, container: Container, before: Mapping[str, str] | None = None) -> None:
    """Have the files of a running container tell of its present networks.

    With ``before``, the texts that were there by the state before, what the container has changed itself is left alone.
    """
    directory = containers.layout.container(container.id)
    for name, text in _texts(containers, container, host_lines(containers, container, strict=False)).items():
        path = directory / name
        if name == "hostname" or (before is not None and before[name] != read_own(path)):
            continue
        _write(path, text)


def texts(containers: Containers, container: Container) -> dict[str, str]:
    """The files as the present state would have them."""
    return _texts(containers, container, host_lines(containers, container, strict=False))


def _texts(containers: Containers, container: Container, links: list[tuple[str, list[str]]]) -> dict[str, str]:
    config, host = container.config, container.host_config
    host_network = host.network_mode == "host"
    endpoints: list[Endpoint] = list(containers.parts.networks.endpoints(container.id))
    addresses = [one for endpoint in endpoints for one in (endpoint.ip_address, endpoint.ipv6_address) if one]
    return {
        "hosts": hosts_text(
            next(iter(addresses), ""),
            config.hostname,
            config.domainname,
            host.extra_hosts,
            containers.parts.networks.gateway,
            more_addresses=addresses[1:],
            links=links,
            host_text=_HOSTS.read_text(errors="replace") if host_network and _HOSTS.exists() else None,
        ),
        "hostname": hostname_text(config.hostname),
        "resolv.conf": resolv_conf_text(
            read_host_resolv_conf(host_network),
            host.dns,
            host.dns_search,
            host.dns_options,
            host_network=host_network,
            ipv6=any(endpoint.ipv6_address for endpoint in endpoints),
            name_server=NAMESERVER if any(endpoint.dns_names for endpoint in endpoints) else "",
        ),
    }


def _write(path: Path, text: str) -> None:
    # in place: it is mounted in the container
    path.write_text(text)
    path.chmod(0o644)


def _share_files(containers: Containers, container: Container, other: Container) -> None:
    """A container in another's network sees what that one sees."""
    source, target = containers.layout.container(other.id), containers.layout.container(container.id)
    for name in ("hosts", "hostname", "resolv.conf"):
        if (source / name).exists():
            text = read_own(source / name)
            if text is None:
                raise ServerError(f"the file /etc/{name} of container {other.id} is too large to be shared")
            (target / name).write_text(text, errors="surrogateescape")
