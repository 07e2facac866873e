"""The files that a build may copy from: the client's archive, unpacked below the engine's ``tmp``."""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import AsyncIterator
from pathlib import Path

from wherry.api.errors import BadRequest, ServerError
from wherry.engine import inroot
from wherry.engine.blocking import in_thread_until
from wherry.engine.build.stoppable import Stoppable
from wherry.engine.dockerfile.errors import DockerfileError
from wherry.engine.dockerfile.parser import Dockerfile, parse
from wherry.engine.images.content import Slice, free_space, spool, temporary
from wherry.engine.images.import_ import BROKEN
from wherry.engine.store.compression import decompressed
from wherry.engine.store.layout import Layout
from wherry.engine.store.trash import Trash
from wherry.engine.store.untar import UntarOptions, extract
from wherry.wire.patterns import BadPattern, IgnorePatterns, read_ignore_file

IGNORE_FILE = ".dockerignore"
_LARGEST_FILE = 16 << 20
_MOST_ENTRIES = 5_000_000


class Context:
    """The unpacked files, at ``root``; ``close`` takes them away."""

    def __init__(self, layout: Layout, trash: Trash) -> None:
        self.layout = layout
        self._trash = trash
        self._cancelled = threading.Event()
        self.root: Path = temporary(layout, "build")
        self.root.mkdir(mode=0o755)
        self._beside: Path | None = None

    def close(self) -> None:
        self._cancelled.set()
        self._trash.discard(self.root)
        if self._beside is not None:
            self._trash.discard(self._beside)

    def beside(self) -> Path:
        """A directory for what is fetched, which goes with the context."""
        self._beside = temporary(self.layout, "fetched")
        self._beside.mkdir(mode=0o700)
        return self._beside

    def lone_dockerfile(self, path: Path) -> Dockerfile:
        """A Dockerfile with no files to it. Raises ``BadRequest``."""
        with open(path, "rb") as file:
            data = file.read(_LARGEST_FILE + 1)
        if len(data) > _LARGEST_FILE:
            raise BadRequest(f"the Dockerfile is larger than {_LARGEST_FILE >> 20} MiB")
        return parse(data)

    async def unpack(self, body: AsyncIterator[bytes]) -> None:
        """Raises ``ServerError`` for a broken archive, ``ConnectionError`` when the client left."""
        archive = temporary(self.layout, "context")
        try:
            await spool(self.layout, body, archive)
            await in_thread_until(self._cancelled, self._extract, archive)
        except ConnectionError:
            raise
        except BROKEN as error:
            raise ServerError(f"Error processing tar file: {error}") from error
        except OSError as error:
            raise ServerError(f"the build context cannot be kept: {error}") from error
        finally:
            archive.unlink(missing_ok=True)

    def _extract(self, archive: Path) -> None:
        source = Slice(archive)
        reader = decompressed(Stoppable(source, self._cancelled))
        target = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            options = UntarOptions(max_bytes=free_space(self.layout), max_entries=_MOST_ENTRIES)
            extract(reader, target, options=options)
        finally:
            os.close(target)
            source.close()

    def dockerfile(self, name: str) -> Dockerfile:
        """The Dockerfile, parsed; with it and the ``.dockerignore`` taken away where the latter says so.

        Raises ``BadRequest``, ``ServerError``. Blocks for a moment.
        """
        root = os.open(self.root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            if inroot.clean(os.fsencode(name)).startswith(b".."):
                raise ServerError(f"forbidden path outside the build context: {name} ()")
            try:
                data = _read(root, name)
            except FileNotFoundError:
                if name != "Dockerfile":
                    raise
                name = "dockerfile"
                data = _read(root, name)
            if not data:
                raise BadRequest(f"the Dockerfile ({name}) cannot be empty")
            try:
                parsed = parse(data)
            except DockerfileError as error:
                raise DockerfileError(f"failed to parse {name}: {error.message}") from None
            _forget_ignored(root, name)
            return parsed
        except (FileNotFoundError, NotADirectoryError):
            shown = "Dockerfile" if name == "dockerfile" else name
            raise ServerError(f"Cannot locate specified Dockerfile: {shown}") from None
        except IsADirectoryError:
            raise ServerError(f"read {name}: is a directory") from None
        except OSError as error:
            raise ServerError(f"the Dockerfile {name} cannot be read: {error.strerror}") from error
        finally:
            os.close(root)


def _read(root: int, name: str) -> bytes:
    fd = inroot.open_in_root(root, name, os.O_RDONLY | os.O_NONBLOCK)
    with os.fdopen(fd, "rb") as file:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise ServerError(f"{name} is no file")
        data = file.read(_LARGEST_FILE + 1)
    if len(data) > _LARGEST_FILE:
        raise BadRequest(f"{name} is larger than {_LARGEST_FILE >> 20} MiB")
    return data


def _forget_ignored(root: int, dockerfile: str) -> None:
    try:
        patterns = IgnorePatterns(read_ignore_file(_read(root, IGNORE_FILE)))
    except (OSError, BadPattern, ServerError):
        return
    for name in (IGNORE_FILE, dockerfile):
        path = inroot.clean(os.fsencode(name))
        if not patterns.matches(os.fsdecode(path)):
            continue
        parent, last = inroot.split(path)
        try:
            fd = inroot.open_in_root(root, parent, inroot.PARENT)
            try:
                os.unlink(last, dir_fd=fd)
            finally:
                os.close(fd)
        except OSError:
            continue
