"""GET top."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.engines import Engine
from tests.support.http import eventually
from tests.support.scenes import last_event


def top(engine: Engine, container: str, **query: Any) -> Any:
    answer = engine.http.get(f"/containers/{container}/top", query=query)
    assert answer.status == 200, answer
    return answer.json


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


def test_TOP_is_announced(engine: Engine) -> None:
    container = engine.run_idle()
    top(engine, container)
    assert last_event(engine, "top", container=[container])["Actor"]["ID"] == container


def test_TOP4a_not_running(engine: Engine) -> None:
    container = engine.create("true")
    answer = engine.http.get(f"/containers/{container}/top")
    subject = "Container" if engine.is_dockerd else "container"
    assert (answer.status, answer.message.lower()) == (409, f"{subject} {container} is not running".lower())
