"""The docker command line, unmodified, against each engine."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.engines import Engine
from tests.support.http import eventually
from tests.support.terminal import Terminal


class Docker:
    """``docker`` with ``DOCKER_HOST`` at an engine and a configuration directory of its own."""

    def __init__(self, engine: Engine, config: Path) -> None:
        self.engine = engine
        self.env = {name: value for name, value in os.environ.items() if not name.startswith("DOCKER_")}
        self.env |= {"DOCKER_HOST": engine.address, "DOCKER_CONFIG": str(config), "DOCKER_CLI_HINTS": "false"}

    def __call__(
        self, *arguments: str, input: bytes | None = None, timeout: float = 60
    ) -> subprocess.CompletedProcess[bytes]:
        command = ["docker", *arguments]
        return subprocess.run(command, env=self.env, capture_output=True, timeout=timeout, input=input or b"")

    def ok(self, *arguments: str, input: bytes | None = None) -> str:
        """Run, expect success, and give stdout."""
        done = self(*arguments, input=input)
        assert done.returncode == 0, done
        return done.stdout.decode()

    def start(self, *arguments: str, **options: object) -> subprocess.Popen[bytes]:
        return subprocess.Popen(["docker", *arguments], env=self.env, **options)  # type: ignore[call-overload, no-any-return]

    def terminal(self, *arguments: str, rows: int = 24, columns: int = 80) -> Terminal:
        return Terminal(["docker", *arguments], self.env, rows, columns)


@pytest.fixture
def docker(engine: Engine, tmp_path: Path) -> Docker:
    return Docker(engine, tmp_path)


@pytest.fixture
def wherry_docker(wherry: Engine, tmp_path: Path) -> Docker:
    """The same for what only Wherry promises."""
    return Docker(wherry, tmp_path)


@pytest.fixture
def idle(docker: Docker) -> Callable[..., str]:
    """Start a container that ends at once when asked to, under a name."""

    def start(name: str, *options: str) -> str:
        script = "trap 'exit 0' TERM; echo ready; while :; do sleep 3600 & wait $!; done"
        container = docker.ok("run", "-d", "--name", name, *options, "busybox", "sh", "-c", script).strip()
        eventually(lambda: docker.engine.logs(container)[0] == b"ready\n")
        return container

    return start
