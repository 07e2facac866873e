"""The docker command's configuration, ``config.json``: where it is, and what it says."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import msgspec

from wherry.api.errors import CredentialsError
from wherry.client.address import docker_config

_LONGEST = 1 << 20


def configuration_file(env: Mapping[str, str]) -> str:
    """The path of the docker configuration, whether it is there or not."""
    return os.path.join(docker_config(env), "config.json")


def read_configuration(path: str) -> dict[str, Any] | None:
    """What the docker configuration at ``path`` says; None where there is none, or an empty one. Raises ``CredentialsError``."""
    try:
        with open(path, "rb") as file:
            data = file.read(_LONGEST)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise CredentialsError(f"cannot read {path}: {error.strerror}") from None
    return decoded(data, path) if data.strip() else None


def decoded(data: bytes, what: str) -> dict[str, Any]:
    """A JSON object. Raises ``CredentialsError``, which says ``what`` it was to be."""
    try:
        value = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise CredentialsError(f"cannot read {what}: {error}") from None
    if not isinstance(value, dict):
        raise CredentialsError(f"cannot read {what}: it is no JSON object")
    return value
