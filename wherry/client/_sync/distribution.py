# Made from _async/distribution.py by scripts/generate_sync.py: change that, and run it.
"""Calls on registries, through the engine."""

from __future__ import annotations

from wherry.api.models.images import AuthConfig, DistributionInspect
from wherry.api.operations import distribution as ops
from wherry.client._sync.group import Group


class Distribution(Group):
    """``docker.distribution``"""

    __slots__ = ()

    def inspect(self, name: str, *, auth: AuthConfig | None = None) -> DistributionInspect:
        """What the registry says about an image: its digest and platforms (DistributionInspect).

        ``auth`` as for ``docker.images``. Raises ``NotFound``, ``Unauthorized``.

            print((docker.distribution.inspect("debian:bookworm")).descriptor.digest)
        """
        headers = self._auth(name, auth)
        found: DistributionInspect = self._call(ops.DistributionInspect, {"name": name}, headers=headers)
        return found
