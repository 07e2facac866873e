# Made from _async/client.py by scripts/generate_sync.py: change that, and run it.
"""The client: one engine, the groups of its calls."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Self

from wherry.api.version import format_version
from wherry.client._sync.transport import Transport
from wherry.client.address import TlsFiles, find_address
from wherry.client.timeouts import Timeouts

if TYPE_CHECKING:
    from wherry.client._sync.containers import Containers
    from wherry.client._sync.distribution import Distribution
    from wherry.client._sync.exec import Exec
    from wherry.client._sync.images import Images
    from wherry.client._sync.networks import Networks
    from wherry.client._sync.system import System
    from wherry.client._sync.volumes import Volumes


class Client:
    """An engine. Made by ``wherry.connect``; its calls are in groups, as the API's are.

        with wherry.connect() as docker:
            result = docker.containers.run("busybox", "echo hello")

    One client serves any number of threads at once; each call in flight has a connection of its own.
    """

    def __init__(self, transport: Transport, timeouts: Timeouts) -> None:
        self.transport = transport
        self.timeouts = timeouts
        self._groups: dict[str, object] = {}

    @property
    def address(self) -> str:
        """The engine's address."""
        return self.transport.address.url

    def api_version(self) -> str:
        """The API version in use, such as ``1.43``; the first use of a client agrees on it with the engine."""
        return format_version(self.transport.version(self.timeouts))

    def with_timeouts(self, timeouts: Timeouts) -> Client:
        """The same client with other deadlines; connections are shared.

        quick = docker.with_timeouts(wherry.Timeouts(head=2))
        """
        return Client(self.transport, timeouts)

    def close(self) -> None:
        """End the use of the client: its idle connections, and its hold on an engine inside this process."""
        self.transport.close()

    @property
    def containers(self) -> Containers:
        """Calls on containers."""
        group = self._groups.get("containers")
        if group is None:
            from wherry.client._sync.containers import Containers

            group = self._groups["containers"] = Containers(self)
        return group  # type: ignore[return-value]

    @property
    def exec(self) -> Exec:
        """Calls on processes started in running containers."""
        group = self._groups.get("exec")
        if group is None:
            from wherry.client._sync.exec import Exec

            group = self._groups["exec"] = Exec(self)
        return group  # type: ignore[return-value]

    @property
    def images(self) -> Images:
        """Calls on images."""
        group = self._groups.get("images")
        if group is None:
            from wherry.client._sync.images import Images

            group = self._groups["images"] = Images(self)
        return group  # type: ignore[return-value]

    @property
    def networks(self) -> Networks:
        """Calls on networks."""
        group = self._groups.get("networks")
        if group is None:
            from wherry.client._sync.networks import Networks

            group = self._groups["networks"] = Networks(self)
        return group  # type: ignore[return-value]

    @property
    def volumes(self) -> Volumes:
        """Calls on volumes."""
        group = self._groups.get("volumes")
        if group is None:
            from wherry.client._sync.volumes import Volumes

            group = self._groups["volumes"] = Volumes(self)
        return group  # type: ignore[return-value]

    @property
    def system(self) -> System:
        """Calls on the engine itself."""
        group = self._groups.get("system")
        if group is None:
            from wherry.client._sync.system import System

            group = self._groups["system"] = System(self)
        return group  # type: ignore[return-value]

    @property
    def distribution(self) -> Distribution:
        """Calls on registries, through the engine."""
        group = self._groups.get("distribution")
        if group is None:
            from wherry.client._sync.distribution import Distribution

            group = self._groups["distribution"] = Distribution(self)
        return group  # type: ignore[return-value]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Client({self.address!r})"


def connect(
    address: str | None = None,
    *,
    version: str | None = None,
    timeouts: Timeouts | None = None,
    tls: TlsFiles | None = None,
) -> Client:
    """A client of the engine at ``address``, or of the one that the surroundings name.

    ``address``: ``unix:///path``, ``tcp://host:port``, ``ssh://user@host``, or ``embedded:`` for an engine inside this
    process. Without one: DOCKER_HOST, the docker context, then the well-known sockets. ``version`` pins the API
    version, which is else agreed on at the first call. Nothing is sent yet.

    Raises ``ConnectError`` if no engine is named, or by an address that is none.

        with wherry.connect("unix:///run/wherry/wherry.sock") as docker:
            print((docker.system.version()).version)
    """
    return Client(Transport(find_address(address, tls=tls), version=version), timeouts or Timeouts())
