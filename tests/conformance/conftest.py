"""Fixtures of the conformance suite."""

from __future__ import annotations

import pytest

from tests.support.engines import Engine


@pytest.fixture(scope="session")
def rich_image(running_engine: Engine) -> str:
    """An image whose configuration fills every field that create merges."""
    config = {
        "Cmd": ["from-image"],
        "Entrypoint": ["echo", "entry"],
        "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "COLOUR=red", "SIZE=big"],
        "Labels": {"kind": "rich", "owner": "image"},
        "ExposedPorts": {"81/tcp": {}},
        "Volumes": {"/data": {}},
        "User": "user",
        "WorkingDir": "/srv/work",
        "StopSignal": "SIGUSR1",
    }
    running_engine.load_image("rich:latest", config, {"data": None, "data/seed.txt": b"seed\n"})
    return "rich:latest"
