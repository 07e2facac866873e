"""A program under a pseudo-terminal: type, resize, and wait for what it shows."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import struct
import subprocess
import termios
import time
from collections.abc import Mapping, Sequence
from types import TracebackType


class Terminal:
    """``command`` with a terminal of ``rows`` × ``columns`` as its stdin, stdout and stderr."""

    def __init__(self, command: Sequence[str], env: Mapping[str, str], rows: int = 24, columns: int = 80) -> None:
        self._master, slave = pty.openpty()
        self._set_size(slave, rows, columns)
        self.seen = b""
        self.process = subprocess.Popen(
            command,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env=dict(env),
            start_new_session=True,
            preexec_fn=_take_tty,
        )
        os.close(slave)

    @staticmethod
    def _set_size(descriptor: int, rows: int, columns: int) -> None:
        fcntl.ioctl(descriptor, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def resize(self, rows: int, columns: int) -> None:
        """Change the size; the kernel signals it to the program."""
        self._set_size(self._master, rows, columns)

    @property
    def echoes(self) -> bool:
        """True while keys are shown as they are typed: not raw."""
        return bool(termios.tcgetattr(self._master)[3] & termios.ECHO)

    def send(self, text: bytes) -> None:
        os.write(self._master, text)

    def expect(self, wanted: bytes, within: float = 20.0) -> bytes:
        """Read until ``wanted`` shows; give what came before it, and drop both."""
        deadline = time.monotonic() + within
        while wanted not in self.seen:
            if not self._read(deadline - time.monotonic()):
                raise AssertionError(f"{wanted!r} did not show: {self.seen!r}")
        before, _, self.seen = self.seen.partition(wanted)
        return before

    def wait(self, within: float = 20.0) -> int:
        """Read to the end; the program's exit code."""
        deadline = time.monotonic() + within
        while self._read(deadline - time.monotonic()):
            pass
        return self.process.wait(max(0.1, deadline - time.monotonic()))

    def _read(self, seconds: float) -> bool:
        if not select.select([self._master], [], [], max(0.0, seconds))[0]:
            return False
        try:
            data = os.read(self._master, 65536)
        except OSError:  # the other end is closed
            return False
        self.seen += data
        return bool(data)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self._master)

    def __enter__(self) -> Terminal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def _take_tty() -> None:
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
