"""Credentials for registries: what clients send with a call, and the tokens that registries want instead of them."""

from __future__ import annotations

import base64
import binascii
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

import msgspec

from wherry.api.models.images import AuthConfig
from wherry.engine.images.registry.errors import RegistryError, from_answer
from wherry.engine.images.registry.transport import Origin, Transport, origin_of

_LARGEST_TOKEN = 1 << 20
_SHORTEST_LIFE = 60
_LEEWAY = 10
CLIENT_ID = "docker"

_PARAMETER = re.compile(r'([A-Za-z0-9_-]+)[ \t]*=[ \t]*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]*))')
_TOKEN = re.compile(r"[A-Za-z0-9_-]+")
_BETWEEN = re.compile(r"[\s,]*")

Challenge = tuple[str, dict[str, str]]
"""A scheme, lower-cased, and its parameters."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """``identity_token`` is a refresh token, ``registry_token`` goes to the registry as it is."""

    username: str = ""
    password: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)
    registry_token: str = field(default="", repr=False)

    def __bool__(self) -> bool:
        return bool(self.username or self.password or self.identity_token or self.registry_token)

    @property
    def basic(self) -> str:
        return f"Basic {base64.b64encode(f'{self.username}:{self.password}'.encode()).decode()}"


NOBODY = Credentials()


def read_header(text: str) -> Credentials:
    """The ``X-Registry-Auth`` field of a call. One that cannot be read counts as none, as in moby."""
    return _from_mapping(_decoded(text))


def read_config_header(text: str) -> dict[str, Credentials]:
    """The ``X-Registry-Config`` field of a build: credentials by registry. One that cannot be read counts as none."""
    return {name: _from_mapping(values) for name, values in _decoded(text).items() if isinstance(values, dict)}


def _decoded(text: str) -> dict[str, Any]:
    try:
        data = base64.b64decode(text.replace("-", "+").replace("_", "/") + "=" * (-len(text) % 4), validate=True)
        values = msgspec.json.decode(data)
    except (binascii.Error, ValueError, msgspec.DecodeError, RecursionError):
        return {}
    return values if isinstance(values, dict) else {}


def from_model(config: AuthConfig) -> Credentials:
    """The credentials in a body of SystemAuth."""
    return _from_mapping(msgspec.to_builtins(config))


def _from_mapping(values: Mapping[str, Any]) -> Credentials:
    def text(key: str) -> str:
        value = values.get(key)
        return value if isinstance(value, str) else ""

    username, password = text("username"), text("password")
    if not username and text("auth"):
        try:
            username, _, password = base64.b64decode(text("auth"), validate=True).decode().partition(":")
        except ValueError:
            username = password = ""
    return Credentials(username, password.rstrip("\0"), text("identitytoken"), text("registrytoken"))


def read_challenges(text: str) -> list[Challenge]:
    """What a ``WWW-Authenticate`` field asks for.

    >>> read_challenges('Bearer realm="https://a/token",service="b", Basic realm=c')
    [('bearer', {'realm': 'https://a/token', 'service': 'b'}), ('basic', {'realm': 'c'})]
    """
    challenges: list[Challenge] = []
    position = _end(_BETWEEN, text, 0)
    while position < len(text):
        parameter = _PARAMETER.match(text, position)
        if parameter is not None and challenges:
            name, quoted, plain = parameter.groups()
            value = plain if quoted is None else re.sub(r"\\(.)", r"\1", quoted)
            challenges[-1][1].setdefault(name.lower(), value)
            position = parameter.end()
        elif scheme := _TOKEN.match(text, position):
            challenges.append((scheme[0].lower(), {}))
            position = scheme.end()
        else:
            break
        position = _end(_BETWEEN, text, position)
    return challenges


def _end(pattern: re.Pattern[str], text: str, position: int) -> int:
    match = pattern.match(text, position)
    return match.end() if match else position


class _Token(msgspec.Struct):
    token: str | None = None
    access_token: str | None = None
    refresh_token: str | None = None
    expires_in: float | None = None


class Authorizer:
    """Answers the challenges of one registry, in one piece of work. Tokens live in memory, and no longer than it."""

    def __init__(self, transport: Transport, origin: Origin, credentials: Credentials) -> None:
        self._transport = transport
        self._origin = origin
        self._credentials = credentials
        self._tokens: dict[tuple[str, ...], tuple[str, float]] = {}
        self.challenges: list[Challenge] = []
        self.identity_token = ""

    def challenged(self, challenges: Sequence[Challenge]) -> None:
        """The registry asked, or asked again: earlier tokens are worth nothing."""
        self.challenges = list(challenges)
        self._tokens.clear()

    async def field(self, scopes: Sequence[str]) -> list[tuple[str, str]]:
        """The ``Authorization`` field for a request, or none. Raises ``RegistryError`` when there are no credentials."""
        if self._credentials.registry_token:
            return [("Authorization", f"Bearer {self._credentials.registry_token}")]
        for scheme, parameters in self.challenges:
            if scheme == "bearer":
                return [("Authorization", f"Bearer {await self._token(parameters, tuple(scopes))}")]
            if scheme == "basic":
                if not self._credentials.username:
                    raise RegistryError("no basic auth credentials", code="UNAUTHORIZED", status=401)
                return [("Authorization", self._credentials.basic)]
        return []

    async def _token(self, parameters: Mapping[str, str], scopes: tuple[str, ...]) -> str:
        known = self._tokens.get(scopes)
        if known is not None and known[1] > time.monotonic():
            return known[0]
        realm = parameters.get("realm", "")
        try:
            where = origin_of(realm)
        except RegistryError:
            raise RegistryError("the registry names no server for tokens that could be asked") from None
        if self._origin.scheme == "https" and where.scheme != "https":
            raise RegistryError(f"the registry wants tokens to be asked for without TLS, at {where}: refused")
        service = parameters.get("service", "")
        answered = await self._ask(realm, service, scopes)
        token = answered.token or answered.access_token
        if not token:
            raise RegistryError("authorization server did not include a token in the response")
        if answered.refresh_token:
            self.identity_token = answered.refresh_token
        life = max(answered.expires_in or 0, _SHORTEST_LIFE)
        self._tokens[scopes] = (token, time.monotonic() + life - _LEEWAY)
        return token

    async def _ask(self, realm: str, service: str, scopes: tuple[str, ...]) -> _Token:
        own = self._credentials
        headers: list[tuple[str, str]] = [("Accept", "application/json")]
        if own.identity_token:
            form = {
                "grant_type": "refresh_token",
                "service": service,
                "client_id": CLIENT_ID,
                "scope": " ".join(scopes),
                "refresh_token": own.identity_token,
            }
            headers.append(("Content-Type", "application/x-www-form-urlencoded"))
            answer = await self._transport.request("POST", realm, headers, urlencode(form).encode())
        else:
            query = [("service", service)] if service else []
            query += [("scope", scope) for scope in scopes]
            if own.username:
                query += [("account", own.username), ("client_id", CLIENT_ID), ("offline_token", "true")]
                headers.append(("Authorization", own.basic))
            url = f"{realm}{'&' if '?' in realm else '?'}{urlencode(query)}" if query else realm
            answer = await self._transport.request("GET", url, headers)
        body = await answer.read(_LARGEST_TOKEN, "the answer of the server for tokens")
        if answer.status != 200:
            raise from_answer(answer.status, answer.reason, body, ())
        try:
            return msgspec.json.decode(body, type=_Token)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise RegistryError("unable to decode token response") from None
