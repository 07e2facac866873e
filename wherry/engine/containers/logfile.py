"""The monitor's log files: one line a piece of output, rotated by renaming, read while they are written.

A line is ``2026-11-23T12:28:03.449623053+00:00 stdout F text``: 45 bytes of head, always (the monitor runs in UTC),
then text without its end of line. ``F`` ends a line of the container, ``P`` is a piece of one that goes on (LOG14). The
monitor ends its runs without a word, so the engine itself writes a ``system`` line between two runs (``mark_run``).
"""

from __future__ import annotations

import errno
import gzip
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

log = logging.getLogger(__name__)

HEAD = 45
TIME = slice(0, 29)
TAG = slice(36, 45)
STREAM = slice(36, 42)
STDOUT_FULL, STDERR_FULL = b"stdout F ", b"stderr F "
STDOUT_PART, STDERR_PART = b"stdout P ", b"stderr P "
RUN_BOUNDARY = b"system F "

BLOCK = 256 * 1024
_TRIES = 20

Key = tuple[int, int]


def format_time(nanoseconds: int) -> bytes:
    """Nanoseconds since the epoch as in a line's head, without the zone: 29 bytes that compare as times do."""
    seconds, fraction = divmod(nanoseconds, 1_000_000_000)
    if seconds < -62_135_596_800:
        return b"0001-01-01T00:00:00.000000000"
    if seconds > 253_402_300_799:
        return b"9999-12-31T23:59:59.999999999"
    moment = time.gmtime(seconds)
    return b"%04d-%02d-%02dT%02d:%02d:%02d.%09d" % (*moment[:6], fraction)


def mark_run(path: Path) -> int:
    """Note in the log that a new run begins; to be called while no monitor writes. Returns the bytes written.

    Without it the last words of a run that did not end their line would be joined with the next run's first. A log
    without any line needs no mark.
    """
    if not _size(path) and not any(True for _ in numbered(path)):
        return 0
    line = format_time(time.time_ns()) + b"+00:00 " + RUN_BOUNDARY + b"run\n"
    with open(path, "ab") as file:
        if file.tell() and not _ends_with_newline(path):  # torn by a full disk
            line = b"\n" + line
        os.chmod(file.fileno(), 0o640)
        file.write(line)
    return len(line)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _ends_with_newline(path: Path) -> bool:
    with open(path, "rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"


class LogFile:
    """An open file of the log; stays readable when it is renamed, compressed or removed.

    A compressed one is unpacked to an unnamed temporary file when it is first read.
    """

    def __init__(self, path: Path) -> None:
        self.name = path.name
        self.fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        found = os.fstat(self.fd)
        self.key: Key = (found.st_dev, found.st_ino)
        self._packed = path.name.endswith(".gz")

    def size(self) -> int:
        """Bytes that are there now."""
        self._unpack()
        return os.fstat(self.fd).st_size

    def read(self, offset: int, size: int) -> bytes:
        self._unpack()
        return os.pread(self.fd, size, offset)

    def head(self) -> bytes:
        """The first line's head: it names the file's content, compressed or not."""
        if not self._packed:
            return os.pread(self.fd, HEAD, 0)
        os.lseek(self.fd, 0, os.SEEK_SET)
        try:
            with open(os.dup(self.fd), "rb") as raw, gzip.open(raw) as file:
                return file.read(HEAD)
        except (OSError, EOFError):
            return b""

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def _unpack(self) -> None:
        if not self._packed:
            return
        self._packed = False
        os.lseek(self.fd, 0, os.SEEK_SET)
        with open(self.fd, "rb") as raw, tempfile.TemporaryFile() as plain:
            self.fd = -1
            try:
                with gzip.open(raw) as file:
                    shutil.copyfileobj(file, plain, 1 << 20)
            except (OSError, EOFError) as error:
                log.warning("the compressed log %s is damaged: %s", self.name, error)
            plain.flush()
            self.fd = os.dup(plain.fileno())


def numbered(path: Path) -> Iterator[tuple[int, str]]:
    """(number, name) of the rotated files there are, in no order; ``log.3`` and ``log.3.gz`` both count as 3."""
    prefix = path.name + "."
    try:
        names = os.listdir(path.parent)
    except FileNotFoundError:
        return
    for name in names:
        number = name.removeprefix(prefix).removesuffix(".gz")
        if name.startswith(prefix) and number.isascii() and number.isdigit():
            yield int(number), name


def _listing(path: Path) -> list[tuple[int, str, Key]]:
    """(number, name, key) of every file, newest (0) first; of a file and its compressed copy only the file."""
    found: dict[int, tuple[int, str, Key]] = {}
    for number, name in sorted([(0, path.name), *numbered(path)]):
        try:
            state = os.stat(path.parent / name)
        except FileNotFoundError:
            continue
        found.setdefault(number, (number, name, (state.st_dev, state.st_ino)))
    return [found[number] for number in sorted(found)]


def _open(directory: Path, listing: list[tuple[int, str, Key]]) -> list[LogFile]:
    """All files of a listing, oldest first, or none: ``FileNotFoundError`` where a name has another file by now."""
    opened: list[LogFile] = []
    try:
        for _, name, key in reversed(listing):
            opened.append(LogFile(directory / name))
            if opened[-1].key != key:
                raise FileNotFoundError(errno.ENOENT, "rotated away", name)
    except OSError:
        for file in opened:
            file.close()
        raise
    return opened


class LogFiles:
    """The files of one log, oldest first, opened as one consistent set while they may be rotated."""

    def __init__(self, path: Path) -> None:
        """Opens what is there; raises ``OSError`` for files that cannot be opened. No log at all is an empty set."""
        self.path = path
        self.files: list[LogFile] = []
        for _ in range(_TRIES):
            listing = _listing(path)
            try:
                self.files = _open(path.parent, listing)
            except FileNotFoundError:
                continue
            if listing == _listing(path):
                return
            self.close()
        raise OSError(f"the log {path} is rotated faster than it can be opened")

    def close(self) -> None:
        for file in self.files:
            file.close()
        self.files.clear()

    def drop_oldest(self) -> None:
        """Close the oldest file: it has been read."""
        self.files.pop(0).close()

    def advance(self) -> bool:
        """Open the files that came after the newest of this set; whether there are any.

        Once this returns True the monitor writes no more to the file that was the newest.
        """
        for _ in range(_TRIES):
            try:
                newer = self._newer()
            except FileNotFoundError:
                continue
            self.files += newer
            return bool(newer)
        return False

    def _newer(self) -> list[LogFile]:
        listing = _listing(self.path)
        if not self.files:
            wanted = listing
        else:
            newest = self.files[-1]
            if listing and listing[0][0] == 0 and listing[0][2] == newest.key:
                return []
            place = self._place(listing, newest)
            wanted = listing[:place]
            if wanted and wanted[0][0] != 0:
                # The rename has happened and the monitor has not opened its new file yet.
                return []
        return _open(self.path.parent, wanted)

    def _place(self, listing: list[tuple[int, str, Key]], newest: LogFile) -> int:
        """The index of our newest file in the listing; where it was rotated away, that of the files older than it."""
        for index, (_, _, key) in enumerate(listing):
            if key == newest.key:
                return index
        head = newest.head()
        for index, (_, name, _) in enumerate(listing):
            other = LogFile(self.path.parent / name)
            try:
                other_head = other.head()
            finally:
                other.close()
            if other_head and other_head <= head:
                if other_head < head:
                    log.warning("a part of the log %s was rotated away before it was read", self.path.name)
                return index
        log.warning("a part of the log %s was rotated away before it was read", self.path.name)
        return len(listing)
