# Made from _async/system.py by scripts/generate_sync.py: change that, and run it.
"""Calls on the engine itself."""

from __future__ import annotations

from collections.abc import Sequence

from wherry.api.models import system as models
from wherry.api.models.events import EventMessage
from wherry.api.operation import Operation
from wherry.api.operations import system as ops
from wherry.client._sync.group import Group
from wherry.client._sync.streams import JsonStream
from wherry.client.arguments import FilterArgument, Moment, filters_of, seconds_text
from wherry.client.request import Request
from wherry.client.results import Ping


class System(Group):
    """``docker.system``"""

    __slots__ = ()

    def ping(self) -> Ping:
        """Ask whether the engine is there, and what it is (SystemPing).

        print((docker.system.ping()).api_version)
        """
        return self._ping(ops.SystemPing)

    def ping_head(self) -> Ping:
        """As ``ping``, by the API's HEAD form, which brings no body (SystemPingHead)."""
        return self._ping(ops.SystemPingHead)

    def version(self) -> models.SystemVersion:
        """The engine's version and its parts' (SystemVersion)."""
        version: models.SystemVersion = self._call(ops.SystemVersion)
        return version

    def info(self) -> models.SystemInfo:
        """What the engine found on its machine, with its warnings (SystemInfo)."""
        info: models.SystemInfo = self._call(ops.SystemInfo)
        return info

    def events(
        self, *, since: Moment | None = None, until: Moment | None = None, filters: FilterArgument | None = None
    ) -> JsonStream[EventMessage]:
        """What happens, as it happens (SystemEvents).

        ``since``: begin with what happened then; ``until``: end then, instead of never. ``filters`` by container,
        event, image, label, network, type, volume.

            with docker.system.events(filters={"type": "container"}) as events:
                for event in events:
                    print(event.action, event.actor.id)
        """
        query = ops.SystemEventsQuery(since=seconds_text(since), until=seconds_text(until), filters=filters_of(filters))
        return JsonStream(self._open(ops.SystemEvents, query=query), EventMessage)

    def data_usage(self, *, type: Sequence[str] | None = None) -> models.SystemDataUsageResponse:
        """What uses space (SystemDataUsage). ``type``: only some of container, image, volume, build-cache."""
        query = ops.SystemDataUsageQuery(type=None if type is None else list(type))
        usage: models.SystemDataUsageResponse = self._call(ops.SystemDataUsage, query=query)
        return usage

    def auth(self, credentials: models.AuthConfig) -> models.SystemAuthResponse:
        """Check credentials with their registry (SystemAuth). Raises ``Unauthorized`` when they are not good."""
        answer: models.SystemAuthResponse | None = self._call(ops.SystemAuth, body=credentials)
        return answer or models.SystemAuthResponse()

    def _ping(self, operation: Operation) -> Ping:
        request = Request(operation, operation.path)
        answer = self._client.transport.request(request, self._client.timeouts, versioned=False)
        answer.read_all()
        headers = answer.headers
        return Ping(
            api_version=headers.get("Api-Version"),
            os_type=headers.get("Ostype"),
            builder_version=headers.get("Builder-Version"),
            swarm=headers.get("Swarm"),
            experimental=headers.get("Docker-Experimental").lower() == "true",
            server=headers.get("Server"),
        )
