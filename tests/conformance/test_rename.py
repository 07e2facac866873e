"""POST rename."""

from __future__ import annotations

import pytest

from tests.support.engines import Engine
from tests.support.scenes import last_event


@pytest.mark.parametrize(
    ("name", "status", "message"),
    [
        ("", 400, "Neither old nor new names may be empty"),
        ("first", 400, "Renaming a container with the same name as its current name"),
        ("b d", 400, "Error when allocating new name: Invalid container name (/b d), only [a-zA-Z0-9][a-zA-Z0-9_.-]"),
        ("taken", 409, 'Error when allocating new name: Conflict. The container name "/taken" is already in use by'),
    ],
)
def test_REN1_refusals(engine: Engine, name: str, status: int, message: str) -> None:
    container = engine.create("true", name="first")
    engine.create("true", name="taken")
    answer = engine.http.post("/containers/first/rename", query={"name": name})
    assert (answer.status, message in answer.message) == (status, True), answer
    assert engine.inspect(container)["Name"] == "/first"


def test_REN1_blanks_are_trimmed(engine: Engine) -> None:
    engine.create("true", name="blank")
    answer = engine.http.post("/containers/blank/rename", query={"name": " tidy "})
    if engine.is_dockerd:  # 20.10 takes them as part of the name
        assert answer.status == 400
    else:
        assert answer.status == 204
        assert engine.inspect("tidy")["Name"] == "/tidy"


def test_REN2c_event(engine: Engine) -> None:
    container = engine.create("true", name="before")
    assert engine.http.post(f"/containers/{container}/rename?name=after").status == 204
    attributes = last_event(engine, "rename", container=[container])["Actor"]["Attributes"]
    assert (attributes["oldName"], attributes["name"]) == ("/before", "after")


def test_REN2b_the_name_in_a_network(engine: Engine) -> None:
    assert engine.http.post("/networks/create", json={"Name": "renaming"}).status == 201
    try:
        mode = {"NetworkMode": "renaming"}
        engine.run_idle(name="before", HostConfig=mode)
        other = engine.run_idle(HostConfig=mode)
        ask = ("ping", "-c", "1", "-W", "5")
        assert engine.exec(other, *ask, "before")[0] == 0
        assert engine.http.post("/containers/before/rename?name=after").status == 204
        assert engine.exec(other, *ask, "after")[0] == 0
        assert engine.exec(other, *ask, "before")[0] != 0
    finally:
        engine.remove_all()
        engine.http.delete("/networks/renaming")


def test_REN2_in_any_state(engine: Engine) -> None:
    container = engine.create("sh", "-c", "sleep 1000 & wait", name="one")
    assert engine.http.post("/containers/one/rename?name=two").status == 204
    engine.start("two")
    assert engine.http.post("/containers/two/rename?name=three").status == 204
    assert engine.inspect("three")["Id"] == container
    assert engine.http.get("/containers/one/json").status == 404
    engine.create("true", name="one")
