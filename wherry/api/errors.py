"""The errors of both ends.

    WherryError
    ├── TransportError          the call did not get through
    │   ├── ConnectError        no engine answered at the address
    │   ├── Timeout             a deadline passed
    │   └── ProtocolError       the peer broke the protocol, or the connection ended early
    ├── ApiError                the engine answered with an error status
    │   ├── BadRequest      400
    │   ├── Unauthorized    401
    │   ├── Forbidden       403
    │   ├── NotFound        404
    │   ├── Conflict        409
    │   ├── ServerError     500
    │   ├── NotImplementedYet 501
    │   └── Unavailable     503
    ├── StreamError             an error inside a stream that began with a success status
    └── CredentialsError        the docker configuration or a credential helper gave no credentials, though it should

The engine raises the ``ApiError`` classes and its HTTP side writes them; the client reads them and raises the same classes.
"""

from __future__ import annotations

import os


class WherryError(Exception):
    """Every error of Wherry; its text says what happened and, where it can, what to do."""


class TransportError(WherryError):
    """The call did not get through to an engine, or its answer not back."""


class ConnectError(TransportError):
    """No engine answered at the address."""


class Timeout(TransportError):
    """A deadline of the caller passed."""


class ProtocolError(TransportError):
    """The peer broke the protocol, or the connection ended before the answer did."""


class StreamError(WherryError):
    """An error reported inside a stream that had begun with a success status.

    ``code``: the exit code of a build's step that failed, else 0.
    """

    def __init__(self, message: str, *, code: int = 0) -> None:
        super().__init__(message)
        self.code = code


class CredentialsError(WherryError):
    """Credentials for a registry cannot be had from where they are said to be."""


class ApiError(WherryError):
    """The engine answered with an error.

    ``status`` is the HTTP status, ``message`` the engine's text; ``method`` and ``path`` name the call
    (empty on the engine's side, where the error is raised before there is an answer).
    """

    default_status = 500

    def __init__(self, message: str, *, status: int | None = None, method: str = "", path: str = "") -> None:
        self.message = message
        self.status = self.default_status if status is None else status
        self.method = method
        self.path = path
        super().__init__(message)

    def __str__(self) -> str:
        if not self.method:
            return self.message
        return f"{self.message} ({self.method} {self.path}: {self.status})"


class BadRequest(ApiError):
    default_status = 400


class Unauthorized(ApiError):
    default_status = 401


class Forbidden(ApiError):
    default_status = 403


class NotFound(ApiError):
    default_status = 404


class Conflict(ApiError):
    default_status = 409


class ServerError(ApiError):
    default_status = 500


class NotImplementedYet(ApiError):
    default_status = 501


class Unavailable(ApiError):
    default_status = 503


_BY_STATUS: dict[int, type[ApiError]] = {
    cls.default_status: cls
    for cls in (BadRequest, Unauthorized, Forbidden, NotFound, Conflict, ServerError, NotImplementedYet, Unavailable)
}


def in_words(error: BaseException) -> str:
    """What went wrong, for a message: the system's errors as other programs write them, ``/a/path: permission denied``."""
    if not isinstance(error, OSError) or not error.strerror:
        return str(error) or type(error).__name__
    path = os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else ""
    text = error.strerror[:1].lower() + error.strerror[1:]
    return f"{path}: {text}" if path else text


def error_for_status(status: int, message: str, *, method: str = "", path: str = "") -> ApiError:
    """The error class for an HTTP status; the plain ``ApiError`` for a status without a class of its own."""
    return _BY_STATUS.get(status, ApiError)(message, status=status, method=method, path=path)
