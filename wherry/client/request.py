"""A call as a value: an operation with its arguments becomes a request, an error answer becomes an exception.

No I/O; both colours use it.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from wherry.api import json as api_json
from wherry.api import query as api_query
from wherry.api.errors import ApiError, ProtocolError, Timeout, error_for_status
from wherry.api.models.common import PlainModel
from wherry.api.operation import Body, Operation, Reply
from wherry.client.bodies import check_body

JSON_TYPE = ("Content-Type", "application/json")
TAR_TYPE = ("Content-Type", "application/x-tar")

# Answers that come when something else has happened, or after work without a bound.
_LONG = {
    "ContainerDelete",
    "ContainerPrune",
    "ContainerRestart",
    "ContainerStart",
    "ContainerStop",
    "ContainerWait",
    "ImageCommit",
    "ImageCreate",
    "ImageDelete",
    "ImageLoad",
    "ImagePrune",
    "ImagePush",
    "ImageSearch",
    "NetworkPrune",
    "PutContainerArchive",
    "SystemDataUsage",
    "VolumePrune",
}
_LONG_REPLIES = {Reply.JSON_STREAM, Reply.BYTES, Reply.FRAMES, Reply.HIJACK, Reply.WEBSOCKET}


class Request:
    """One call, all but the API version of its path.

    ``body`` is JSON text, None, or anything ``open_body`` takes where the operation carries a stream.
    ``long`` says that the answer may take as long as what it waits for.
    """

    __slots__ = ("body", "headers", "long", "operation", "path", "stream")

    def __init__(
        self,
        operation: Operation,
        path: str,
        *,
        body: bytes | None = None,
        stream: Any = None,
        headers: tuple[tuple[str, str], ...] = (),
        long: bool = False,
    ) -> None:
        self.operation = operation
        self.path = path
        self.body = body
        self.stream = stream
        self.headers = headers
        self.long = long

    def timeout(self, what: object) -> Timeout:
        """The error that names this call."""
        return Timeout(f"{self.operation.method} {self.path}: {what}")


def build(
    operation: Operation,
    params: Mapping[str, str] | None = None,
    query: api_query.Query | None = None,
    body: Any = None,
    *,
    stream: Any = None,
    headers: tuple[tuple[str, str], ...] = (),
) -> Request:
    """The request for an operation.

    Raises ``ValueError`` for an argument that fits in no path, ``TypeError`` for a stream that can be no body.

    >>> from wherry.api.operations.containers import ContainerStart
    >>> build(ContainerStart, {"id": "web"}).path
    '/containers/web/start'
    """
    path = operation.path
    if params:
        for name, value in params.items():
            path = path.replace("{" + name + "}", _path_value(operation.path, name, value))
    if query is not None and (text := api_query.encode_query(query)):
        path = f"{path}?{text}"
    data: bytes | None = None
    if body is not None:
        data = api_json.encode_request(body)
        headers = (JSON_TYPE, *headers)
    elif stream is not None and operation.body is Body.STREAM:
        check_body(stream)
        headers = (TAR_TYPE, *headers)
        if isinstance(stream, (bytes, bytearray, memoryview)):
            data, stream = bytes(stream), None
    return Request(operation, path, body=data, stream=stream, headers=headers, long=_is_long(operation))


@lru_cache(maxsize=1024)
def _path_value(path: str, name: str, value: str) -> str:
    if name == "id" and value.startswith("/"):
        value = value[1:]  # names come from the engine with a slash, and are looked up without
    if not value:
        raise ValueError(f"{_noun(path)} name cannot be empty")
    if "\0" in value or any(part in ("", ".", "..") for part in value.split("/")):
        raise ValueError(f"{value!r} is no {_noun(path)}'s name")
    return api_query.escaped(value, safe="/:@+" if name == "name" else ":")


def _noun(path: str) -> str:
    """
    >>> _noun("/containers/{id}/start")
    'container'
    """
    return path.split("/")[1].removesuffix("s")


@lru_cache(maxsize=256)
def _is_long_id(operation_id: str, reply: Reply) -> bool:
    return operation_id in _LONG or reply in _LONG_REPLIES


def _is_long(operation: Operation) -> bool:
    return _is_long_id(operation.id, operation.reply)


def read_error(request: Request, status: int, body: bytes) -> ApiError:
    """The exception that an error answer stands for; its text is the engine's, whatever form it came in."""
    operation = request.operation
    message = ""
    decoded = api_json.loose(body)
    if isinstance(decoded, dict):
        # Podman says "cause" beside it; very old engines "error".
        message = str(decoded.get("message") or decoded.get("error") or "")
    if not message:
        message = body[:4096].decode("utf-8", "replace").strip()
    if not message:
        message = f"the engine answered {status} without a word"
    error_class = operation.errors.get(status)
    if error_class is not None:
        return error_class(message, status=status, method=operation.method, path=request.path)
    return error_for_status(status, message, method=operation.method, path=request.path)


def read_value(request: Request, body: bytes, status: int = 200) -> Any:
    """The decoded answer; None where the operation returns nothing, and for an empty list or one left out.

    Raises ``ProtocolError`` for an answer without the object that it should be.
    """
    returns = request.operation.returns
    if returns is None or status in (204, 304):
        return None
    if not body:
        if isinstance(returns, type) and issubclass(returns, PlainModel):
            raise ProtocolError(f"{request.operation.method} {request.path}: the answer is empty")
        return None
    try:
        return api_json.decode(returns, body)
    except ProtocolError as error:
        raise ProtocolError(f"{request.operation.method} {request.path}: {error}") from error
