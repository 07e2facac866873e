"""A copy of a runtime in memory that nobody can write to, and how it is called.

crun and runc protect the program on disk from the containers they enter: unless they run from a sealed memory file, each
call copies or re-binds the program and executes itself a second time, a millisecond and a half of every create, exec and
delete. One sealed copy for the engine's life is what they look for first, and is the same protection.
"""

from __future__ import annotations

import fcntl
import logging
import os
import subprocess

log = logging.getLogger(__name__)

_SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
_LARGEST = 16 << 20

_copies: dict[tuple[str, int, int], str] = {}


def sealed_copy(path: str) -> str:
    """The path of a sealed copy of the program at ``path``, for as long as this process lives; ``path`` itself where
    there can be none. Tries the copy once: some tens of milliseconds, so call it in a thread.
    """
    status = os.stat(path)
    key = (path, status.st_size, status.st_mtime_ns)
    if key not in _copies:
        _copies[key] = _copy(path) if status.st_size <= _LARGEST else path
    return _copies[key]


def _copy(path: str) -> str:
    fd = -1
    try:
        with open(path, "rb") as program:
            data = program.read(_LARGEST)
        if data[:4] != b"\x7fELF":  # a script's interpreter could not open it
            return path
        fd = os.memfd_create(os.path.basename(path), os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        with open(fd, "wb", closefd=False) as copy:
            copy.write(data)
        os.fchmod(fd, 0o555)
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS)
        # the monitor, a grandchild of ours, calls it too: so it goes by the engine's pid
        name = f"/proc/{os.getpid()}/fd/{fd}"
        tried = subprocess.run([name, "--version"], capture_output=True, timeout=10, stdin=subprocess.DEVNULL)
        if tried.returncode == 0:
            return name
        log.info("a sealed copy of %s does not run: %s", path, tried.stderr.decode(errors="replace").strip())
    except (OSError, subprocess.SubprocessError) as error:
        log.info("no sealed copy of %s: %s", path, error)
    if fd >= 0:
        os.close(fd)
    return path
