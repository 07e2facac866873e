"""Signals by name and number, as the API writes them (KIL2, CRE9)."""

from __future__ import annotations

import re
import signal

RTMIN, RTMAX = 34, 64  # the C library keeps 32 and 33 for itself

_NAMES: dict[str, int] = {
    member.name.removeprefix("SIG"): int(member)
    for member in signal.Signals
    if member.name not in ("SIGRTMIN", "SIGRTMAX")
}
_NAMES |= {"CLD": 17, "IOT": 6, "POLL": 29, "STKFLT": 16, "RTMIN": RTMIN, "RTMAX": RTMAX}
_NAMES |= {f"RTMIN+{n}": RTMIN + n for n in range(1, 16)}
_NAMES |= {f"RTMAX-{n}": RTMAX - n for n in range(1, 15)}
_VALUES = frozenset(_NAMES.values())
_NUMBER = re.compile(r"[+-]?[0-9]{1,9}", re.ASCII)


class InvalidSignal(ValueError):
    """The text names no signal of this machine; the message is moby's."""


def parse_signal(text: str) -> int:
    """The number of a signal given as a number, or as a name in any case, with or without ``SIG``.

    Raises ``InvalidSignal`` for unknown names, for 0 and for numbers out of range.
    """
    if _NUMBER.fullmatch(text):
        number = int(text)
        if number == 0:
            raise InvalidSignal(f"invalid signal: {text}")
        if number not in _VALUES:
            raise InvalidSignal(f"the linux daemon does not support signal {number}")
        return number
    known = _NAMES.get(text.upper().removeprefix("SIG"))
    if known is None:
        raise InvalidSignal(f"invalid signal: {text}")
    return known


def signal_name(number: int) -> str:
    """``SIGTERM`` for 15; ``SIGRTMIN+3`` for 37; the bare number where it has no name."""
    if RTMIN < number < RTMAX:
        return f"SIGRTMIN+{number - RTMIN}"
    try:
        return signal.Signals(number).name
    except ValueError:
        return str(number)
