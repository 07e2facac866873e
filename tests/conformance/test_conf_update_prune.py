"""Update, prune, and what is left of resize and rename: semantics sections 18 to 21."""

from __future__ import annotations

import time
from typing import Any

import pytest

from tests.support.engines import Engine
from tests.support.http import Answer


def update(engine: Engine, container: str, **body: Any) -> Answer:
    return engine.http.post(f"/containers/{container}/update", json=body)


def prune(engine: Engine, **filters: list[str]) -> Answer:
    return engine.http.post("/containers/prune", query={"filters": filters} if filters else None)


def last_event(engine: Engine, action: str, **filters: list[str]) -> Any:
    query = {"since": 1, "until": f"{time.time():.9f}", "filters": {"event": [action], **filters}}
    with engine.http.open("GET", "/events", query=query) as events:
        return list(events.json_values())[-1]


def test_UPD1a_UPD4a_nothing_to_update(engine: Engine) -> None:
    container = engine.create("true")
    answer = update(engine, container)
    assert (answer.status, answer.json) == (200, {"Warnings": None})


def test_UPD1b_bad_values(engine: Engine) -> None:
    container = engine.create("true")
    for body in (
        {"Memory": 4096},
        {"CpuPeriod": 5},
        {"CpusetCpus": "0-999"},
        {"NanoCpus": 10**15},
        {"RestartPolicy": {"Name": "sometimes"}},
    ):
        answer = update(engine, container, **body)
        assert answer.status == 400, (body, answer)
    assert update(engine, "nope").status == 404


def test_UPD1c_conflicts_with_what_is_stored(engine: Engine) -> None:
    container = engine.create("true", HostConfig={"CpuPeriod": 100_000, "CpuQuota": 50_000})
    answer = update(engine, container, NanoCpus=10**9)
    assert answer.status == 409, answer
    assert answer.message.startswith(f"Cannot update container {container}: Conflicting options: ")
    details = engine.inspect(container)["HostConfig"]
    assert (details["NanoCpus"], details["CpuPeriod"]) == (0, 100_000)


def test_UPD1d_a_policy_for_one_that_is_removed_at_its_end(engine: Engine) -> None:
    container = engine.create("true", HostConfig={"AutoRemove": True})
    answer = update(engine, container, RestartPolicy={"Name": "always"})
    words = "Restart policy cannot be updated because AutoRemove is enabled for the container"
    assert (answer.status, answer.message) == (409, f"Cannot update container {container}: {words}")


def test_UPD1e_other_fields_are_ignored(engine: Engine) -> None:
    container = engine.create("true", Hostname="before")
    assert update(engine, container, Hostname="after", Binds=["/tmp:/x"], Nonsense=1).status == 200
    details = engine.inspect(container)
    assert (details["Config"]["Hostname"], details["HostConfig"]["Binds"]) == ("before", None)


def test_UPD1f_memory_above_the_stored_swap(engine: Engine) -> None:
    container = engine.create("true", HostConfig={"Memory": 16 << 20, "MemorySwap": 32 << 20})
    if engine.inspect(container)["HostConfig"]["MemorySwap"] == -1:
        return  # a kernel that does not count swap
    answer = update(engine, container, Memory=64 << 20)
    assert answer.status == 409, answer
    assert answer.message.startswith(f"Cannot update container {container}: ")
    assert update(engine, container, Memory=64 << 20, MemorySwap=128 << 20).status == 200


def test_UPD2a_nothing_given_is_nothing_changed(engine: Engine) -> None:
    host = {"Memory": 32 << 20, "CpuShares": 512, "PidsLimit": 20, "RestartPolicy": {"Name": "always"}}
    container = engine.create("true", HostConfig=host)
    assert update(engine, container, Memory=0, CpuShares=0, RestartPolicy={"Name": ""}).status == 200
    stored = engine.inspect(container)["HostConfig"]
    assert (stored["Memory"], stored["CpuShares"], stored["PidsLimit"]) == (32 << 20, 512, 20)
    assert stored["RestartPolicy"]["Name"] == "always"
    assert update(engine, container, PidsLimit=-1, RestartPolicy={"Name": "no"}).status == 200
    stored = engine.inspect(container)["HostConfig"]
    assert stored["PidsLimit"] in (None, 0, -1)
    assert stored["RestartPolicy"]["Name"] == "no"


def test_UPD3a_stored_until_the_start(engine: Engine) -> None:
    container = engine.create("sleep", "1000", HostConfig={"Memory": 32 << 20})
    assert update(engine, container, CpuShares=256).status == 200
    assert engine.inspect(container)["HostConfig"]["CpuShares"] == 256
    engine.start(container)
    assert engine.inspect(container)["HostConfig"]["CpuShares"] == 256


def test_UPD3b_a_running_one_has_it_at_once(engine: Engine) -> None:
    container = engine.run("sleep", "1000", HostConfig={"Memory": 32 << 20, "MemorySwap": 64 << 20})
    assert update(engine, container, Memory=48 << 20, MemorySwap=96 << 20).status == 200
    seen = engine.http.get(f"/containers/{container}/stats?stream=0&one-shot=1").json
    assert seen["memory_stats"]["limit"] == 48 << 20


def test_UPD3c_a_failing_update_is_taken_back(engine: Engine) -> None:
    script = "dd if=/dev/zero of=/dev/shm/blob bs=1M count=24 2>/dev/null; echo ready; sleep 1000"
    host = {"Memory": 64 << 20, "MemorySwap": 64 << 20}
    container = engine.run("sh", "-c", script, HostConfig=host)
    with engine.open_logs(container, follow=1) as logs:
        next(logs.frames())
    answer = update(engine, container, Memory=8 << 20, MemorySwap=8 << 20)
    stored = engine.inspect(container)["HostConfig"]["Memory"]
    if answer.status == 200:  # control groups v2 take any limit
        assert stored == 8 << 20
    else:
        assert (answer.status, stored) == (500, 64 << 20), answer


def test_UPD4b_event(engine: Engine) -> None:
    container = engine.create("true", name="updated")
    assert update(engine, container, CpuShares=512).status == 200
    event = last_event(engine, "update", container=[container])
    assert event["Actor"]["Attributes"]["name"] == "updated"


def test_RES1d_event(engine: Engine) -> None:
    container = engine.run("sleep", "1000", Tty=True)
    assert engine.http.post(f"/containers/{container}/resize?h=33&w=77").status == 200
    attributes = last_event(engine, "resize", container=[container])["Actor"]["Attributes"]
    assert (attributes["height"], attributes["width"]) == ("33", "77")


def test_REN2c_event(engine: Engine) -> None:
    container = engine.create("true", name="before")
    assert engine.http.post(f"/containers/{container}/rename?name=after").status == 204
    attributes = last_event(engine, "rename", container=[container])["Actor"]["Attributes"]
    assert (attributes["oldName"], attributes["name"]) == ("/before", "after")


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
    assert prune(engine, **{"label!": ["c"]}).json["ContainersDeleted"] == [two]


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
