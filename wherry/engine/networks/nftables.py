"""nftables through its own library, in this process: half a millisecond a change, where the command takes eight."""

from __future__ import annotations

import ctypes
import threading
from collections import deque
from typing import Any

import msgspec

from wherry.engine.memory import release_memory_soon

_LIBRARY = "libnftables.so.1"
_OUTPUT_HANDLE, _OUTPUT_JSON = 1 << 3, 1 << 4


class NftError(Exception):
    """The kernel or the library refused a change; the text is the library's."""


class Nft:
    """The library, in the network namespace of the thread that calls.

    Calls block and are taken one at a time; any thread may make them. A text of several commands is one transaction.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._threads: deque[int] = deque(maxlen=64)
        self._library: ctypes.CDLL | None = None
        self._context: int | None = None

    def run(self, commands: str) -> None:
        """Do all of the commands, or none. Raises ``NftError``."""
        self._run(commands, 0)

    def query(self, commands: str) -> list[dict[str, Any]]:
        """The objects that ``list`` commands give, in the library's JSON, handles included. Raises ``NftError``."""
        output = self._run(commands, _OUTPUT_JSON | _OUTPUT_HANDLE)
        if not output:
            return []
        try:
            found: list[dict[str, Any]] = msgspec.json.decode(output)["nftables"]
        except (msgspec.DecodeError, KeyError) as error:
            raise NftError(f"nftables gave no JSON: {error}") from None
        return [entry for entry in found if "metainfo" not in entry]

    def used_by(self, thread: int) -> bool:
        """Whether the thread of this system id was among the last to make a change here."""
        return thread in self._threads

    def close(self) -> None:
        with self._lock:
            self._forget()

    def _forget(self) -> None:
        """A context keeps every rule of the machine, tens of MiB of them on some; a new one costs 0.1 ms."""
        if self._library is not None and self._context is not None:
            self._library.nft_ctx_free(self._context)
            release_memory_soon()
        self._context = None

    def _run(self, commands: str, flags: int) -> bytes:
        with self._lock:
            library, context = self._open()
            self._threads.append(threading.get_native_id())
            library.nft_ctx_output_set_flags(context, flags)
            failed = library.nft_run_cmd_from_buffer(context, commands.encode())
            output: bytes = library.nft_ctx_get_output_buffer(context)
            errors: bytes = library.nft_ctx_get_error_buffer(context)
            self._forget()
            if failed:
                # the library repeats the command below its message, with marks: the first line says it all
                text = errors.decode(errors="replace").strip()
                raise NftError(text.splitlines()[0] if text else "nftables refused the change")
            return output

    def _open(self) -> tuple[ctypes.CDLL, int]:
        if self._library is None:
            self._library = _load()
        if self._context is None:
            self._context = self._library.nft_ctx_new(0)
            if not self._context:
                raise NftError("nftables could not be opened")
            self._library.nft_ctx_buffer_output(self._context)
            self._library.nft_ctx_buffer_error(self._context)
        return self._library, self._context


def _load() -> ctypes.CDLL:
    try:
        library = ctypes.CDLL(_LIBRARY)
    except OSError:
        raise NftError(f"{_LIBRARY} is missing: install the package nftables") from None
    pointer, text, number = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_uint
    for name, result, arguments in (
        ("nft_ctx_new", pointer, [number]),
        ("nft_ctx_free", None, [pointer]),
        ("nft_ctx_buffer_output", ctypes.c_int, [pointer]),
        ("nft_ctx_buffer_error", ctypes.c_int, [pointer]),
        ("nft_ctx_output_set_flags", None, [pointer, number]),
        ("nft_run_cmd_from_buffer", ctypes.c_int, [pointer, text]),
        ("nft_ctx_get_output_buffer", text, [pointer]),
        ("nft_ctx_get_error_buffer", text, [pointer]),
    ):
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library
