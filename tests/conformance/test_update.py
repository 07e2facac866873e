"""POST update."""

from __future__ import annotations

from typing import Any

from tests.support.engines import Engine
from tests.support.http import Answer
from tests.support.scenes import last_event


def update(engine: Engine, container: str, **body: Any) -> Answer:
    return engine.http.post(f"/containers/{container}/update", json=body)


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
