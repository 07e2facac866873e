"""A run's place in its networks, and the files that tell the container about it."""

from __future__ import annotations

from pathlib import Path

import msgspec

from wherry.api.models.networks import EndpointSettings
from wherry.engine.containers.container import Container
from wherry.engine.containers.registry import Containers
from wherry.engine.networks.hosts import hostname_text, hosts_text, read_host_resolv_conf, resolv_conf_text

_HOSTS = Path("/etc/hosts")


async def connect(containers: Containers, container: Container) -> None:
    """Namespace, addresses and ports as the row asks; then ``hosts``, ``hostname`` and ``resolv.conf``.

    Raises ``NotFound`` for an unknown network or container (CRE18), ``ServerError`` for a port that is taken.
    """
    state, spec = container.state, container.spec
    host = spec.host_config
    if host.network_mode.startswith("container:"):
        from wherry.engine.containers.process import namespace_of

        other = containers.find(host.network_mode.removeprefix("container:"))
        state.sandbox = namespace_of(other, "net")
        spec.config.hostname, spec.config.domainname = other.config.hostname, other.config.domainname
        _share_files(containers, container, other)
        return
    state.sandbox = ""
    state.ports = {}
    state.endpoints = {}
    address = ""
    for name, asked in spec.networks.items():
        endpoint = await containers.parts.networks.connect(
            container.id,
            None,
            name,
            asked,
            name=spec.name,
            bindings=host.port_bindings if name not in ("host", "none") else None,
            exposed=spec.config.exposed_ports or (),
            publish_all=host.publish_all_ports,
        )
        state.endpoints[name] = endpoint.settings(asked)
        state.ports |= endpoint.ports
        address = address or endpoint.ip_address
        if endpoint.sandbox is not None:
            state.sandbox = str(endpoint.sandbox)
    _write_files(containers, container, address)


async def disconnect(containers: Containers, container: Container) -> None:
    """Give addresses and ports back; what inspect shows of them goes too."""
    await containers.parts.networks.release(container.id)
    state = container.state
    for name, endpoint in state.endpoints.items():
        asked = container.spec.networks.get(name, EndpointSettings())
        state.endpoints[name] = msgspec.structs.replace(asked, network_id=endpoint.network_id)


def _write_files(containers: Containers, container: Container, address: str) -> None:
    config, host = container.config, container.host_config
    directory = containers.layout.container(container.id)
    host_network = host.network_mode == "host"
    texts = {
        "hosts": hosts_text(
            address,
            config.hostname,
            config.domainname,
            host.extra_hosts,
            containers.parts.networks.gateway,
            host_text=_HOSTS.read_text(errors="replace") if host_network and _HOSTS.exists() else None,
        ),
        "hostname": hostname_text(config.hostname),
        "resolv.conf": resolv_conf_text(
            read_host_resolv_conf(), host.dns, host.dns_search, host.dns_options, host_network=host_network
        ),
    }
    for name, text in texts.items():
        path = directory / name
        path.write_text(text)
        path.chmod(0o644)


def _share_files(containers: Containers, container: Container, other: Container) -> None:
    """A container in another's network sees what that one sees."""
    source, target = containers.layout.container(other.id), containers.layout.container(container.id)
    for name in ("hosts", "hostname", "resolv.conf"):
        if (source / name).exists():
            (target / name).write_bytes((source / name).read_bytes())
