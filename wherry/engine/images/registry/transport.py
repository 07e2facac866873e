"""HTTP to registries: connections, TLS, proxies. No redirect is followed and no credential known here.

On the engine's loop, so that a slow registry holds no thread, and work is given up the moment nobody wants it.
"""

from __future__ import annotations

import asyncio
import base64
import ipaddress
import os
import re
import socket
import ssl
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from contextlib import aclosing, suppress
from typing import NamedTuple, TypeVar
from urllib.parse import SplitResult, unquote, urljoin, urlsplit

from wherry.engine.images.registry.errors import Interrupted, RegistryError, Unreachable
from wherry.wire.http1 import Data, End, Headers, HttpError, Response, ResponseParser, encode_request_head

T = TypeVar("T")

CONNECT = 30.0
"""Seconds for a connection with its TLS handshake."""
IDLE = 60.0
"""Seconds without a byte, in either direction."""
WHOLE = 300.0
"""Seconds for an answer's head, and for all of a small answer, however steadily it drips."""
_READ = 1 << 18
_IDLE_CONNECTIONS = 4

TlsFor = Callable[[str], Awaitable[ssl.SSLContext]]
"""Gives the TLS settings for ``host:port``."""


class Origin(NamedTuple):
    """Who answers for a URL: what may be told to one origin may not be told to another."""

    scheme: str
    host: str
    port: int

    @property
    def netloc(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"

    def __str__(self) -> str:
        return f"{self.scheme}://{self.netloc}"


_PORTS = {"http": 80, "https": 443}


def origin_of(url: str) -> Origin:
    """Raises ``RegistryError`` for what is no http or https URL."""
    return _origin(_split(url))


def join_url(base: str, location: str) -> str:
    """Where a ``Location`` leads. Raises ``RegistryError`` for what is no URL."""
    try:
        return urljoin(base, location)
    except ValueError:
        raise RegistryError(f"the registry gave an invalid URL: {location[:200]!r}") from None


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        _ = parts.port
        (parts.hostname or "").encode("idna")
        if not parts.netloc.isprintable() or " " in parts.netloc:
            raise ValueError
    except ValueError:  # a UnicodeError is one
        raise RegistryError(f"the registry gave an invalid URL: {url[:200]!r}") from None
    if parts.scheme not in _PORTS or not parts.hostname:
        raise RegistryError(f"the registry gave a URL that is neither http nor https: {url[:200]!r}")
    return parts


def _origin(parts: SplitResult) -> Origin:
    return Origin(parts.scheme, parts.hostname or "", parts.port or _PORTS[parts.scheme])


class Answer:
    """An answer whose body is still to be read; ``close`` it, or read it to its end."""

    def __init__(
        self, url: str, connection: _Connection, response: Response, pending: list[bytes], *, ended: bool
    ) -> None:
        self.url = url
        self.status = response.status
        self.reason = response.reason
        self.headers: Headers = response.headers
        self.content_length = response.content_length
        self._connection = connection
        self._response = response
        self._pending = pending
        self._ended = ended
        self._finished = False
        if ended and not pending:
            self._finish()

    async def pieces(self) -> AsyncGenerator[bytes, None]:
        """The body as it arrives. Raises ``Interrupted`` when it ends early or stalls."""
        while True:
            while self._pending:
                yield self._pending.pop(0)
            if self._ended:
                self._finish()
                return
            self._pending, self._ended = await self._connection.more()

    async def read(self, limit: int, what: str) -> bytes:
        """The whole body. Raises ``RegistryError`` when it is longer than ``limit`` bytes."""
        too_long = RegistryError(f"{what} is larger than {limit} bytes")
        if (self.content_length or 0) > limit:
            self.close()
            raise too_long
        data = bytearray()
        try:
            async with asyncio.timeout(WHOLE):
                async for piece in self.pieces():
                    data += piece
                    if len(data) > limit:
                        self.close()
                        raise too_long
        except TimeoutError:
            self.close()
            raise Interrupted(f"{what} did not come within {WHOLE:g} seconds") from None
        return bytes(data)

    async def drain(self) -> None:
        """Read what nobody wants, if it is short, so that the connection can be used again."""
        try:
            await self.read(1 << 16, "the answer")
        except RegistryError:
            self.close()

    def close(self) -> None:
        """Break it off, unless it is complete."""
        if not self._finished:
            self._finished = True
            self._connection.close()
        self._ended, self._pending = True, []

    def _finish(self) -> None:
        if self._finished:
            return
        self._finished = True  # from here on the connection may be somebody else's
        self._connection.done(reusable=self._response.keep_alive)


class _Connection:
    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        give_back: Callable[[_Connection], None],
        proxy: _Proxy | None,
    ) -> None:
        self.reader = reader
        self.writer = writer
        self.proxy = proxy
        self.used = False
        self._give_back = give_back
        self._parser = ResponseParser()
        self._closed = False

    async def send(self, head: bytes, method: str, body: bytes | AsyncGenerator[bytes, None]) -> None:
        self._parser.expect(method)
        self.writer.write(head)
        if isinstance(body, bytes):
            self.writer.write(body)
        else:
            async with aclosing(body) as pieces:
                async for piece in pieces:
                    self.writer.write(piece)
                    await _in_time(self.writer.drain(), IDLE)
        await _in_time(self.writer.drain(), IDLE)

    async def head(self) -> tuple[Response, list[bytes], bool]:
        """The answer's head, with what came of its body, and whether that was all."""
        try:
            async with asyncio.timeout(WHOLE):
                while True:
                    events = await self._events()
                    for number, event in enumerate(events):
                        if isinstance(event, Response):
                            pieces, ended = _body(events[number + 1 :])
                            return event, pieces, ended
        except TimeoutError:
            raise Interrupted(f"the answer did not begin within {WHOLE:g} seconds") from None

    async def more(self) -> tuple[list[bytes], bool]:
        try:
            return _body(await self._events())
        except BaseException:
            self.close()
            raise

    async def _events(self) -> list[object]:
        try:
            data = await _in_time(self.reader.read(_READ), IDLE)
            return list(self._parser.feed(data) if data else self._parser.feed_eof())
        except HttpError as error:
            raise Interrupted(str(error)) from None
        except OSError as error:
            raise Interrupted(_reason(error)) from None

    def done(self, *, reusable: bool) -> None:
        if self._closed:
            return
        if reusable and not self._parser.excess:
            self.used = True
            self._give_back(self)
        else:
            self.close()

    def close(self) -> None:
        self._closed = True
        self.writer.transport.abort()


def _body(events: Iterable[object]) -> tuple[list[bytes], bool]:
    pieces: list[bytes] = []
    ended = False
    for event in events:
        if isinstance(event, Data):
            pieces.append(event.data)
        elif isinstance(event, End):
            ended = True
    return pieces, ended


class Transport:
    """Connections to whatever hosts one piece of work needs; ``close`` it at the work's end."""

    def __init__(self, tls_for: TlsFor, user_agent: str) -> None:
        self._tls_for = tls_for
        self._user_agent = user_agent
        self._idle: dict[Origin, list[_Connection]] = {}
        self._open: set[_Connection] = set()

    async def request(
        self,
        method: str,
        url: str,
        headers: Iterable[tuple[str, str]] = (),
        body: bytes | AsyncGenerator[bytes, None] = b"",
        *,
        length: int | None = None,
    ) -> Answer:
        """Send a request and wait for the answer's head. ``length``: the bytes of a ``body`` that is an iterator.

        Raises ``Unreachable`` when there is no connection, ``Interrupted`` when it breaks.
        """
        parts = _split(url)
        origin = _origin(parts)
        target = f"{parts.path or '/'}{'?' if parts.query else ''}{parts.query}"
        if isinstance(body, bytes) and (body or method in ("POST", "PUT", "PATCH")):
            length = len(body)
        fields = [("Host", origin.netloc), ("User-Agent", self._user_agent), *headers]
        if length is not None:
            fields.append(("Content-Length", str(length)))
        while True:
            connection = await self._connection(origin)
            reused = connection.used
            try:
                response, pieces, ended = await self._exchange(connection, method, origin, target, fields, body)
            except Interrupted:
                connection.close()
                if reused and isinstance(body, bytes):
                    continue  # it had been closed meanwhile, as servers do with idle ones
                raise
            except BaseException:
                connection.close()
                raise
            return Answer(url, connection, response, pieces, ended=ended)

    async def _exchange(
        self,
        connection: _Connection,
        method: str,
        origin: Origin,
        target: str,
        fields: list[tuple[str, str]],
        body: bytes | AsyncGenerator[bytes, None],
    ) -> tuple[Response, list[bytes], bool]:
        if connection.proxy is not None and origin.scheme == "http":
            target = f"{origin}{target}"
            fields = [*fields, *connection.proxy.headers]
        try:
            head = encode_request_head(method, target, fields)
        except (ValueError, UnicodeEncodeError):
            raise RegistryError(f"the registry gave an invalid URL: {origin}{target[:200]!r}") from None
        try:
            await connection.send(head, method, body)
        except OSError as error:
            if isinstance(body, bytes):
                raise Interrupted(_reason(error)) from None
            # refused in the middle of an upload: the answer may say why
            with suppress(Interrupted):
                return await connection.head()
            raise Interrupted(_reason(error)) from None
        return await connection.head()

    async def _connection(self, origin: Origin) -> _Connection:
        idle = self._idle.get(origin)
        while idle:
            connection = idle.pop()
            if not connection.reader.at_eof():
                return connection
            connection.close()
        proxy = _proxy_for(origin)
        context = await self._tls_for(f"{origin.host}:{origin.port}") if origin.scheme == "https" else None
        try:
            reader, writer = await _in_time(_connect(origin, proxy, context), CONNECT)
        except (OSError, ssl.CertificateError, UnicodeError) as error:
            raise Unreachable(_dial_reason(error, origin) or _reason(error)) from None
        connection = _Connection(reader, writer, lambda done: self._give_back(origin, done), proxy)
        self._open.add(connection)
        return connection

    def _give_back(self, origin: Origin, connection: _Connection) -> None:
        idle = self._idle.setdefault(origin, [])
        if len(idle) < _IDLE_CONNECTIONS:
            idle.append(connection)
        else:
            connection.close()

    def close(self) -> None:
        for connection in self._open:
            connection.close()
        self._open.clear()
        self._idle.clear()


async def _in_time(work: Awaitable[T], seconds: float) -> T:
    try:
        async with asyncio.timeout(seconds):
            return await work
    except TimeoutError:
        raise OSError(f"no answer within {seconds:g} seconds") from None


async def _connect(
    origin: Origin, proxy: _Proxy | None, context: ssl.SSLContext | None
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    if proxy is None:
        name = origin.host if context is not None else None
        return await asyncio.open_connection(
            origin.host, origin.port, ssl=context, server_hostname=name, limit=_READ, happy_eyeballs_delay=0.25
        )
    reader, writer = await asyncio.open_connection(proxy.host, proxy.port, limit=_READ)
    try:
        if context is not None:
            place = f"[{origin.host}]:{origin.port}" if ":" in origin.host else f"{origin.host}:{origin.port}"
            writer.write(encode_request_head("CONNECT", place, [("Host", place), *proxy.headers]))
            said = await reader.readuntil(b"\r\n\r\n")
            words = said.split(b"\r\n", 1)[0].split(b" ", 2)
            if len(words) < 2 or words[1] != b"200":
                raise OSError(f"the proxy {proxy.host}:{proxy.port} refused: {said[:100]!r}")
            await writer.start_tls(context, server_hostname=origin.host)
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        writer.transport.abort()
        raise OSError(f"the proxy {proxy.host}:{proxy.port} broke off") from None
    except BaseException:
        writer.transport.abort()
        raise
    return reader, writer


class _Proxy(NamedTuple):
    host: str
    port: int
    headers: tuple[tuple[str, str], ...]


def _proxy_for(origin: Origin) -> _Proxy | None:
    """The proxy that the environment names (HTTPS_PROXY, HTTP_PROXY, NO_PROXY), never for this machine itself."""
    if not any(name.lower() in ("http_proxy", "https_proxy", "all_proxy") for name in os.environ):
        return None
    if origin.host == "localhost" or is_loopback(origin.host):
        return None
    from urllib.request import getproxies_environment, proxy_bypass_environment  # type: ignore[attr-defined]

    proxies = getproxies_environment()
    text = proxies.get(origin.scheme) or proxies.get("all")
    if not text or proxy_bypass_environment(f"{origin.host}:{origin.port}", proxies):
        return None
    parts = urlsplit(text if "//" in text else f"http://{text}")
    if parts.scheme != "http" or not parts.hostname:
        raise RegistryError(
            f"the proxy {parts.scheme}://{parts.hostname} of the environment is not of a kind known here: http"
        )
    headers: tuple[tuple[str, str], ...] = ()
    if parts.username is not None:
        credentials = f"{unquote(parts.username)}:{unquote(parts.password or '')}".encode()
        headers = (("Proxy-Authorization", f"Basic {base64.b64encode(credentials).decode()}"),)
    return _Proxy(parts.hostname, parts.port or 80, headers)


def is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _dial_reason(error: Exception, origin: Origin) -> str:
    """Why there is no connection at all, in the words that people know from other engines; empty for other reasons."""
    if isinstance(error, socket.gaierror):
        why = "no such host" if error.errno == socket.EAI_NONAME else (error.strerror or str(error)).lower()
        return f"dial tcp: lookup {origin.host}: {why}"
    failed = re.search(r"(?:\[Errno (\d+)\] )?Connect call failed", str(error))
    if failed is None:
        return ""
    code = int(failed[1]) if failed[1] else getattr(error, "errno", None) or 0
    return f"dial tcp {origin.host}:{origin.port}: connect: {os.strerror(code).lower()}"


def _reason(error: Exception) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"tls: failed to verify certificate: {error.verify_message}"
    if isinstance(error, ssl.SSLError) and error.reason in (
        "WRONG_VERSION_NUMBER",
        "HTTP_REQUEST",
        "RECORD_LAYER_FAILURE",
    ):
        return "http: server gave HTTP response to HTTPS client"
    if isinstance(error, ssl.SSLError):
        return f"tls: {error.reason or error}"
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
