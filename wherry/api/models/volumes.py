"""Volumes. What belongs to swarm clusters stays plain JSON."""

from __future__ import annotations

from typing import Any, ClassVar

from msgspec import field

from wherry.api.models.common import UNSET, Model, StringMap, UnsetType


class VolumeUsageData(Model, kw_only=True):
    """A volume's bytes and users; -1 for what is not known."""

    size: int = -1
    ref_count: int = -1


class Volume(Model, kw_only=True):
    """A volume. ``mountpoint`` is a path of the host, ``status`` the driver's own words."""

    cluster_volume: dict[str, Any] | UnsetType = UNSET
    created_at: str | UnsetType = UNSET
    driver: str = ""
    labels: StringMap | None = None
    mountpoint: str = ""
    name: str = ""
    options: StringMap | None = None
    scope: str = ""
    status: dict[str, Any] | UnsetType = UNSET
    usage_data: VolumeUsageData | UnsetType = UNSET


class VolumeCreateRequest(Model, kw_only=True):
    """The body of VolumeCreate; without a name the engine makes one of 64 hex digits."""

    GO: ClassVar = "volume.CreateOptions"

    name: str = ""
    driver: str = ""
    driver_opts: StringMap | None = None
    labels: StringMap | None = None
    cluster_volume_spec: dict[str, Any] | UnsetType | None = UNSET


class VolumeListResponse(Model, kw_only=True):
    """The volumes, and warnings of their drivers."""

    volumes: list[Volume] | None = None
    warnings: list[str] | None = None


class VolumeUpdateRequest(Model, kw_only=True):
    """The body of VolumeUpdate, for cluster volumes only."""

    GO: ClassVar = "volume.UpdateOptions"

    spec: dict[str, Any] | None = field(default=None)


class VolumePruneResponse(Model, kw_only=True):
    """The names of the removed volumes, null when none was, and the bytes won."""

    volumes_deleted: list[str] | None = None
    space_reclaimed: int = 0
