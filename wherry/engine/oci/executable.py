"""A command that the kernel would not execute, found before the container's init is released.

The runtimes look for the file when they create the container, and report what is missing or not executable. Whether the
kernel takes its format shows only at the exec, after the release: then the runtime can only write to the container's
stderr and end with 1. With the init waiting, its root (``/proc/PID/root``) is complete with all mounts, so that the
file's first bytes tell beforehand.
"""

from __future__ import annotations

import os
import platform
import posixpath
import stat
from collections.abc import Sequence
from pathlib import Path

from wherry.engine.inroot import open_in_root
from wherry.engine.oci.errors import CREATE_PREFIX, NOT_EXECUTABLE, NOT_FOUND, RuntimeFailure

_HEAD = 256  # bytes the kernel looks at
_BINFMT = Path("/proc/sys/fs/binfmt_misc")
# ELF e_machine and class of what each machine runs
_RUNS: dict[str, tuple[tuple[int, int], ...]] = {
    "x86_64": ((62, 2), (62, 1), (3, 1)),
    "i686": ((3, 1),),
    "aarch64": ((183, 2), (40, 1)),
    "armv7l": ((40, 1),),
    "ppc64le": ((21, 2), (20, 1)),
    "s390x": ((22, 2), (22, 1)),
    "riscv64": ((243, 2),),
}


def check_executable(pid: int, args: Sequence[str], env: Sequence[str], cwd: str) -> None:
    """Look at the command of a created container whose init ``pid`` waits; some 50 µs.

    Raises ``RuntimeFailure``: 126 for a format that the kernel does not know, 127 for a script whose interpreter is
    missing. Says nothing where it cannot be sure.
    """
    try:
        root_fd = os.open(f"/proc/{pid}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return
    try:
        head = _head(root_fd, args[0], env, cwd)
        if head is None:
            return
        if head.startswith(b"#!"):
            words = head[2:].split(b"\n", 1)[0].split()
            if words and not _exists(root_fd, os.path.join(os.fsencode(cwd), words[0])):
                raise RuntimeFailure(f"{CREATE_PREFIX}exec {args[0]}: no such file or directory: unknown", NOT_FOUND)
            if words:
                return
        if not _known(head) and not registered(head, args[0]):
            raise RuntimeFailure(f"{CREATE_PREFIX}exec {args[0]}: exec format error: unknown", NOT_EXECUTABLE)
    finally:
        os.close(root_fd)


def _head(root_fd: int, command: str, env: Sequence[str], cwd: str) -> bytes | None:
    if "/" in command:
        places = [posixpath.join(cwd or "/", command)]
    else:
        path = next((entry[5:] for entry in env if entry.startswith("PATH=")), "")
        places = [posixpath.join(cwd or "/", directory or ".", command) for directory in path.split(":")]
    for place in places:
        try:
            fd = open_in_root(root_fd, place, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
        except OSError:
            continue
        try:
            status = os.fstat(fd)
            if stat.S_ISREG(status.st_mode) and status.st_mode & 0o111:
                return os.read(fd, _HEAD)
        except OSError:
            return None
        finally:
            os.close(fd)
    return None


def _known(head: bytes) -> bool:
    if head[:4] != b"\x7fELF" or len(head) < 20:
        return False
    runs = _RUNS.get(platform.machine())
    machine = int.from_bytes(head[18:20], "big") if head[5] == 2 else int.from_bytes(head[18:20], "little")
    return runs is None or (machine, head[4]) in runs


def registered(head: bytes, command: str, place: Path = _BINFMT) -> bool:
    """Whether a format that somebody has registered with the kernel (qemu, Debian's Python) takes the file; also True
    where its entry cannot be understood."""
    try:
        entries = [entry for entry in place.iterdir() if entry.name not in ("register", "status")]
        return any(_matches(entry.read_text(errors="replace"), head, command) for entry in entries)
    except OSError:
        return False


def _matches(entry: str, head: bytes, command: str) -> bool:
    state, _, rest = entry.partition("\n")
    if state == "disabled":
        return False
    fields = dict(line.split(" ", 1) for line in rest.splitlines() if " " in line)
    if "extension" in fields:
        return posixpath.basename(command).endswith(fields["extension"])
    try:
        offset, magic = int(fields["offset"]), bytes.fromhex(fields["magic"])
        mask = bytes.fromhex(fields["mask"]) if "mask" in fields else b"\xff" * len(magic)
    except (KeyError, ValueError):
        return True
    # the kernel's own window: what is beyond the file is zero
    found = head.ljust(_HEAD, b"\0")[offset : offset + len(magic)]
    return all((a ^ b) & c == 0 for a, b, c in zip(found, magic, mask, strict=False))


def _exists(root_fd: int, path: bytes) -> bool:
    try:
        os.close(open_in_root(root_fd, path, os.O_PATH))
    except OSError:
        return False
    return True
