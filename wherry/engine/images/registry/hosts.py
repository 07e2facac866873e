"""Which addresses a registry's name stands for, how far each is trusted, and how much is asked of them at once.

The options are dockerd's: mirrors stand in for Docker Hub when pulling; an insecure registry's certificate is not checked,
and it may be spoken to without TLS. Registries on this machine (127.0.0.0/8, ::1) are insecure by nature.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import re
import socket
import ssl
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import wherry
from wherry.api.models.system import IndexInfo, RegistryServiceConfig
from wherry.engine.blocking import in_thread
from wherry.engine.images.registry.transport import Transport

HUB = "docker.io"
HUB_URL = "https://registry-1.docker.io"
HUB_INDEX = "https://index.docker.io/v1/"
CERTIFICATES = Path("/etc/docker/certs.d")

_DOWNLOADS, _UPLOADS = 3, 5
_LOOK_UP = 10.0
_HOST = re.compile(r"(?:[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?|\[[0-9a-fA-F:]+\])(?::[0-9]{1,5})?")

_Network = ipaddress.IPv4Network | ipaddress.IPv6Network
_LOOPBACK: tuple[_Network, ...] = (ipaddress.ip_network("::1/128"), ipaddress.ip_network("127.0.0.0/8"))


class InvalidOption(ValueError):
    """A mirror or an insecure registry that can be none; the text says why."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """``url`` without a slash at its end. ``own`` is False for a mirror: it gets no credentials."""

    url: str
    own: bool = True


class Registries:
    """The engine's view of registries, and the bounds that all pulls and pushes share.

    ``mirrors`` are URLs; ``insecure`` are ``host[:port]`` or networks (``10.1.0.0/16``). Raises ``InvalidOption``.
    """

    def __init__(
        self, mirrors: Sequence[str] = (), insecure: Sequence[str] = (), *, certificates: Path = CERTIFICATES
    ) -> None:
        self.mirrors = [_mirror(text) for text in mirrors]
        self.insecure_hosts: set[str] = set()
        self._networks: list[_Network] = [*_LOOPBACK]
        for text in insecure:
            self._add_insecure(text)
        self._certificates = certificates
        self._verifying: ssl.SSLContext | None = None
        self.downloads = asyncio.Semaphore(_DOWNLOADS)
        self.uploads = asyncio.Semaphore(_UPLOADS)
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._waiting: defaultdict[str, int] = defaultdict(int)

    def _add_insecure(self, text: str) -> None:
        host = text.removeprefix("https://").removeprefix("http://").rstrip("/")
        try:
            self._networks.append(ipaddress.ip_network(host))
            if "/" in host:
                return
            self._networks.pop()  # an address alone is a host
        except ValueError:
            pass
        if not _HOST.fullmatch(host):
            raise InvalidOption(
                f"insecure registry {text} is not valid: it must be host[:port] or a network like 10.1.0.0/16"
            )
        self.insecure_hosts.add(host)

    def describe(self) -> RegistryServiceConfig:
        """As ``info`` shows it."""
        hub = IndexInfo(name=HUB, mirrors=[f"{mirror}/" for mirror in self.mirrors], secure=True, official=True)
        configs = {HUB: hub}
        for host in sorted(self.insecure_hosts):
            configs[host] = IndexInfo(name=host, mirrors=[], secure=False, official=False)
        return RegistryServiceConfig(
            allow_nondistributable_artifacts_cidrs=None,
            allow_nondistributable_artifacts_hostnames=None,
            insecure_registry_cidrs=[str(network) for network in self._networks[1:]],
            index_configs=configs,
            mirrors=[f"{mirror}/" for mirror in self.mirrors] or None,
        )

    async def endpoints(self, domain: str, *, pulling: bool) -> list[Endpoint]:
        """Where a domain's registry may answer, in the order to try."""
        if domain == HUB:
            mirrors = [Endpoint(mirror, own=False) for mirror in self.mirrors] if pulling else []
            return [*mirrors, Endpoint(HUB_URL)]
        endpoints = [Endpoint(f"https://{domain}")]
        if await self._insecure(domain):
            endpoints.append(Endpoint(f"http://{domain}"))
        return endpoints

    async def _insecure(self, host_port: str) -> bool:
        """Whether ``host[:port]`` needs no valid certificate."""
        if host_port in self.insecure_hosts:
            return True
        host = urlsplit(f"//{host_port}").hostname or ""
        try:
            addresses = [host] if _is_address(host) else await _look_up(host)
        except OSError:
            return False
        return any(
            ipaddress.ip_address(address) in network
            for address in addresses
            for network in self._networks
            if network.version == ipaddress.ip_address(address).version
        )

    def transport(self) -> Transport:
        """Connections for one piece of work."""
        return Transport(self._tls, f"wherry/{wherry.__version__}")

    async def _tls(self, host_port: str) -> ssl.SSLContext:
        """TLS settings for a host: the system's authorities, and what ``certs.d`` has for it."""
        names = [host_port, host_port.removesuffix(":443")]
        insecure = any([await self._insecure(name) for name in dict.fromkeys(names)])
        directories = [path for name in dict.fromkeys(names) if (path := self._certificates / name).is_dir()]
        if not insecure and not directories:
            if self._verifying is None:
                self._verifying = await in_thread(ssl.create_default_context)
            return self._verifying
        return await in_thread(_context, directories, insecure)

    def busy(self, what: str) -> bool:
        """Whether somebody works on ``what``, or waits to."""
        return what in self._waiting

    @contextlib.asynccontextmanager
    async def alone(self, what: str) -> AsyncIterator[None]:
        """Nobody else works on ``what`` meanwhile: two pulls of one image do the work once."""
        self._waiting[what] += 1
        try:
            async with self._locks[what]:
                yield
        finally:
            self._waiting[what] -= 1
            if not self._waiting[what]:
                del self._waiting[what]
                self._locks.pop(what, None)


def _context(directories: Sequence[Path], insecure: bool) -> ssl.SSLContext:
    """Raises ``OSError`` for certificates that cannot be read."""
    context = ssl.create_default_context()
    for directory in directories:
        for path in sorted(directory.iterdir()):
            if path.suffix == ".crt":
                context.load_verify_locations(path)
            elif path.suffix == ".cert":
                context.load_cert_chain(path, path.with_suffix(".key"))
    if insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _mirror(text: str) -> str:
    try:
        parts = urlsplit(text)
        _ = parts.port
    except ValueError:
        raise InvalidOption(f'invalid mirror: "{text}" is not a valid URI') from None
    if parts.scheme not in ("http", "https"):
        raise InvalidOption(f'invalid mirror: unsupported scheme "{parts.scheme}" in "{text}"')
    if parts.username is not None or parts.password is not None:
        raise InvalidOption("invalid mirror: username/password not allowed in URI")
    if not parts.hostname:
        raise InvalidOption(f'invalid mirror: "{text}" is not a valid URI')
    if parts.path not in ("", "/") or parts.query or parts.fragment:
        raise InvalidOption(f'invalid mirror: path, query, or fragment at end of the URI "{text}"')
    return f"{parts.scheme}://{parts.netloc}"


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


async def _look_up(host: str) -> list[str]:
    """Raises ``OSError`` for a name that has no address."""
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(_LOOK_UP):
            found = await loop.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except UnicodeError:
        return []
    return [str(address[0]).partition("%")[0] for *_, address in found]
