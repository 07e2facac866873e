"""Calls on images."""

from __future__ import annotations

import builtins
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Unpack

from wherry.api.models import images as models
from wherry.api.models.common import IdResponse
from wherry.api.operations import build as build_ops
from wherry.api.operations import images as ops
from wherry.client._async import io
from wherry.client._async.group import AsyncGroup
from wherry.client._async.streams import AsyncBytes, AsyncJsonStream
from wherry.client.arguments import FilterArgument, filters_of
from wherry.client.context import BUILD_OPTIONS, as_json, as_list, open_context
from wherry.client.references import built_image, config_header, loaded_names, split_reference

if TYPE_CHECKING:
    from os import PathLike

    from wherry.client.bodies import AsyncBody
    from wherry.client.options import BuildOptions

_Progress = AsyncJsonStream[models.ProgressMessage]


class AsyncImages(AsyncGroup):
    """``docker.images``. ``name`` is a reference such as ``busybox:latest``, a digest or an id.

    What goes to a registry takes ``auth``: credentials for it, an empty ``AuthConfig()`` for none. Without it the docker
    configuration's are used (``~/.docker/config.json`` or ``DOCKER_CONFIG``, with the credential helpers named there), and
    ``CredentialsError`` is raised when these cannot be had.
    """

    __slots__ = ()

    async def list(
        self,
        *,
        all: bool | None = None,
        filters: FilterArgument | None = None,
        shared_size: bool | None = None,
        digests: bool | None = None,
    ) -> builtins.list[models.ImageSummary]:
        """The images (ImageList). ``all``: with those that others were made from."""
        query = ops.ImageListQuery(all=all, filters=filters_of(filters), shared_size=shared_size, digests=digests)
        images: builtins.list[models.ImageSummary] | None = await self._call(ops.ImageList, None, query)
        return images or []

    async def inspect(self, name: str) -> models.ImageInspect:
        """All about an image (ImageInspect). Raises ``NotFound``."""
        image: models.ImageInspect = await self._call(ops.ImageInspect, {"name": name})
        return image

    async def history(self, name: str) -> builtins.list[models.ImageHistoryResponseItem]:
        """The steps of an image's making, newest first (ImageHistory)."""
        items: builtins.list[models.ImageHistoryResponseItem] | None = await self._call(
            ops.ImageHistory, {"name": name}
        )
        return items or []

    async def pull(self, name: str, *, platform: str | None = None, auth: models.AuthConfig | None = None) -> None:
        """Fetch an image from its registry (ImageCreate); without a tag or digest ``latest``.

        Raises ``NotFound`` or ``StreamError`` when it cannot be had. For the progress see ``create``.

            await docker.images.pull("debian:bookworm")
        """
        repository, tag = split_reference(name)
        await (await self.create(from_image=repository, tag=tag, platform=platform, auth=auth)).read_all()

    async def import_(
        self,
        source: str | AsyncBody,
        *,
        repo: str | None = None,
        tag: str | None = None,
        message: str | None = None,
        changes: Sequence[str] | None = None,
        platform: str | None = None,
    ) -> str:
        """Make an image of one layer from a tar archive of a file system (ImageCreate with fromSrc); its id.

        ``source``: bytes, a file open for reading bytes, an iterable of bytes, or a text with a URL that the engine
        fetches. ``changes`` are Dockerfile instructions, such as ``CMD ["sh"]``.

            with open("rootfs.tar", "rb") as tar:
                image = await docker.images.import_(tar, repo="mine", tag="1", changes=['CMD ["sh"]'])
        """
        url = source if isinstance(source, str) else "-"
        progress = await self.create(
            from_src=url,
            repo=repo,
            tag=tag,
            message=message,
            changes=changes,
            platform=platform,
            source=None if isinstance(source, str) else source,
        )
        messages = await progress.read_all()
        return next((str(line.status) for line in reversed(messages) if line.status), "")

    async def create(
        self,
        *,
        from_image: str | None = None,
        from_src: str | None = None,
        repo: str | None = None,
        tag: str | None = None,
        message: str | None = None,
        changes: Sequence[str] | None = None,
        platform: str | None = None,
        auth: models.AuthConfig | None = None,
        source: AsyncBody | None = None,
    ) -> _Progress:
        """Pull or import an image and follow the progress (ImageCreate); see ``pull`` and ``import_``.

        The work is done when the stream has ended; leaving it early gives the work up.

            async with await docker.images.create(from_image="busybox", tag="latest") as progress:
                async for step in progress:
                    print(step.status, step.progress)
        """
        query = ops.ImageCreateQuery(
            from_image=from_image,
            from_src=from_src,
            repo=repo,
            tag=tag,
            message=message,
            changes=None if changes is None else list(changes),
            platform=platform,
        )
        headers = () if from_image is None else await self._auth(from_image, auth)
        answer = await self._open(ops.ImageCreate, None, query, stream=source, headers=headers)
        return AsyncJsonStream(answer, models.ProgressMessage)

    async def push(self, name: str, *, tag: str | None = None, auth: models.AuthConfig | None = None) -> None:
        """Send an image to its registry (ImagePush); all its tags without ``tag``. Raises ``StreamError``."""
        await (await self.push_progress(name, tag=tag, auth=auth)).read_all()

    async def push_progress(
        self, name: str, *, tag: str | None = None, auth: models.AuthConfig | None = None
    ) -> _Progress:
        """As ``push``, following the progress (ImagePush)."""
        headers = await self._auth(name, auth)
        answer = await self._open(ops.ImagePush, {"name": name}, ops.ImagePushQuery(tag=tag), headers=headers)
        return AsyncJsonStream(answer, models.ProgressMessage)

    async def tag(self, name: str, repo: str, tag: str | None = None) -> None:
        """Give an image another reference (ImageTag).

        await docker.images.tag("busybox", "registry.example/tools", "1.0")
        """
        await self._call(ops.ImageTag, {"name": name}, ops.ImageTagQuery(repo=repo, tag=tag))

    async def delete(
        self, name: str, *, force: bool | None = None, noprune: bool | None = None
    ) -> builtins.list[models.ImageDeleteResponseItem]:
        """Take a reference away, and the image with its last one (ImageDelete). Raises ``Conflict`` while it is used.

        ``force``: also if a stopped container uses it; ``noprune``: leave its untagged parents.
        """
        query = ops.ImageDeleteQuery(force=force, noprune=noprune)
        items: builtins.list[models.ImageDeleteResponseItem] | None = await self._call(
            ops.ImageDelete, {"name": name}, query
        )
        return items or []

    async def search(
        self,
        term: str,
        *,
        limit: int | None = None,
        filters: FilterArgument | None = None,
        auth: models.AuthConfig | None = None,
    ) -> builtins.list[models.ImageSearchResponseItem]:
        """Look for repositories in the registry (ImageSearch). Raises ``ServerError`` where the registry has no search.

        ``filters``: is-official, is-automated, stars.
        """
        query = ops.ImageSearchQuery(term=term, limit=limit, filters=filters_of(filters))
        found: builtins.list[models.ImageSearchResponseItem] | None = await self._call(
            ops.ImageSearch, None, query, headers=await self._auth(term, auth)
        )
        return found or []

    async def prune(self, *, filters: FilterArgument | None = None) -> models.ImagePruneResponse:
        """Remove images without a reference that nothing uses (ImagePrune); all unused with ``{"dangling": False}``."""
        query = ops.ImagePruneQuery(filters=filters_of(filters))
        pruned: models.ImagePruneResponse = await self._call(ops.ImagePrune, None, query)
        return pruned

    async def commit(
        self,
        container: str,
        *,
        repo: str | None = None,
        tag: str | None = None,
        comment: str | None = None,
        author: str | None = None,
        pause: bool = True,
        changes: Sequence[str] | None = None,
        config: models.ContainerConfig | None = None,
    ) -> IdResponse:
        """Make an image of a container's files (ImageCommit); the container is paused meanwhile unless told not to."""
        query = ops.ImageCommitQuery(
            container=container,
            repo=repo,
            tag=tag,
            comment=comment,
            author=author,
            pause=pause,
            changes=None if changes is None else list(changes),
        )
        made: IdResponse = await self._call(ops.ImageCommit, None, query, config or models.ContainerConfig())
        return made

    async def build(
        self, context: str | PathLike[str] | AsyncBody | None = None, **options: Unpack[BuildOptions]
    ) -> str:
        """Build an image from a Dockerfile (ImageBuild); its id.

        ``context``: a directory, without what its ``.dockerignore`` names, or a tar archive: bytes, a file open for
        reading bytes, or an iterable of bytes. Raises ``BadRequest`` for a Dockerfile that cannot be read,
        ``StreamError`` with the build's words when a step fails, ``ValueError`` for a context that is none.

            id = await docker.images.build(".", t="web:1", buildargs={"VERSION": "1.2"}, target="runtime")
        """
        return built_image(await (await self.build_progress(context, **options)).read_all())

    async def build_progress(
        self, context: str | PathLike[str] | AsyncBody | None = None, **options: Unpack[BuildOptions]
    ) -> _Progress:
        """As ``build``, following the progress (ImageBuild). Leaving it early gives the build up.

        async with await docker.images.build_progress("app", t="app") as progress:
            async for step in progress:
                print(step.stream or "", end="")
        """
        given: dict[str, Any] = dict(options)
        stream, dockerfile = open_context(context, given.get("dockerfile"), remote=bool(given.get("remote")))
        query = build_ops.ImageBuildQuery(
            dockerfile=dockerfile,
            t=as_list(given.get("t")),
            extrahosts=as_list(given.get("extrahosts")),
            remote=given.get("remote"),
            q=given.get("q"),
            nocache=given.get("nocache"),
            cachefrom=as_json(as_list(given.get("cachefrom"))),
            pull="1" if given.get("pull") else None,
            rm=given.get("rm"),
            forcerm=given.get("forcerm"),
            memory=given.get("memory"),
            memswap=given.get("memswap"),
            cpushares=given.get("cpushares"),
            cpusetcpus=given.get("cpusetcpus"),
            cpusetmems=given.get("cpusetmems"),
            cpuperiod=given.get("cpuperiod"),
            cpuquota=given.get("cpuquota"),
            cgroupparent=given.get("cgroupparent"),
            ulimits=as_json(given.get("ulimits")),
            securityopt=as_list(given.get("securityopt")),
            buildargs=as_json(given.get("buildargs")),
            shmsize=given.get("shmsize"),
            squash=given.get("squash"),
            labels=as_json(given.get("labels")),
            networkmode=given.get("networkmode"),
            platform=given.get("platform"),
            target=given.get("target"),
            outputs=given.get("outputs"),
            version=given.get("version"),
        )
        if unknown := given.keys() - BUILD_OPTIONS:
            raise TypeError(f"{', '.join(sorted(unknown))}: no such option of a build")
        auth = given.get("auth")
        if auth is None:
            from wherry.client.credentials import all_credentials

            auth = await io.in_worker(all_credentials)
        headers = (("X-Registry-Config", config_header(auth)),)
        answer = await self._open(build_ops.ImageBuild, None, query, stream=stream, headers=headers)
        return AsyncJsonStream(answer, models.ProgressMessage)

    async def build_prune(
        self, *, keep_storage: int | None = None, all: bool | None = None, filters: FilterArgument | None = None
    ) -> models.BuildPruneResponse:
        """Remove what a builder keeps beside its images (BuildPrune); Wherry's own keeps nothing.

        ``keep_storage``: bytes that may stay.
        """
        query = build_ops.BuildPruneQuery(keep_storage=keep_storage, all=all, filters=filters_of(filters))
        pruned: models.BuildPruneResponse = await self._call(build_ops.BuildPrune, None, query)
        return pruned

    async def get(self, name: str) -> AsyncBytes:
        """An image as a tar archive that ``load`` takes (ImageGet).

        async with await docker.images.get("busybox") as archive:
            await archive.write_to("busybox.tar")
        """
        return AsyncBytes(await self._open(ops.ImageGet, {"name": name}))

    async def get_all(self, names: Sequence[str]) -> AsyncBytes:
        """Several images as one tar archive (ImageGetAll)."""
        return AsyncBytes(await self._open(ops.ImageGetAll, None, ops.ImageGetAllQuery(names=list(names))))

    async def load(self, archive: AsyncBody) -> builtins.list[str]:
        """Take in the images of a tar archive (ImageLoad); their references, or ids where they have none.

        ``archive``: bytes, a file open for reading bytes, or an iterable of bytes. Raises ``StreamError`` if it is no
        archive of images.

            with open("busybox.tar", "rb") as tar:
                print(await docker.images.load(tar))
        """
        messages = await (await self.load_progress(archive, quiet=True)).read_all()
        return loaded_names(message.stream for message in messages)

    async def load_progress(self, archive: AsyncBody, *, quiet: bool | None = None) -> _Progress:
        """As ``load``, following the progress (ImageLoad)."""
        answer = await self._open(ops.ImageLoad, None, ops.ImageLoadQuery(quiet=quiet), stream=archive)
        return AsyncJsonStream(answer, models.ProgressMessage)
