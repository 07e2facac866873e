"""The sync driver: moves bytes over blocking sockets, knows nothing of what they mean.

Deadlines are the kernel's (SO_RCVTIMEO, SO_SNDTIMEO): no extra system call a receive.
"""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

import msgspec

from wherry.api.errors import ConnectError, ProtocolError, Timeout, TransportError
from wherry.client.address import Address
from wherry.client.dial import Dialed, Dialer, dial
from wherry.client.timeouts import Timeouts

if TYPE_CHECKING:
    import ssl

    from wherry.client.tls import TlsMachine

T = TypeVar("T")

Lock = threading.Lock

_PEEK = int(socket.MSG_PEEK | socket.MSG_DONTWAIT)


class SocketStream:
    """A connected socket. ``receive`` and ``send`` raise ``Timeout`` and ``ProtocolError`` alone."""

    __slots__ = ("_aborted", "_closed", "_dialed", "_socket", "_timeout")

    def __init__(self, dialed: Dialed) -> None:
        self._dialed = dialed
        self._socket = dialed.socket
        self._timeout: float | None = None
        self._closed = self._aborted = False

    def set_timeout(self, seconds: float | None) -> None:
        """The longest that one ``receive`` or ``send`` may wait."""
        if seconds == self._timeout:
            return
        self._timeout = seconds
        whole = 0 if seconds is None else int(seconds)
        micros = 0 if seconds is None else int((seconds - whole) * 1_000_000)
        if seconds is not None and not whole and not micros:
            micros = 1  # 0 and 0 would mean for ever
        value = struct.pack("ll", whole, micros)
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, value)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, value)
        except OSError as error:
            raise self._lost(error) from error

    def receive(self, limit: int = 65536) -> bytes:
        """Up to ``limit`` bytes, at least one; ``b""`` at the end of the peer's half."""
        try:
            data = self._socket.recv(limit)
        except BlockingIOError:
            raise Timeout(f"the engine was silent for {self._timeout:g} s") from None
        except OSError as error:
            raise self._lost(error) from error
        if not data and (self._closed or self._aborted):
            raise ProtocolError("the connection was closed")
        return data

    def send(self, data: bytes | bytearray | memoryview) -> None:
        """Send all of ``data``."""
        try:
            self._socket.sendall(data)
        except BlockingIOError:
            raise Timeout(f"the engine took nothing for {self._timeout:g} s") from None
        except OSError as error:
            raise self._lost(error) from error

    def send_eof(self) -> None:
        """Close the sending half."""
        try:
            self._socket.shutdown(socket.SHUT_WR)
        except OSError as error:
            raise self._lost(error) from error

    def is_stale(self) -> bool:
        """True when an idle connection has ended, or has said something that nobody asked for."""
        try:
            self._socket.recv(1, _PEEK)
        except BlockingIOError:
            return False
        except OSError:
            return True
        return True

    def close(self) -> None:
        """End the connection; a thread that waits on it gets ``ProtocolError``."""
        if self._closed:
            return
        self._closed = True
        self._dialed.close()

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

    def _lost(self, error: Exception) -> ProtocolError:
        if self._closed or self._aborted:
            return ProtocolError("the connection was closed")
        return ProtocolError(f"the connection to the engine was lost: {error}")


class TlsStream:
    """TLS over a ``SocketStream``."""

    __slots__ = ("_machine", "_raw", "_sending")

    def __init__(self, raw: SocketStream, machine: TlsMachine) -> None:
        self._raw = raw
        self._machine = machine
        self._sending = Lock()

    def handshake(self) -> None:
        """Raises ``ConnectError`` when the two ends do not accept one another."""
        while not self._machine.handshake():
            self._flush()
            data = self._raw.receive()
            if not data:
                raise ConnectError("the engine closed the connection during the TLS handshake")
            self._machine.feed(data)
        self._flush()

    def set_timeout(self, seconds: float | None) -> None:
        self._raw.set_timeout(seconds)

    def receive(self, limit: int = 65536) -> bytes:
        while True:
            plain = self._machine.read(limit)
            if plain is not None:
                return plain
            self._flush()
            self._machine.feed(self._raw.receive(limit))

    def send(self, data: bytes | bytearray | memoryview) -> None:
        self._machine.write(data)
        self._flush()

    def send_eof(self) -> None:
        self._machine.send_eof()
        self._flush()

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

    def _flush(self) -> None:
        with self._sending:
            data = self._machine.outgoing()
            if data:
                self._raw.send(data)


Stream = SocketStream | TlsStream


def open_stream(
    address: Address, timeout: float | None, context: ssl.SSLContext | None, embedded: Dialer | None
) -> Stream:
    """Connect within ``timeout`` seconds. Raises ``ConnectError`` or ``Timeout``."""
    raw = SocketStream(dial(address, timeout, embedded))
    if context is None:
        return raw

    from wherry.client.tls import TlsMachine

    raw.set_timeout(timeout)
    stream = TlsStream(raw, TlsMachine(context, address))
    try:
        stream.handshake()
    except ProtocolError as error:
        raw.close()
        raise ConnectError(f"cannot connect to {address}: {error}") from error
    except BaseException:
        raw.close()
        raise
    return stream


def in_worker(function: Callable[..., T], *arguments: Any) -> T:
    """Call a blocking function; here there is no loop to keep free."""
    return function(*arguments)


def read_from(file: Any, size: int) -> bytes:
    """Up to ``size`` bytes of a binary file."""
    data = file.read(size)
    if not isinstance(data, (bytes, bytearray)):
        raise TypeError(f"a body's file must be binary; it gave {type(data).__name__}")
    return bytes(data)


def both(first: Callable[[], None], second: Callable[[], T]) -> T:
    """Run two at once, the first in a thread; the second's result.

    The first must end by itself once the second has: it is a send to a connection that is closed then.
    """
    failure: list[Exception] = []

    def guarded() -> None:
        try:
            first()
        except Exception as error:
            failure.append(error)

    thread = threading.Thread(target=guarded, name="wherry-send", daemon=True)
    thread.start()
    result = second()
    if failure:
        raise failure[0]
    return result


class Deadline:
    """A time limit on what is done within its block: ``Timeout`` with ``what`` in its text. None is no limit.

    At the limit the connections given to ``watch`` are ended, which ends whoever waits on them.
    """

    def __init__(self, seconds: float | None, what: str) -> None:
        self._seconds = seconds
        self._what = what
        self._watched: list[Callable[[], None]] = []
        self._passed = False
        self._end_at: float | None = None
        self._timer: threading.Timer | None = None

    def watch(self, abort: Callable[[], None]) -> None:
        """End this, too, at the limit."""
        self._watched.append(abort)
        if self._passed:
            abort()

    def limit(self, timeouts: Timeouts) -> Timeouts:
        """No answer of a call is waited for longer than to the limit."""
        if self._end_at is None:
            return timeouts
        left = max(self._end_at - time.monotonic(), 0.001)
        head, long_head = timeouts.head or left, timeouts.long_head or left
        return msgspec.structs.replace(timeouts, head=min(head, left), long_head=min(long_head, left))

    def sleep(self, seconds: float) -> None:
        """Wait, no longer than the deadline."""
        time.sleep(seconds)
        if self._passed:
            raise Timeout("the deadline has passed")

    def __enter__(self) -> Self:
        if self._seconds is not None:
            self._end_at = time.monotonic() + self._seconds
            self._timer = threading.Timer(self._seconds, self._end)
            self._timer.daemon = True
            self._timer.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._timer is not None:
            self._timer.cancel()
        late = self._passed or (self._end_at is not None and time.monotonic() >= self._end_at)
        if late and isinstance(error, TransportError):
            raise Timeout(f"{self._what} within {self._seconds:g} s") from error

    def _end(self) -> None:
        self._passed = True
        for abort in list(self._watched):
            abort()


def shielded(function: Callable[..., None], *arguments: Any) -> None:
    """Call a function; here nothing cancels it."""
    function(*arguments)


def make(function: Callable[[], T], undo: Callable[[T], None]) -> T:
    """Call a function; here nothing cancels it."""
    return function()


def iterate(chunks: Any) -> Iterator[bytes]:
    """The pieces of an iterable."""
    yield from chunks
