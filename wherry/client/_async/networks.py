"""Calls on networks."""

from __future__ import annotations

import builtins
from collections.abc import Mapping

from wherry.api.models import networks as models
from wherry.api.operations import networks as ops
from wherry.client._async.group import AsyncGroup
from wherry.client.arguments import FilterArgument, filters_of


class AsyncNetworks(AsyncGroup):
    """``docker.networks``"""

    __slots__ = ()

    async def list(self, *, filters: FilterArgument | None = None) -> builtins.list[models.Network]:
        """The networks, without their containers (NetworkList). ``filters``: driver, id, label, name, scope, type …"""
        query = ops.NetworkListQuery(filters=filters_of(filters))
        networks: builtins.list[models.Network] | None = await self._call(ops.NetworkList, query=query)
        return networks or []

    async def inspect(self, id: str, *, verbose: bool | None = None, scope: str | None = None) -> models.Network:
        """All about a network, by id or name (NetworkInspect). Raises ``NotFound``."""
        query = ops.NetworkInspectQuery(verbose=verbose, scope=scope)
        network: models.Network = await self._call(ops.NetworkInspect, {"id": id}, query)
        return network

    async def create(
        self,
        name: str,
        *,
        driver: str = "",
        internal: bool = False,
        attachable: bool = False,
        ingress: bool = False,
        scope: str = "",
        config_only: bool = False,
        config_from: str = "",
        check_duplicate: bool = True,
        ipam: models.IPAM | None = None,
        enable_ipv6: bool = False,
        options: Mapping[str, str] | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> models.NetworkCreateResponse:
        """Make a network (NetworkCreate). ``driver``: bridge if empty. ``config_only``: no network, but settings that others
        have who name it in ``config_from``. Raises ``Conflict`` for a name that is taken, ``BadRequest``, ``Forbidden``.

        network = await docker.networks.create("backend", labels={"app": "shop"})
        """
        body = models.NetworkCreateRequest(
            name=name,
            check_duplicate=check_duplicate,
            driver=driver,
            internal=internal,
            attachable=attachable,
            ingress=ingress,
            scope=scope,
            config_only=config_only,
            config_from=models.ConfigReference(network=config_from) if config_from else None,
            ipam=ipam,
            enable_ipv6=enable_ipv6,
            options=None if options is None else dict(options),
            labels=None if labels is None else dict(labels),
        )
        created: models.NetworkCreateResponse = await self._call(ops.NetworkCreate, body=body)
        return created

    async def delete(self, id: str) -> None:
        """Remove a network (NetworkDelete). Raises ``NotFound``, and ``Forbidden`` while it is in use."""
        await self._call(ops.NetworkDelete, {"id": id})

    async def connect(self, id: str, container: str, *, endpoint_config: models.EndpointSettings | None = None) -> None:
        """Connect a container, running or not, to a network (NetworkConnect).

        ``endpoint_config``: addresses, aliases, links. Raises ``NotFound``, ``Forbidden``, ``BadRequest``.
        """
        body = models.NetworkConnectRequest(container=container, endpoint_config=endpoint_config)
        await self._call(ops.NetworkConnect, {"id": id}, body=body)

    async def disconnect(self, id: str, container: str, *, force: bool = False) -> None:
        """Take a container off a network (NetworkDisconnect). Raises ``NotFound``, ``ServerError`` if it is not in it."""
        body = models.NetworkDisconnectRequest(container=container, force=force)
        await self._call(ops.NetworkDisconnect, {"id": id}, body=body)

    async def prune(self, *, filters: FilterArgument | None = None) -> models.NetworkPruneResponse:
        """Remove networks that nothing uses (NetworkPrune). ``filters``: until, label, label!."""
        query = ops.NetworkPruneQuery(filters=filters_of(filters))
        pruned: models.NetworkPruneResponse = await self._call(ops.NetworkPrune, query=query)
        return pruned
