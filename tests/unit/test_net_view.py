"""Networks as the API shows them."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from wherry.api.errors import BadRequest, NotFound
from wherry.engine.events import Events
from wherry.engine.networks.networks import Networks
from wherry.engine.networks.records import NetworkRecord
from wherry.engine.networks.view import describe, select
from wherry.engine.store.database import Database
from wherry.engine.store.layout import Layout

BRIDGE = NetworkRecord(
    id="ab" * 32,
    name="bridge",
    driver="bridge",
    created=1_700_000_000_120_000_000,
    subnet="172.17.0.0/16",
    bridge="wh-x",
    default=True,
)
OWN = NetworkRecord(id="cd" * 32, name="own", driver="bridge", created=0, labels={"a": "1"})


def test_N5_describe() -> None:
    shown = describe(BRIDGE)
    assert shown.created == "2023-11-14T22:13:20.12Z"
    assert shown.options
    assert shown.options["com.docker.network.bridge.name"] == "wh-x"
    assert shown.options["com.docker.network.bridge.default_bridge"] == "true"
    assert shown.containers == {}
    assert describe(OWN).created == "1970-01-01T00:00:00Z"


@pytest.mark.parametrize(
    ("filters", "names"),
    [
        ({}, ["bridge", "own"]),
        ({"name": ["ri"]}, ["bridge"]),
        ({"name": ["["]}, []),
        ({"id": ["cd"]}, ["own"]),
        ({"driver": ["null", "bridge"]}, ["bridge", "own"]),
        ({"label": ["a"]}, ["own"]),
        ({"label": ["a=1", "b"]}, []),
        ({"type": ["builtin"]}, ["bridge"]),
        ({"type": ["custom"]}, ["own"]),
        ({"scope": ["swarm"]}, []),
        ({"dangling": ["true"]}, ["own"]),
        ({"dangling": ["0"]}, ["bridge"]),
    ],
)
def test_P7_filters(filters: dict[str, list[str]], names: list[str]) -> None:
    assert [record.name for record in select([BRIDGE, OWN], filters, set())] == names


@pytest.mark.parametrize("filters", [{"zzz": ["1"]}, {"type": ["x"]}, {"dangling": ["maybe"]}])
def test_P7_bad_filters(filters: dict[str, list[str]]) -> None:
    with pytest.raises(BadRequest, match="invalid filter"):
        select([BRIDGE, OWN], filters, set())


def test_the_networks_that_are_always_there_keep_their_ids(tmp_path: Path) -> None:
    layout = Layout(tmp_path / "data", tmp_path / "exec")
    layout.make()

    async def look() -> list[str]:
        database = Database(layout.database)
        networks = Networks(layout, database, Events())
        await networks.start()
        await networks.recover(())
        ids = [networks.get(name).id for name in ("bridge", "host", "none", "default")]
        assert networks.get(ids[1][:20]).name == "host"
        assert networks.inspect(ids[0]).name == "bridge"
        for unknown in ("nonet", "", "zz"):
            with pytest.raises(NotFound, match=f"network {unknown} not found"):
                networks.get(unknown)
        await networks.close()
        database.close()
        return ids

    assert asyncio.run(look()) == asyncio.run(look())
