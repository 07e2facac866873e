"""ContainerLogs: the log read back, as it was written or as it is written (LOG1 to LOG12).

Blocks of lines are taken apart by C loops (split, join, itemgetter); lines that came in pieces take a slower way, and a
block with a mark between runs or a torn line takes it whole, line by line.
"""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Iterable
from contextlib import aclosing
from functools import lru_cache
from itertools import compress
from operator import itemgetter
from pathlib import Path
from typing import Protocol

from wherry.engine.blocking import in_thread, opened_in_thread
from wherry.engine.containers.logfile import (
    BLOCK,
    HEAD,
    RUN_BOUNDARY,
    STDERR_FULL,
    STDERR_PART,
    STDOUT_FULL,
    STDOUT_PART,
    STREAM,
    TAG,
    TIME,
    LogFiles,
    format_time,
)
from wherry.engine.containers.logoptions import LogOptions, log_options, parse_time
from wherry.wire.frames import STDERR, STDOUT, encode_frame_header

__all__ = ["LogFollow", "LogOptions", "LogParser", "LogReader", "log_options", "parse_time", "read_logs"]

PIECE = 16384  # moby's entries are no longer (LOG3)
_INLINE = 64 * 1024  # as much is read on the loop itself: a thread would cost more
_LONGEST = 8192 + HEAD + 1  # of the monitor's lines
_UNREACHED = 1 << 62
_LOOK_BACK = 1 << 20
# Seconds until a follower looks at the file by itself; doubled as long as nothing is there.
_FIRST_LOOK = 0.02
_LONGEST_QUIET = 2.0

_tag, _text, _stamp = itemgetter(TAG), itemgetter(slice(HEAD, None)), itemgetter(TIME)
_WHOLE = {STDOUT_FULL, STDERR_FULL}
_PARTS = {STDOUT_PART, STDERR_PART}
_KNOWN = _WHOLE | _PARTS
_WHOLE_LINES = re.compile(rb"^.{36}std(?:out|err) F ", re.MULTILINE)
_NUMBERS = {b"stdout": STDOUT, b"stderr": STDERR}


class LogFollow(Protocol):
    """What wakes a reader that follows a log. One object for one reader."""

    async def wait(self, position: int) -> bool:
        """Sleep until more may have been written, or the container stopped.

        Returns True as long as the container runs, False once it has stopped and its monitor has written everything.
        ``position`` is how many bytes of the log this reader has read. A return for nothing does no harm: the reader
        looks at the file itself, after each return and from time to time without one. May be cancelled.
        """


@lru_cache(maxsize=16)
def _frame_headers(stream: int, added: int) -> list[bytes]:
    """The header of each line's frame, by the length of the line in the file without its end of line."""
    return [encode_frame_header(stream, max(0, length - HEAD + 1 + added)) for length in range(_LONGEST + 1)]


class LogParser:
    """Lines of the log in, bytes for the client out: framed, or raw for a container with a terminal (LOG3, LOG12).

    ``skip``: entries still to be passed over. ``ended``: an entry was later than ``until``, and nothing follows.
    """

    def __init__(self, options: LogOptions, *, framed: bool, skip: int = 0) -> None:
        self.skip = skip
        self.ended = False
        self._framed = framed
        self._wanted = {tag for tag, wanted in ((STDOUT_FULL, options.stdout), (STDERR_FULL, options.stderr)) if wanted}
        self._since = format_time(options.since) if options.since is not None else b""
        self._until = format_time(options.until) if options.until is not None else b""
        details = b"" if options.details is None else options.details.encode("utf-8", "surrogateescape") + b" "
        self._stamped = options.timestamps
        self._before = b"Z " + details if options.timestamps else details
        self._added = len(self._before) + (29 if options.timestamps else 0)
        # stream → (time of the first piece, what is not sent yet) of a line that goes on
        self._open: dict[bytes, tuple[bytes, bytearray]] = {}

    def feed(self, lines: list[bytes]) -> bytes:
        """``lines`` are whole lines of the file without their ends."""
        tags = list(map(_tag, lines))
        kinds = set(tags)
        if self.ended or not kinds <= _KNOWN:
            return self._feed_slowly(lines)
        if not self._open and kinds <= _WHOLE:
            return self._feed_whole(lines, kinds)
        # the monitor reads 8 KiB at a time and tears a line there: every 80th, of lines of 100 bytes
        out: list[bytes] = []
        at = self._feed_open(lines, 0, out) if self._open else 0
        for part in compress(range(len(lines)), map(_PARTS.__contains__, tags)):
            if part >= at:
                out.append(self._feed_whole(lines[at:part], set(tags[at:part])))
                at = self._feed_open(lines, part, out)
        out.append(self._feed_whole(lines[at:], set(tags[at:])))
        return b"".join(out)

    def _feed_open(self, lines: list[bytes], at: int, out: list[bytes]) -> int:
        """Lines from ``at`` on one by one, until none is open; where that is."""
        for end in range(at + 1, len(lines) + 1):
            out.append(self._feed_slowly(lines[end - 1 : end]))
            if not self._open:
                return end
        return len(lines)

    def _feed_whole(self, lines: list[bytes], tags: set[bytes]) -> bytes:
        """Whole lines alone, while no line is open."""
        if self.ended:
            return b""
        if self.skip:
            skipped = min(self.skip, len(lines))
            self.skip -= skipped
            lines = lines[skipped:]
        if self._since:
            since = self._since
            first = next((index for index, line in enumerate(lines) if line >= since), None)
            if first is None:
                return b""
            lines = lines[first:]
            self._since = b""
        if self._until:
            after = self._until + b"~"
            if max(lines, default=b"") > after:
                self.ended = True
                lines = lines[: next(index for index, line in enumerate(lines) if line > after)]
        if not tags <= self._wanted:
            wanted = self._wanted
            lines = [line for line in lines if line[36:45] in wanted]
            tags &= wanted
        if not lines:
            return b""
        return self._join(lines, tags) if self._framed else self._join_raw(lines)

    def _join(self, lines: list[bytes], tags: set[bytes]) -> bytes:
        headers = _frame_headers(STDERR if STDERR_FULL in tags else STDOUT, self._added)
        heads: Iterable[bytes]
        try:
            if len(tags) > 1:
                by_tag = {STDOUT_FULL: _frame_headers(STDOUT, self._added), STDERR_FULL: headers}
                heads = [by_tag[line[TAG]][len(line)] for line in lines]
            else:
                heads = [headers[length] for length in map(len, lines)]
        except IndexError:  # a line longer than the monitor writes
            return b"".join([self._entry(line[TIME], line[STREAM], line[HEAD:] + b"\n") for line in lines])
        return self._interleave(lines, heads)

    def _join_raw(self, lines: list[bytes]) -> bytes:
        return self._interleave(lines, None)

    def _interleave(self, lines: list[bytes], heads: Iterable[bytes] | None) -> bytes:
        """What goes before each line, its text and its end, one after the other: columns, filled by C loops."""
        columns: list[Iterable[bytes]] = [] if heads is None else [heads]
        if self._stamped:
            columns.append(map(_stamp, lines))
        if self._before:
            columns.append([self._before] * len(lines))
        columns.append(map(_text, lines))
        width = len(columns) + 1
        parts = [b"\n"] * (width * len(lines))
        for number, column in enumerate(columns):
            parts[number::width] = column
        return b"".join(parts)

    def _feed_slowly(self, lines: list[bytes]) -> bytes:
        out: list[bytes] = []
        for line in lines:
            if self.ended:
                break
            tag = line[TAG]
            if tag not in _KNOWN:
                if tag == RUN_BOUNDARY:
                    out.append(self.flush())
                continue  # torn (LOG11)
            stream = line[STREAM]
            first, data = self._open.pop(stream) if stream in self._open else (line[TIME], bytearray())
            data += line[HEAD:]
            while len(data) >= PIECE:
                out.append(self._filtered(first, stream, bytes(data[:PIECE])))
                del data[:PIECE]
            if tag in _WHOLE:
                data += b"\n"
                out.append(self._filtered(first, stream, bytes(data)))
            else:
                self._open[stream] = (first, data)
        return b"".join(out)

    def flush(self) -> bytes:
        """The run is over: a last line without an end is all there (LOG3)."""
        opened, self._open = self._open, {}
        return b"".join(
            [self._filtered(first, stream, bytes(data)) for stream, (first, data) in opened.items() if data]
        )

    def _filtered(self, moment: bytes, stream: bytes, data: bytes) -> bytes:
        if self.skip:
            self.skip -= 1
            return b""
        if self._since and moment < self._since:
            return b""
        self._since = b""
        if self.ended or (self._until and moment > self._until):
            self.ended = True
            return b""
        if stream + b" F " not in self._wanted:
            return b""
        return self._entry(moment, stream, data)

    def _entry(self, moment: bytes, stream: bytes, data: bytes) -> bytes:
        text = moment + self._before + data if self._stamped else self._before + data
        return encode_frame_header(_NUMBERS[stream], len(text)) + text if self._framed else text


class LogReader:
    """The files behind one request. ``step`` blocks: it runs in a thread, unless there is little to read."""

    def __init__(self, path: Path, options: LogOptions, *, framed: bool, follow: bool, running: bool) -> None:
        self.files = LogFiles(path)
        self.position = 0  # bytes read
        self._offset = 0
        self._follow = follow
        self._lock = threading.Lock()
        self._closed = False
        skip = 0
        try:
            if options.tail is not None:
                skip = self._seek_tail(options.tail, running=running)
            self.parser = LogParser(options, framed=framed, skip=skip)
            # Without following, what is written from here on is none of this request's.
            self._limit = self.files.files[-1].size() if self.files.files else 0
        except BaseException:
            self.files.close()
            raise

    def little(self) -> bool:
        """Whether the next step is too small for a thread."""
        files = self.files.files
        return not files or (len(files) == 1 and files[0].size() - self._offset <= _INLINE)

    def step(self) -> tuple[bytes, bool]:
        """(bytes for the client, whether there may be more at once)."""
        try:
            with self._lock:
                return (b"", False) if self._closed else self._step()
        finally:
            if self._closed:  # meanwhile; looked at behind the lock, where close leaves it to nobody else
                self.close()

    def _step(self) -> tuple[bytes, bool]:
        """Reads a few blocks at most, until there is something to send."""
        for _ in range(64):
            if self.parser.ended:
                return b"", False
            lines = self._block()
            if lines is None:
                return b"", False
            if lines:
                data = self.parser.feed(lines)
                if data:
                    return data, True
        return b"", True

    def _block(self) -> list[bytes] | None:
        """The whole lines of the next block, of the next file where one is at its end; None when all is read."""
        files = self.files
        if not files.files and not (self._follow and files.advance()):
            return None
        last = len(files.files) == 1
        size = BLOCK
        if last and not self._follow:
            size = min(size, self._limit - self._offset)
        data = files.files[0].read(self._offset, size)
        end = data.rfind(b"\n") + 1
        if end:
            self._offset += end
            self.position += end
            return data[: end - 1].split(b"\n")
        if len(data) == BLOCK:  # no line of the monitor's
            self._offset += BLOCK
            self.position += BLOCK
            return []
        if last:
            if not self._follow or not files.advance():
                return None
            # The file is complete only now: look at it once more before the next.
            return []
        files.drop_oldest()
        self._offset = 0
        return []

    def flush(self) -> bytes:
        return b"" if self.parser.ended else self.parser.flush()

    def close(self) -> None:
        """Close the files, at the end of a step that is under way in a thread."""
        self._closed = True
        if self._lock.acquire(blocking=False):
            try:
                self.files.close()
            finally:
                self._lock.release()

    # tail

    def _seek_tail(self, tail: int, *, running: bool) -> int:
        """Go to where the last ``tail`` entries are ahead, and a few more: returns how many to skip.

        Going back counts whole lines only, and then a good way further: a line of either stream may have begun before
        that place. Going forward from there counts entries as they are.
        """
        files = self.files.files
        if not files:
            return 0
        sizes = [file.size() for file in files[-1:]]
        needed = tail
        index = len(files) - 1
        offset = 0
        while True:
            offset, found = _back(files[index], sizes[-1], needed)
            needed -= found
            if needed <= 0 or index == 0:
                break
            index -= 1
            sizes.append(files[index].size())
        further = _LOOK_BACK
        while further > 0 and (offset or index):
            if not offset:
                index -= 1
                sizes.append(files[index].size())
                offset = sizes[-1]
            start = _line_start(files[index], max(0, offset - further), offset)
            further -= offset - start or further
            offset = start
        for _ in range(index):
            self.files.drop_oldest()
        counter = LogParser(LogOptions(stdout=True), framed=False, skip=_UNREACHED)
        for number, (file, size) in enumerate(zip(self.files.files, reversed(sizes), strict=True)):
            place = 0 if number else offset
            while place < size:
                data = file.read(place, min(BLOCK, size - place))
                end = data.rfind(b"\n") + 1
                if end:
                    counter.feed(data[: end - 1].split(b"\n"))
                elif len(data) < BLOCK:
                    break
                place += end or len(data)
        if not running:
            counter.flush()
        self._offset = offset
        return max(0, _UNREACHED - counter.skip - tail)


class _Readable(Protocol):
    def read(self, offset: int, size: int) -> bytes: ...


def _line_start(file: _Readable, place: int, end: int) -> int:
    """The first start of a line at or behind ``place``; ``end`` when there is none before it."""
    while 0 < place < end:
        data = file.read(place - 1, min(BLOCK, end - place + 1))
        cut = data.find(b"\n")
        if cut >= 0:
            return min(place + cut, end)
        place += len(data)
        if not data:
            return end
    return place


def _back(file: _Readable, end: int, needed: int) -> tuple[int, int]:
    """(where the last ``needed`` whole lines of the first ``end`` bytes begin, how many of them there are)."""
    found = 0
    while end > 0:
        start = max(0, end - BLOCK)
        data = file.read(start, end - start)
        if start:
            cut = data.find(b"\n") + 1
            if 0 < cut < len(data):
                data = data[cut:]
                start += cut
        whole = len(_WHOLE_LINES.findall(data))
        if found + whole >= needed:
            place = len(data)
            while found < needed and place > 0:
                previous = data.rfind(b"\n", 0, place - 1) + 1
                if data[previous + 36 : previous + 45] in _WHOLE:
                    found += 1
                place = previous
            if found >= needed:
                return start + place, found
        else:
            found += whole
        end = start
    return 0, found


async def open_logs(
    path: Path,
    options: LogOptions,
    *,
    tty: bool,
    follow: LogFollow | None = None,
    running: bool = False,
) -> LogBatches:
    """Take the place to read from, then return the batches: what is written from here on is new to ``follow``.

    As ``read_logs``; the batches must be closed, also where none was asked for.
    """
    running = running or follow is not None
    framed = not tty
    reader = await opened_in_thread(LogReader, path, options, framed=framed, follow=follow is not None, running=running)
    return LogBatches(reader, _batches(reader, follow, running=running))


class LogBatches:
    """An open log's batches. A generator alone would not close the files when it is dropped before its first batch."""

    def __init__(self, reader: LogReader, batches: AsyncGenerator[bytes, None]) -> None:
        self._reader = reader
        self._batches = batches

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._batches

    async def aclose(self) -> None:
        await self._batches.aclose()
        self._reader.close()


async def read_logs(
    path: Path,
    options: LogOptions,
    *,
    tty: bool,
    follow: LogFollow | None = None,
    running: bool = False,
) -> AsyncIterator[bytes]:
    """The log in batches ready to be sent: frames, or raw bytes where the container has a terminal.

    ``follow``: go on with what is written until the container stops (LOG7). ``running``: the container runs now; its
    last line is then not sent without an end, it may go on. No log is an empty one. Raises ``OSError`` when the log
    cannot be read. Close the iterator (``aclose``) when it is left early.
    """
    async with aclosing(await open_logs(path, options, tty=tty, follow=follow, running=running)) as batches:
        async for batch in batches:
            yield batch


async def _batches(reader: LogReader, follow: LogFollow | None, *, running: bool) -> AsyncGenerator[bytes, None]:
    last = follow is None
    quiet = _FIRST_LOOK
    try:
        while True:
            data, more = reader.step() if reader.little() else await in_thread(reader.step)
            if data:
                quiet = _FIRST_LOOK
                given, data = [data], b""  # not to be kept here while a slow client takes it
                yield given.pop()
            if more:
                continue
            if reader.parser.ended:
                return
            if last or follow is None:
                if follow is not None or not running:
                    data = reader.flush()
                    if data:
                        yield data
                return
            try:
                async with asyncio.timeout(quiet):
                    last = not await follow.wait(reader.position)
                quiet = _FIRST_LOOK
            except TimeoutError:
                quiet = min(quiet * 2, _LONGEST_QUIET)
    finally:
        reader.close()
