"""Detach keys: the input that ends an attach to a terminal and leaves the container alone (ATT7)."""

from __future__ import annotations

DEFAULT_DETACH = b"\x10\x11"
"""ctrl-p, ctrl-q"""

_NAMED = {f"ctrl-{key}": code for code, key in enumerate("@abcdefghijklmnopqrstuvwxyz[\\]^_")} | {"DEL": 127}


def parse_detach_keys(text: str) -> bytes:
    """``ctrl-x,y``, ``DEL``, ``a``: the bytes that the keys send; the default for "".

    Raises ``ValueError`` with moby's text.
    """
    if not text:
        return DEFAULT_DETACH
    codes = bytearray()
    for key in text.split(","):
        if key in _NAMED:
            codes.append(_NAMED[key])
        elif len(key) == 1 and key.isascii():
            codes += key.encode()
        else:
            raise ValueError(f"Invalid detach keys ({text}) provided")
    return bytes(codes)


class DetachScanner:
    """Watches input for the detach keys, however it is split. Bytes that may begin the sequence are held back."""

    def __init__(self, keys: bytes = DEFAULT_DETACH) -> None:
        self._keys = keys
        self._held = b""

    def feed(self, data: bytes) -> tuple[bytes, bool]:
        """(bytes to pass on, whether to detach); what follows the keys is dropped."""
        keys = self._keys
        if not keys:
            return data, False
        data = self._held + data
        at = data.find(keys)
        if at >= 0:
            self._held = b""
            return data[:at], True
        for size in range(min(len(keys) - 1, len(data)), 0, -1):
            if data.endswith(keys[:size]):
                self._held = data[-size:]
                return data[:-size], False
        self._held = b""
        return data, False

    def flush(self) -> bytes:
        """The input has ended: the bytes held back."""
        held, self._held = self._held, b""
        return held
