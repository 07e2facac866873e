"""POST /containers/prune."""

from __future__ import annotations

import time

import pytest

from tests.support.engines import Engine
from tests.support.http import Answer
from tests.support.scenes import last_event


def prune(engine: Engine, **filters: list[str]) -> Answer:
    return engine.http.post("/containers/prune", query={"filters": filters} if filters else None)


def test_PRU1a_nothing_to_remove(engine: Engine) -> None:
    answer = prune(engine)
    assert (answer.status, answer.json) == (200, {"ContainersDeleted": None, "SpaceReclaimed": 0})


@pytest.mark.parametrize(
    ("filters", "message"),
    [
        ({"foo": ["1"]}, "nvalid filter 'foo'"),
        ({"until": ["1", "2"]}, "more than one until filter specified"),
        ({"until": ["abc"]}, 'failed to parse value as time or duration: "abc"'),
    ],
)
def test_PRU1bcd_bad_filters(engine: Engine, filters: dict[str, list[str]], message: str) -> None:
    answer = prune(engine, **filters)
    if engine.is_dockerd and "until" in filters:  # 20.10: untyped
        assert answer.status in (400, 500)
    else:
        assert (answer.status, message in answer.message) == (400, True), answer


def test_PRU1e_until_in_its_forms(engine: Engine) -> None:
    container = engine.create("true")
    now = time.time()
    for early in ("10m", "1h30m", str(int(now) - 100), "2020-01-01T00:00:00Z", "2020-01-01"):
        assert prune(engine, until=[early]).json["ContainersDeleted"] is None, early
    assert prune(engine, until=[str(int(now) + 100)]).json["ContainersDeleted"] == [container]


def test_PRU2ab_what_does_not_run_is_removed(engine: Engine) -> None:
    running = engine.run_idle(name="running")
    frozen = engine.run_idle(name="frozen")
    assert engine.http.post(f"/containers/{frozen}/pause").status == 204
    created = engine.create("true", name="created")
    ended = engine.run("sh", "-c", "dd if=/dev/zero of=/file bs=1000 count=50", name="ended")
    engine.wait(ended)
    answer = prune(engine).json
    assert sorted(answer["ContainersDeleted"]) == sorted([created, ended])
    assert answer["SpaceReclaimed"] >= 50_000
    assert sorted(engine.containers()) == sorted([running, frozen])
    attributes = last_event(engine, "prune", type=["container"])["Actor"]["Attributes"]
    assert attributes == {"reclaimed": str(answer["SpaceReclaimed"])}
    assert last_event(engine, "destroy", container=[ended])["Actor"]["ID"] == ended


def test_PRU3a_labels(engine: Engine) -> None:
    one = engine.create("true", Labels={"a": "1"})
    two = engine.create("true", Labels={"a": "2"})
    three = engine.create("true", Labels={"b": "1"})
    assert prune(engine, label=["a=1"]).json["ContainersDeleted"] == [one]
    assert prune(engine, **{"label!": ["a=2"], "label": ["b"]}).json["ContainersDeleted"] == [three]
    assert prune(engine, **{"label!": ["a"]}).json["ContainersDeleted"] is None
    both = engine.create("true", Labels={"a": "1", "b": "1"})
    one = engine.create("true", Labels={"a": "1"})
    assert prune(engine, **{"label!": ["b", "a=1"], "label": ["a=1"]}).json["ContainersDeleted"] == [one]
    assert engine.http.delete(f"/containers/{both}").status == 204  # it alone has both
    assert prune(engine, **{"label!": ["c"]}).json["ContainersDeleted"] == [two]


def test_PRU2d_volumes_stay(engine: Engine) -> None:
    container = engine.create("true", HostConfig={"Binds": ["kept:/kept", "/unnamed"]})
    names = {mount["Name"] for mount in engine.inspect(container)["Mounts"]}
    assert prune(engine).json["ContainersDeleted"] == [container]
    assert {engine.http.get(f"/volumes/{name}").status for name in names} == {200}
    assert {engine.http.delete(f"/volumes/{name}").status for name in names} == {204}
