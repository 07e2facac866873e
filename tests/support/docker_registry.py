"""Debian's docker-registry on a scratch directory, here or in another network namespace."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from tests.support.engines import end_process, scratch_root
from tests.support.http import eventually

CONFIG = """
version: 0.1
log: {{level: error}}
storage:
  filesystem: {{rootdirectory: {root}/store}}
  delete: {{enabled: true}}
http:
  addr: {address}
{more}
"""


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


class Machine:
    """Where the processes of a test run: this one's network, or a namespace without any other."""

    def __init__(self, prefix: Sequence[str] = (), env: dict[str, str] | None = None) -> None:
        self.prefix = list(prefix)
        self.env = env or {}


HERE = Machine()


@contextmanager
def registry(*, address: str = "127.0.0.1", more: str = "", machine: Machine = HERE) -> Iterator[str]:
    """Debian's registry with an empty store; gives ``address:port``."""
    with scratch_root("registry") as root:
        place = f"{address}:{free_port()}"
        (root / "config.yml").write_text(CONFIG.format(root=root, address=place, more=more))
        with (root / "log").open("wb") as log:
            command = [*machine.prefix, "docker-registry", "serve", str(root / "config.yml")]
            process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        try:
            host, _, port = place.rpartition(":")
            probe = f"import socket; socket.create_connection(('{host}', {port}), 1)"

            def listening() -> bool:
                assert process.poll() is None, (root / "log").read_text()
                command = [*machine.prefix, sys.executable, "-c", probe]
                return subprocess.run(command, stderr=subprocess.DEVNULL, check=False).returncode == 0

            eventually(listening, within=20, what="the registry listens")
            yield place
        finally:
            end_process(process)
