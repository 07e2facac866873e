"""Fixtures for all tests that drive a running engine."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.engines import ENGINES, Engine, prepared
from tests.support.images import Store
from tests.support.images import store as open_store


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--engines", default=",".join(ENGINES), help="engines the conformance tests run against (default: %(default)s)"
    )


def pytest_configure() -> None:
    """What the tests start shall not take the width of a terminal from the tests' own workers, nor ignore signals because a
    shell that runs the tests in the background, or nohup, had them ignored: a handler is not inherited."""
    os.environ.pop("COLUMNS", None)
    for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, lambda *_: None)


def pytest_report_header() -> list[str]:
    """Which docker command line the tests drive."""
    docker = shutil.which("docker")
    if docker is None:
        return ["docker command line: none on PATH"]
    version = subprocess.run([docker, "--version"], capture_output=True, text=True, check=False).stdout.strip()
    return [f"docker command line: {docker}, {version}"]


def _names(config: pytest.Config) -> list[str]:
    return str(config.getoption("--engines")).split(",")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "engine" in metafunc.fixturenames:
        metafunc.parametrize("running_engine", _names(metafunc.config), indirect=True, scope="session")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the tests of an engine that the caller did not ask for."""
    unwanted = [
        item
        for item in items
        if any(name not in _names(config) for name in ENGINES if name in getattr(item, "fixturenames", ()))
    ]
    config.hook.pytest_deselected(items=unwanted)
    items[:] = [item for item in items if item not in unwanted]


@pytest.fixture(scope="session")
def engine_by_name() -> Iterator[Callable[[str], Engine]]:
    """Engines with busybox:latest loaded, each started when first asked for and ended with the session."""
    running: dict[str, Engine] = {}
    with ExitStack() as stack:

        def get(name: str) -> Engine:
            if name not in running:
                running[name] = stack.enter_context(prepared(name))
            return running[name]

        yield get


@pytest.fixture(scope="session")
def running_engine(request: pytest.FixtureRequest, engine_by_name: Callable[[str], Engine]) -> Engine:
    """Each engine in turn."""
    return engine_by_name(request.param)


@pytest.fixture
def engine(running_engine: Engine) -> Iterator[Engine]:
    """The engine, without containers before and after each test."""
    yield running_engine
    running_engine.remove_all()


@pytest.fixture
def wherry(engine_by_name: Callable[[str], Engine]) -> Iterator[Engine]:
    """Wherry's engine alone, for what is not a matter of comparison."""
    engine = engine_by_name("wherry")
    yield engine
    engine.remove_all()


@pytest.fixture
def dockerd(engine_by_name: Callable[[str], Engine]) -> Iterator[Engine]:
    """dockerd alone."""
    engine = engine_by_name("dockerd")
    yield engine
    engine.remove_all()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """An empty image store of the engine's, without an engine."""
    with open_store(tmp_path / "engine") as made:
        yield made


@pytest.fixture
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls to registries are tried again at once."""
    for module in ("download", "push"):
        monkeypatch.setattr(f"wherry.engine.images.registry.{module}.retry_delay", lambda attempt: 0.0)
