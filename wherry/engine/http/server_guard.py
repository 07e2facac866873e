"""Keeps web pages away from an engine that listens on TCP.

A page in a browser on the same machine can send requests to a loopback port: directly, with its own Origin, or under a
name of its own that it lets resolve to 127.0.0.1, with that name as the Host. Unix sockets are out of its reach.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterable

from wherry.wire.http1 import Request


class Guard:
    """``names``: host names the engine may be called by, besides addresses, localhost and the machine's own."""

    def __init__(self, names: Iterable[str] = ()) -> None:
        self._names = {"localhost", "localhost.localdomain", "host.docker.internal", socket.gethostname().lower()}
        self._names.update(name.lower() for name in names)

    def refusal(self, request: Request, *, secure: bool) -> str | None:
        """Why the request is refused; None where it is not. With TLS a name is the certificate's business."""
        host = request.headers.get("host").lower()
        if not secure and not self._known(host):
            return f"the engine is not called {_shown(host)}: use an address or localhost in the URL"
        origin = request.headers.get("origin").lower()
        if origin and origin.partition("://")[2] != host:
            return f"requests from the web page at {_shown(origin)} are refused"
        return None

    def _known(self, host: str) -> bool:
        name = host[1:].partition("]")[0] if host.startswith("[") else host.rpartition(":")[0] or host
        if not name or name in self._names:
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True


def _shown(text: str) -> str:
    return repr(text[:100])
