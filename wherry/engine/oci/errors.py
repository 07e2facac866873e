"""The runtime's failures, in moby's words (STA3).

The docker command line matches these texts, case-sensitively, to find its own exit code.
"""

from __future__ import annotations

import json
import re
from contextlib import suppress

CREATE_PREFIX = (
    "failed to create task for container: failed to create shim task: OCI runtime create failed: "
    "runc create failed: unable to start container process: "
)
EXEC_PREFIX = "OCI runtime exec failed: exec failed: unable to start container process: "
NOT_FOUND, NOT_EXECUTABLE, OTHER = 127, 126, 128


class RuntimeFailure(Exception):
    """The runtime could not do it. ``message`` is moby's text, ``exit_code`` the container's: 127 for a command that
    is not there, 126 for one that cannot be executed, 128 for anything else.

    ``bad_request`` tells the API status: 400 for a command's fault, 500 else.
    """

    def __init__(self, message: str, exit_code: int = OTHER) -> None:
        super().__init__(message)
        self.message = message
        self.exit_code = exit_code

    @property
    def bad_request(self) -> bool:
        return self.exit_code in (NOT_FOUND, NOT_EXECUTABLE)


_QUOTE = "[`'\"\u2018]([^`'\"\u2019]*)[`'\"\u2019]"
# crun's words, with the name it was looking for where it says so
_CRUN_NOT_FOUND = re.compile(rf"executable file {_QUOTE} not found(?: in \$PATH)?")
# a directory, a file without the x bit, or a place the user may not look into; the last two since crun 1.15 or so
_CRUN_NOT_EXECUTABLE = ("open executable", "access executable", "is not a regular file", "it is not executable")
_ATTRIBUTE = re.compile(r"/attr/(?:apparmor/)?exec\b")
_CRUN_CHDIR = re.compile(rf"chdir(?: to)? {_QUOTE}: (.*)")
_LOGRUS = re.compile(r'level=(?:error|fatal) msg=("(?:[^"\\]|\\.)*")')
_RUNC_TAIL = re.compile(r"unable to start container process: (.*)", re.DOTALL)


def translate(text: str, command: str, *, prefix: str = CREATE_PREFIX) -> RuntimeFailure:
    """The failure that moby reports for the runtime's ``text``, when it was to run ``command``."""
    text = text.strip() or "the runtime failed without a word"
    logged = _LOGRUS.findall(text)
    if logged:
        with suppress(ValueError):
            text = str(json.loads(logged[-1]))
    tail = _RUNC_TAIL.search(text)
    if tail:
        text = tail[1]
    quoted = '"' + command.replace("\\", "\\\\").replace('"', '\\"') + '"'
    found = _CRUN_NOT_FOUND.search(text)
    if found:
        if "/" in command:
            return _failure(prefix, f"exec: {quoted}: stat {command}: no such file or directory", NOT_FOUND)
        return _failure(prefix, f"exec: {quoted}: executable file not found in $PATH", NOT_FOUND)
    if any(words in text for words in (*_CRUN_NOT_EXECUTABLE, f"exec: {quoted}: is a directory")):
        if "No such file" in text:
            return _failure(prefix, f"exec: {quoted}: stat {command}: no such file or directory", NOT_FOUND)
        return _failure(prefix, f"exec: {quoted}: permission denied", NOT_EXECUTABLE)
    if _ATTRIBUTE.search(text):  # the kernel says that it knows no such profile: no fault of the command's
        return _failure(prefix, f"apparmor failed to apply profile: {text}", OTHER)
    chdir = _CRUN_CHDIR.search(text)
    if chdir:
        code = NOT_FOUND if "No such file" in chdir[2] else NOT_EXECUTABLE if "denied" in chdir[2] else OTHER
        return _failure(prefix, f'chdir to cwd ("{chdir[1]}") set in config.json failed: {_lower(chdir[2])}', code)
    lowered = text.lower()
    if "exec format error" in lowered:
        return _failure(prefix, f"exec {command}: exec format error", NOT_EXECUTABLE)
    if "executable file not found" in lowered or "no such file or directory" in lowered:
        return _failure(prefix, text, NOT_FOUND)
    if "permission denied" in lowered:
        return _failure(prefix, text, NOT_EXECUTABLE)
    if "not a directory" in lowered:
        text += (
            ": Are you trying to mount a directory onto a file (or vice-versa)? "
            "Check if the specified host path exists and is the expected type"
        )
        return _failure(prefix, text, NOT_FOUND)
    return _failure(prefix, text, OTHER)


def _failure(prefix: str, text: str, code: int) -> RuntimeFailure:
    return RuntimeFailure(f"{prefix}{text}: unknown", code)


def _lower(text: str) -> str:
    """The C library's ``No such file or directory`` as Go writes it."""
    text = text.strip()
    return text[:1].lower() + text[1:]
