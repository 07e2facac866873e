"""What long answers are to the caller: frames of stdout and stderr, JSON values, bytes in and out."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator
from os import PathLike
from types import TracebackType
from typing import TYPE_CHECKING, BinaryIO, Generic, Self, TypeVar

from wherry.api import json as api_json
from wherry.api.errors import ProtocolError, WherryError
from wherry.client._async.answer import AsyncAnswer, AsyncConnection
from wherry.client._async.transport import AsyncTransport
from wherry.client.request import Request
from wherry.client.results import Output
from wherry.client.stream_errors import raise_stream_error, raise_system_frame
from wherry.wire.frames import STDERR, STDOUT, SYSTEM, FrameDecoder, FrameError
from wherry.wire.http1 import LAST_CHUNK, encode_chunk
from wherry.wire.jsonlines import JsonSplitter, JsonStreamError

if TYPE_CHECKING:
    from wherry.wire.pathstat import PathStat

T = TypeVar("T")

_BLOCK = 262144  # bytes taken from the kernel at a time
_BROKEN = "this upload was broken off within a write; the engine has not got all of it"


class AsyncStream:
    """An answer under way. Leaving its ``async with`` block, or ``close``, ends it; so does reading to the end."""

    def __init__(self, answer: AsyncAnswer) -> None:
        self._answer = answer

    async def close(self) -> None:
        """End the stream, wherever it is. Doing it twice is no error."""
        self._answer.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


class AsyncFrames(AsyncStream):
    """Output of a container: iterate to get ``(stream, bytes)``, where stream is 1 for stdout and 2 for stderr.

    The bytes of one step are what arrived together, not a line. With a terminal all is stdout.

        async with await docker.containers.logs("web", follow=True) as logs:
            async for stream, data in logs:
                ...
    """

    def __init__(self, answer: AsyncAnswer, *, multiplexed: bool) -> None:
        super().__init__(answer)
        self._decoder = FrameDecoder() if multiplexed else None
        self._waiting: deque[tuple[int, bytes]] = deque()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> tuple[int, bytes]:
        waiting = self._waiting
        while not waiting:
            data = await self._answer.read(_BLOCK)
            decoder = self._decoder
            if not data:
                if decoder is not None:
                    _finish(decoder)
                raise StopAsyncIteration
            if decoder is None:
                return STDOUT, data
            waiting.extend(_decode(decoder, data))
        frame = waiting.popleft()
        if frame[0] == SYSTEM:
            await self.close()
            raise_system_frame(frame[1])
        return frame

    async def read_all(self) -> Output:
        """Read to the end; stdout and stderr apart. Broken off, it closes the stream."""
        try:
            return await _collect(self)
        finally:
            await self.close()


class AsyncJsonStream(AsyncStream, Generic[T]):
    """JSON values as they come: events, statistics, progress. Iterate to get them.

    Raises ``StreamError`` when the engine reports an error inside the stream.

        async with await docker.system.events() as events:
            async for event in events:
                print(event.action, event.actor.id)
    """

    def __init__(self, answer: AsyncAnswer, item: type[T]) -> None:
        super().__init__(answer)
        self._item = item
        self._splitter = JsonSplitter()
        self._waiting: deque[bytes] = deque()
        self._ended = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        while not self._waiting:
            if self._ended:
                raise StopAsyncIteration
            data = await self._answer.read(_BLOCK)
            try:
                self._waiting.extend(self._splitter.feed(data) if data else self._splitter.finish())
            except JsonStreamError as error:
                await self.close()
                raise ProtocolError(f"{self._answer.request.path}: {error}") from error
            self._ended = not data
        raw = self._waiting.popleft()
        raise_stream_error(raw)
        try:
            value: T = api_json.decode(self._item, raw)
        except ProtocolError:
            await self.close()
            raise
        return value

    async def read_all(self) -> list[T]:
        """Read to the end; all values. Broken off, it closes the stream, and so gives up the work that it tells of."""
        values = []
        try:
            async for value in self:
                values.append(value)
        finally:
            await self.close()
        return values


class AsyncBytes(AsyncStream):
    """Bytes of any length, such as a tar archive, in constant memory: ``read(n)`` as a file's, or iterate for pieces.

    async with await docker.images.get("busybox") as archive:
        await archive.write_to("busybox.tar")
    """

    def __init__(self, answer: AsyncAnswer) -> None:
        super().__init__(answer)
        self._rest = memoryview(b"")

    async def read(self, size: int = -1) -> bytes:
        """``size`` bytes, fewer only at the end; all that is left if negative."""
        if size == 0:
            return b""
        pieces: list[bytes | memoryview] = []
        got = 0
        while size < 0 or got < size:
            if not self._rest:
                try:
                    self._rest = memoryview(await self._answer.read(_BLOCK))
                except BaseException:
                    self._rest = memoryview(b"".join(pieces))  # for who reads on after a cancelled read
                    raise
                if not self._rest:
                    break
            piece = self._rest if size < 0 else self._rest[: size - got]
            self._rest = self._rest[len(piece) :]
            pieces.append(piece)
            got += len(piece)
        return bytes(pieces[0]) if len(pieces) == 1 else b"".join(pieces)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        if self._rest:
            piece, self._rest = bytes(self._rest), memoryview(b"")
            return piece
        data = await self._answer.read(_BLOCK)
        if not data:
            raise StopAsyncIteration
        return data

    async def write_to(self, target: str | PathLike[str] | BinaryIO) -> int:
        """Read to the end into a file, given by its path or open for writing bytes; the number of bytes.

        Broken off, it closes the stream.
        """
        if isinstance(target, (str, PathLike)):
            with open(target, "wb") as file:
                return await self.write_to(file)
        size = 0
        try:
            async for piece in self:
                target.write(piece)
                size += len(piece)
        finally:
            await self.close()
        return size


class AsyncArchive(AsyncBytes):
    """A tar archive out of a container; ``stat`` is what was asked for.

    The sync client's is a file for ``tarfile.open(fileobj=archive, mode="r|")``.

        async with await docker.containers.archive("web", "/etc") as archive:
            print(archive.stat.name, await archive.write_to("etc.tar"))
    """

    def __init__(self, answer: AsyncAnswer, stat: PathStat) -> None:
        super().__init__(answer)
        self.stat = stat


class AsyncUpload:
    """A body sent piece by piece: ``write``, then ``finish``; leaving its ``async with`` block finishes it.

    Left by an exception, the connection is cut and the engine sees an unfinished body.

        async with await docker.containers.put_archive_writer("web", "/srv") as tar:
            await tar.write(data)
    """

    def __init__(self, transport: AsyncTransport, connection: AsyncConnection, request: Request) -> None:
        self._transport = transport
        self._connection: AsyncConnection | None = connection
        self._request = request
        self._broken = False

    async def write(self, data: bytes | bytearray | memoryview) -> int:
        """Send bytes. Raises the engine's ``ApiError`` if it refuses the body before its end.

        Broken off, as by a cancellation, it cuts the connection: what comes next could not be told from this.
        """
        connection = self._connection
        if connection is None:
            raise WherryError(_BROKEN if self._broken else "this upload is finished")
        if len(data):
            try:
                await connection.stream.send(encode_chunk(data))
            except ProtocolError:
                await self._read_answer()  # its reason, if it gave one
                raise
            except BaseException:
                self._broken = True
                await self.close()
                raise
        return len(data)

    async def finish(self) -> None:
        """Send the end and wait until the engine has taken all."""
        if self._broken:
            raise WherryError(_BROKEN)
        connection = self._connection
        if connection is None:
            return
        try:
            await connection.stream.send(LAST_CHUNK)
        except ProtocolError:
            await self._read_answer()
            raise
        await self._read_answer()

    async def close(self) -> None:
        """Cut the connection, unless finished."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.stream.close()

    async def _read_answer(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            answer = await self._transport.finish(connection, self._request)
            await answer.read_all()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            await self.finish()
        else:
            await self.close()


def _decode(decoder: FrameDecoder, data: bytes) -> list[tuple[int, bytes]]:
    try:
        return decoder.feed(data)
    except FrameError as error:
        raise ProtocolError(str(error)) from error


def _finish(decoder: FrameDecoder) -> None:
    try:
        decoder.finish()
    except FrameError as error:
        raise ProtocolError(str(error)) from error


async def _collect(frames: AsyncIterator[tuple[int, bytes]]) -> Output:
    stdout: list[bytes] = []
    stderr: list[bytes] = []
    async for stream, data in frames:
        (stderr if stream == STDERR else stdout).append(data)
    return Output(b"".join(stdout), b"".join(stderr))
