"""One engine a module; every test begins and ends without containers and without anything of theirs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.faults.machine import CrashEngine, crash_engine, leavings
from tests.support.http import eventually


@pytest.fixture(scope="module")
def module_engine() -> Iterator[CrashEngine]:
    with crash_engine() as engine:
        yield engine


@pytest.fixture
def crashable(module_engine: CrashEngine) -> Iterator[CrashEngine]:
    """A running engine that may be killed; running again afterwards, and nothing left."""
    yield module_engine
    if module_engine.process.poll() is not None:
        module_engine.boot()
    module_engine.remove_all()
    eventually(lambda: not leavings(module_engine), within=10, what=f"nothing left: {leavings(module_engine)}")
