"""Names of images: ``busybox`` is ``docker.io/library/busybox:latest``, and shown as ``busybox:latest``.

The grammar and the words of refusal are those of the distribution project's references, which moby uses.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from wherry.api.errors import BadRequest

_DOMAIN_PART = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_DOMAIN = re.compile(rf"(?:{_DOMAIN_PART}(?:\.{_DOMAIN_PART})*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?")
_PATH_PART = re.compile(r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*")
_TAG = re.compile(r"[A-Za-z0-9_][\w.-]{0,127}", re.ASCII)
_DIGEST = re.compile(r"sha256:[a-f0-9]{64}|sha384:[a-f0-9]{96}|sha512:[a-f0-9]{128}")
_IDENTIFIER = re.compile(r"[a-f0-9]{64}")

_HUB = "docker.io"
_LONGEST_NAME = 255


class InvalidReference(BadRequest):
    """The text is no reference of an image."""


@dataclass(frozen=True, slots=True, order=True)
class Reference:
    """``name`` is whole (``docker.io/library/busybox``); ``tag`` and ``digest`` (``sha256:…``) are empty if absent."""

    name: str
    tag: str = ""
    digest: str = ""

    @property
    def familiar_name(self) -> str:
        """The name without what everybody leaves out: ``busybox``."""
        if self.name.startswith(f"{_HUB}/"):
            return self.name.removeprefix(f"{_HUB}/").removeprefix("library/")
        return self.name

    def __str__(self) -> str:
        """As people see it: ``busybox:latest``, ``busybox@sha256:…``."""
        return self.familiar_name + self._suffix()

    @property
    def key(self) -> str:
        """Whole, as it is stored."""
        return self.name + self._suffix()

    def _suffix(self) -> str:
        return (f":{self.tag}" if self.tag else "") + (f"@{self.digest}" if self.digest else "")

    def tagged(self) -> Reference:
        """With the tag ``latest`` where there is neither tag nor digest."""
        return self if self.tag or self.digest else replace(self, tag="latest")

    def with_tag(self, tag: str) -> Reference:
        """Raises ``InvalidReference`` for a tag that may not be."""
        if not _TAG.fullmatch(tag):
            raise InvalidReference("invalid tag format")
        return replace(self, tag=tag)


def parse(text: str) -> Reference:
    """Read ``[domain/]path[:tag][@digest]``. Raises ``InvalidReference`` with moby's words."""
    if _IDENTIFIER.fullmatch(text):
        raise InvalidReference(
            f"invalid repository name ({text}), cannot specify 64-byte hexadecimal strings",
        )
    rest, at, digest = text.partition("@")
    if at and not _DIGEST.fullmatch(digest):
        raise InvalidReference("invalid reference format")
    first, slash, others = rest.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost" or first != first.lower()):
        domain, path = first, others
    else:
        domain, path = _HUB, rest
    if domain == "index.docker.io":
        domain = _HUB
    path, colon, tag = path.partition(":")
    if path != path.lower():
        raise InvalidReference("invalid reference format: repository name must be lowercase")
    if domain == _HUB and "/" not in path:
        path = f"library/{path}"
    if (
        not _DOMAIN.fullmatch(domain)
        or not all(_PATH_PART.fullmatch(part) for part in path.split("/"))
        or (colon and not _TAG.fullmatch(tag))
    ):
        raise InvalidReference("invalid reference format")
    if len(domain) + 1 + len(path) > _LONGEST_NAME:
        raise InvalidReference(f"repository name must not be more than {_LONGEST_NAME} characters")
    return Reference(f"{domain}/{path}", tag, digest)


def parse_key(key: str) -> Reference:
    """The reference of a stored ``Reference.key``."""
    rest, _, digest = key.partition("@")
    head, slash, tail = rest.rpartition("/")
    path, _, tag = tail.partition(":")
    return Reference(head + slash + path, tag, digest)


def image_id(text: str) -> str | None:
    """``sha256:<64 hex>`` for a whole image id, with or without the algorithm; None for anything else."""
    digits = text.removeprefix("sha256:")
    return f"sha256:{digits}" if _IDENTIFIER.fullmatch(digits) else None


def short_id(image: str) -> str:
    """The twelve digits that people see."""
    return image.removeprefix("sha256:")[:12]


def matches(pattern: str, reference: Reference) -> bool:
    """Whether a shell pattern fits ``busybox:latest`` or ``busybox``; ``*`` does not cross a ``/``."""
    from fnmatch import fnmatchcase

    parts = pattern.replace("[^", "[!").split("/")
    for text in (str(reference), reference.familiar_name):
        pieces = text.split("/")
        if len(pieces) == len(parts) and all(map(fnmatchcase, pieces, parts)):
            return True
    return False
