"""The log from a place on: what a reader gets who fell behind the live output (DESIGN: slow readers).

Places count the log's bytes over its rotations; ``rotation.py`` keeps where the present file begins.
"""

from __future__ import annotations

import asyncio
import time
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Protocol

from wherry.engine.blocking import opened_in_thread
from wherry.engine.containers.logfile import (
    BLOCK,
    HEAD,
    STDERR_FULL,
    STDERR_PART,
    STDOUT_FULL,
    STDOUT_PART,
    TAG,
    LogFile,
    LogFiles,
)
from wherry.wire.frames import STDERR, STDOUT

_PATIENCE = 5.0  # seconds that what has passed live may take to be in the file, and a rotation to end
_PAUSE = 0.005
_TAIL = 64 * 1024  # more than the longest line
_tag = itemgetter(TAG)
_STREAMS = {STDOUT_FULL: STDOUT, STDOUT_PART: STDOUT, STDERR_FULL: STDERR, STDERR_PART: STDERR}


class Places(Protocol):
    """``start``: the place where the present log file begins; not to be believed while ``rotating``."""

    @property
    def start(self) -> int: ...
    @property
    def rotating(self) -> bool: ...


class LogSet:
    """The log of one container, and its places."""

    def __init__(self, path: Path, places: Places) -> None:
        self.path = path
        self.places = places

    def reader(self, position: int) -> PlacedReader:
        """A reader that begins at ``position``; nothing is opened before its first ``read``."""
        return PlacedReader(self, position)

    def reader_at_end(self) -> PlacedReader:
        """A reader of what the monitor writes from now on, by ``more``. Its ``position`` means nothing."""
        reader = PlacedReader(self, 0)
        reader.skip_all()
        return reader


class PlacedReader:
    """Reads on from ``position``, which moves with what has been read. Close it."""

    def __init__(self, log: LogSet, position: int) -> None:
        self.position = position
        self._log = log
        self._files: LogFiles | None = None
        self._offset = 0

    async def read(self, target: int, most: int = BLOCK) -> list[tuple[int, bytes]]:
        """The next (stream, bytes) pieces, as they passed live; ``most`` bytes of log, none behind ``target``.

        ``most`` must have room for a line of the monitor's (8 KiB and its head).

        Raises ``OSError`` where the place was rotated away or the log ends before ``target``.
        """
        await self._open()
        deadline = time.monotonic() + _PATIENCE
        while self.position < target:
            data = self._read(min(most, BLOCK, target - self.position))
            if data:
                return pieces(data[:-1].split(b"\n"))
            if time.monotonic() > deadline:
                raise OSError(f"the log {self._log.path.name} ends at {self.position}, before {target}")
            await asyncio.sleep(_PAUSE)
        return []

    def more(self, most: int = BLOCK) -> list[tuple[int, bytes]]:
        """The next pieces that are in the file already, as ``read`` gives them; none at the end of what is there."""
        data = self._read(min(most, BLOCK))
        return pieces(data[:-1].split(b"\n")) if data else []

    def skip_all(self) -> None:
        """Go to the end of the log, before a line that is only half written."""
        self._files = LogFiles(self._log.path)
        while len(self._files.files) > 1:
            self._files.drop_oldest()
        if self._files.files:
            newest = self._files.files[0]
            end = newest.size()
            start = max(0, end - _TAIL)
            line = newest.read(start, end - start).rfind(b"\n") + 1
            self._offset = start + line if line or not start else end

    def hold(self) -> None:
        """Open all that is there now: it can be read then whatever is rotated away or removed meanwhile.

        Does nothing while the log is being rotated. Raises as ``read``.
        """
        if self._files is not None:
            self._files.advance()
        elif not self._log.places.rotating:
            self._place(LogFiles(self._log.path), self._log.places.start)

    def close(self) -> None:
        if self._files is not None:
            self._files.close()

    async def _open(self) -> None:
        places = self._log.places
        deadline = time.monotonic() + 2 * _PATIENCE
        while self._files is None:
            if not places.rotating:
                start = places.start
                files = await opened_in_thread(LogFiles, self._log.path)
                if self._files is None and not places.rotating and places.start == start:
                    self._place(files, start)
                    return
                files.close()
            if time.monotonic() > deadline:
                raise OSError(f"the log {self._log.path.name} is being rotated")
            await asyncio.sleep(_PAUSE)

    def _place(self, files: LogFiles, start: int) -> None:
        """Find the position in ``files``, which are this reader's from here on."""
        self._files = files
        start_of = self._starts(files.files, start)
        while len(files.files) > 1 and self.position >= start_of[1]:
            files.drop_oldest()
            start_of.pop(0)
        if not start_of or self.position < start_of[0]:
            raise OSError(f"the log {self._log.path.name} no longer has what was there at {self.position}")
        self._offset = self.position - start_of[0]

    def _starts(self, files: list[LogFile], start: int) -> list[int]:
        starts = [start]
        for file in reversed(files[:-1]):
            if starts[0] <= self.position:  # none older is needed: do not unpack it
                starts.insert(0, -1)
            else:
                starts.insert(0, starts[0] - file.size())
        return starts[-len(files) :] if files else []

    def _read(self, size: int) -> bytes:
        assert self._files is not None
        files = self._files
        if not files.files and not files.advance():
            return b""
        while True:
            data = files.files[0].read(self._offset, size)
            end = data.rfind(b"\n") + 1
            if end:
                self._offset += end
                self.position += end
                return data[:end]
            if len(files.files) == 1:
                if not files.advance():
                    return b""
                continue  # complete only now
            files.drop_oldest()
            self._offset = 0


def pieces(lines: list[bytes]) -> list[tuple[int, bytes]]:
    """The output in lines of the file, neighbours of one stream in one piece."""
    out: list[tuple[int, bytes]] = []
    for tag, group in groupby(lines, _tag):
        stream = _STREAMS.get(tag)
        if stream is None:  # a mark between runs
            continue
        part = [line[HEAD:] for line in group]
        if tag in (STDOUT_FULL, STDERR_FULL):
            part.append(b"")
            out.append((stream, b"\n".join(part)))
        else:
            out.append((stream, b"".join(part)))
    return out
