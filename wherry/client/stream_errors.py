"""Errors that come inside a stream which had begun well."""

from __future__ import annotations

from typing import NoReturn

from wherry.api import json as api_json
from wherry.api.errors import StreamError


def raise_stream_error(raw: bytes) -> None:
    """Raise ``StreamError`` if a JSON value of a stream is an error report, in whatever form; other values pass.

    >>> raise_stream_error(b'{"error":"no space left on device","errorDetail":null}')
    Traceback (most recent call last):
        ...
    wherry.api.errors.StreamError: no space left on device
    """
    if b'"error' not in raw:
        return
    line = api_json.loose(raw)
    if not isinstance(line, dict):
        return
    detail = line.get("errorDetail")
    fields = detail if isinstance(detail, dict) else {"message": detail}
    text = _text(fields.get("message")) or _text(line.get("error"))
    if text:
        code = fields.get("code")
        raise StreamError(text, code=code if isinstance(code, int) else 0)


def _text(value: object) -> str:
    if isinstance(value, dict):
        value = value.get("message")
    return value if isinstance(value, str) else ""


def raise_system_frame(data: bytes) -> NoReturn:
    """Raise what the engine says on the stream it keeps for its own errors."""
    raise StreamError(data.decode("utf-8", "replace").strip() or "the engine reported an error in the stream")
