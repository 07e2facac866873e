"""Errors that come inside a stream which had begun well."""

from __future__ import annotations

from typing import NoReturn

import msgspec

from wherry.api.errors import StreamError


class _Detail(msgspec.Struct):
    message: str | None = None
    code: int | None = None


class _Line(msgspec.Struct):
    error: str | None = None
    detail: _Detail | None = msgspec.field(default=None, name="errorDetail")


_decoder = msgspec.json.Decoder(_Line)


def raise_stream_error(raw: bytes) -> None:
    """Raise ``StreamError`` if a JSON value of a stream is an error report; values of any other form pass."""
    if b'"error' not in raw:
        return
    try:
        line = _decoder.decode(raw)
    except msgspec.DecodeError:
        return  # a value whose "error" is something else
    text = (line.detail and line.detail.message) or line.error
    if text:
        raise StreamError(text, code=(line.detail and line.detail.code) or 0)


def raise_system_frame(data: bytes) -> NoReturn:
    """Raise what the engine says on the stream it keeps for its own errors."""
    raise StreamError(data.decode("utf-8", "replace").strip() or "the engine reported an error in the stream")
