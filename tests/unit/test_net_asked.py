"""Which networks a create asks for."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from wherry.api.errors import BadRequest, Conflict, ServerError
from wherry.api.models.networks import EndpointSettings
from wherry.engine.containers.links import endpoint_links, link_environment, parse_link
from wherry.engine.containers.network import networks_asked
from wherry.engine.events import Events
from wherry.engine.networks.networks import Networks
from wherry.engine.networks.records import NetworkRecord
from wherry.engine.store.database import Database
from wherry.engine.store.layout import Layout


@pytest.fixture
def networks(tmp_path: Path) -> Iterator[Networks]:
    layout = Layout(tmp_path / "data", tmp_path / "exec")
    layout.make()
    database = Database(layout.database)
    networks = Networks(layout, database, Events())

    async def load() -> None:
        await networks.start()
        own = NetworkRecord(id="abc" + "0" * 61, name="own", driver="bridge", created=1, subnet="10.9.0.0/24")
        networks._catalog.save_network(own)

    asyncio.run(load())
    yield networks
    database.close()


def test_by_name_that_of_the_mode_first(networks: Networks) -> None:
    def asked(mode: str, *given: str) -> list[str]:
        return list(networks_asked(networks, mode, {name: EndpointSettings() for name in given}))

    assert asked("default") == asked("bridge") == asked("default", "default") == ["bridge"]
    assert asked("own") == asked("own", "own") == asked("abc", "own") == asked("own", "abc") == ["own"]
    assert asked("default", "own") == ["own"], "what is given takes the place of the default"
    assert asked("own", "bridge", "own") == ["own", "bridge"]
    assert asked("nowhere") == ["nowhere"], "found out at start (CRE18)"
    assert asked("container:x") == []
    with pytest.raises(BadRequest, match="container network mode"):
        asked("container:x", "own")
    with pytest.raises(Conflict, match="conflicting options"):
        asked("host", "host", "own")


def test_the_mac_address_is_the_first_ones(networks: Networks) -> None:
    given = {"bridge": EndpointSettings(), "own": EndpointSettings(mac_address="02:00:00:00:00:02")}
    asked = networks_asked(networks, "own", given, "02:00:00:00:00:01")
    assert [one.mac_address for one in asked.values()] == ["02:00:00:00:00:01", ""]


def test_links() -> None:
    assert endpoint_links(["/db:sql", "cache", "/db:/web/store"]) == {"sql": "db", "cache": "cache", "store": "db"}
    for bad in ("", "a:b:c", "a:"):
        with pytest.raises(ServerError, match="links"):
            parse_link(bad)


def test_the_environment_of_a_link_without_ports() -> None:
    assert link_environment("/app/my-db", "10.0.0.2", [], ["A=1", "PATH=/bin", "B"]) == {
        "MY_DB_NAME": "/app/my-db",
        "MY_DB_ENV_A": "1",
    }
    two = link_environment("/app/db", "10.0.0.2", [(81, "tcp"), (80, "udp")], [])
    assert two["DB_PORT"] == "udp://10.0.0.2:80"
    assert "DB_PORT_80_UDP_START" not in two
