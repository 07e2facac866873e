"""The texts of a container's ``/etc/hosts``, ``/etc/hostname`` and ``/etc/resolv.conf``, as moby writes them.

Pure, but for ``read_host_resolv_conf``: what goes in are texts of the host and the caller's wishes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from ipaddress import ip_address
from pathlib import Path

from wherry.api.errors import BadRequest

HOST_GATEWAY = "host-gateway"
FALLBACK_NAMESERVERS = ("8.8.8.8", "8.8.4.4")

_LOCAL = (
    ("127.0.0.1", "localhost"),
    ("::1", "localhost ip6-localhost ip6-loopback"),
    ("fe00::0", "ip6-localnet"),
    ("ff00::0", "ip6-mcastprefix"),
    ("ff02::1", "ip6-allnodes"),
    ("ff02::2", "ip6-allrouters"),
)
_UNFIT = re.compile(r"[\s\x00-\x1f#]")
_RESOLV_CONF = Path("/etc/resolv.conf")
_RESOLVED_UPSTREAM = Path("/run/systemd/resolve/resolv.conf")
_RESOLVED_STUB = "127.0.0.53"

LARGEST = 1 << 20
"""Bytes that the engine reads of a file which a container may have written to."""


def hostname_text(hostname: str) -> str:
    return f"{hostname}\n"


def parse_extra_host(entry: str) -> tuple[str, str]:
    """``name:address`` as (name, address); the address may be ``host-gateway`` or IPv6. Raises ``BadRequest``."""
    name, colon, address = entry.partition(":")
    if not colon or not name or _UNFIT.search(name):
        raise BadRequest(f'bad format for add-host: "{entry}"')
    if address == HOST_GATEWAY:
        return name, address
    bare = address[1:-1] if address.startswith("[") and address.endswith("]") else address
    try:
        ip_address(bare)
    except ValueError:
        raise BadRequest(f'invalid IP address in add-host: "{address}"') from None
    if "%" in bare:  # a zone would be a name of the host's interfaces
        raise BadRequest(f'invalid IP address in add-host: "{address}"')
    return name, bare


def hosts_text(
    address: str,
    hostname: str,
    domainname: str = "",
    extra_hosts: Iterable[str] | None = None,
    host_gateway: str = "",
    *,
    aliases: Sequence[str] = (),
    more_addresses: Sequence[str] = (),
    links: Iterable[tuple[str, Sequence[str]]] = (),
    host_text: str | None = None,
) -> str:
    """A container's hosts file.

    ``address`` is its own, empty for none; ``more_addresses`` those it has in further networks. ``links`` are other
    containers' addresses and what it calls them. ``extra_hosts`` are ``name:address``, where ``host_gateway`` stands for
    ``host-gateway``. ``host_text``, the host's own file, is what a container in the host's network starts from.
    Raises ``BadRequest`` for a bad extra host.
    """
    if host_text is None:
        lines = [f"{local}\t{names}" for local, names in _LOCAL]
    else:
        lines = host_text.splitlines()
    for entry in extra_hosts or ():
        name, target = parse_extra_host(entry)
        if target == HOST_GATEWAY:
            if not host_gateway:
                raise BadRequest("unable to derive the IP value for host-gateway")
            target = host_gateway
        lines.append(f"{target}\t{name}")
    lines += [f"{target}\t{' '.join(dict.fromkeys(names))}" for target, names in links]
    if address:
        full = f"{hostname}.{domainname}" if domainname else hostname
        short = full.partition(".")[0]
        names = [full] if short == full else [full, short]
        names += [alias for alias in aliases if alias not in names]
        lines += [f"{own}\t{' '.join(names)}" for own in (address, *more_addresses)]
    return "\n".join(lines) + "\n"


def read_own(path: Path) -> str | None:
    """A file of a container's, which may have written anything into it; None for one of more than ``LARGEST`` bytes.

    Raises ``OSError``.
    """
    with open(path, "rb") as file:
        data = file.read(LARGEST + 1)
    return data.decode(errors="surrogateescape") if len(data) <= LARGEST else None


def read_host_resolv_conf(
    host_network: bool = False, *, path: Path = _RESOLV_CONF, upstream: Path = _RESOLVED_UPSTREAM
) -> str:
    """The host's resolver configuration, empty if it has none.

    Where the host asks systemd-resolved's stub, which only a container in the host's network can reach, the others get
    the servers behind it.
    """
    try:
        text = path.read_text(errors="replace")
    except OSError:
        return ""
    if not host_network and nameservers(text) == [_RESOLVED_STUB]:
        try:
            return upstream.read_text(errors="replace")
        except OSError:
            pass
    return text


def _values(text: str, keyword: str) -> list[list[str]]:
    lines = (re.split(r"[#;]", line, maxsplit=1)[0].split() for line in text.splitlines())
    return [words[1:] for words in lines if len(words) > 1 and words[0] == keyword]


def nameservers(text: str) -> list[str]:
    """The name servers that a resolver configuration names."""
    return [words[0] for words in _values(text, "nameserver")]


def _reachable(server: str, ipv6: bool) -> bool:
    try:
        address = ip_address(server.partition("%")[0])
    except ValueError:
        return False
    return not address.is_loopback and (ipv6 or address.version == 4)


def resolv_conf_text(
    host_text: str,
    dns: Sequence[str] | None = None,
    search: Sequence[str] | None = None,
    options: Sequence[str] | None = None,
    *,
    host_network: bool = False,
    ipv6: bool = False,
    name_server: str = "",
) -> str:
    """A container's resolver configuration.

    What the caller gives replaces what the host has, kind by kind; ``search`` of ``["."]`` means none. Of the host's
    name servers those on its loopback are left out, and IPv6 ones where the container has no IPv6; with none left,
    public ones step in. In the host's network all of the host's are good. ``name_server``, the engine's own, takes the
    place of all of them, and is asked for every name as it is first. Raises ``BadRequest`` for a bad value.
    """
    if host_network and not dns and not search and not options:
        return host_text
    if dns:
        servers = [_checked_server(server) for server in dns]
    elif host_network:
        servers = nameservers(host_text)
    else:
        servers = [server for server in nameservers(host_text) if _reachable(server, ipv6)]
        servers = servers or list(FALLBACK_NAMESERVERS)
    domains = list(search) if search else (_values(host_text, "search") or _values(host_text, "domain") or [[]])[-1]
    flags = list(options) if options else [word for words in _values(host_text, "options") for word in words]
    for word in (*domains, *flags):
        if _UNFIT.search(word) or not word:
            raise BadRequest(f'invalid value for resolv.conf: "{word}"')
    if name_server:
        servers = [name_server]
        if not any(word.startswith("ndots:") for word in flags):
            flags.append("ndots:0")
    lines = []
    if domains and domains != ["."]:
        lines.append(f"search {' '.join(domains)}")
    lines += [f"nameserver {server}" for server in servers]
    if flags:
        lines.append(f"options {' '.join(flags)}")
    return "\n".join(lines) + "\n"


def _checked_server(server: str) -> str:
    try:
        ip_address(server.partition("%")[0])
    except ValueError:
        raise BadRequest(f"invalid IP address: {server}") from None
    if _UNFIT.search(server):
        raise BadRequest(f"invalid IP address: {server}")
    return server
