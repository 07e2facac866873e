# Made from _async/group.py by scripts/generate_sync.py: change that, and run it.
"""What the groups of calls share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from wherry.api.models.images import AuthConfig
from wherry.api.operation import Operation
from wherry.api.query import Query
from wherry.client._sync import io
from wherry.client._sync.answer import Answer
from wherry.client.references import auth_header, registry_of
from wherry.client.request import build

if TYPE_CHECKING:
    from wherry.client._sync.client import Client


G = TypeVar("G", bound="Group")


class Group:
    """The calls of one of the API's tags."""

    __slots__ = ("_client",)

    def __init__(self, client: Client) -> None:
        self._client = client

    def _call(
        self,
        operation: Operation,
        params: Mapping[str, str] | None = None,
        query: Query | None = None,
        body: Any = None,
        headers: tuple[tuple[str, str], ...] = (),
    ) -> Any:
        """The operation's value."""
        return self._client.transport.call(
            build(operation, params, query, body, headers=headers), self._client.timeouts
        )

    def _open(
        self,
        operation: Operation,
        params: Mapping[str, str] | None = None,
        query: Query | None = None,
        body: Any = None,
        stream: Any = None,
        headers: tuple[tuple[str, str], ...] = (),
    ) -> Answer:
        """The operation's answer, once its head is in."""
        return self._client.transport.request(
            build(operation, params, query, body, stream=stream, headers=headers), self._client.timeouts
        )

    def _auth(self, name: str, auth: AuthConfig | None) -> tuple[tuple[str, str], ...]:
        """The header with credentials for the registry of ``name``: those given, or the docker configuration's.

        Raises ``CredentialsError``.
        """
        if auth is None:
            from wherry.client.credentials import credentials_for

            auth = io.in_worker(credentials_for, registry_of(name))
        return (("X-Registry-Auth", auth_header(auth)),)


def within(group: G, deadline: io.Deadline) -> G:
    """The same calls, each ended by the deadline."""
    client = group._client
    timeouts = deadline.limit(client.timeouts)
    return group if timeouts is client.timeouts else type(group)(client.with_timeouts(timeouts))
