"""One engine for the tests of the verbs; every test begins and ends without containers and without anything of theirs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.faults.machine import CrashEngine, crash_engine, leavings
from tests.support.http import eventually


@pytest.fixture(scope="session")
def verbs_engine() -> Iterator[CrashEngine]:
    with crash_engine() as engine:
        yield engine


@pytest.fixture
def verbs(verbs_engine: CrashEngine) -> Iterator[CrashEngine]:
    """A running engine of the session's."""
    yield verbs_engine
    verbs_engine.remove_all()
    eventually(lambda: not leavings(verbs_engine), within=10, what=f"nothing left: {leavings(verbs_engine)}")
