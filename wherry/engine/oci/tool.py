"""Run a short-lived program of the machine and read what it says, always with a deadline."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from wherry.engine.oci.process import spawn

_LIMIT = 1 << 20


@dataclass(frozen=True, slots=True)
class Result:
    code: int
    output: str  # standard output and error together, 1 MiB at most


async def run(argv: Sequence[str], *, deadline: float = 30.0, env: Mapping[str, str] | None = None) -> Result:
    """Run ``argv`` to its end. Raises ``TimeoutError`` (it is killed then) and ``OSError`` when it cannot start.

    Not for programs whose descendants keep the output open.
    """
    read_end, write_end = os.pipe()
    try:
        try:
            child = spawn(argv, stdout=write_end, stderr=write_end, env=env)
        finally:
            os.close(write_end)
        try:
            output = await asyncio.wait_for(_read_all(read_end), deadline)
        except BaseException:
            child.kill()
            raise
        finally:
            code = await child.wait()
    finally:
        os.close(read_end)
    return Result(code, output.decode(errors="replace"))


async def _read_all(fd: int) -> bytes:
    loop = asyncio.get_running_loop()
    os.set_blocking(fd, False)
    ready = asyncio.Event()
    loop.add_reader(fd, ready.set)
    data = bytearray()
    try:
        while True:
            await ready.wait()
            ready.clear()
            try:
                piece = os.read(fd, 65536)
            except BlockingIOError:
                continue
            if not piece:
                return bytes(data)
            if len(data) < _LIMIT:
                data += piece
    finally:
        loop.remove_reader(fd)
