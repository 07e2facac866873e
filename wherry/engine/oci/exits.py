"""How the engine learns of exits: monitors leave one file a container, the file's name its id, its text the exit code.

The file outlives the engine, so an exit that happened while no engine ran is found by ``scan``.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path

from wherry.engine.oci.inotify import Inotify

log = logging.getLogger(__name__)


AGAIN = 0.5  # seconds until another look at a file that could not be read


class ExitWatcher:
    """Calls ``callback(container_id, exit_code)`` on the loop, once for each exit file that appears in ``directory``.

    Exits from before are reported by ``scan``. ``forget`` removes a file that has been dealt with.
    """

    def __init__(self, directory: Path, callback: Callable[[str, int], None]) -> None:
        self._directory = directory
        self._callback = callback
        self._seen: dict[str, tuple[int, int]] = {}
        self._inotify: Inotify | None = None

    def start(self) -> None:
        """Begin to watch; needs a running loop. Raises ``OSError``."""
        self._inotify = Inotify(self._directory, self._appeared)

    def scan(self) -> None:
        """Report what lies there and was not reported yet."""
        for path in sorted(self._directory.iterdir()):
            self._report(path.name)

    def read(self, container_id: str) -> int | None:
        """The exit code in a container's exit file, None while there is none."""
        return read_exit(self._directory, container_id)

    def ended_at(self, container_id: str) -> int | None:
        """When the exit file was written, in nanoseconds since 1970; None while there is none."""
        try:
            return (self._directory / container_id).stat().st_mtime_ns
        except FileNotFoundError:
            return None

    def forget(self, container_id: str) -> None:
        """Remove a container's exit file: its exit has been recorded, or a new run begins."""
        (self._directory / container_id).unlink(missing_ok=True)
        self._seen.pop(container_id, None)

    def close(self) -> None:
        if self._inotify:
            self._inotify.close()
            self._inotify = None

    def _appeared(self, name: str | None) -> None:
        if name is None:
            log.warning("exit events were lost; reading %s again", self._directory)
            self.scan()
        else:
            self._report(name)

    def _report_again(self, name: str) -> None:
        if self._inotify is not None:
            self._report(name)

    def _report(self, name: str) -> None:
        if "." in name:  # the monitor's temporary file, about to be renamed
            return
        try:
            status = (self._directory / name).stat()
            mark = (status.st_ino, status.st_mtime_ns)
            if self._seen.get(name) == mark:
                return
            code = read_exit(self._directory, name)
        except FileNotFoundError:
            return
        except OSError as error:  # no descriptor is left: an exit that nobody hears of would never end
            log.warning("the exit file of %s cannot be read now: %s", name, error)
            asyncio.get_running_loop().call_later(AGAIN, self._report_again, name)
            return
        if code is None:
            return
        self._seen[name] = mark
        self._callback(name, code)


def read_exit(directory: Path, container_id: str) -> int | None:
    """The exit code in a container's exit file: None without a file, 255 when it cannot be read as a number."""
    try:
        text = (directory / container_id).read_bytes()[:32]
    except FileNotFoundError:
        return None
    try:
        return int(text)
    except ValueError:
        log.warning("exit file of %s holds %r", container_id, text)
        return 255
