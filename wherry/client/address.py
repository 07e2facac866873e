"""Where the engine is: addresses, and the search for one when none was given.

The order is the argument, ``DOCKER_HOST``, the docker context (``DOCKER_CONTEXT``, then the current one of the docker
configuration), then the well-known sockets, Wherry's own first. An engine is never started silently.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping

import msgspec

from wherry.api.errors import ConnectError

WHERRY_SOCKET = "/run/wherry/wherry.sock"
DOCKER_SOCKET = "/var/run/docker.sock"
PODMAN_SOCKET = "/run/podman/podman.sock"

_DEFAULT_PORTS = {"tcp": 2375, "tls": 2376, "ssh": None}


class TlsFiles(msgspec.Struct, frozen=True, kw_only=True):
    """The files of a TLS connection, each a path or None.

    ``ca`` verifies the engine (None: the system's authorities); ``cert`` and ``key`` prove the client.
    With ``verify`` False the engine's certificate is not checked.
    """

    ca: str | None = None
    cert: str | None = None
    key: str | None = None
    verify: bool = True
    server_name: str | None = None


class Address(msgspec.Struct, frozen=True, kw_only=True):
    """An engine's address, taken apart.

    ``kind`` is ``unix`` (``path``), ``tcp`` (``host``, ``port``, ``tls``), ``ssh`` (``host``, ``port``, ``user``,
    ``path`` of a socket there) or ``embedded`` (``path``: the engine's data root, or empty). ``url`` is the text.
    """

    kind: str
    url: str
    path: str = ""
    host: str = ""
    port: int | None = None
    user: str = ""
    tls: TlsFiles | None = None
    source: str = ""  # who named it, for error texts

    def __str__(self) -> str:
        return f"{self.url} (from {self.source})" if self.source else self.url


def parse_address(url: str, *, tls: TlsFiles | None = None, source: str = "") -> Address:
    """Take an address apart.

    Accepts ``unix:///path``, a bare absolute path, ``tcp://host[:port]``, ``http://…``, ``https://…``,
    ``ssh://[user@]host[:port][/socket]`` and ``embedded:[data root]``. Raises ``ConnectError`` for anything else.

        >>> parse_address("tcp://[::1]:2375").host
        '::1'
    """
    where = f" (from {source})" if source else ""
    if url.startswith("embedded:"):
        from urllib.parse import unquote

        return Address(kind="embedded", url=url, path=unquote(url[len("embedded:") :]), source=source)
    if url.startswith("/"):
        url = "unix://" + url
    scheme, separator, rest = url.partition("://")
    if not separator:
        raise ConnectError(f"{url!r} is no address of an engine{where}: it needs unix://, tcp:// or ssh:// before it")
    if scheme == "unix":
        if not rest.startswith("/"):
            raise ConnectError(f"{url!r} is no address of an engine{where}: a unix socket's path must be absolute")
        return Address(kind="unix", url=url, path=rest, source=source)
    from urllib.parse import urlsplit

    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError as error:
        raise ConnectError(f"{url!r} is no address of an engine{where}: {error}") from None
    if scheme in ("tcp", "http", "https"):
        if scheme == "https" and tls is None:
            tls = TlsFiles()
        if port is None:
            port = 2375 if tls is None else 2376
        if parts.path not in ("", "/"):
            raise ConnectError(f"{url!r} is no address of an engine{where}: a path after the port is not supported")
        return Address(kind="tcp", url=url, host=host or "localhost", port=port, tls=tls, source=source)
    if scheme == "ssh":
        if not host or host.startswith("-") or (parts.username or "").startswith("-"):
            raise ConnectError(f"{url!r} is no address of an engine{where}: ssh needs a host name")
        if parts.password is not None:
            raise ConnectError(f"an ssh address must not hold a password{where}: use a key or an agent")
        return Address(
            kind="ssh", url=url, host=host, port=port, user=parts.username or "", path=parts.path, source=source
        )
    raise ConnectError(f"{url!r} is no address of an engine{where}: {scheme}:// is not known here")


def find_address(
    url: str | None = None, *, tls: TlsFiles | None = None, environ: Mapping[str, str] | None = None
) -> Address:
    """The address to use: the given one, or the first that the surroundings name.

    Raises ``ConnectError`` when nothing names an engine and no well-known socket exists.
    """
    env = os.environ if environ is None else environ
    if url is not None:
        return parse_address(url, tls=tls or _tls_from_environment(env, url))
    if host := env.get("DOCKER_HOST"):
        return parse_address(host, tls=tls or _tls_from_environment(env, host), source="DOCKER_HOST")

    from wherry.client.contexts import context_address

    if (address := context_address(env)) is not None:
        return address
    tried = _well_known(env)
    for path in tried:
        if _is_socket(path):
            return Address(kind="unix", url=f"unix://{path}", path=path)
    raise ConnectError(
        "no engine found: DOCKER_HOST and the docker context name none, and there is no socket at "
        + ", ".join(tried)
        + '. Start one with `wherry serve`, or run one inside this process with connect("embedded:")'
    )


def _tls_from_environment(env: Mapping[str, str], url: str) -> TlsFiles | None:
    """As the docker CLI: DOCKER_TLS_VERIFY (any text) or DOCKER_TLS asks for TLS, DOCKER_CERT_PATH has the files."""
    if not url.startswith(("tcp://", "https://")):
        return None
    verify = bool(env.get("DOCKER_TLS_VERIFY"))
    directory = env.get("DOCKER_CERT_PATH")
    if not (verify or env.get("DOCKER_TLS") or (url.startswith("https://") and directory)):
        return None
    return tls_files(directory or os.path.join(docker_config(env), ""), verify=verify or url.startswith("https://"))


def tls_files(directory: str, *, verify: bool = True) -> TlsFiles:
    """The files ``ca.pem``, ``cert.pem`` and ``key.pem`` of a directory, as far as they exist."""

    def there(name: str) -> str | None:
        path = os.path.join(directory, name)
        return path if os.path.exists(path) else None

    return TlsFiles(ca=there("ca.pem"), cert=there("cert.pem"), key=there("key.pem"), verify=verify)


def docker_config(env: Mapping[str, str]) -> str:
    """The docker configuration's directory."""
    return env.get("DOCKER_CONFIG") or os.path.join(env.get("HOME") or os.path.expanduser("~"), ".docker")


def _well_known(env: Mapping[str, str]) -> list[str]:
    paths = [WHERRY_SOCKET]
    runtime = env.get("XDG_RUNTIME_DIR")
    if runtime:
        paths.append(f"{runtime}/wherry/wherry.sock")
    paths.append(DOCKER_SOCKET)
    if runtime:
        paths.append(f"{runtime}/docker.sock")
    paths.append(PODMAN_SOCKET)
    if runtime:
        paths.append(f"{runtime}/podman/podman.sock")
    return paths


def _is_socket(path: str) -> bool:
    try:
        return stat.S_ISSOCK(os.stat(path).st_mode)
    except OSError:
        return False
