"""The operations that need a registry: pull, push, login, search, distribution inspect."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

from wherry.api.errors import ApiError, BadRequest
from wherry.api.json import encode
from wherry.api.models.system import SystemAuthResponse
from wherry.engine.http.call import Call
from wherry.engine.images import reference
from wherry.engine.images.registry import ask, auth
from wherry.engine.images.registry.pull import pull, wanted
from wherry.engine.images.registry.push import push

if TYPE_CHECKING:
    from wherry.engine.engine import Engine

JSON = "application/json"


def _credentials(call: Call) -> auth.Credentials:
    return auth.read_header(call.headers.get("x-registry-auth"))


async def pull_image(engine: Engine, call: Call) -> None:
    """ImageCreate with ``fromImage``."""
    query = call.query
    name = wanted(query.from_image, query.tag or "")
    messages = pull(engine.images, engine.registries, name, query.platform or "", _credentials(call))
    await while_there(call, messages)


async def push_image(engine: Engine, call: Call) -> None:
    name = reference.parse(call.params["name"])
    if call.query.tag:
        name = name.with_tag(call.query.tag)
    await while_there(call, push(engine.images, engine.registries, name, _credentials(call)))


async def while_there(call: Call, messages: AsyncIterator[dict[str, Any]]) -> None:
    """Send messages; a client that leaves ends the work."""
    sending = asyncio.ensure_future(send_messages(call, messages))
    gone = asyncio.ensure_future(call.disconnected())
    try:
        await asyncio.wait({sending, gone}, return_when=asyncio.FIRST_COMPLETED)
        if sending.done():
            await sending
    finally:
        for task in (sending, gone):
            task.cancel()
        await asyncio.gather(sending, gone, return_exceptions=True)


async def send_messages(call: Call, messages: AsyncIterator[dict[str, Any]]) -> None:
    """Each message a line; an error before the first is a status, a later one a message of the stream."""
    writer = None
    try:
        async for message in messages:
            if writer is None:
                writer = await call.start(200, JSON)
            await writer.write(encode(message) + b"\r\n")
    except ApiError as error:
        if writer is None:
            raise
        code = getattr(error, "code", 0)  # of a build's step
        inner = {"code": code, "message": error.message} if code else {"message": error.message}
        detail = {"errorDetail": inner, "error": error.message}
        await writer.write(encode(detail) + b"\r\n")
    finally:
        close = getattr(messages, "aclose", None)
        if close is not None:
            await close()
    if writer is None:
        await call.start(200, JSON)


async def search(engine: Engine, call: Call) -> object:
    query = call.query
    if not query.term:
        raise BadRequest("a term to search for is needed")
    return await ask.search(engine.registries, query.term, query.limit, query.filters or {}, _credentials(call))


async def inspect(engine: Engine, call: Call) -> object:
    return await ask.inspect(engine.registries, call.params["name"], _credentials(call))


async def login(engine: Engine, call: Call) -> object:
    config = call.body
    address = config.serveraddress or ""
    token = await ask.login(engine.registries, address, auth.from_model(config))
    return SystemAuthResponse(status="Login Succeeded", identity_token=token or "")


HANDLERS = {
    "ImagePush": push_image,
    "ImageSearch": search,
    "DistributionInspect": inspect,
    "SystemAuth": login,
}
