"""Links between containers of the default bridge: a container calls another by a name of its own.

A link ``web:shop`` of the container ``app`` is a line in its hosts file and variables in its environment, and ``web`` has the
further name ``app/shop``. In user-defined networks links are names alone (``EndpointSettings.Links``), which the name server
knows. The row keeps the other container's id, so that a link survives renames on both sides.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from wherry.api.errors import ApiError, BadRequest, NotFound, ServerError
from wherry.api.models.containers import HostConfig
from wherry.engine.containers.container import Container
from wherry.engine.containers.registry import Containers
from wherry.engine.networks.hosts import read_own

_NOT_PASSED_ON = ("HOME", "PATH")


def parse_link(link: str) -> tuple[str, str]:
    """``name:alias`` or ``name`` as (name, alias). Raises ``ServerError``, as moby, for anything else."""
    if not link:
        raise ServerError("empty string specified for links")
    name, colon, alias = link.partition(":")
    if ":" in alias or (colon and not alias):
        raise ServerError(f"bad format for links: {link}")
    # what inspect shows, ``/web:/app/shop``, is taken too
    return name.removeprefix("/"), alias.rpartition("/")[2] or name.rpartition("/")[2]


def endpoint_links(links: list[str] | None) -> dict[str, str]:
    """What a container calls others in a user-defined network: alias to name."""
    return {alias: name for name, alias in map(parse_link, links or ())}


def resolve_links(containers: Containers, host: HostConfig) -> dict[str, str]:
    """What ``HostConfig.Links`` names: alias to container id. In user-defined networks nothing (as moby).

    Raises ``BadRequest`` for a container that is not there or is in the host's network.
    """
    if (host.network_mode or "default") not in ("default", "bridge", "none"):
        return {}
    found = {}
    for name, alias in map(parse_link, host.links or ()):
        try:
            other = _with_network(containers, containers.find(name))
        except ApiError as error:
            raise BadRequest(f"could not get container for {name}: {error.message}") from None
        if other.host_config.network_mode == "host":
            raise BadRequest(
                "conflicting options: host type networking can't be used with links. This would result in undefined behavior"
            )
        found[alias] = other.id
    return found


def _with_network(containers: Containers, container: Container) -> Container:
    """The container whose network this one is in. Raises ``BadRequest``, ``NotFound`` where there is none."""
    passed = set()
    while container.host_config.network_mode.startswith("container:"):
        passed.add(container.id)
        container = containers.find(container.host_config.network_mode.removeprefix("container:"))
        if container.id in passed:  # each was created before it was known what the other would be
            raise BadRequest("it is in its own network, by way of others")
    return container


def shown_links(containers: Containers, container: Container) -> list[str] | None:
    """``HostConfig.Links`` of inspect: ``/web:/app/shop``."""
    found = []
    for alias, id in container.spec.links.items():
        other = containers.by_id(id)
        if other is not None:
            found.append(f"/{other.name}:/{container.name}/{alias}")
    return found or None


def link_names(containers: Containers) -> dict[str, list[str]]:
    """By container id the further names that containers have by others' links: ``/app/shop``."""
    found: dict[str, list[str]] = {}
    for parent in containers:
        for alias, id in parent.spec.links.items():
            found.setdefault(id, []).append(f"/{parent.name}/{alias}")
    return found


def unlink(containers: Containers, reference: str) -> None:
    """Remove a link by its name, ``app/shop`` (``DELETE`` with ``link``). What runs keeps its environment.

    Raises ``ServerError`` for a name that is no link's.
    """
    parent, _, alias = reference.removeprefix("/").partition("/")
    if not alias:
        raise ServerError("Conflict, cannot remove the default link name of the container")
    try:
        container = containers.find(parent)
    except NotFound:
        raise ServerError(f"Cannot get parent /{parent} for name /{parent}/{alias}") from None
    id = container.spec.links.pop(alias, "")
    containers.save(container)
    other = containers.by_id(id)
    if other is not None and container.run is not None:
        _rewrite(containers.layout.container(container.id) / "hosts", alias, "")


def links_of(
    containers: Containers, container: Container, *, strict: bool = True
) -> Iterator[tuple[str, Container, str]]:
    """Alias, the other container, and its address on the default bridge, where ``container`` must be too.

    Raises ``ServerError`` if the other container does not run; it is passed over if not ``strict``.
    """
    if "bridge" not in container.spec.networks:
        return
    for alias, id in container.spec.links.items():
        other = containers.by_id(id)
        endpoint = other.state.endpoints.get("bridge") if other is not None else None
        if other is not None and endpoint is not None and endpoint.ip_address:
            yield alias, other, endpoint.ip_address
        elif strict and other is None:
            raise ServerError(f"could not get container for {alias}: No such container: {id}")
        elif strict and other is not None:
            raise ServerError(f"Cannot link to a non running container: /{other.name} AS /{container.name}/{alias}")


def host_lines(containers: Containers, container: Container, *, strict: bool = True) -> list[tuple[str, list[str]]]:
    """The lines of links in the hosts file: address and names. Raises as ``links_of``."""
    return [
        (address, [alias, other.config.hostname, other.name])
        for alias, other, address in links_of(containers, container, strict=strict)
    ]


def tell_parents(containers: Containers, container: Container) -> None:
    """Have the running containers that link to this one know its new address; what else they made of their hosts file stays."""
    for parent in containers:
        if container.id not in parent.spec.links.values() or parent.run is None:
            continue
        for alias, other, address in links_of(containers, parent, strict=False):
            if other is container:
                _rewrite(containers.layout.container(parent.id) / "hosts", alias, address)


def _rewrite(path: Path, alias: str, address: str) -> None:
    """Put another address into the line of a link, or take the line away; in place, for it is mounted."""
    text = read_own(path)
    if text is None:  # the container has made something else of it
        return
    lines = []
    for line in text.splitlines(keepends=True):
        _, tab, names = line.partition("\t")
        if tab and names.split()[:1] == [alias]:
            line = f"{address}\t{names}" if address else ""
        lines.append(line)
    path.write_text("".join(lines), errors="surrogateescape")


# the environment


def environment(containers: Containers, container: Container, *, strict: bool = True) -> dict[str, str]:
    """What links put into a container's environment. Raises as ``links_of``."""
    env: dict[str, str] = {}
    for alias, other, address in links_of(containers, container, strict=strict):
        ports = [_port(key) for key in other.config.exposed_ports or ()]
        env |= link_environment(f"/{container.name}/{alias}", address, ports, other.config.env or [])
    return env


def _port(key: str) -> tuple[int, str]:
    number, _, protocol = key.partition("/")
    return int(number), protocol or "tcp"


def link_environment(name: str, address: str, ports: list[tuple[int, str]], env: list[str]) -> Mapping[str, str]:
    """The variables of one link called ``name`` (``/app/shop``): where the other container's exposed ports are, its name, and
    its own environment. Pure; the order of a port's protocols is moby's, tcp first."""
    prefix = name.rpartition("/")[2].upper().replace("-", "_")
    ports = sorted(ports, key=lambda port: (port[0], port[1] != "tcp"))
    found = {}
    index = 0
    while index < len(ports):
        last = index
        while last + 1 < len(ports) and ports[last + 1][0] <= ports[index][0] + last + 1 - index:
            last += 1
        number, protocol = ports[index]
        if last > index + 1:  # from three in a row on
            end, end_protocol = ports[last]
            key = f"{prefix}_PORT_{number}_{protocol.upper()}"
            found[f"{key}_START"] = f"{protocol}://{address}:{number}"
            found[f"{key}_ADDR"] = address
            found[f"{key}_PROTO"] = protocol
            found[f"{key}_PORT_START"] = str(number)
            found[f"{key}_END"] = f"{end_protocol}://{address}:{end}"
            found[f"{key}_PORT_END"] = str(end)
            index = last + 1
        else:
            index += 1
    for number, protocol in ports:
        key = f"{prefix}_PORT_{number}_{protocol.upper()}"
        found[key] = f"{protocol}://{address}:{number}"
        found[f"{key}_ADDR"] = address
        found[f"{key}_PORT"] = str(number)
        found[f"{key}_PROTO"] = protocol
    if ports:
        number, protocol = ports[0]
        found[f"{prefix}_PORT"] = f"{protocol}://{address}:{number}"
    found[f"{prefix}_NAME"] = name
    for entry in env:
        key, equals, value = entry.partition("=")
        if equals and key not in _NOT_PASSED_ON:
            found[f"{prefix}_ENV_{key}"] = value
    return found
