"""testcontainers (PyPI), as its users write it, against Wherry; its reaper is disabled."""

from __future__ import annotations

import os
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from testcontainers.core.config import ConnectionMode, testcontainers_config
from testcontainers.core.container import DockerContainer, ExecConfig
from testcontainers.core.network import Network
from testcontainers.core.wait_strategies import HealthcheckWaitStrategy, HttpWaitStrategy, LogMessageWaitStrategy
from testcontainers.core.waiting_utils import wait_for_logs

from tests.support.engines import Engine

# Says when it serves, and ends at once when it is asked to.
SERVE = """trap 'exit 0' TERM; mkdir -p /www; [ -e /www/page ] || echo hello >/www/page; httpd -p 8000 -h /www
echo serving; echo to stderr >&2; while :; do sleep 3600 & wait; done"""

READY = LogMessageWaitStrategy("serving").with_startup_timeout(20)


@pytest.fixture
def engine_for_testcontainers(wherry: Engine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Engine]:
    """Wherry as the environment names it; published ports are asked for at 127.0.0.1, wherever the tests run."""
    for name in [name for name in os.environ if name.startswith("DOCKER_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("DOCKER_HOST", wherry.address)
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    monkeypatch.setenv("no_proxy", "*")
    settings = {
        "_ryuk_disabled": True,
        "sleep_time": 0.1,
        "max_tries": 200,
        "tc_properties": {},
        "tc_host_override": "127.0.0.1",
        "connection_mode_override": ConnectionMode.docker_host,
        "hub_image_name_prefix": "",
        "_docker_auth_config": None,
    }
    for name, value in settings.items():
        monkeypatch.setattr(testcontainers_config, name, value)
    networks, volumes = names(wherry)
    assert wherry.containers() == []
    yield wherry
    assert wherry.containers() == []
    assert names(wherry) == (networks, volumes)


def names(engine: Engine) -> tuple[set[str], set[str]]:
    """The engine's networks and volumes."""
    networks = {network["Name"] for network in engine.http.get("/networks").json}
    return networks, {volume["Name"] for volume in engine.http.get("/volumes").json["Volumes"] or []}


def server() -> Any:
    return DockerContainer("busybox").with_command(["sh", "-c", SERVE]).with_exposed_ports(8000)


def fetch(container: Any) -> str:
    address = f"http://{container.get_container_host_ip()}:{container.get_exposed_port(8000)}/page"
    with urllib.request.urlopen(address, timeout=10) as page:
        return str(page.read().decode())


def test_serve_wait_for_logs_fetch_and_exec(engine_for_testcontainers: Engine) -> None:
    with server().with_env("COLOUR", "green") as container:
        wait_for_logs(container, READY, timeout=20)
        assert fetch(container) == "hello\n"
        assert container.get_logs() == (b"serving\n", b"to stderr\n")

        assert tuple(container.exec(["sh", "-c", "echo $COLOUR"])) == (0, b"green\n")
        assert tuple(container.exec("sh -c 'exit 4'")) == (4, b"")
        config = ExecConfig(
            ["sh", "-c", "pwd; echo $SHAPE; id -u"], user="7", environment={"SHAPE": "round"}, workdir="/www"
        )
        assert tuple(container.exec(config)) == (0, b"/www\nround\n7\n")
        container.exec(["sh", "-c", "echo changed >/www/page"])
        assert fetch(container) == "changed\n"

        labels = container.get_wrapped_container().labels
        assert labels["org.testcontainers"] == "true"
        assert engine_for_testcontainers.status(container.get_container_id()) == "running"


def test_wait_strategies(engine_for_testcontainers: Engine) -> None:
    http = HttpWaitStrategy(8000, "/page").for_status_code(200).with_startup_timeout(20)
    check = {"test": ["CMD", "wget", "-q", "-O", "/dev/null", "http://127.0.0.1:8000/page"], "interval": 300_000_000}
    healthy = HealthcheckWaitStrategy().with_startup_timeout(20)
    with server().waiting_for(READY) as container:
        assert b"serving\n" in container.get_logs()[0]
    with server().waiting_for(http) as container:
        assert fetch(container) == "hello\n"
    with server().with_kwargs(healthcheck=check).waiting_for(healthy) as container:
        state = engine_for_testcontainers.state(container.get_container_id())
        assert state["Health"]["Status"] == "healthy"


def test_files_mounts_and_the_end(engine_for_testcontainers: Engine, tmp_path: Path) -> None:
    (tmp_path / "given").write_text("from the host\n")
    container = (
        server()
        .with_volume_mapping(tmp_path, "/mnt/host", "ro")
        .with_tmpfs_mount("/scratch", "size=1m")
        .with_copy_into_container(b"copied before\n", "/www/page")
    )
    with container:
        wait_for_logs(container, READY, timeout=20)
        assert fetch(container) == "copied before\n"
        assert tuple(container.exec("cat /mnt/host/given")) == (0, b"from the host\n")
        assert container.exec("touch /mnt/host/new").exit_code == 1
        assert b"tmpfs on /scratch" in container.exec("mount").output
        container.copy_into_container(b"copied later\n", "/www/page")
        assert fetch(container) == "copied later\n"
        container.copy_from_container("/www/page", tmp_path / "taken")
        assert (tmp_path / "taken").read_text() == "copied later\n"
        container.get_wrapped_container().kill("TERM")
        assert container.wait() == 0


def test_a_network_with_aliases(engine_for_testcontainers: Engine) -> None:
    with Network() as network, server().with_network(network).with_network_aliases("pier") as one:
        wait_for_logs(one, READY, timeout=20)
        asks = DockerContainer("busybox").with_command("wget -q -O - http://pier:8000/page").with_network(network)
        with asks as other:
            assert other.wait() == 0
            assert other.get_logs() == (b"hello\n", b"")
        assert fetch(one) == "hello\n"
