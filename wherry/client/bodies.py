"""What may be sent as a body of any length: for type checkers, and for people who give something else."""

from __future__ import annotations

import os
from collections.abc import AsyncIterable, Awaitable, Iterable
from typing import Any, Protocol, TypeAlias


class Reader(Protocol):
    """A file open for reading bytes, or what reads as one."""

    def read(self, size: int, /) -> bytes: ...


class AsyncReader(Protocol):
    """A file whose ``read`` is awaited."""

    def read(self, size: int, /) -> Awaitable[bytes]: ...


Body: TypeAlias = bytes | bytearray | memoryview | Reader | Iterable[bytes]
AsyncBody: TypeAlias = Body | AsyncReader | AsyncIterable[bytes]


def check_body(body: Any) -> None:
    """Raises ``TypeError`` for what can be no body, before anything is sent."""
    if isinstance(body, (str, os.PathLike)):
        path = os.fspath(body)
        raise TypeError(f'{path!r} is a text or a path, and a body is bytes: for a file, give open({path!r}, "rb")')
    if not any(hasattr(body, name) for name in ("read", "__iter__", "__aiter__")):
        raise TypeError(
            f"a body is bytes, a file open for reading bytes or an iterable of bytes, not {type(body).__name__}"
        )
