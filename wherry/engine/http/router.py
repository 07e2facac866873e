"""From a request to its handler and back: finds the operation, decodes the call, encodes the answer."""

from __future__ import annotations

import asyncio
import errno
import logging
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from wherry.api.errors import ApiError, BadRequest, in_words
from wherry.api.json import decode_body
from wherry.api.operation import Body, Operation, Reply
from wherry.api.query import decode_query
from wherry.api.version import MAX_VERSION, MIN_VERSION, format_version
from wherry.engine.http import respond
from wherry.engine.http.call import Call
from wherry.engine.http.connection_exchange import Exchange
from wherry.engine.http.respond import Answer
from wherry.engine.http.router_paths import (
    BadPath,
    Routes,
    cleaned,
    split_target,
    split_version,
    version_numbers,
)

log = logging.getLogger(__name__)

Handler = Callable[[Call], Awaitable[object]]

MAX_JSON = 4 << 20
"""Longest JSON body accepted, in bytes."""

_MEDIA_TYPE = re.compile(r"[\w!#$%&'*+.^`|~-]+(/[\w!#$%&'*+.^`|~-]+)?", re.ASCII)


@dataclass(frozen=True, slots=True)
class _Route:
    operation: Operation
    handle: Handler


class Router:
    """Serves ``handlers``; everything else is ``page not found``.

    ``engine_version`` is for the Server header.
    """

    def __init__(self, handlers: Mapping[Operation | str, Handler], *, engine_version: str = "0.1.0") -> None:
        common = (
            f"Api-Version: {format_version(MAX_VERSION)}\r\nDocker-Experimental: false\r\nOstype: linux\r\n"
            f"Server: Docker/{engine_version} (linux)\r\n"
        )
        self._common = common.encode("ascii")
        self._json_fields = self._common + f"Content-Type: {respond.JSON}\r\n".encode()
        self._routes: Routes[_Route] = Routes()
        for key, handle in handlers.items():
            operation = _operation(key) if isinstance(key, str) else key
            self._routes.add(operation.method, operation.path, _Route(operation, handle))

    async def handle(self, exchange: Exchange) -> None:
        """Answer one request; what ``HttpServer`` calls."""
        request = exchange.request
        try:
            path, raw_query = split_target(request.target)
        except BadPath as error:
            self._send_error(exchange, 400, str(error), common=b"")
            return
        location = cleaned(path)
        if location is not None:
            query = f"?{raw_query}" if raw_query else ""
            exchange.send(301, respond.encode_fields([("Location", location + query)]), b"")
            return
        version_text, rest = split_version(path)
        found = self._routes.match(request.method, rest)
        if found is None:
            self._send_error(exchange, 404, "page not found", common=b"")
            return
        route, params = found
        version = MAX_VERSION
        if version_text:
            try:
                version = _accepted_version(version_text)
            except BadRequest as error:
                self._send_error(exchange, error.status, error.message)
                return
        await self._call(exchange, route, Call(exchange, route.operation, version, params, self._common), raw_query)

    async def _call(self, exchange: Exchange, route: _Route, call: Call, raw_query: str) -> None:
        operation = route.operation
        try:
            if operation.query is not None:
                call.query = decode_query(operation.query, raw_query)
            if operation.body is Body.JSON:
                call.body = await _read_json(exchange, operation)
            result = await route.handle(call)
            if not exchange.answered:
                self._send(exchange, operation, result)
            elif call.writer is not None:
                call.writer.finish()
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            # something the handler waited for was cancelled, not the handler
            self._failed(exchange, operation, RuntimeError(f"{operation.id} was interrupted"))
        except Exception as error:
            self._failed(exchange, operation, error)

    def _send(self, exchange: Exchange, operation: Operation, result: object) -> None:
        if isinstance(result, Answer):
            status, body = result.status, result.body
            headers = [field for field in result.header_list() if field[0].lower() != "content-length"]
        else:
            status, body, headers = operation.success[0], result, []
        if body is None:
            exchange.send(status, self._common + respond.encode_fields(headers), b"")
            return
        if isinstance(body, bytes):
            kind = respond.TEXT if operation.reply is Reply.TEXT else "application/octet-stream"
            fields = self._common
            if not any(name.lower() == "content-type" for name, _ in headers):
                fields += f"Content-Type: {kind}\r\n".encode()
        else:
            body = respond.json_body(body)
            fields = self._json_fields
            if any(name.lower() == "content-type" for name, _ in headers):
                fields = self._common
        exchange.send(status, fields + respond.encode_fields(headers) if headers else fields, body)

    def _failed(self, exchange: Exchange, operation: Operation, error: Exception) -> None:
        if isinstance(error, ConnectionError) and (exchange.client_gone or exchange.body.broken):
            log.debug("%s: the client has left", operation.id)  # E5
            exchange.cut()
            return
        if isinstance(error, ApiError):
            status, message = error.status, error.message
        elif isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG:
            status, message = 400, "a path in the request is too long for the file system"
        else:
            log.error("%s failed", operation.id, exc_info=error)
            status, message = 500, in_words(error)
        if exchange.answered:
            log.info("%s broke off after its answer had begun: %s", operation.id, message)
            exchange.cut()
        elif operation.id == "ContainerAttach":  # ATT3
            exchange.keep_alive = False
            fields = f"Content-Type: {respond.RAW_STREAM}\r\n".encode()
            exchange.send(status, fields, f"{message}\r\n".encode("utf-8", "replace"))
        else:
            self._send_error(exchange, status, message)

    def _send_error(self, exchange: Exchange, status: int, message: str, *, common: bytes | None = None) -> None:
        fields = (self._common if common is None else common) + f"Content-Type: {respond.JSON}\r\n".encode()
        exchange.send(status, fields, b"" if status == 304 else respond.error_body(message))


def _operation(operation_id: str) -> Operation:
    from wherry.api.operations.catalog import ALL

    for operation in ALL:
        if operation.id == operation_id:
            return operation
    raise LookupError(f"no operation {operation_id!r}")


def _accepted_version(text: str) -> tuple[int, int]:
    """The version of the path as numbers. Raises ``BadRequest`` for one out of range (G2)."""
    numbers = version_numbers(text)
    shown = text[:40]
    if numbers > MAX_VERSION:
        raise BadRequest(
            f"client version {shown} is too new. Maximum supported API version is {format_version(MAX_VERSION)}"
        )
    if numbers < MIN_VERSION:
        raise BadRequest(
            f"client version {shown} is too old. Minimum supported API version is {format_version(MIN_VERSION)}, "
            "please upgrade your client to a newer version"
        )
    return numbers[0], numbers[1]


async def _read_json(exchange: Exchange, operation: Operation) -> Any:
    """The decoded body; None where there is none and none is needed (P3–P5)."""
    content_type = exchange.request.headers.get("content-type")
    if content_type or exchange.request.has_body:
        _check_json_type(content_type)
    raw = await exchange.read(MAX_JSON)
    if not raw and not operation.body_required:
        return None
    return decode_body(operation.body_type, raw)


def _check_json_type(content_type: str) -> None:
    media_type = content_type.partition(";")[0].strip().lower()
    if media_type == "application/json":
        return
    shown = content_type[:200]
    if not media_type:
        raise BadRequest(f"malformed Content-Type header ({shown}): mime: no media type")
    if not _MEDIA_TYPE.fullmatch(media_type):
        raise BadRequest(f"malformed Content-Type header ({shown}): mime: expected token after slash")
    raise BadRequest(f"unsupported Content-Type header ({shown}): must be 'application/json'")


__all__ = ["MAX_JSON", "Answer", "Call", "Handler", "Router"]
