"""TLS under a ``Connection``, with halves that close one at a time.

asyncio's own TLS ends a connection when the client ends its half. ``docker run -i`` ends its half at the end of its
input and expects output after it, over TLS by a close_notify; so this layer passes that on as end-of-file, and the
sending half stays open.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from typing import Any, cast

log = logging.getLogger(__name__)

HANDSHAKE_SECONDS = 20.0


class Handshakes:
    """Those under way on one server: ``most`` at once, one more ends the oldest. They are no connections yet."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._layers: dict[TlsLayer, None] = {}  # oldest first

    def begin(self, layer: TlsLayer) -> None:
        if len(self._layers) >= self._most:
            oldest = next(iter(self._layers))
            del self._layers[oldest]
            oldest.raw.abort()
        self._layers[layer] = None

    def end(self, layer: TlsLayer) -> None:
        self._layers.pop(layer, None)

    def abort(self) -> None:
        """The server is closing."""
        for layer in self._layers:
            layer.raw.abort()
        self._layers.clear()


class TlsLayer(asyncio.Protocol):
    """Between the socket's transport and ``protocol``, which sees a transport of its own once the handshake is done."""

    def __init__(self, context: ssl.SSLContext, protocol: asyncio.BufferedProtocol, handshakes: Handshakes) -> None:
        self.protocol = protocol
        self._handshakes = handshakes
        self.incoming = ssl.MemoryBIO()
        self.outgoing = ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_side=True)
        self.raw: asyncio.Transport
        self.reading = True
        self.ended = False  # our half is closed
        self._open = False
        self._eof = False
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.raw = cast(asyncio.Transport, transport)
        self._timer = asyncio.get_running_loop().call_later(HANDSHAKE_SECONDS, self.raw.abort)
        self._handshakes.begin(self)

    def data_received(self, data: bytes) -> None:
        if not (self._eof or self.ended):  # else nobody wants it
            self.incoming.write(data)
            self._step()

    def eof_received(self) -> bool:
        if not self.ended:
            self.incoming.write_eof()
            self._step()
        if self._open:
            self._end_of_input()
        return self._open

    def pause_writing(self) -> None:
        if self._open:
            self.protocol.pause_writing()

    def resume_writing(self) -> None:
        if self._open:
            self.protocol.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._handshakes.end(self)
        if self._open:
            self.protocol.connection_lost(exc)

    def flush(self) -> None:
        if self.outgoing.pending and not self.raw.is_closing():
            self.raw.write(self.outgoing.read())

    def pump(self) -> None:
        """Hand on what has arrived, while it is wanted."""
        while self.reading and not self._eof and not self.ended and not self.raw.is_closing():
            buffer = cast(memoryview, self.protocol.get_buffer(-1))
            try:
                size = cast(int, self.tls.read(len(buffer), buffer))
            except ssl.SSLWantReadError:
                break
            except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
                size = 0
            except ssl.SSLError as error:
                log.debug("TLS failed: %s", error)
                self.raw.abort()
                return
            if not size:
                self._end_of_input()
                break
            self.protocol.buffer_updated(size)
        if not self.ended:
            self.flush()  # answers of the TLS layer itself

    def _step(self) -> None:
        if not self._open:
            try:
                self.tls.do_handshake()
            except ssl.SSLWantReadError:
                self.flush()
                return
            except ssl.SSLError as error:
                log.info("TLS handshake failed: %s", error)
                self.flush()  # the alert says why
                self.raw.close()
                return
            self.flush()
            self._open = True
            self._handshakes.end(self)
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            self.protocol.connection_made(_TlsTransport(self))
        self.pump()

    def _end_of_input(self) -> None:
        if not self._eof:
            self._eof = True
            self.protocol.eof_received()


class _TlsTransport(asyncio.Transport):
    """What a ``Connection`` uses of a transport, over TLS."""

    def __init__(self, layer: TlsLayer) -> None:
        super().__init__()
        self._layer = layer
        self._raw = layer.raw

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self._layer.ended or self._raw.is_closing():
            return
        view = memoryview(data)
        while view:
            try:
                view = view[self._layer.tls.write(view) :]
            except ssl.SSLError as error:  # the outgoing side is memory: it never has to wait
                log.debug("TLS failed: %s", error)
                self._raw.abort()
                return
        self._layer.flush()

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self._say_goodbye()
        self._raw.write_eof()

    def close(self) -> None:
        self._say_goodbye()
        self._raw.close()

    def abort(self) -> None:
        self._raw.abort()

    def is_closing(self) -> bool:
        return self._raw.is_closing()

    def pause_reading(self) -> None:
        self._layer.reading = False
        self._raw.pause_reading()

    def resume_reading(self) -> None:
        self._layer.reading = True
        self._raw.resume_reading()
        asyncio.get_running_loop().call_soon(self._layer.pump)  # what had arrived already

    def is_reading(self) -> bool:
        return self._layer.reading

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._raw.set_write_buffer_limits(high, low)

    def get_write_buffer_size(self) -> int:
        return self._raw.get_write_buffer_size()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._raw.get_extra_info(name, default)

    def _say_goodbye(self) -> None:
        """Send close_notify; the client's own is not waited for."""
        if self._layer.ended or self._raw.is_closing():
            return
        try:
            self._layer.tls.unwrap()
        except ssl.SSLError:
            pass
        self._layer.flush()
        self._layer.ended = True
