# Made from _async/volumes.py by scripts/generate_sync.py: change that, and run it.
"""Calls on volumes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec import UNSET

from wherry.api.models import volumes as models
from wherry.api.operations import volumes as ops
from wherry.client._sync.group import Group
from wherry.client.arguments import FilterArgument, filters_of


class Volumes(Group):
    """``docker.volumes``"""

    __slots__ = ()

    def list(self, *, filters: FilterArgument | None = None) -> models.VolumeListResponse:
        """The volumes, and warnings of their drivers (VolumeList). ``filters``: dangling, driver, label, name."""
        query = ops.VolumeListQuery(filters=filters_of(filters))
        volumes: models.VolumeListResponse = self._call(ops.VolumeList, query=query)
        return volumes

    def create(
        self,
        name: str = "",
        *,
        driver: str = "",
        driver_opts: Mapping[str, str] | None = None,
        labels: Mapping[str, str] | None = None,
        cluster_volume_spec: Mapping[str, Any] | None = None,
    ) -> models.Volume:
        """Make a volume, or get the one of that name (VolumeCreate). Without a name it gets one and is anonymous.

        ``driver_opts`` of the driver ``local``: ``type``, ``device`` and ``o`` as mount(8) has them, mounted while a
        container uses the volume, and ``size`` where the filesystem has project quotas. ``cluster_volume_spec`` is for
        swarms. Raises ``BadRequest`` for a name or options, ``NotFound`` for a driver.

            volume = docker.volumes.create("fast", driver_opts={"type": "tmpfs", "device": "tmpfs"})
        """
        body = models.VolumeCreateRequest(
            name=name,
            driver=driver,
            driver_opts=None if driver_opts is None else dict(driver_opts),
            labels=None if labels is None else dict(labels),
            cluster_volume_spec=UNSET if cluster_volume_spec is None else dict(cluster_volume_spec),
        )
        volume: models.Volume = self._call(ops.VolumeCreate, body=body)
        return volume

    def inspect(self, name: str) -> models.Volume:
        """All about a volume (VolumeInspect). Raises ``NotFound``."""
        volume: models.Volume = self._call(ops.VolumeInspect, {"name": name})
        return volume

    def update(self, name: str, *, version: int, spec: Mapping[str, Any] | None = None) -> None:
        """Change a cluster volume (VolumeUpdate); other volumes cannot be changed."""
        body = models.VolumeUpdateRequest(spec=None if spec is None else dict(spec))
        self._call(ops.VolumeUpdate, {"name": name}, ops.VolumeUpdateQuery(version=version), body)

    def delete(self, name: str, *, force: bool | None = None) -> None:
        """Remove a volume (VolumeDelete). Raises ``NotFound`` unless ``force``, ``Conflict`` while it is in use."""
        self._call(ops.VolumeDelete, {"name": name}, ops.VolumeDeleteQuery(force=force))

    def prune(self, *, filters: FilterArgument | None = None) -> models.VolumePruneResponse:
        """Remove anonymous volumes that nothing uses (VolumePrune); named ones too with ``{"all": True}``.

        ``filters``: all, label, label!. Raises ``Conflict`` while another prune is under way.
        """
        query = ops.VolumePruneQuery(filters=filters_of(filters))
        pruned: models.VolumePruneResponse = self._call(ops.VolumePrune, query=query)
        return pruned
