"""The operations on images."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from wherry.api.errors import BadRequest, ServerError
from wherry.api.models.common import IdResponse
from wherry.api.operations.images import ImageCreateQuery
from wherry.engine.containers.commit import CommitRequest
from wherry.engine.containers.commit import commit as commit_container
from wherry.engine.http.call import Call
from wherry.engine.http.respond import Answer
from wherry.engine.http.routes.registries import pull_image, send_messages, while_there
from wherry.engine.images.registry.errors import RegistryError
from wherry.engine.images.registry.fetch import opened
from wherry.engine.images.registry.transport import origin_of

if TYPE_CHECKING:
    from wherry.engine.engine import Engine

TAR = "application/x-tar"
Messages = AsyncGenerator[dict[str, Any], None]


async def list_images(engine: Engine, call: Call) -> object:
    query = call.query
    return engine.images.list(
        query.filters,
        all=bool(query.all),
        shared_size=bool(query.shared_size),
        version=call.version,
        in_use=engine.containers.using_image if call.version >= (1, 44) else None,
    )


async def inspect_image(engine: Engine, call: Call) -> object:
    return engine.images.inspect(call.params["name"], version=call.version)


async def history(engine: Engine, call: Call) -> object:
    return engine.images.history(call.params["name"])


async def tag(engine: Engine, call: Call) -> object:
    engine.images.tag(call.params["name"], call.query.repo or "", call.query.tag or "")
    return Answer(201)


async def delete_image(engine: Engine, call: Call) -> object:
    return engine.images.remove(
        call.params["name"],
        force=bool(call.query.force),
        noprune=bool(call.query.noprune),
        in_use=engine.containers.using_image,
    )


async def prune(engine: Engine, call: Call) -> object:
    return engine.images.prune(call.query.filters, in_use=engine.containers.using_image)


async def create(engine: Engine, call: Call) -> None:
    """``fromImage`` pulls; ``fromSrc`` makes an image of an archive, the body's (``-``) or one at a URL."""
    query = call.query
    if query.from_image:
        await pull_image(engine, call)
        return
    source = query.from_src or "-"
    if source != "-":
        url = source if "://" in source else f"http://{source}"
        try:
            origin_of(url)
        except RegistryError:
            raise BadRequest(f"invalid URL to import from: {source[:200]!r}") from None
        await while_there(call, _import_from_url(engine, url, query))
        return
    await send_messages(call, _import(engine, call.stream(), query))


def _import(engine: Engine, body: AsyncIterator[bytes], query: ImageCreateQuery, message: str = "") -> Messages:
    return engine.images.import_(
        body,
        repo=query.repo or "",
        tag=query.tag or "",
        message=query.message or message,
        changes=query.changes or (),
        platform=query.platform or "",
    )


async def _import_from_url(engine: Engine, url: str, query: ImageCreateQuery) -> Messages:
    """As an import of what is found there. Raises ``ServerError``, where nothing is found before any message."""
    try:
        async with opened(engine.registries, url) as answer:
            yield {"status": f"Downloading from {url}"}
            work = _import(engine, answer.pieces(), query, f"Imported from {url}")
            async with aclosing(work) as messages:
                async for message in messages:
                    yield message
    except RegistryError as error:
        raise ServerError(str(error)) from error


async def load(engine: Engine, call: Call) -> None:
    await send_messages(call, engine.images.load(call.stream(), quiet=call.query.quiet is not False))


async def save_one(engine: Engine, call: Call) -> None:
    await _send_archive(engine, call, [call.params["name"]])


async def save_several(engine: Engine, call: Call) -> None:
    if not call.query.names:
        raise BadRequest("no images to save: name at least one")
    await _send_archive(engine, call, call.query.names)


async def _send_archive(engine: Engine, call: Call, names: list[str]) -> None:
    pieces = engine.images.save(names)
    writer = await call.start(200, TAR)
    await writer.copy(pieces)


async def commit(engine: Engine, call: Call) -> object:
    query = call.query
    request = CommitRequest(
        repo=query.repo or "",
        tag=query.tag or "",
        comment=query.comment or "",
        author=query.author or "",
        pause=query.pause,
        changes=query.changes or (),
        config=call.body,
    )
    return Answer(201, IdResponse(id=await commit_container(engine.containers, query.container or "", request)))


HANDLERS = {
    "ImageList": list_images,
    "ImageInspect": inspect_image,
    "ImageHistory": history,
    "ImageTag": tag,
    "ImageDelete": delete_image,
    "ImagePrune": prune,
    "ImageCreate": create,
    "ImageLoad": load,
    "ImageGet": save_one,
    "ImageGetAll": save_several,
    "ImageCommit": commit,
}
