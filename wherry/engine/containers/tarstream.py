"""A tar archive of a directory tree as a stream: GNU tar does the walking, with a twentieth of the work of Python's."""

from __future__ import annotations

import asyncio
import fcntl
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from typing import IO

from wherry.engine.oci.process import Child, spawn

_PIECE = 1 << 18
_PIPE = 1 << 20
_WARM = 1 << 17
_PAUSE = 0.001
_GLOB = str.maketrans({char: f"\\{char}" for char in "*?[]\\"})


def tar_arguments(member: bytes | None, *, rename: bytes = b"", exclude: Sequence[bytes] = ()) -> list[bytes]:
    """What tar is told: ``member`` of its directory with everything below it, as moby's archives are.

    None for ``member``: the names are given to ``TarStream``.

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


class TarStream:
    """tar's output in pieces, in constant memory: an asynchronous iterator, to be closed with ``aclose``.

    tar is started by the first ``__anext__``, in the directory ``directory_fd``, which this object owns. ``names`` are
    the members, where ``arguments`` say none. Files that vanish or shrink meanwhile do no harm; ``OSError`` is raised
    when tar is missing or fails.
    """

    def __init__(self, directory_fd: int, arguments: Sequence[bytes], *, names: Sequence[bytes] = ()) -> None:
        self._directory_fd = directory_fd
        self._arguments = arguments
        self._names = names
        self._child: Child | None = None
        self._output = -1
        self._roomy = False
        self._taken = 0
        self._words: IO[bytes] | None = None
        self._done = False

    def __aiter__(self) -> TarStream:
        return self

    async def __anext__(self) -> bytes:
        if self._done:
            raise StopAsyncIteration
        try:
            if self._child is None:
                self._start()
            data = await self._read()
            if data:
                return data
            await self._finish()
        except BaseException:
            await self.aclose()
            raise
        await self.aclose()
        raise StopAsyncIteration

    async def aclose(self) -> None:
        """Let go of everything; tar is killed if it still runs."""
        self._done = True
        for fd in (self._directory_fd, self._output):
            if fd >= 0:
                os.close(fd)
        self._directory_fd = self._output = -1
        if self._words is not None:
            self._words.close()
        child, self._child = self._child, None
        if child is not None:
            child.kill()
            await asyncio.shield(child.wait())

    def _start(self) -> None:
        program = shutil.which("tar")
        if program is None:
            raise FileNotFoundError("tar is not installed")
        self._words = tempfile.TemporaryFile()  # noqa: SIM115 - closed by aclose
        with tempfile.TemporaryFile() as listed:
            listed.write(b"".join(name + b"\0" for name in self._names))
            listed.seek(0)
            self._output, write_end = os.pipe()
            try:
                fds = {3: self._directory_fd, 4: listed.fileno()}
                self._child = _spawn(program, self._arguments, fds, write_end, self._words.fileno())
            finally:
                os.close(write_end)
        try:
            self._roomy = fcntl.fcntl(self._output, fcntl.F_SETPIPE_SZ, _PIPE) >= _PIPE
        except OSError:
            pass  # the user's share of pipe memory is used up
        os.set_blocking(self._output, False)

    async def _read(self) -> bytes:
        # tar writes 10 KiB at a time: where it is the slower one, being woken for each would cost both more than the walk
        if self._roomy and self._taken >= _WARM:
            await asyncio.sleep(_PAUSE)
        while True:
            try:
                data = os.read(self._output, _PIECE)
            except BlockingIOError:
                await self._readable()
                continue
            self._taken = self._taken + len(data) if len(data) < _PIECE else 0
            return data

    async def _readable(self) -> None:
        loop = asyncio.get_running_loop()
        ready = asyncio.Event()
        loop.add_reader(self._output, ready.set)
        try:
            await ready.wait()
        finally:
            loop.remove_reader(self._output)

    async def _finish(self) -> None:
        child, self._child = self._child, None
        assert child is not None
        assert self._words is not None
        code = await child.wait()
        # 1: some files changed meanwhile; 255: reaped by another part of the program
        if code not in (0, 1, 255):
            self._words.seek(0)
            said = self._words.read(2000).decode(errors="replace").strip()
            raise OSError(f"tar ended with code {code}: {said}")


def _spawn(program: str, arguments: Sequence[bytes], fds: Mapping[int, int], output: int, words: int) -> Child:
    argv = [program, "-C", "/proc/self/fd/3", *map(os.fsdecode, arguments)]
    environment = {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "TZ": "UTC"}
    return spawn(argv, env=environment, stdout=output, stderr=words, pass_fds=fds)
