"""What goes wrong with registries, and which of it a client of the engine is told how."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from wherry.api.errors import ApiError, NotFound, ServerError, error_for_status
from wherry.engine.images.reference import Reference

_DENIED = "requested access to the resource is denied"


class RegistryError(Exception):
    """A registry refused, or answered what cannot be used. The text is for people.

    ``code`` is the registry's own word (``MANIFEST_UNKNOWN``), empty where it said none; ``status`` its HTTP status, 0
    where it gave no answer at all.
    """

    def __init__(self, message: str, *, code: str = "", status: int = 0) -> None:
        super().__init__(message)
        self.code = code
        self.status = status


class Unreachable(RegistryError):
    """No registry answers at the address; another one may."""


class Interrupted(RegistryError):
    """The connection broke, or ended early, or the registry stumbled: the same request may work now."""


class _Reported(msgspec.Struct):
    code: str = ""
    message: str = ""


class _Errors(msgspec.Struct):
    errors: list[_Reported] | None = None


def from_answer(
    status: int, reason: str, body: bytes, challenges: Sequence[tuple[str, dict[str, str]]]
) -> RegistryError:
    """The error that an answer of status 400 and above stands for, in the words of moby."""
    for scheme, parameters in challenges:
        if scheme == "bearer" and 400 <= status < 500:
            code = {"invalid_token": "UNAUTHORIZED", "insufficient_scope": "DENIED"}.get(parameters.get("error", ""))
            if code:
                default = _DENIED if code == "DENIED" else "authentication required"
                return _reported(code, parameters.get("error_description") or default, status)
    try:
        reported = (msgspec.json.decode(body, type=_Errors).errors or [])[:1]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        reported = []
    if reported and reported[0].code:
        return _reported(reported[0].code, reported[0].message, status)
    if status == 401:
        return _reported("UNAUTHORIZED", "authentication required", status)
    if status == 429:
        return _reported("TOOMANYREQUESTS", "too many requests", status)
    text = f"received unexpected HTTP status: {status} {reason}".strip()
    return Interrupted(text, status=status) if status >= 500 else RegistryError(text, status=status)


def _reported(code: str, message: str, status: int) -> RegistryError:
    code = _printable(code)
    words = code.lower().replace("_", " ")
    text = f"{words}: {_printable(message) or words}"
    return (
        Interrupted(text, code=code, status=status) if status >= 500 else RegistryError(text, code=code, status=status)
    )


def _printable(text: str) -> str:
    """A registry's words as part of a line of ours."""
    return "".join(char if char.isprintable() else " " for char in text[:1000]).strip()


def pull_error(error: RegistryError, name: Reference) -> ApiError:
    """What a failed pull is to the engine's client: 404 for what there is not, else 500, in moby's words."""
    if error.code == "DENIED":
        return NotFound(
            f"pull access denied for {name.familiar_name}, repository does not exist or may require 'docker login': {error}"
        )
    if error.code == "MANIFEST_UNKNOWN":
        return NotFound(f"manifest for {name} not found: {error}")
    if error.code == "NAME_UNKNOWN":
        return NotFound(f"repository {name.familiar_name} not found: {error}")
    return ServerError(str(error))


def registry_error(error: RegistryError) -> ApiError:
    """With the registry's own status, as DistributionInspect has it; 500 where it is none of the caller's doing."""
    status = error.status if error.status in (400, 401, 403, 404) else 500
    return error_for_status(status, str(error))
