"""The OCI runtime: crun where it is, else runc, or any other that is asked for; always with a ``--root`` of our own."""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
import tempfile
from pathlib import Path
from typing import Any

from wherry.api.errors import in_words
from wherry.engine.blocking import in_thread
from wherry.engine.oci import tool
from wherry.engine.oci.errors import RuntimeFailure
from wherry.engine.oci.process import SEARCH
from wherry.engine.oci.sealed import sealed_copy
from wherry.engine.oci.seccomp import FilterCache

__all__ = ["Runtime", "RuntimeFailure", "find_conmon", "find_init"]

log = logging.getLogger(__name__)

KNOWN = ("crun", "runc")
DEADLINE = 60.0
_VERSION = re.compile(r"version:? ([0-9][^\s]*)")
_CONTAINER_ID = re.compile(r"[A-Za-z0-9_.-]+")


class Runtime:
    """One installed runtime.

    ``program`` is what is executed: ``path``, or a sealed copy of it (sealed.py).
    ``fifo_start``: a container is released by a byte in its fifo, 0.05 ms instead of the 7 of ``crun start``.
    ``filters``: compiled seccomp filters, where it was seen to apply one to init and exec alike; else None.
    Both are set by ``wherry.engine.oci.probe`` alone, which has tried them on this machine.
    """

    def __init__(self, name: str, path: str, version: str, root: Path) -> None:
        self.name = name
        self.path = path
        self.version = version
        self.root = root
        self.program = path
        self.fifo_start = False
        self.filters: FilterCache | None = None

    @classmethod
    async def find(cls, root: Path, wanted: str = "") -> Runtime:
        """The runtime called ``wanted`` (a name on PATH, or an absolute path), or the first that is installed.

        Its state is kept below ``root``. Raises ``RuntimeFailure`` that says what to install.
        """
        names = (wanted,) if wanted else KNOWN
        for name in names:
            path = shutil.which(name, path=f"{os.environ.get('PATH', '')}:{SEARCH}")
            if not path:
                continue
            try:
                result = await tool.run([path, "--version"], deadline=10)
            except (OSError, TimeoutError) as error:
                log.warning("%s --version failed: %s", path, error)
                continue
            found = _VERSION.search(result.output)
            if result.code == 0 and found:
                runtime = cls(os.path.basename(name), path, found[1], root / os.path.basename(name))
                if runtime.is_crun:
                    runtime.program = await in_thread(sealed_copy, path)
                return runtime
            log.warning("%s --version ended with %d: %s", path, result.code, result.output.strip())
        if wanted:
            raise RuntimeFailure(f"unknown or invalid runtime name: {wanted}")
        raise RuntimeFailure("no OCI runtime found: install crun (or runc), on Debian by: apt-get install crun")

    @property
    def identity(self) -> str:
        """Changes whenever the runtime does: its path, version, size and time of installation."""
        status = os.stat(self.path)
        return f"{self.path} {self.version} {status.st_size} {status.st_mtime_ns}"

    @property
    def is_crun(self) -> bool:
        return self.name == "crun"

    @property
    def global_arguments(self) -> tuple[str, ...]:
        """What stands between the runtime's name and the command, in every call."""
        if self.is_crun:
            return ("--cgroup-manager=cgroupfs", f"--root={self.root}")
        return (f"--root={self.root}",)

    def command(self, *arguments: str) -> list[str]:
        """The argv of a call."""
        return [self.program, *self.global_arguments, *arguments]

    async def start(self, container_id: str) -> None:
        """Release a created container's init. Raises ``RuntimeFailure``."""
        if not (self.fifo_start and self.release(container_id)):
            await self._call("start", container_id, what="starting the container")

    def release(self, container_id: str) -> bool:
        """Start by crun's fifo: its init waits for a byte there; with the fifo gone, crun too calls it running.

        False when that was not possible.
        """
        fifo = self.root / container_id / "exec.fifo"
        try:
            fd = os.open(fifo, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            os.write(fd, b"0")
        except OSError:
            return False
        finally:
            os.close(fd)
        fifo.unlink(missing_ok=True)
        return True

    def knows(self, container_id: str) -> bool:
        """True while the runtime keeps state of the container."""
        return (self.root / container_id).exists()

    def list(self) -> list[str]:
        """The ids of all containers that the runtime keeps state of."""
        try:
            return sorted(name for name in os.listdir(self.root) if _CONTAINER_ID.fullmatch(name) and name[0] != ".")
        except FileNotFoundError:
            return []

    async def delete(self, container_id: str, force: bool = True) -> None:
        """Kill what still runs, when ``force``, and remove the runtime's state and the cgroups.

        A container that the runtime does not know is no error. Raises ``RuntimeFailure``.
        """
        if not self.knows(container_id):
            return
        arguments = ("delete", "--force", container_id) if force else ("delete", container_id)
        try:
            await self._call(*arguments, what="deleting the container")
        except RuntimeFailure:
            if self.knows(container_id):
                raise

    async def update(self, container_id: str, resources: dict[str, Any]) -> None:
        """Apply ``linux.resources`` to a running container (UPD3). Raises ``RuntimeFailure``; then nothing is sure."""
        try:
            with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
                json.dump(resources, file)
                file.flush()
                await self._call("update", "--resources", file.name, container_id, what="updating the container")
        except OSError as error:
            raise RuntimeFailure(f"updating the container failed: {in_words(error)}") from error

    async def _call(self, *arguments: str, what: str) -> None:
        try:
            result = await tool.run(self.command(*arguments), deadline=DEADLINE)
        except TimeoutError:
            raise RuntimeFailure(f"{what} failed: {self.name} did not answer within {DEADLINE:g} s") from None
        except OSError as error:
            raise RuntimeFailure(f"{what} failed: {self.path}: {error.strerror}") from error
        if result.code:
            raise RuntimeFailure(f"{what} failed: {result.output.strip() or f'{self.name} ended with {result.code}'}")


def find_conmon() -> str:
    """The monitor's path. Raises ``RuntimeFailure`` that says what to install."""
    path = shutil.which("conmon", path=f"{os.environ.get('PATH', '')}:{SEARCH}:/usr/libexec/podman:/usr/lib/podman")
    if not path:
        raise RuntimeFailure("no monitor found: install conmon, on Debian by: apt-get install conmon")
    return path


def find_init() -> str:
    """A static init for HostConfig.Init, to be bound into containers. Raises ``RuntimeFailure``."""
    for name in ("docker-init", "tini-static", "catatonit"):
        path = shutil.which(name, path=f"{SEARCH}:/usr/libexec/docker:/usr/libexec/podman")
        if path:
            return path
    raise RuntimeFailure("no init for containers found: install tini, on Debian by: apt-get install tini")
