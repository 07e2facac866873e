"""ContainerAttach: a client's connection bound to a container's streams (ATT1 to ATT11).

A listener gets the live output as long as it keeps up. One that falls further behind than its share of memory (a mebibyte,
less where many are attached: crowd.py) leaves the live stream with its place in the log, is served from the log file as
fast as it reads, and joins the live stream again where it has caught up: nothing is lost and nothing is kept in memory.
Without a log (driver ``none``) such a listener is closed. A run that began under an earlier engine is served from the log
alone (output.py).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass

from wherry.api.errors import BadRequest, Conflict
from wherry.engine.containers.container import Container
from wherry.engine.containers.follow import Follower
from wherry.engine.containers.logplace import LogSet, PlacedReader
from wherry.engine.containers.logs import LogOptions, read_logs
from wherry.engine.containers.registry import Containers
from wherry.engine.streams import Duplex
from wherry.wire.detach import DEFAULT_DETACH, DetachScanner, parse_detach_keys
from wherry.wire.frames import STDERR, STDOUT, encode_frame_header

log = logging.getLogger(__name__)

LAST_INPUT = 1.0  # seconds that the input of a client that has left may take to reach the container


@dataclass(frozen=True, slots=True, kw_only=True)
class AttachOptions:
    logs: bool = False
    stream: bool = False
    stdin: bool = False
    stdout: bool = False
    stderr: bool = False
    detach_keys: bytes = DEFAULT_DETACH
    multiplexed: bool = True


def detach_keys(text: str | None) -> bytes:
    """The bytes of a ``detachKeys`` parameter. Raises ``BadRequest`` (ATT7)."""
    if not text:
        return DEFAULT_DETACH
    try:
        return parse_detach_keys(text)
    except ValueError:
        raise BadRequest(f"Invalid detach keys ({text}) provided") from None


def check(container: Container, reference: str) -> None:
    """Raises ``Conflict`` when the container's state allows no attach (ATT9, AUT3)."""
    if container.state.paused:
        raise Conflict(f"container {reference} is paused, unpause the container before attach")
    if container.state.restarting:
        raise Conflict(f"container {reference} is restarting, wait until the container is running")


class Attacher:
    """One client's view of a container's output.

    Live, or served from the log: while it is behind, or for good where the live output has no exact place in the log.
    """

    def __init__(self, containers: Containers, container: Container, options: AttachOptions, duplex: Duplex) -> None:
        self._container = container
        self._crowd = containers.crowd
        self._path = containers.layout.log(container.id)
        self._duplex = duplex
        self._multiplexed = options.multiplexed
        self._wanted = frozenset(
            stream for stream, wanted in ((STDOUT, options.stdout), (STDERR, options.stderr)) if wanted
        )
        self._reader: PlacedReader | None = None  # while served from the log
        self._serving: asyncio.Task[None] | None = None
        self._news = asyncio.Event()
        self._end: int | None = None  # the run's last place in the log, once it is over
        self.finished = asyncio.Event()
        self._crowd.enter()

    def listen(self) -> None:
        """Begin: everything that the container writes from now on reaches the client."""
        output = self._container.output
        if output.position is not None and not output.placed:
            self._reader = self._log().reader_at_end()
            self._serving = asyncio.get_running_loop().create_task(self._serve(self._reader, self._follow))
        output.listen(self)

    def output(self, stream: int, data: bytes, before: int) -> None:
        """A piece of live output (``Listener``)."""
        if self._serving is not None:
            self._news.set()
        elif stream in self._wanted:
            if self._duplex.pending > self._crowd.share:
                self._fall_behind(before)
            else:
                self._write(stream, data)

    def ended(self) -> None:
        """The run is over (``Listener``)."""
        self._end = self._container.output.position or 0
        self._news.set()
        if self._serving is None:
            self.finished.set()
        elif self._reader is not None:
            # the container may be removed before a slow client has read it all
            with suppress(OSError):
                self._reader.hold()

    def close(self) -> None:
        self._crowd.leave()
        self._container.output.leave(self)
        if self._serving is not None:
            self._serving.cancel()
        if self._reader is not None:
            self._reader.close()

    def _log(self) -> LogSet:
        places = self._container.log_places
        assert places is not None
        return LogSet(self._path, places)

    def _write(self, stream: int, data: bytes) -> None:
        self._duplex.write(encode_frame_header(stream, len(data)) + data if self._multiplexed else data)

    def _fall_behind(self, position: int) -> None:
        if position < 0:
            log.info("a client of %s reads too slowly and there is no log to serve it from", self._container.short_id)
            self._container.output.leave(self)
            self.finished.set()
            return
        self._reader = reader = self._log().reader(position)
        with suppress(OSError):
            reader.hold()
        self._serving = asyncio.get_running_loop().create_task(self._serve(reader, self._catch_up))

    async def _serve(self, reader: PlacedReader, how: Callable[[PlacedReader], Awaitable[None]]) -> None:
        try:
            await how(reader)
        except ConnectionError:
            pass
        except OSError as error:
            log.warning("the log of %s cannot be read on: %s", self._container.short_id, error)
            self._container.output.leave(self)
            self.finished.set()
        finally:
            reader.close()
            self._reader = self._serving = None
            if self._end is not None:
                self.finished.set()

    async def _catch_up(self, reader: PlacedReader) -> None:
        """Serve from the log until the live place is reached; then go on live, in the same step of the loop."""
        while True:
            await self._duplex.drain()
            await self._crowd.turn()
            target = self._container.output.position if self._end is None else self._end
            if target is None or reader.position >= target:
                return
            self._write_wanted(await reader.read(target, self._crowd.share // 2))

    async def _follow(self, reader: PlacedReader) -> None:
        """Serve from the log to the end of the run, woken by the live output."""
        while True:
            self._news.clear()
            over = self._end is not None
            await self._crowd.turn()
            pieces = reader.more(self._crowd.share // 2)
            self._write_wanted(pieces)
            if pieces:
                await self._duplex.drain()
            elif over:
                return
            else:
                await self._news.wait()

    def _write_wanted(self, pieces: list[tuple[int, bytes]]) -> None:
        for stream, data in pieces:
            if stream in self._wanted:
                self._write(stream, data)


async def attach(containers: Containers, container: Container, options: AttachOptions, duplex: Duplex) -> None:
    """Serve one attached client until it is over; the duplex is closed at return.

    The caller has checked the container (``check``) and hijacked the connection.
    """
    containers.emit(container, "attach")
    tasks: set[asyncio.Task[None]] = set()
    stdin: asyncio.Task[None] | None = None
    attacher: Attacher | None = None
    spawn = asyncio.get_running_loop().create_task
    wants_output = options.stdout or options.stderr
    try:
        if options.logs and wants_output:
            # the log file alone, woken by the live stream: there is no seam to lose or double at
            tasks.add(spawn(_replay(containers, container, options, duplex)))
        elif options.stream and wants_output:
            attacher = Attacher(containers, container, options, duplex)
            attacher.listen()
            tasks.add(spawn(_until(attacher.finished.wait())))
        if options.stream and options.stdin and container.config.open_stdin:
            stdin = spawn(_feed_stdin(containers, container, options, duplex, has_output=bool(tasks)))
            tasks.add(stdin)
        elif options.stream:
            # input is swallowed (ATT6)
            tasks.add(spawn(_swallow(duplex)))
        if not tasks or (not options.stream and not options.logs):
            return
        gone = spawn(_until(duplex.wait_closed()))
        tasks.add(gone)
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        if gone.done() and stdin is not None and not stdin.done():
            # what the client sent before it left still belongs to the container
            await asyncio.wait({stdin}, timeout=LAST_INPUT)
    finally:
        if attacher is not None:
            attacher.close()
        for task in tasks:
            task.cancel()
        # however long the client takes to read what is queued: it is its share at most
        with suppress(ConnectionError):
            await duplex.close()


async def _until(awaitable: Awaitable[object]) -> None:
    await awaitable


async def _replay(containers: Containers, container: Container, options: AttachOptions, duplex: Duplex) -> None:
    follower = Follower(container, next_run=True) if options.stream else None
    log_options = LogOptions(stdout=options.stdout, stderr=options.stderr)
    batches = read_logs(containers.layout.log(container.id), log_options, tty=not options.multiplexed, follow=follower)
    with suppress(ConnectionError):
        await _copy(batches, duplex)


async def _copy(batches: AsyncIterator[bytes], duplex: Duplex) -> None:
    async for batch in batches:
        duplex.write(batch)
        del batch  # what is queued is enough to keep for a client that does not read
        await duplex.drain()


async def _swallow(duplex: Duplex) -> None:
    """Read and drop; returns only when the connection is gone, a half-close is no end."""
    try:
        while await duplex.read():
            pass
    except ConnectionError:
        return
    await duplex.wait_closed()


async def _feed_stdin(
    containers: Containers, container: Container, options: AttachOptions, duplex: Duplex, *, has_output: bool
) -> None:
    """Copy the client's bytes to the container's stdin; returning ends the attach (ATT6, ATT7).

    Nothing is read before the container runs, beyond what the connection itself takes ahead.
    """
    scanner = DetachScanner(options.detach_keys) if container.tty else None
    once = container.config.stdin_once and not container.tty
    try:
        attachment = await container.stdin()
        while data := await duplex.read():
            detached = False
            if scanner is not None:
                data, detached = scanner.feed(data)
            if data:
                await attachment.send(data)
            if detached:
                containers.emit(container, "detach")
                return
        if not once:
            return
        await attachment.send_eof()
    except ConnectionError:
        # the client broke off, or the container's end was first
        if once and container.run is not None and container.run.attachment is not None:
            await container.run.attachment.send_eof()
    if has_output:
        await asyncio.get_running_loop().create_future()  # output goes on until the container ends
    elif container.state.running:
        await container.next_exit()
