"""What answers look like on the wire: status lines, the fields that every answer carries, errors (G4, E1)."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from wherry.api.json import encode
from wherry.wire.http1 import encode_response_head

JSON = "application/json"
TEXT = "text/plain; charset=utf-8"
RAW_STREAM = "application/vnd.docker.raw-stream"
MULTIPLEXED_STREAM = "application/vnd.docker.multiplexed-stream"


@dataclass(frozen=True, slots=True)
class Answer:
    """What a handler returns to choose its status or headers.

    ``body``: None for nothing, bytes as they are, everything else as JSON. A ``Content-Type`` among ``headers``
    replaces the one that the kind of body brings; the length is always the body's.
    """

    status: int = 200
    body: Any = None
    headers: Mapping[str, str] | Iterable[tuple[str, str]] = field(default_factory=dict)

    def header_list(self) -> list[tuple[str, str]]:
        return list(self.headers.items() if isinstance(self.headers, Mapping) else self.headers)


_STATUS_LINES = {
    status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus if status >= 200
}
_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_date = (0, b"")


def status_line(status: int) -> bytes:
    return _STATUS_LINES.get(status) or b"HTTP/1.1 %d Status\r\n" % status


def date() -> bytes:
    """The Date field, made once a second."""
    global _date
    now = int(time.time())
    if _date[0] != now:
        moment = time.gmtime(now)
        text = time.strftime(f"{_DAYS[moment.tm_wday]}, %d {_MONTHS[moment.tm_mon - 1]} %Y %H:%M:%S GMT", moment)
        _date = (now, f"Date: {text}\r\n".encode())
    return _date[1]


def encode_fields(headers: Iterable[tuple[str, str]]) -> bytes:
    """Header lines. Raises ``ValueError`` for text that would break out of its line."""
    return encode_response_head(200, "OK", headers)[len("HTTP/1.1 200 OK\r\n") : -2]


def json_body(value: Any) -> bytes:
    """P8: compact, no HTML escapes, one line feed at the end."""
    return encode(value) + b"\n"


def error_body(message: str) -> bytes:
    """E1"""
    return json_body({"message": message})


def protocol_error(status: int, message: str) -> bytes:
    """The whole answer to bytes that are no request."""
    body = error_body(message)
    return b"%bContent-Type: application/json\r\nConnection: close\r\nContent-Length: %d\r\n%b\r\n%b" % (
        status_line(status),
        len(body),
        date(),
        body,
    )
