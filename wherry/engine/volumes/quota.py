"""Sizes of volumes, held by the filesystem: project quotas of xfs and ext4 (mounted with ``prjquota``).

The directory gets a project of its own, which what is made below it inherits; the limit is the project's.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import secrets
import struct
from pathlib import Path

_SYS_QUOTACTL_FD = 443  # the same number on every architecture
_PROJECT = 2


def _command(number: int) -> int:
    return ((ord("X") << 8) + number) << 8 | _PROJECT


_GET_QUOTA, _SET_LIMIT, _GET_STATE = _command(3), _command(4), _command(5)
_ENFORCED = 1 << 4 | 1 << 5  # accounted and enforced
_LIMITS = 1 << 2 | 1 << 3  # soft and hard, of blocks
_BLOCK = 512

# struct fs_disk_quota: version, flags, fieldmask, id, six numbers (hard, soft, …, blocks), and what is not used here
_QUOTA = struct.Struct("=bbHI6Q56x")
# struct fsxattr: flags, extent size, extents, project, and what is not used here
_ATTRIBUTES = struct.Struct("=IIII12s")
_GET_ATTRIBUTES, _SET_ATTRIBUTES = 0x801C581F, 0x401C5820
_INHERIT = 0x200

_syscall = ctypes.CDLL(None, use_errno=True).syscall
_syscall.restype = ctypes.c_long


class Quota:
    """The quotas of the filesystem that ``directory`` is on."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._supported: bool | None = None

    @property
    def supported(self) -> bool:
        """Whether sizes can be held here; found out on first use."""
        if self._supported is None:
            state = bytearray(256)
            state[0] = 1
            try:
                self._call(_GET_STATE, 0, state)
                self._supported = struct.unpack_from("=H", state, 2)[0] & _ENFORCED == _ENFORCED
            except OSError:
                self._supported = False
        return self._supported

    def new_project(self) -> int:
        """A project that nothing belongs to and no limit is set for. Raises ``OSError``."""
        for _ in range(64):
            project = 1 << 30 | secrets.randbits(30)
            record = bytearray(_QUOTA.size)
            try:
                self._call(_GET_QUOTA, project, record)
            except FileNotFoundError:
                return project
            if not any(_QUOTA.unpack(record)[4:]):
                return project
        raise OSError("no project of the filesystem's quotas is free")

    def assign(self, directory: Path, project: int) -> None:
        """Have ``directory``, empty yet, belong to a project. Raises ``OSError``."""
        fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            attributes = bytearray(_ATTRIBUTES.size)
            fcntl.ioctl(fd, _GET_ATTRIBUTES, attributes)
            flags, extent_size, extents, _, rest = _ATTRIBUTES.unpack(attributes)
            packed = _ATTRIBUTES.pack(flags | _INHERIT, extent_size, extents, project, rest)
            fcntl.ioctl(fd, _SET_ATTRIBUTES, packed)
        finally:
            os.close(fd)

    def limit(self, project: int, size: int) -> None:
        """Let a project hold ``size`` bytes at most, 0 for no limit. Raises ``OSError``."""
        blocks = -(-size // _BLOCK)
        self._call(
            _SET_LIMIT, project, bytearray(_QUOTA.pack(1, _PROJECT, _LIMITS, project, blocks, blocks, 0, 0, 0, 0))
        )

    def _call(self, command: int, project: int, record: bytearray) -> None:
        buffer = (ctypes.c_char * len(record)).from_buffer(record)
        fd = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            if _syscall(_SYS_QUOTACTL_FD, fd, ctypes.c_uint(command), ctypes.c_uint(project), buffer):
                code = ctypes.get_errno()
                raise OSError(code, os.strerror(code), str(self._directory))
        finally:
            os.close(fd)
