"""Whether an image fits the platform that was asked for, or this machine (CRE3)."""

from __future__ import annotations

from functools import lru_cache

from wherry.api.errors import NotFound
from wherry.engine.images import platform
from wherry.engine.images.platform import Platform, parse_platform
from wherry.engine.images.store import Image

_DEFAULT_VARIANT = {"amd64": "v1", "arm": "v7", "arm64": "v8"}
_RUNS_TOO = {"amd64": "386", "arm64": "arm"}  # what a processor takes besides its own
# the levels of x86-64, by the flags that each adds
_LEVELS = (
    ("v2", {"cx16", "lahf_lm", "popcnt", "pni", "sse4_1", "sse4_2", "ssse3"}),
    ("v3", {"avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "abm", "movbe", "xsave"}),
    ("v4", {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"}),
)


def architecture() -> str:
    """This machine's architecture in the API's words."""
    return platform.host_platform().architecture


@lru_cache(maxsize=1)
def detected() -> Platform:
    """This machine, with the highest variant of its architecture: ``linux/amd64/v3``."""
    host = platform.host_platform()
    if host.architecture != "amd64":
        return host._replace(variant=host.variant or _DEFAULT_VARIANT.get(host.architecture, ""))
    flags: set[str] = set()
    try:
        with open("/proc/cpuinfo", encoding="ascii", errors="replace") as file:
            flags = set(next((line for line in file if line.startswith("flags")), "").split())
    except OSError:
        pass
    variant = ""
    for level, needed in _LEVELS:
        if not needed <= flags:
            break
        variant = level
    return host._replace(variant=variant)


def check_platform(image: Image, reference: str, wanted: str | None) -> list[str]:
    """Warnings; an image that does not match a ``wanted`` ``os[/arch[/variant]]`` is ``NotFound``.

    Raises ``BadRequest`` for a text that names no platform.
    """
    actual = Platform(image.file.os or "linux", image.file.architecture, image.file.variant)
    if wanted:
        asked = parse_platform(wanted)
        if not fits(actual, asked):
            raise NotFound(
                f"image with reference {reference} was found but does not match the specified platform: "
                f"wanted {asked}, actual: {actual}"
            )
        return []
    if actual.architecture and not fits(actual, detected()):
        return [
            f"The requested image's platform ({actual}) does not match the detected host platform ({detected()}) "
            "and no specific platform was requested"
        ]
    return []


def fits(image: Platform, wanted: Platform) -> bool:
    """Whether what asks for ``wanted`` can use the image: its own architecture in no higher variant."""
    if image.os != wanted.os:
        return False
    if image.architecture != wanted.architecture:
        return image.architecture == _RUNS_TOO.get(wanted.architecture)
    highest = wanted.variant or _DEFAULT_VARIANT.get(wanted.architecture, "")
    return not image.variant or image.variant.removeprefix("v") <= highest.removeprefix("v")
