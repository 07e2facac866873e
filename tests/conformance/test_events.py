"""GET /events."""

from __future__ import annotations

import time
from typing import Any

from tests.support.engines import Engine
from tests.support.http import PATIENCE, Exchange


def open_events(engine: Engine, **query: Any) -> Exchange:
    exchange = engine.http.open("GET", "/events", query=query)
    assert exchange.status == 200, exchange.read()
    return exchange


def test_EVT1_headers_at_once_and_fields(engine: Engine) -> None:
    with open_events(engine, filters={"type": ["container"], "event": ["create"]}) as events:
        assert events.headers["content-type"] == "application/json"
        started = time.time_ns()
        container = engine.create("true", name="watched", Labels={"colour": "red"})
        event = next(events.json_values())
    assert set(event) == {"status", "id", "from", "Type", "Action", "Actor", "scope", "time", "timeNano"}
    assert (event["status"], event["Action"]) == ("create", "create")
    assert (event["id"], event["Actor"]["ID"], event["Type"]) == (container, container, "container")
    assert (event["from"], event["scope"]) == ("busybox", "local")
    assert abs(event["timeNano"] - started) < 5e9
    assert event["time"] == event["timeNano"] // 10**9
    # EVT2
    assert event["Actor"]["Attributes"] == {"colour": "red", "image": "busybox", "name": "watched"}


def test_N2c_events_name_without_a_slash(engine: Engine) -> None:
    container = engine.create("true", name="/slashed")
    with engine.http.open("GET", "/events", query={"since": 1, "filters": {"container": [container]}}) as events:
        assert next(events.json_values())["Actor"]["Attributes"]["name"] == "slashed"


def test_EVT2a_attributes(engine: Engine) -> None:
    container = engine.create("true", name="told", Labels={"k": "v"}, Image="busybox:latest")
    with engine.http.open("GET", "/events", query={"since": 1, "filters": {"container": [container]}}) as events:
        event = next(events.json_values())
    assert event["Actor"]["Attributes"] == {"k": "v", "image": "busybox:latest", "name": "told"}
    assert event["from"] == "busybox:latest"


def test_EVT3d_only_the_newest_are_kept(engine: Engine) -> None:
    container = engine.create("true", name="zz")
    for number in range(260):
        old, new = ("zz", "yy") if number % 2 == 0 else ("yy", "zz")
        assert engine.http.post(f"/containers/{old}/rename?name={new}").status == 204
    query = {"since": 1, "until": f"{time.time():.9f}"}
    with engine.http.open("GET", "/events", query=query) as events:
        seen = list(events.json_values())
    assert len(seen) == 256
    assert {event["Action"] for event in seen} == {"rename"}
    assert seen[0]["id"] == container


def test_EVT3_since_and_until(engine: Engine) -> None:
    container = engine.create("true")
    now = time.time()
    with open_events(engine, since=f"{now - 5:.9f}", until=f"{time.time():.9f}") as events:
        assert container in [event.get("id") for event in events.json_values()]
    with open_events(engine, since=1, until=2) as events:
        assert list(events.json_values()) == []
    with open_events(engine, until=f"{time.time() + 0.5:.9f}") as events:
        started = time.monotonic()
        events.read()
        assert time.monotonic() - started < 5 * PATIENCE
    answer = engine.http.get("/events?since=5&until=1")
    assert (answer.status, answer.message) == (400, "`since` time (5) cannot be after `until` time (1)")
    assert engine.http.get("/events?since=abc&until=1").status == (500 if engine.is_dockerd else 400)


def test_EVT4c_containers_by_the_beginning_of_a_name(engine: Engine) -> None:
    one = engine.create("true", name="prefixed-one")
    two = engine.create("true", name="other-two")
    query = {"since": 1, "until": f"{time.time():.9f}", "filters": {"container": ["prefixed"]}}
    with engine.http.open("GET", "/events", query=query) as events:
        seen = {event["Actor"]["ID"] for event in events.json_values()}
    assert (one in seen, two in seen) == (True, False)


def test_EVT4_filters(engine: Engine) -> None:
    one = engine.create("true", name="one", Labels={"a": "1"})
    two = engine.create("true", name="two")

    def seen(**filters: list[str]) -> list[str]:
        with open_events(engine, since=1, until=f"{time.time():.9f}", filters=filters) as events:
            return [event["Actor"]["ID"] for event in events.json_values() if event["Actor"]["ID"] in (one, two)]

    assert seen(container=["one"]) == seen(container=[one]) == seen(container=[one[:12]]) == [one]
    assert seen(event=["create"], type=["container"], container=["one", "two"]) == [one, two]
    assert seen(label=["a=1"], container=[one, two]) == [one]
    assert seen(type=["image"]) == []
    assert seen(image=["busybox"], container=[two]) == [two]
    assert seen(zzz=["1"], container=[one]) == [one], "unknown keys are ignored"


def test_EVT4_event_names(engine: Engine) -> None:
    container = engine.run_idle()
    engine.exec(container, "echo", "a", "b")
    filters = {"container": [container], "event": ["exec_create", "start"]}
    with open_events(engine, since=1, until=f"{time.time():.9f}", filters=filters) as events:
        assert [event["Action"] for event in events.json_values()] == ["start", "exec_create: echo a b"]


def test_EVT5_nothing_is_lost_between_past_and_present(engine: Engine) -> None:
    before = engine.create("true")
    with open_events(engine, since=1, filters={"event": ["create"], "type": ["container"]}) as events:
        after = engine.create("true")
        ids = []
        for event in events.json_values():
            ids.append(event["Actor"]["ID"])
            if ids[-1] == after:
                break
    assert ids[-2:] == [before, after]


def test_EVT6_order_of_a_life(engine: Engine) -> None:
    container = engine.create("true", name="short")
    with open_events(engine, since=1, filters={"container": [container], "type": ["container"]}) as events:
        engine.start(container)
        engine.wait(container)
        engine.http.post("/containers/short/rename?name=brief")
        engine.http.delete(f"/containers/{container}")
        seen = []
        for event in events.json_values():
            seen.append(event)
            if event["Action"] == "destroy":
                break
    assert [event["Action"] for event in seen] == ["create", "start", "die", "rename", "destroy"]
    renamed = seen[3]["Actor"]["Attributes"]
    assert (renamed["oldName"], renamed["name"]) == ("/short", "brief")


def test_EVT_images(engine: Engine) -> None:
    with open_events(engine, filters={"type": ["image"]}) as events:
        engine.load_image("evented:latest", {"Cmd": ["true"]})
        assert engine.http.post("/images/evented/tag?repo=other&tag=v1").status == 201
        assert engine.http.delete("/images/other:v1").status == 200
        assert engine.http.delete("/images/evented").status == 200
        seen = []
        for event in events.json_values():
            seen.append(event["Action"])
            if event["Action"] == "delete":
                break
    assert seen == ["load", "tag", "untag", "untag", "delete"]
