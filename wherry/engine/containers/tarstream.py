"""A tar archive of a directory tree as a stream: GNU tar does the walking, with a twentieth of the work of Python's."""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence

from wherry.engine.oci.process import Child, spawn

log = logging.getLogger(__name__)

_PIECE = 1 << 18
_PIPE = 1 << 20
_GLOB = str.maketrans({char: f"\\{char}" for char in "*?[]\\"})


def tar_arguments(member: bytes | None, *, rename: bytes = b"", exclude: Sequence[bytes] = ()) -> list[bytes]:
    """What tar is told: ``member`` of its directory with everything below it, as moby's archives are.

    None for ``member``: the names come from ``stream_tar``.

    ``rename``: what stands in the archive for the member ``.``. ``exclude``: directories below the member whose content
    is left out, relative to the member.
    """
    arguments = [
        b"--create",
        b"--file=-",
        b"--format=posix",
        # PAX records only where they are needed: whole seconds, and no times but the modification's
        b"--pax-option=delete=atime,delete=ctime,delete=mtime",
        b"--xattrs",
        b"--xattrs-include=security.capability",
        b"--numeric-owner",
        b"--absolute-names",
        b"--no-unquote",
        b"--ignore-failed-read",
        b"--warning=none",
        b"--anchored",
        b"--wildcards",
    ]
    if member is None:
        return [*arguments, b"--null", b"--files-from=/proc/self/fd/4"]
    for place in exclude:
        inside = member + b"/" + place if place else member
        arguments.append(b"--exclude=" + os.fsencode(os.fsdecode(inside).translate(_GLOB)) + b"/*")
    if member == b"." and rename not in (b"", b"."):
        new = rename.replace(b"\\", b"\\\\").replace(b"&", b"\\&").replace(b",", b"\\,").replace(b"\n", b"\\n")
        # "S": the targets of symbolic links stay as they are
        pattern = b"^\\.\\/\\{0,1\\}" if rename == b"/" else b"^\\."
        arguments.append(b"--transform=s," + pattern.replace(b",", b"\\,") + b"," + new + b",S")
    return [*arguments, b"--", member]


async def stream_tar(
    directory_fd: int, arguments: Sequence[bytes], *, names: Sequence[bytes] = ()
) -> AsyncIterator[bytes]:
    """Run tar in the directory and pass its output on, in constant memory; ``directory_fd`` is closed at the end.

    ``names`` are the members, where ``arguments`` say none.

    Files that vanish or shrink meanwhile do no harm. Raises ``OSError`` when tar is missing or fails; killed when the
    iterator is closed early.
    """
    loop = asyncio.get_running_loop()
    program = shutil.which("tar")
    read_end = child = None
    with tempfile.TemporaryFile() as words, tempfile.TemporaryFile() as listed:
        try:
            if program is None:
                raise FileNotFoundError("tar is not installed")
            listed.write(b"".join(name + b"\0" for name in names))
            listed.seek(0)
            read_end, write_end = os.pipe()
            try:
                fds = {3: directory_fd, 4: listed.fileno()}
                child = _spawn(program, arguments, fds, write_end, words.fileno())
            finally:
                os.close(write_end)
            try:
                fcntl.fcntl(read_end, fcntl.F_SETPIPE_SZ, _PIPE)
            except OSError:
                pass  # the user's share of pipe memory is used up
            os.set_blocking(read_end, False)
            ready = asyncio.Event()
            while True:
                try:
                    data = os.read(read_end, _PIECE)
                except BlockingIOError:
                    ready.clear()
                    loop.add_reader(read_end, ready.set)
                    try:
                        await ready.wait()
                    finally:
                        loop.remove_reader(read_end)
                    continue
                if not data:
                    break
                yield data
            ended, child = child, None
            code = await ended.wait()
            if code not in (0, 1, 255):
                words.seek(0)
                said = words.read(2000).decode(errors="replace").strip()
                raise OSError(f"tar ended with code {code}: {said}")
        finally:
            os.close(directory_fd)
            if read_end is not None:
                os.close(read_end)
            if child is not None:
                child.kill()
                await child.wait()


def _spawn(program: str, arguments: Sequence[bytes], fds: Mapping[int, int], output: int, words: int) -> Child:
    argv = [program, "-C", "/proc/self/fd/3", *map(os.fsdecode, arguments)]
    environment = {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "TZ": "UTC"}
    return spawn(argv, env=environment, stdout=output, stderr=words, pass_fds=fds)
