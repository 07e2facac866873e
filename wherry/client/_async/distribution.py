"""Calls on registries, through the engine."""

from __future__ import annotations

from wherry.api.models.images import AuthConfig, DistributionInspect
from wherry.api.operations import distribution as ops
from wherry.client._async.group import AsyncGroup
from wherry.client.references import auth_header


class AsyncDistribution(AsyncGroup):
    """``docker.distribution``"""

    __slots__ = ()

    async def inspect(self, name: str, *, auth: AuthConfig | None = None) -> DistributionInspect:
        """What the registry says about an image: its digest and platforms (DistributionInspect)."""
        headers = (("X-Registry-Auth", auth_header(auth)),)
        found: DistributionInspect = await self._call(ops.DistributionInspect, {"name": name}, headers=headers)
        return found
