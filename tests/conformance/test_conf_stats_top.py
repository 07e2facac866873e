"""GET stats as a stream, and top: semantics sections 13 and 14."""

from __future__ import annotations

import time
from typing import Any

import pytest

from tests.support.engines import Engine
from tests.support.http import Exchange, eventually


def open_stats(engine: Engine, container: str, **query: Any) -> Exchange:
    exchange = engine.http.open("GET", f"/containers/{container}/stats", query=query)
    assert exchange.status == 200
    return exchange


def top(engine: Engine, container: str, **query: Any) -> Any:
    answer = engine.http.get(f"/containers/{container}/top", query=query)
    assert answer.status == 200, answer
    return answer.json


def test_STT1a_a_stream_is_the_default(engine: Engine) -> None:
    container = engine.run_idle(name="streamed")
    with open_stats(engine, container) as stream:
        samples = stream.json_values()
        first, second = next(samples), next(samples)
    assert first["precpu_stats"]["cpu_usage"]["total_usage"] == 0
    assert second["precpu_stats"]["cpu_usage"] == first["cpu_stats"]["cpu_usage"]
    assert second["preread"] == first["read"]
    assert second["name"] == "/streamed"


def test_STT2a_two_samples_take_their_time(engine: Engine) -> None:
    container = engine.run_idle()
    started = time.monotonic()
    answer = engine.http.get(f"/containers/{container}/stats?stream=0").json
    assert 0.5 < time.monotonic() - started < 5
    assert answer["precpu_stats"]["system_cpu_usage"] > 0


def test_STT2b_one_shot_is_fast_and_has_no_name(engine: Engine) -> None:
    container = engine.run_idle()
    started = time.monotonic()
    seen = engine.http.get(f"/containers/{container}/stats?stream=0&one-shot=1").json
    assert time.monotonic() - started < 0.9
    assert (seen["precpu_stats"]["cpu_usage"]["total_usage"], seen["preread"]) == (0, "0001-01-01T00:00:00Z")
    if not engine.is_dockerd:  # 20.10 gives them
        assert (seen.get("name"), seen.get("id")) in ((None, None), ("", ""))


def test_STT3b_a_stopped_one_goes_on_with_nothing(engine: Engine) -> None:
    container = engine.create("true", name="still")
    with open_stats(engine, container) as stream:
        samples = stream.json_values()
        for _ in range(2):
            seen = next(samples)
            assert (seen["read"], seen["memory_stats"], seen["pids_stats"]) == ("0001-01-01T00:00:00Z", {}, {})


def test_STT4a_content_types(engine: Engine) -> None:
    container = engine.create("true")
    with open_stats(engine, container, stream=0) as single:
        assert single.headers["content-type"] == "application/json"
    with open_stats(engine, container) as stream:
        assert stream.headers.get("content-type") != "application/json" or engine.is_dockerd


def test_STT6a_readers_share_their_samples(engine: Engine) -> None:
    container = engine.run_idle()
    with open_stats(engine, container) as one, open_stats(engine, container) as two:
        first, second = one.json_values(), two.json_values()
        times = [{next(source)["read"] for _ in range(3)} for source in (first, second)]
    assert len(times[0] & times[1]) >= 2


def test_STT7a_removal_ends_the_stream(engine: Engine) -> None:
    container = engine.run_idle(name="doomed")
    with open_stats(engine, container) as stream:
        samples = stream.json_values()
        next(samples)
        assert next(samples)["name"] == "/doomed"
        assert engine.http.delete(f"/containers/{container}?force=1").status == 204
        stream.sock.settimeout(10)
        for _ in samples:
            pass


def test_STT_unknown(engine: Engine) -> None:
    answer = engine.http.get("/containers/nope/stats?stream=0")
    assert (answer.status, answer.message) == (404, "No such container: nope")


def test_TOP1a_TOP3a_the_default(engine: Engine) -> None:
    container = engine.run("sh", "-c", "sleep 1001 & sleep 1002; true")
    commands = {"sh -c sleep 1001 & sleep 1002; true", "sleep 1001", "sleep 1002"}
    # a child of the shell has the shell's command line until it has executed its own
    seen = eventually(lambda: (t := top(engine, container)) and {row[7] for row in t["Processes"]} == commands and t)
    assert seen["Titles"] == ["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"]
    assert [len(row) for row in seen["Processes"]] == [8, 8, 8]
    if not engine.is_dockerd:  # which sees the ids of its own namespace
        assert str(engine.state(container)["Pid"]) in [row[1] for row in seen["Processes"]]


@pytest.mark.parametrize(("arguments", "titles"), [("aux", "USER"), ("-o pid,args", "PID"), ("-eo pid,comm", "PID")])
def test_TOP1b_arguments_are_split_on_blanks(engine: Engine, arguments: str, titles: str) -> None:
    container = engine.run("sleep", "1003")
    seen = top(engine, container, ps_args=arguments)
    assert seen["Titles"][0] == titles
    assert "PID" in seen["Titles"]
    (row,) = seen["Processes"]
    assert "sleep" in row[-1]


def test_TOP1c_columns_that_pretend_are_refused(engine: Engine) -> None:
    container = engine.run("sleep", "1000")
    answer = engine.http.get(f"/containers/{container}/top", query={"ps_args": "-o pid=PID,comm=PID"})
    assert answer.status == 500
    assert "is not allowed" in answer.message


def test_TOP2a_a_pid_column_is_needed(engine: Engine) -> None:
    container = engine.run("sleep", "1000")
    answer = engine.http.get(f"/containers/{container}/top", query={"ps_args": "-o comm"})
    assert (answer.status, "Couldn't find PID field in ps output" in answer.message) == (500, True)


def test_TOP2b_errors_of_ps(engine: Engine) -> None:
    container = engine.run("sleep", "1000")
    answer = engine.http.get(f"/containers/{container}/top", query={"ps_args": "-nonsense-"})
    assert answer.status == 500
    assert answer.message.startswith("ps: ") or "ps" in answer.message


def test_TOP4a_not_running(engine: Engine) -> None:
    container = engine.create("true")
    answer = engine.http.get(f"/containers/{container}/top")
    subject = "Container" if engine.is_dockerd else "container"
    assert (answer.status, answer.message.lower()) == (409, f"{subject} {container} is not running".lower())
