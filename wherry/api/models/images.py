"""Images, and the messages of what makes and moves them."""

from __future__ import annotations

from typing import Any, ClassVar

from msgspec import field

from wherry.api.models.common import UNSET, GraphDriverData, Int64, Model, PlainModel, StringMap, UnsetType
from wherry.api.models.containers import ContainerConfig

ImageConfig = ContainerConfig
"""An image's configuration is a container's without what a run adds."""


class RootFS(Model, kw_only=True):
    """An image's layers, by the digests of their uncompressed tars, lowest first."""

    type: str = ""
    layers: list[str] | UnsetType = UNSET


class ImageMetadata(Model, kw_only=True):
    """What the engine knows of an image beside its content."""

    last_tag_time: str | None = None


class ImageInspect(Model, kw_only=True):
    """All about an image. Sizes are bytes; times are RFC 3339."""

    id: str = ""
    repo_tags: list[str] | None = None
    repo_digests: list[str] | None = None
    parent: str = ""
    comment: str = ""
    created: str = ""
    container: str | UnsetType = UNSET
    container_config: ContainerConfig | UnsetType | None = UNSET
    docker_version: str = ""
    author: str = ""
    config: ContainerConfig | None = None
    architecture: str = ""
    variant: str | UnsetType = UNSET
    os: str = ""
    os_version: str | UnsetType = UNSET
    size: int = 0
    virtual_size: int | UnsetType = UNSET
    graph_driver: GraphDriverData = field(default_factory=GraphDriverData)
    root_fs: RootFS = field(default_factory=RootFS, name="RootFS")
    metadata: ImageMetadata = field(default_factory=ImageMetadata)


class ImageSummary(Model, kw_only=True):
    """An image in the list. ``created`` is seconds since the epoch; sizes are bytes.

    ``containers`` (how many use it) and ``shared_size`` are -1 where they were not asked for.
    """

    containers: int = -1
    created: int = 0
    id: str = ""
    labels: StringMap | None = None
    parent_id: str = field(default="", name="ParentId")
    repo_digests: list[str] | None = None
    repo_tags: list[str] | None = None
    shared_size: int = -1
    size: int = 0
    virtual_size: int | UnsetType = UNSET


class ImageHistoryResponseItem(Model, kw_only=True):
    """One step of an image's making; ``id`` is ``<missing>`` for the steps without an image of their own."""

    comment: str = ""
    created: int = 0
    created_by: str = ""
    id: str = ""
    size: int = 0
    tags: list[str] | None = None


class ImageDeleteResponseItem(Model, kw_only=True):
    """A reference taken away, or an image or layer removed."""

    deleted: str | UnsetType = UNSET
    untagged: str | UnsetType = UNSET


class ImagePruneResponse(Model, kw_only=True):
    """What was removed, null when nothing was, and the bytes won."""

    images_deleted: list[ImageDeleteResponseItem] | None = None
    space_reclaimed: int = 0


class BuildPruneResponse(Model, kw_only=True):
    """What was removed from a builder's cache, null when nothing was, and the bytes won."""

    caches_deleted: list[str] | None = None
    space_reclaimed: int = 0


class ImageSearchResponseItem(PlainModel, kw_only=True):
    """A repository found in a registry."""

    star_count: int = 0
    is_official: bool = False
    name: str = ""
    is_automated: bool = False
    description: str = ""


class ErrorDetail(PlainModel, kw_only=True):
    """An error inside a stream of progress messages."""

    code: int | UnsetType = UNSET
    message: str | UnsetType = UNSET


class ProgressDetail(PlainModel, kw_only=True):
    """How far a step is, in ``units`` or else bytes."""

    current: int | UnsetType = UNSET
    total: int | UnsetType = UNSET
    start: int | UnsetType = UNSET
    hidecounts: bool | UnsetType = UNSET
    units: str | UnsetType = UNSET


class ProgressMessage(PlainModel, kw_only=True):
    """One message of a pull, push, load, import or build."""

    stream: str | UnsetType = UNSET
    status: str | UnsetType = UNSET
    progress_detail: ProgressDetail | UnsetType = field(default=UNSET, name="progressDetail")
    progress: str | UnsetType = UNSET
    id: str | UnsetType = UNSET
    from_: str | UnsetType = field(default=UNSET, name="from")
    time: int | UnsetType = UNSET
    time_nano: int | UnsetType = field(default=UNSET, name="timeNano")
    error_detail: ErrorDetail | UnsetType = field(default=UNSET, name="errorDetail")
    error: str | UnsetType = UNSET
    aux: Any = UNSET


class OCIDescriptor(PlainModel, kw_only=True):
    """A piece of content in a registry: its type, digest and bytes."""

    media_type: str = field(default="", name="mediaType")
    digest: str = ""
    size: Int64 = 0
    urls: list[str] | UnsetType = UNSET
    annotations: StringMap | UnsetType = UNSET


class OCIPlatform(PlainModel, kw_only=True):
    """What an image runs on."""

    architecture: str = ""
    os: str = ""
    os_version: str | UnsetType = field(default=UNSET, name="os.version")
    os_features: list[str] | UnsetType = field(default=UNSET, name="os.features")
    variant: str | UnsetType = UNSET


class DistributionInspect(Model, kw_only=True):
    """What a registry says about an image."""

    descriptor: OCIDescriptor = field(default_factory=OCIDescriptor)
    platforms: list[OCIPlatform] | None = None


class BuildCache(Model, kw_only=True):
    """A record of the build cache. Size in bytes, times RFC 3339."""

    id: str = field(default="", name="ID")
    parent: str | UnsetType = UNSET  # before 1.42
    parents: list[str] | UnsetType | None = UNSET
    type: str = ""
    description: str = ""
    in_use: bool = False
    shared: bool = False
    size: int = 0
    created_at: str = ""
    last_used_at: str | None = None
    usage_count: int = 0


class AuthConfig(PlainModel, kw_only=True):
    """Credentials for a registry. Its text shows no secret."""

    GO: ClassVar = "registry.AuthConfig"

    username: str | UnsetType = UNSET
    password: str | UnsetType = UNSET
    auth: str | UnsetType = UNSET
    email: str | UnsetType = UNSET
    serveraddress: str | UnsetType = UNSET
    identitytoken: str | UnsetType = UNSET
    registrytoken: str | UnsetType = UNSET

    def __repr__(self) -> str:
        return f"AuthConfig(serveraddress={self.serveraddress!r}, username={self.username!r}, …)"


__all__ = [
    "AuthConfig",
    "BuildCache",
    "BuildPruneResponse",
    "ContainerConfig",
    "DistributionInspect",
    "ErrorDetail",
    "ImageConfig",
    "ImageDeleteResponseItem",
    "ImageHistoryResponseItem",
    "ImageInspect",
    "ImageMetadata",
    "ImagePruneResponse",
    "ImageSearchResponseItem",
    "ImageSummary",
    "OCIDescriptor",
    "OCIPlatform",
    "ProgressDetail",
    "ProgressMessage",
    "RootFS",
]
