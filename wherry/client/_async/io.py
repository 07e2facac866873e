"""The async driver: moves bytes, knows nothing of what they mean. Works under asyncio and trio.

Sockets are used directly: receiving and sending cost no more than the system call when the kernel is ready, as it mostly
is. Waiting for them goes through anyio, but for the one wait that every call has, for bytes under asyncio: there the
loop's reader stays registered between calls and receives by itself, half the cost.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import socket
import ssl
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from types import TracebackType
from typing import Any, Self, TypeVar

import anyio
import anyio.lowlevel
import anyio.to_thread

from wherry.api.errors import ConnectError, ProtocolError, Timeout, WherryError
from wherry.client.address import Address
from wherry.client.dial import Dialed, Dialer, dial
from wherry.client.timeouts import Timeouts
from wherry.client.tls import TlsMachine

T = TypeVar("T")

Lock = anyio.Lock

_TURNS = 16  # receives in a row before others get their turn
_BUSY = "this stream is already being waited for by another task"


def _asyncio_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None  # another library's loop


class SocketStream:
    """A connected socket. ``receive`` and ``send`` raise ``Timeout`` and ``ProtocolError`` alone.

    The loop holds no more than a weak reference to it: one that is dropped without ``close`` ends all the same.
    """

    __slots__ = (
        "__weakref__",
        "_aborted",
        "_closed",
        "_descriptor",
        "_dialed",
        "_kept",
        "_limit",
        "_loop",
        "_sent",
        "_socket",
        "_timeout",
        "_turns",
        "_waiter",
    )

    def __init__(self, dialed: Dialed) -> None:
        self._closed = self._aborted = False
        self._loop: asyncio.AbstractEventLoop | None = None  # where the reader is registered
        self._dialed = dialed
        self._socket = dialed.socket
        self._socket.setblocking(False)
        self._descriptor = self._socket.fileno()
        self._timeout: float | None = None
        self._turns = 0
        self._sent = False  # nothing has been received since: looking for bytes at once would be in vain
        self._kept: bytes | None = None  # received for a task that was cancelled in the same moment
        self._limit = 65536
        self._waiter: asyncio.Future[bytes] | None = None

    def set_timeout(self, seconds: float | None) -> None:
        """The longest that one ``receive`` or ``send`` may wait."""
        self._timeout = seconds

    async def receive(self, limit: int = 65536) -> bytes:
        """Up to ``limit`` bytes, at least one; ``b""`` at the end of the peer's half."""
        if self._kept is not None:
            data, self._kept = self._kept, None
            return data
        self._turns += 1
        if self._turns >= _TURNS:
            self._turns = 0
            await anyio.lowlevel.checkpoint()
        while True:
            try:
                if not self._sent:
                    data = self._socket.recv(limit)
                    break
            except BlockingIOError:
                pass
            except OSError as error:
                raise self._lost(error) from error
            self._sent = False
            self._turns = 0
            loop = _asyncio_loop()
            if loop is not None:
                data = await self._receive_on(loop, limit)
                break
            await self._wait(anyio.wait_readable)
        if not data and (self._closed or self._aborted):
            raise ProtocolError("the connection was closed")
        return data

    async def send(self, data: bytes | bytearray | memoryview) -> None:
        """Send all of ``data``."""
        self._sent = True
        try:
            sent = self._socket.send(data)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            raise self._lost(error) from error
        if sent == len(data):
            return
        view = memoryview(data)[sent:]
        while view:
            await self._wait(anyio.wait_writable)
            try:
                view = view[self._socket.send(view) :]
            except BlockingIOError:
                continue
            except OSError as error:
                raise self._lost(error) from error

    async def send_eof(self) -> None:
        """Close the sending half."""
        try:
            self._socket.shutdown(socket.SHUT_WR)
        except OSError as error:
            raise self._lost(error) from error

    def is_stale(self) -> bool:
        """True when an idle connection has ended, or has said something that nobody asked for."""
        try:
            self._socket.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return False
        except OSError:
            return True
        return True

    def close(self) -> None:
        """End the connection; a task that waits on it gets ``ProtocolError``."""
        if self._closed:
            return
        self._closed = True
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(b"")
        try:
            anyio.notify_closing(self._socket)
        except Exception:
            pass  # outside a running loop there is nobody to wake
        self._unwatch(close=True)

    def abort(self) -> None:
        """End the connection under whoever uses it: they get ``ProtocolError``, and still ``close`` it."""
        self._aborted = True
        self._dialed.shut()

    def abandon(self) -> None:
        """Forget a connection that belongs to another process (after a fork)."""
        self._closed = True
        self._socket.close()

    def complaint(self) -> str:
        """What the way to the engine (ssh) said in its own words."""
        return self._dialed.complaint()

    async def _receive_on(self, loop: asyncio.AbstractEventLoop, limit: int) -> bytes:
        """Let the loop's reader receive; cancelling this loses no bytes."""
        if self._waiter is not None:
            raise WherryError(_BUSY)
        if self._loop is not loop:
            self._unwatch()
            try:
                loop.add_reader(self._descriptor, _on_readable, weakref.ref(self))
            except (OSError, ValueError) as error:
                raise self._lost(error) from error
            self._loop = loop
        self._limit = limit
        waiter: asyncio.Future[bytes] = loop.create_future()
        self._waiter = waiter
        timer = None if self._timeout is None else loop.call_later(self._timeout, self._on_deadline, waiter)
        try:
            return await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
                self._kept = waiter.result()
            raise
        finally:
            self._waiter = None
            if timer is not None:
                timer.cancel()

    def on_readable(self) -> None:
        """The loop's reader."""
        waiter = self._waiter
        if waiter is None or waiter.done():
            self._unwatch()  # nobody asks: the bytes stay in the kernel
            return
        try:
            waiter.set_result(self._socket.recv(self._limit))
        except BlockingIOError:
            pass
        except OSError as error:
            waiter.set_exception(self._lost(error))

    def _on_deadline(self, waiter: asyncio.Future[bytes]) -> None:
        if not waiter.done():
            waiter.set_exception(Timeout(f"the engine was silent for {self._timeout:g} s"))

    def _unwatch(self, *, close: bool = False) -> None:
        """Take the reader out of its loop, and only then close: the loop knows the descriptor's number, which others get."""
        loop, self._loop = self._loop, None
        if loop is not None and not loop.is_closed():
            if loop.is_running() and loop is not _asyncio_loop():  # in another thread
                loop.call_soon_threadsafe(_forget, loop, self._descriptor, self._dialed, close)
                return
            loop.remove_reader(self._descriptor)
        if close:
            self._dialed.close()

    def __del__(self) -> None:
        if not self._closed:
            self._unwatch()  # the socket's own end closes it, and warns

    async def _wait(self, wait: Callable[[Any], Awaitable[None]]) -> None:
        try:
            if self._timeout is None:
                await wait(self._socket)
                return
            with anyio.move_on_after(self._timeout):
                await wait(self._socket)
                return
        except anyio.ClosedResourceError:
            raise ProtocolError("the connection was closed") from None
        except anyio.BusyResourceError:
            raise WherryError(_BUSY) from None
        except (OSError, ValueError) as error:
            raise self._lost(error) from error
        raise Timeout(f"the engine was silent for {self._timeout:g} s")

    def _lost(self, error: Exception) -> ProtocolError:
        if self._closed or self._aborted:
            return ProtocolError("the connection was closed")
        return ProtocolError(f"the connection to the engine was lost: {error}")


def _on_readable(stream: weakref.ref[SocketStream]) -> None:
    if (there := stream()) is not None:
        there.on_readable()


def _forget(loop: asyncio.AbstractEventLoop, descriptor: int, dialed: Dialed, close: bool) -> None:
    """Take a reader out of its own loop; ``dialed`` keeps the descriptor's number until then."""
    loop.remove_reader(descriptor)
    if close:
        dialed.close()


class TlsStream:
    """TLS over a ``SocketStream``."""

    __slots__ = ("_machine", "_raw", "_sending")

    def __init__(self, raw: SocketStream, machine: TlsMachine) -> None:
        self._raw = raw
        self._machine = machine
        self._sending = Lock()

    async def handshake(self) -> None:
        """Raises ``ConnectError`` when the two ends do not accept one another."""
        while not self._machine.handshake():
            await self._flush()
            data = await self._raw.receive()
            if not data:
                raise ConnectError("the engine closed the connection during the TLS handshake")
            self._machine.feed(data)
        await self._flush()

    def set_timeout(self, seconds: float | None) -> None:
        self._raw.set_timeout(seconds)

    async def receive(self, limit: int = 65536) -> bytes:
        while True:
            plain = self._machine.read(limit)
            if plain is not None:
                return plain
            await self._flush()
            self._machine.feed(await self._raw.receive(limit))

    async def send(self, data: bytes | bytearray | memoryview) -> None:
        self._machine.write(data)
        await self._flush()

    async def send_eof(self) -> None:
        self._machine.send_eof()
        await self._flush()

    def is_stale(self) -> bool:
        return self._raw.is_stale()

    def close(self) -> None:
        self._raw.close()

    def abort(self) -> None:
        self._raw.abort()

    def abandon(self) -> None:
        self._raw.abandon()

    def complaint(self) -> str:
        return ""

    async def _flush(self) -> None:
        async with self._sending:
            data = self._machine.outgoing()
            if data:
                await self._raw.send(data)


Stream = SocketStream | TlsStream


async def open_stream(
    address: Address, timeout: float | None, context: ssl.SSLContext | None, embedded: Dialer | None
) -> Stream:
    """Connect within ``timeout`` seconds. Raises ``ConnectError`` or ``Timeout``."""
    dialed = _dial_at_once(address)
    if dialed is None:
        dialed = await anyio.to_thread.run_sync(dial, address, timeout, embedded, abandon_on_cancel=True)
    raw = SocketStream(dialed)
    if context is None:
        return raw
    raw.set_timeout(timeout)
    stream = TlsStream(raw, TlsMachine(context, address))
    try:
        await stream.handshake()
    except ProtocolError as error:
        raw.close()
        raise ConnectError(f"cannot connect to {address}: {error}") from error
    except BaseException:
        raw.close()
        raise
    return stream


def _dial_at_once(address: Address) -> Dialed | None:
    """A unix socket connects without waiting unless the engine's queue is full."""
    if address.kind != "unix":
        return None
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.connect(address.path)
    except OSError:
        sock.close()
        return None  # the slow way waits, or words the error
    return Dialed(sock)


async def in_worker(function: Callable[..., T], *arguments: Any) -> T:
    """Run a blocking function beside the loop."""
    return await anyio.to_thread.run_sync(function, *arguments)


async def read_from(file: Any, size: int) -> bytes:
    """Up to ``size`` bytes of a binary file, an ordinary one or one whose ``read`` is awaited."""
    data = await anyio.to_thread.run_sync(file.read, size)
    if inspect.isawaitable(data):
        data = await data
    if not isinstance(data, (bytes, bytearray)):
        raise TypeError(f"a body's file must be binary; it gave {type(data).__name__}")
    return bytes(data)


async def both(first: Callable[[], Awaitable[None]], second: Callable[[], Awaitable[T]]) -> T:
    """Run two at once; the second's result. When the second ends or fails, the first is ended too."""
    result: list[T] = []
    failure: list[Exception] = []

    async def guarded() -> None:
        try:
            await first()
        except Exception as error:
            failure.append(error)

    try:
        async with anyio.create_task_group() as group:
            group.start_soon(guarded)
            result.append(await second())
            group.cancel_scope.cancel()
    except BaseExceptionGroup as errors:
        if len(errors.exceptions) == 1:
            raise errors.exceptions[0] from None
        raise
    if failure:
        raise failure[0]
    return result[0]


class Deadline:
    """A time limit on what is done within its block: ``Timeout`` with ``what`` in its text. None is no limit."""

    def __init__(self, seconds: float | None, what: str) -> None:
        self._seconds = seconds
        self._what = what

    def watch(self, abort: Callable[[], None]) -> None:
        """Nothing to do here: the tasks of the block are cancelled."""

    def limit(self, timeouts: Timeouts) -> Timeouts:
        """The same: calls of the block are cancelled."""
        return timeouts

    async def sleep(self, seconds: float) -> None:
        """Wait, no longer than the deadline."""
        await anyio.sleep(seconds)

    async def __aenter__(self) -> Self:
        self._scope = anyio.CancelScope()
        if self._seconds is not None:
            self._scope.deadline = anyio.current_time() + self._seconds
        self._scope.__enter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._scope.__exit__(kind, error, trace)
        if self._scope.cancelled_caught:
            raise Timeout(f"{self._what} within {self._seconds:g} s")


async def shielded(function: Callable[..., Awaitable[None]], *arguments: Any) -> None:
    """Call a function that must come to its end even when the caller is being cancelled; 10 s at most."""
    with anyio.move_on_after(10, shield=True):
        await function(*arguments)


async def make(function: Callable[[], Coroutine[Any, Any, T]], undo: Callable[[T], Awaitable[None]]) -> T:
    """Call a function that makes something; when the caller is cancelled meanwhile, what it made is undone."""
    if _asyncio_loop() is None:
        with anyio.CancelScope(shield=True):
            return await function()
    # A task of its own: asyncio's cancellations heed no scope.
    task = asyncio.ensure_future(function())
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:

        async def settle() -> None:
            with contextlib.suppress(WherryError):
                await undo(await task)

        await shielded(settle)
        raise


async def iterate(chunks: Any) -> AsyncIterator[bytes]:
    """The pieces of an async or a plain iterable."""
    if hasattr(chunks, "__aiter__"):
        async for chunk in chunks:
            yield chunk
    else:
        for chunk in chunks:
            yield chunk
