"""Whether an image fits the platform that was asked for, or this machine (CRE3)."""

from __future__ import annotations

import platform
import re
from functools import lru_cache

from wherry.api.errors import BadRequest, NotFound
from wherry.engine.images.store import Image

ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "i686": "386"}
_WORD = re.compile(r"[A-Za-z0-9_.-]+")
_ALIASES = {"x86_64": "amd64", "x86-64": "amd64", "aarch64": "arm64", "armhf": "arm", "armel": "arm", "i386": "386"}
_SYSTEMS = frozenset("linux windows darwin freebsd netbsd openbsd solaris aix android dragonfly illumos".split())
_KNOWN = frozenset("386 amd64 arm arm64 loong64 mips mipsle mips64 mips64le ppc64 ppc64le riscv64 s390x wasm".split())
_DEFAULT_VARIANT = {"amd64": "v1", "arm": "v7", "arm64": "v8"}
_RUNS_TOO = {"amd64": "386", "arm64": "arm"}  # what a processor takes besides its own
# the levels of x86-64, by the flags that each adds
_LEVELS = (
    ("v2", {"cx16", "lahf_lm", "popcnt", "pni", "sse4_1", "sse4_2", "ssse3"}),
    ("v3", {"avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "abm", "movbe", "xsave"}),
    ("v4", {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"}),
)

Platform = tuple[str, str, str]


def architecture() -> str:
    """This machine's architecture in the API's words."""
    return ARCHITECTURES.get(platform.machine(), platform.machine())


@lru_cache(maxsize=1)
def host_platform() -> Platform:
    """This machine, with the highest variant of its architecture: ``linux/amd64/v3``."""
    arch = architecture()
    if arch != "amd64":
        return "linux", arch, _DEFAULT_VARIANT.get(arch, "")
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
    return "linux", arch, variant


def check_platform(image: Image, reference: str, wanted: str | None) -> list[str]:
    """Warnings; an image that does not match a ``wanted`` ``os[/arch[/variant]]`` is ``NotFound``.

    Raises ``BadRequest`` for a text that names no platform.
    """
    actual = (image.file.os or "linux", image.file.architecture, image.file.variant)
    if wanted:
        asked = parse(wanted)
        if not fits(actual, asked):
            raise NotFound(
                f"image with reference {reference} was found but does not match the specified platform: "
                f"wanted {shown(asked)}, actual: {shown(actual)}"
            )
        return []
    if actual[1] and not fits(actual, host_platform()):
        return [
            f"The requested image's platform ({shown(actual)}) does not match the detected host platform "
            f"({shown(host_platform())}) and no specific platform was requested"
        ]
    return []


def fits(image: Platform, wanted: Platform) -> bool:
    """Whether what asks for ``wanted`` can use the image: its own architecture in no higher variant."""
    if image[0] != wanted[0]:
        return False
    if image[1] != wanted[1]:
        return image[1] == _RUNS_TOO.get(wanted[1])
    return not image[2] or image[2] <= (wanted[2] or _DEFAULT_VARIANT.get(wanted[1], ""))


def shown(given: Platform) -> str:
    return "/".join(filter(None, given))


def parse(text: str) -> Platform:
    """Raises ``BadRequest``."""
    words = text.lower().split("/")
    for word in words:
        if not _WORD.fullmatch(word):
            raise BadRequest(
                f'"{word}" is an invalid component of "{text}": platform specifier component must match '
                '"^[A-Za-z0-9_-]+$": invalid argument'
            )
    if len(words) > 3:
        raise BadRequest(f'"{text}": cannot parse platform specifier: invalid argument')
    arch = _ALIASES.get(words[0], words[0])
    if len(words) == 1:
        if arch in _KNOWN:
            return "linux", arch, ""
        if arch in _SYSTEMS:
            return arch, architecture(), ""
        raise BadRequest(f'"{text}": unknown operating system or architecture: invalid argument')
    variant = words[2] if len(words) == 3 else ""
    return words[0], _ALIASES.get(words[1], words[1]), variant.removeprefix("v") and f"v{variant.removeprefix('v')}"
