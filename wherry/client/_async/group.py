"""What the groups of calls share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from wherry.api.models.images import AuthConfig
from wherry.api.operation import Operation
from wherry.api.query import Query
from wherry.client._async import io
from wherry.client._async.answer import AsyncAnswer
from wherry.client.references import auth_header, registry_of
from wherry.client.request import build

if TYPE_CHECKING:
    from wherry.client._async.client import AsyncClient


G = TypeVar("G", bound="AsyncGroup")


class AsyncGroup:
    """The calls of one of the API's tags."""

    __slots__ = ("_client",)

    def __init__(self, client: AsyncClient) -> None:
        self._client = client

    async def _call(
        self,
        operation: Operation,
        params: Mapping[str, str] | None = None,
        query: Query | None = None,
        body: Any = None,
        headers: tuple[tuple[str, str], ...] = (),
    ) -> Any:
        """The operation's value."""
        return await self._client.transport.call(
            build(operation, params, query, body, headers=headers), self._client.timeouts
        )

    async def _open(
        self,
        operation: Operation,
        params: Mapping[str, str] | None = None,
        query: Query | None = None,
        body: Any = None,
        stream: Any = None,
        headers: tuple[tuple[str, str], ...] = (),
    ) -> AsyncAnswer:
        """The operation's answer, once its head is in."""
        return await self._client.transport.request(
            build(operation, params, query, body, stream=stream, headers=headers), self._client.timeouts
        )

    async def _auth(self, name: str, auth: AuthConfig | None) -> tuple[tuple[str, str], ...]:
        """The header with credentials for the registry of ``name``: those given, or the docker configuration's.

        Raises ``CredentialsError``.
        """
        if auth is None:
            from wherry.client.credentials import credentials_for

            auth = await io.in_worker(credentials_for, registry_of(name))
        return (("X-Registry-Auth", auth_header(auth)),)


def within(group: G, deadline: io.Deadline) -> G:
    """The same calls, each ended by the deadline."""
    client = group._client
    timeouts = deadline.limit(client.timeouts)
    return group if timeouts is client.timeouts else type(group)(client.with_timeouts(timeouts))
