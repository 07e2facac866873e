"""TLS without I/O: a state machine over ``ssl.MemoryBIO``, so that both colours can half-close.

``ssl.SSLSocket`` cannot close one half; here ``send_eof`` emits close_notify and reading goes on.
"""

from __future__ import annotations

import ssl
import threading

from wherry.api.errors import ConnectError, ProtocolError
from wherry.client.address import Address, TlsFiles


def make_context(files: TlsFiles) -> ssl.SSLContext:
    """An SSL context for a client with these files. Raises ``ConnectError`` if one cannot be read."""
    try:
        context = ssl.create_default_context(cafile=files.ca) if files.verify else _unverified()
        if files.cert:
            context.load_cert_chain(files.cert, files.key)
    except (OSError, ssl.SSLError) as error:
        raise ConnectError(f"cannot use the TLS files {files.ca}, {files.cert}, {files.key}: {error}") from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def _unverified() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


class TlsMachine:
    """One TLS connection's state: ciphertext in by ``feed``, out by ``outgoing``. For any thread."""

    __slots__ = ("_early", "_eof", "_incoming", "_lock", "_name", "_object", "_outgoing", "_sent_eof")

    def __init__(self, context: ssl.SSLContext, address: Address) -> None:
        self._lock = threading.Lock()
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._name = str(address)
        name = (address.tls.server_name if address.tls else None) or address.host
        self._object = context.wrap_bio(self._incoming, self._outgoing, server_hostname=name)
        self._early = b""  # plaintext read ahead of its reader
        self._eof = False
        self._sent_eof = False

    def handshake(self) -> bool:
        """Take the handshake as far as it goes; True when it is done. Raises ``ConnectError`` when it failed."""
        with self._lock:
            try:
                self._object.do_handshake()
            except ssl.SSLWantReadError:
                return False
            except ssl.SSLError as error:
                raise ConnectError(f"cannot connect to {self._name}: TLS: {_words(error)}") from error
            return True

    def feed(self, data: bytes) -> None:
        """Take ciphertext from the peer; ``b""`` is the connection's end."""
        with self._lock:
            if data:
                self._incoming.write(data)
            else:
                self._incoming.write_eof()

    def read(self, limit: int) -> bytes | None:
        """Plaintext; None when more ciphertext is needed; ``b""`` once the peer has closed its sending half.

        Raises ``ProtocolError`` when the stream is broken, or ended without the peer's goodbye.
        """
        with self._lock:
            if self._early:
                early, self._early = self._early[:limit], self._early[limit:]
                return early
            pieces: list[bytes] = []
            size = 0
            while not self._eof and size < limit:
                try:
                    piece = self._object.read(limit - size)
                except ssl.SSLWantReadError:
                    break
                except ssl.SSLZeroReturnError:
                    piece = b""
                except ssl.SSLError as error:
                    if pieces:
                        break
                    raise ProtocolError(f"TLS with {self._name}: {_words(error)}") from error
                if not piece:
                    self._eof = True
                    break
                pieces.append(piece)
                size += len(piece)
            if pieces:
                return b"".join(pieces)
            return b"" if self._eof else None

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Encrypt; the ciphertext is for ``outgoing``."""
        with self._lock:
            if self._sent_eof:
                raise ProtocolError("nothing can be sent after send_eof")
            view = memoryview(data)
            try:
                while view:
                    view = view[self._object.write(view) :]
            except ssl.SSLError as error:
                raise ProtocolError(f"TLS with {self._name}: {_words(error)}") from error

    def send_eof(self) -> None:
        """Close the sending half; reading goes on."""
        with self._lock:
            if self._sent_eof:
                return
            self._sent_eof = True
            # Ciphertext still unread would be taken for data after the close: read it out first.
            early = [self._early]
            try:
                while piece := self._object.read(65536):
                    early.append(piece)
            except ssl.SSLError:
                pass
            try:
                self._object.unwrap()
            except ssl.SSLError:
                pass  # it waits for the peer's own close, which comes in its time
            self._early = b"".join(early)

    def outgoing(self) -> bytes:
        """Ciphertext to send, ``b""`` if there is none."""
        with self._lock:
            return self._outgoing.read()


def _words(error: ssl.SSLError) -> str:
    verify = getattr(error, "verify_message", "")
    if verify:
        return f"the engine's certificate is not accepted: {verify}"
    return (error.reason or str(error)).lower().replace("_", " ")
