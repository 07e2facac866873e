"""Whether an image fits the platform that was asked for, or this machine (CRE3)."""

from __future__ import annotations

import platform
import re

from wherry.api.errors import BadRequest, NotFound
from wherry.engine.images.store import Image

ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "i686": "386"}
_WORD = re.compile(r"[A-Za-z0-9_.-]+")
_ALIASES = {"x86_64": "amd64", "x86-64": "amd64", "aarch64": "arm64", "armhf": "arm", "i386": "386"}


def architecture() -> str:
    """This machine's architecture in the API's words."""
    return ARCHITECTURES.get(platform.machine(), platform.machine())


def check_platform(image: Image, reference: str, wanted: str | None) -> list[str]:
    """Warnings; an image that does not match a ``wanted`` ``os[/arch[/variant]]`` is ``NotFound``.

    Raises ``BadRequest`` for a text that names no platform.
    """
    actual = "/".join(filter(None, (image.file.os or "linux", image.file.architecture, image.file.variant)))
    if wanted:
        os_name, arch, variant = _parse(wanted)
        parts = actual.split("/")
        given = [os_name, *filter(None, (arch, variant))]
        if parts[: len(given)] != given:
            text = "/".join(given)
            raise NotFound(
                f"image with reference {reference} was found but does not match the specified platform: "
                f"wanted {text}, actual: {actual}"
            )
        return []
    if image.file.architecture and image.file.architecture != architecture():
        return [
            f"The requested image's platform ({actual}) does not match the detected host platform "
            f"(linux/{architecture()}) and no specific platform was requested"
        ]
    return []


def _parse(text: str) -> tuple[str, str, str]:
    words = text.lower().split("/")
    if len(words) > 3 or not all(_WORD.fullmatch(word) for word in words):
        raise BadRequest(f'"{text}": invalid platform: it is written os[/arch[/variant]]')
    if len(words) == 1 and words[0] not in ("linux", "windows", "darwin", "freebsd"):
        words = ["linux", words[0]]
    words += [""] * (3 - len(words))
    return words[0], _ALIASES.get(words[1], words[1]), words[2]
