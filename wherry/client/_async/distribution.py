"""Calls on registries, through the engine."""

from __future__ import annotations

from wherry.api.models.images import AuthConfig, DistributionInspect
from wherry.api.operations import distribution as ops
from wherry.client._async.group import AsyncGroup


class AsyncDistribution(AsyncGroup):
    """``docker.distribution``"""

    __slots__ = ()

    async def inspect(self, name: str, *, auth: AuthConfig | None = None) -> DistributionInspect:
        """What the registry says about an image: its digest and platforms (DistributionInspect).

        ``auth`` as for ``docker.images``. Raises ``NotFound``, ``Unauthorized``.

            print((await docker.distribution.inspect("debian:bookworm")).descriptor.digest)
        """
        headers = await self._auth(name, auth)
        found: DistributionInspect = await self._call(ops.DistributionInspect, {"name": name}, headers=headers)
        return found
