"""Names of images, and credentials for where they are."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from wherry.api.models.images import AuthConfig, ProgressMessage

_BUILT = re.compile(r"Successfully built (\S+)|(sha256:[0-9a-f]{64})\s*$")
_LOADED = re.compile(r"Loaded image(?: ID)?: (\S+)")


def auth_header(auth: AuthConfig | None) -> str:
    """Credentials as ``X-Registry-Auth`` has them; none is an empty object, which engines want to see."""
    text = b"{}" if auth is None else msgspec.json.encode(auth)
    return base64.urlsafe_b64encode(text).decode()


def registry_of(name: str) -> str:
    """Which registry a name is of.

    >>> registry_of("localhost:5000/tools"), registry_of("library/busybox:1.36")
    ('localhost:5000', 'docker.io')
    """
    first, slash, _ = name.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost" or first != first.lower()):
        return first
    return "docker.io"


def config_header(auth: Mapping[str, AuthConfig] | None) -> str:
    """Credentials by registry as ``X-Registry-Config`` has them."""
    return base64.urlsafe_b64encode(msgspec.json.encode(dict(auth or {}))).decode()


def built_image(messages: Iterable[ProgressMessage]) -> str:
    """The id of the image that a build's messages end with.

    >>> built_image([ProgressMessage(stream="Successfully built 0123456789ab\\n")])
    '0123456789ab'
    """
    found = ""
    for message in messages:
        if isinstance(message.aux, dict) and message.aux.get("ID"):
            found = str(message.aux["ID"])
        elif isinstance(message.stream, str) and not found.startswith("sha256:"):
            match = _BUILT.match(message.stream)
            found = (match[1] or match[2]) if match else found
    return found


def split_reference(name: str) -> tuple[str, str]:
    """A reference as the API's fromImage and tag; without either a tag or a digest the tag is ``latest``.

    Raises ``ValueError`` where nothing is named: an engine would import an image.

    >>> split_reference("localhost:5000/tools")
    ('localhost:5000/tools', 'latest')
    """
    if name.startswith(("@", ":")) or not name:
        raise ValueError(f"{name!r} names no image" if name else "image name cannot be empty")
    if "@" in name:
        repository, _, digest = name.partition("@")
        return repository, digest
    repository, colon, tag = name.rpartition(":")
    if not colon or "/" in tag:
        return name, "latest"
    return repository, tag


def loaded_names(lines: Iterable[Any]) -> list[str]:
    """The images that a load's messages name.

    >>> loaded_names(["Loaded image: busybox:latest\\n"])
    ['busybox:latest']
    """
    found = (_LOADED.match(line) for line in lines if isinstance(line, str))
    return [match[1] for match in found if match]
