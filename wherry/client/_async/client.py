"""The client: one engine, the groups of its calls."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Self

from wherry.api.version import format_version
from wherry.client._async.transport import AsyncTransport
from wherry.client.address import TlsFiles, find_address
from wherry.client.timeouts import Timeouts

if TYPE_CHECKING:
    from wherry.client._async.containers import AsyncContainers
    from wherry.client._async.distribution import AsyncDistribution
    from wherry.client._async.exec import AsyncExec
    from wherry.client._async.images import AsyncImages
    from wherry.client._async.networks import AsyncNetworks
    from wherry.client._async.system import AsyncSystem
    from wherry.client._async.volumes import AsyncVolumes


class AsyncClient:
    """An engine. Made by ``wherry.connect_async``; its calls are in groups, as the API's are.

        async with wherry.connect_async() as docker:
            result = await docker.containers.run("busybox", "echo hello")

    One client serves any number of tasks at once; each call in flight has a connection of its own.
    """

    def __init__(self, transport: AsyncTransport, timeouts: Timeouts) -> None:
        self.transport = transport
        self.timeouts = timeouts
        self._groups: dict[str, object] = {}

    @property
    def address(self) -> str:
        """The engine's address."""
        return self.transport.address.url

    async def api_version(self) -> str:
        """The API version in use, such as ``1.43``; the first use of a client agrees on it with the engine."""
        return format_version(await self.transport.version(self.timeouts))

    def with_timeouts(self, timeouts: Timeouts) -> AsyncClient:
        """The same client with other deadlines; connections are shared.

        quick = docker.with_timeouts(wherry.Timeouts(head=2))
        """
        return AsyncClient(self.transport, timeouts)

    async def close(self) -> None:
        """End the use of the client: its idle connections, and its hold on an engine inside this process."""
        await self.transport.close()

    @property
    def containers(self) -> AsyncContainers:
        """Calls on containers."""
        group = self._groups.get("containers")
        if group is None:
            from wherry.client._async.containers import AsyncContainers

            group = self._groups["containers"] = AsyncContainers(self)
        return group  # type: ignore[return-value]

    @property
    def exec(self) -> AsyncExec:
        """Calls on processes started in running containers."""
        group = self._groups.get("exec")
        if group is None:
            from wherry.client._async.exec import AsyncExec

            group = self._groups["exec"] = AsyncExec(self)
        return group  # type: ignore[return-value]

    @property
    def images(self) -> AsyncImages:
        """Calls on images."""
        group = self._groups.get("images")
        if group is None:
            from wherry.client._async.images import AsyncImages

            group = self._groups["images"] = AsyncImages(self)
        return group  # type: ignore[return-value]

    @property
    def networks(self) -> AsyncNetworks:
        """Calls on networks."""
        group = self._groups.get("networks")
        if group is None:
            from wherry.client._async.networks import AsyncNetworks

            group = self._groups["networks"] = AsyncNetworks(self)
        return group  # type: ignore[return-value]

    @property
    def volumes(self) -> AsyncVolumes:
        """Calls on volumes."""
        group = self._groups.get("volumes")
        if group is None:
            from wherry.client._async.volumes import AsyncVolumes

            group = self._groups["volumes"] = AsyncVolumes(self)
        return group  # type: ignore[return-value]

    @property
    def system(self) -> AsyncSystem:
        """Calls on the engine itself."""
        group = self._groups.get("system")
        if group is None:
            from wherry.client._async.system import AsyncSystem

            group = self._groups["system"] = AsyncSystem(self)
        return group  # type: ignore[return-value]

    @property
    def distribution(self) -> AsyncDistribution:
        """Calls on registries, through the engine."""
        group = self._groups.get("distribution")
        if group is None:
            from wherry.client._async.distribution import AsyncDistribution

            group = self._groups["distribution"] = AsyncDistribution(self)
        return group  # type: ignore[return-value]

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"AsyncClient({self.address!r})"


def connect_async(
    address: str | None = None,
    *,
    version: str | None = None,
    timeouts: Timeouts | None = None,
    tls: TlsFiles | None = None,
) -> AsyncClient:
    """A client of the engine at ``address``, or of the one that the surroundings name.

    ``address``: ``unix:///path``, ``tcp://host:port``, ``ssh://user@host``, or ``embedded:`` for an engine inside this
    process. Without one: DOCKER_HOST, the docker context, then the well-known sockets. ``version`` pins the API
    version, which is else agreed on at the first call. Nothing is sent yet.

    Raises ``ConnectError`` if no engine is named, or by an address that is none.

        async with wherry.connect_async("unix:///run/wherry/wherry.sock") as docker:
            print((await docker.system.version()).version)
    """
    return AsyncClient(AsyncTransport(find_address(address, tls=tls), version=version), timeouts or Timeouts())
