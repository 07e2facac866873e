"""docker-py's networks, as its users write them, against each engine."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import docker
import docker.errors
import pytest
from docker.types import IPAMConfig, IPAMPool

from tests.support.engines import Engine

IDLE = ["sh", "-c", "trap 'exit 0' TERM; sleep 3600 & wait"]


@pytest.fixture
def client(engine: Engine) -> Iterator[Any]:
    client = docker.DockerClient(base_url=engine.address, version="auto", timeout=30)
    yield client
    engine.remove_all()
    client.networks.prune()
    client.close()


def test_make_connect_and_remove(client: Any) -> None:
    pools = [
        IPAMPool(subnet="10.221.0.0/24", gateway="10.221.0.254", aux_addresses={"nas": "10.221.0.1"}),
        IPAMPool(subnet="fd00:221::/64"),
    ]
    network = client.networks.create(
        "own", driver="bridge", ipam=IPAMConfig(pool_configs=pools), enable_ipv6=True, labels={"a": "b"},
        check_duplicate=True,
    )  # fmt: skip
    assert network.attrs["EnableIPv6"]
    assert [one.name for one in client.networks.list(filters={"label": "a=b"})] == ["own"]
    with pytest.raises(docker.errors.APIError) as taken:
        client.networks.create("own", check_duplicate=True)
    assert taken.value.status_code == 409
    web = client.containers.run("busybox", IDLE, name="web", network="own", detach=True)
    app = client.containers.run("busybox", IDLE, name="app", detach=True)
    network.connect(
        app, ipv4_address="10.221.0.7", ipv6_address="fd00:221::7", aliases=["shop"], links={"web": "server"}
    )
    network.reload()
    assert {one.name for one in network.containers} == {"web", "app"}
    app.reload()
    shown = app.attrs["NetworkSettings"]["Networks"]["own"]
    assert (shown["IPAddress"], shown["GlobalIPv6Address"]) == ("10.221.0.7", "fd00:221::7")
    for container, name in ((web, "shop"), (app, "server"), (app, "web")):
        assert container.exec_run(["ping", "-c", "1", "-W", "3", name]).exit_code == 0
    with pytest.raises(docker.errors.APIError) as used:
        network.remove()
    assert used.value.status_code == 403
    network.disconnect(app)
    app.reload()
    assert set(app.attrs["NetworkSettings"]["Networks"]) == {"bridge"}
    web.remove(force=True)
    network.remove()
    with pytest.raises(docker.errors.NotFound):
        client.networks.get("own")


def test_create_with_a_networking_config_and_prune(client: Any) -> None:
    client.networks.create("own", internal=True)
    low = client.api
    config = low.create_networking_config({"own": low.create_endpoint_config(aliases=["a"])})
    host = low.create_host_config(network_mode="own", links={})
    container = low.create_container("busybox", IDLE, networking_config=config, host_config=host)
    low.start(container)
    assert "a" in low.inspect_container(container)["NetworkSettings"]["Networks"]["own"]["Aliases"]
    assert low.prune_networks() == {"NetworksDeleted": None}
    low.remove_container(container, force=True)
    assert low.prune_networks() == {"NetworksDeleted": ["own"]}


def test_links_of_the_default_bridge(client: Any) -> None:
    web = client.containers.run("busybox", IDLE, name="web", detach=True, environment={"KEY": "value"})
    app = client.containers.run("busybox", IDLE, name="app", detach=True, links={"web": "shop"})
    assert b"SHOP_ENV_KEY=value" in app.exec_run("env").output
    assert app.attrs["HostConfig"]["Links"] == ["/web:/app/shop"]
    assert client.containers.get("app/shop").id == web.id
