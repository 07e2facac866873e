"""The log on disk, and its rotation (LOG8).

The monitor appends to one file. When what has passed fills ``max-size``, the engine renames ``log`` to ``log.1``
(``log.1`` to ``log.2`` …) and has the monitor open a new file. The engine counts as output passes, so nothing is polled.
Places in the log are logical: they count from the first byte ever written and go on over rotations.

The monitor opens a new file by renaming it over ``log``: told to do so twice for one rename, it would throw away what it
wrote in between. So it is told only while there is no ``log``, and an engine that finds a rotation cut off makes sure
first that the word was never said.
"""

from __future__ import annotations

import asyncio
import fcntl
import gzip
import logging
import os
import shutil
import struct
import termios
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from wherry.engine.blocking import in_thread
from wherry.engine.containers.container import Container
from wherry.engine.containers.logfile import mark_run
from wherry.engine.containers.registry import Containers
from wherry.engine.containers.run import Run
from wherry.engine.oci.conmon import reopen_log

log = logging.getLogger(__name__)

LOG_MODE = 0o640
REOPEN = 5.0  # seconds that the monitor may take to open the new file
_PAUSE = 0.002
_HEARD = 0.1  # seconds from the monitor's reading of a word to its file, at most


@dataclass(slots=True)
class LogPlaces:
    """Where the present log file begins in the logical count; not to be believed while ``rotating``."""

    start: int = 0
    max_size: int = 0
    max_file: int = 1
    compress: bool = False
    rotating: bool = False


def begin(
    containers: Containers,
    container: Container,
    run: Run,
    *,
    max_size: int,
    max_file: int,
    compress: bool,
    adopted: bool = False,
) -> None:
    """Called before a run's output flows: the log may hold runs before this one.

    ``adopted``: the run began under an earlier engine, and its monitor may be writing now.
    """
    output = container.output
    output.placed = not adopted
    path = containers.layout.log(container.id)
    places = LogPlaces(max_size=max_size, max_file=max_file, compress=compress)
    container.log_places = places
    if container.host_config.log_config.type == "none":
        output.position = None
        output.on_growth = None
        return
    if not adopted:
        mark_run(path)
    places.start = _before(path)
    output.position = places.start + _size(path)
    output.on_growth = (lambda position: _grown(containers, container, run, position)) if max_size else None
    if adopted and max_size and not path.exists():
        _spawn(containers, container, run, places)
    elif output.on_growth is not None:
        output.on_growth(output.position)


def create_log(path: Path) -> None:
    """Make the log, with the mode that readers of logs count on (LOG10); the monitor only appends to it."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, LOG_MODE)
    try:
        os.fchmod(fd, LOG_MODE)
    finally:
        os.close(fd)


def rotated_files(path: Path) -> list[Path]:
    """The rotated files that are there, oldest first."""
    found: list[tuple[int, Path]] = []
    prefix = path.name + "."
    with suppress(FileNotFoundError):
        for entry in path.parent.iterdir():
            number = entry.name.removeprefix(prefix).removesuffix(".gz")
            if entry.name.startswith(prefix) and number.isdecimal():
                found.append((int(number), entry))
    return [entry for _, entry in sorted(found, reverse=True)]


def _before(path: Path) -> int:
    """Where the present file's count begins; a compressed file counts as it lies there: places only have to grow."""
    return sum(_size(file) for file in rotated_files(path))


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _grown(containers: Containers, container: Container, run: Run, position: int) -> None:
    places = container.log_places
    if places is not None and not places.rotating and position - places.start >= places.max_size:
        _spawn(containers, container, run, places)


def _spawn(containers: Containers, container: Container, run: Run, places: LogPlaces) -> None:
    places.rotating = True
    containers.spawn(_rotate(containers, container, run, places), f"log rotation of {container.short_id}")


async def _rotate(containers: Containers, container: Container, run: Run, places: LogPlaces) -> None:
    path = containers.layout.log(container.id)
    newest = path.with_name(path.name + ".1")
    try:
        if path.exists():
            await in_thread(_shift, path, places.max_file)
        else:  # a rotation was cut off in the middle
            await _until_heard(run, path)
        if not path.exists() and not reopen_log(run.bundle):
            create_log(path)  # the monitor has ended: readers know the renamed file to be whole by the new one
        deadline = asyncio.get_running_loop().time() + REOPEN
        while not path.exists():
            if run.over.is_set():
                create_log(path)
            elif asyncio.get_running_loop().time() > deadline:
                return
            await asyncio.sleep(_PAUSE)
        # the monitor writes to the new file from here on: the old one's size is final
        path.chmod(LOG_MODE)
        places.start += _size(newest)
        if places.max_file == 1:
            newest.unlink(missing_ok=True)
        elif places.compress:
            await in_thread(_compress, newest)
    except OSError as error:
        log.warning("the log of %s could not be rotated: %s", container.short_id, error)
    finally:
        places.rotating = False
        container.output.wake()


async def _until_heard(run: Run, path: Path) -> None:
    """Wait until the monitor has dealt with every word it was told; a file that it opened upon one is there then."""
    while not run.over.is_set() and not path.exists():
        if not _unread(run.bundle / "ctl"):
            await asyncio.sleep(_HEARD)
            return
        await asyncio.sleep(_PAUSE)


def _unread(fifo: Path) -> int:
    """Bytes in a fifo that nobody has read yet; 0 when it is not there."""
    try:
        fd = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return 0
    try:
        return int(struct.unpack("i", fcntl.ioctl(fd, termios.FIONREAD, b"\0\0\0\0"))[0])
    finally:
        os.close(fd)


def _shift(path: Path, max_file: int) -> None:
    """``log.1`` becomes ``log.2`` and so on; what is too old goes; ``log`` becomes ``log.1``."""
    for file in rotated_files(path):
        number, dot, packed = file.name.removeprefix(path.name + ".").partition(".")
        if int(number) >= max_file - 1:
            file.unlink(missing_ok=True)
        else:
            file.replace(path.with_name(f"{path.name}.{int(number) + 1}{dot}{packed}"))
    with suppress(FileNotFoundError):
        path.replace(path.with_name(f"{path.name}.1"))


def _compress(path: Path) -> None:
    temporary = path.with_name(path.name + ".gz.new")
    with path.open("rb") as source, gzip.open(temporary, "wb", compresslevel=6) as target:
        shutil.copyfileobj(source, target, 1 << 20)
    os.replace(temporary, path.with_name(path.name + ".gz"))
    path.unlink()
