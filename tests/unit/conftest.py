"""The fixtures of the client's tests: an engine that answers what it is told, and a client of either colour on it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from client_fake import INSPECT, FakeEngine, client_of


@pytest.fixture
def fake(tmp_path: Path) -> Iterator[FakeEngine]:
    fake = FakeEngine(tmp_path / "engine.sock")
    fake.routes["GET /containers/web/json"] = (200, INSPECT)
    fake.routes["GET /containers/tty/json"] = (200, {"Id": "tty", "Config": {"Tty": True}})
    yield fake
    fake.close()


@pytest.fixture(params=["sync", "async"])
def colour(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def docker(fake: FakeEngine, colour: str) -> Iterator[Any]:
    with client_of(colour, fake.url) as client:
        yield client
