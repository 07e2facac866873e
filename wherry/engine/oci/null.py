"""A null device of the engine's own.

Runtimes give the files that are a command's stdin, stdout and stderr to its user: were one the machine's ``/dev/null``,
``exec --user 1000`` would take that from root.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
from functools import cache

_FSOPEN, _FSCONFIG, _FSMOUNT = 430, 431, 432  # of every architecture
_CLOEXEC = 1
_FSCONFIG_CMD_CREATE = 6
_PASSING = {errno.EMFILE, errno.ENFILE, errno.ENOMEM}


def open_null() -> int:
    """A descriptor of it, to be closed by the caller; of ``/dev/null`` where devices cannot be made. Raises ``OSError``."""
    directory = _directory()
    if directory < 0:
        return os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    return os.open("null", os.O_RDWR | os.O_CLOEXEC, dir_fd=directory)


@cache
def _directory() -> int:
    """A file system in memory that is mounted nowhere and has the device alone; -1 where it cannot be had.

    Raises ``OSError`` where it cannot be had just now: that is not remembered.
    """
    try:
        context = _call(_FSOPEN, b"tmpfs", _CLOEXEC)
        try:
            _call(_FSCONFIG, context, _FSCONFIG_CMD_CREATE, None, None, 0)
            directory = _call(_FSMOUNT, context, _CLOEXEC, 0)
        finally:
            os.close(context)
    except OSError as error:
        if error.errno in _PASSING:
            raise
        return -1
    try:
        os.mknod("null", stat.S_IFCHR | 0o666, os.makedev(1, 3), dir_fd=directory)
        os.chmod("null", 0o666, dir_fd=directory)
        os.close(os.open("null", os.O_RDWR | os.O_CLOEXEC, dir_fd=directory))
    except OSError as error:
        os.close(directory)
        if error.errno in _PASSING:
            raise
        return -1
    return directory


def _call(number: int, *arguments: bytes | int | None) -> int:
    result: int = ctypes.CDLL(None, use_errno=True).syscall(number, *arguments)
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result
