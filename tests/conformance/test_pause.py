"""Pause, unpause, and what works meanwhile."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.support.engines import Engine
from tests.support.http import Answer, eventually


def post(engine: Engine, container: str, verb: str, **query: Any) -> Answer:
    return engine.http.post(f"/containers/{container}/{verb}", query=query)


def paused(engine: Engine, *command: str, **options: Any) -> str:
    container = engine.run(*command, **options) if command else engine.run_idle(**options)
    assert engine.http.post(f"/containers/{container}/pause").status == 204
    return container


def test_PAU1abd_refusals(engine: Engine) -> None:
    container = engine.create("sleep", "1000")
    subject = "Container" if engine.is_dockerd else "container"  # 20.10 begins with a capital
    refused = post(engine, container, "pause")
    assert (refused.status, refused.message) == (409, f"{subject} {container} is not running")
    engine.start(container)
    refused = post(engine, container, "unpause")
    assert (refused.status, refused.message) == (500, f"Container {container} is not paused")
    assert post(engine, container, "pause").status == 204
    refused = post(engine, container, "pause")
    assert (refused.status, refused.message) == (409, f"{subject} {container} is already paused")
    assert post(engine, container, "unpause").status == 204
    assert engine.status(container) == "running"


def test_PAU1c_restarting(engine: Engine) -> None:
    container = engine.run("sh", "-c", "exit 3", HostConfig={"RestartPolicy": {"Name": "always"}})
    eventually(lambda: engine.inspect(container)["RestartCount"] >= 3)
    eventually(lambda: engine.status(container) == "restarting")
    answer = post(engine, container, "pause")
    assert answer.status == 409, answer
    words = f"Container {container} is restarting, wait until the container is running"
    assert answer.message == words


def test_LST1c_LST10b_a_paused_container_in_the_list(engine: Engine) -> None:
    container = paused(engine)
    (listed,) = engine.http.get("/containers/json").json
    assert (listed["Id"], listed["State"]) == (container, "paused")
    assert re.fullmatch(r"Up .+ \(Paused\)", listed["Status"])


@pytest.mark.parametrize("verb", ["pause", "unpause"])
def test_PAU1e_unknown_containers(engine: Engine, verb: str) -> None:
    answer = post(engine, "nope", verb)
    assert (answer.status, answer.message) == (404, "No such container: nope")


def test_PAU2abc_STA2a_ATT9a_refused_while_paused(engine: Engine) -> None:
    container = paused(engine, name="frozen")
    answer = post(engine, container, "start")
    assert (answer.status, answer.message) == (409, "cannot start a paused container, try unpause instead")
    answer = engine.http.post("/containers/frozen/exec", json={"Cmd": ["true"]})
    assert answer.status == 409
    assert answer.message == "Container frozen is paused, unpause the container before exec"
    with engine.attach("frozen") as refused:
        assert refused.status == 409
        assert refused.read() == b"container frozen is paused, unpause the container before attach\r\n"
    assert engine.status(container) == "paused"


def test_INS2b_a_paused_container_is_a_running_one(engine: Engine) -> None:
    container = paused(engine)
    state = engine.state(container)
    assert (state["Status"], state["Running"], state["Paused"], state["Restarting"]) == ("paused", True, True, False)
    assert state["Pid"] > 0


def test_PAU2d_TOP4c_top_while_paused(engine: Engine) -> None:
    container = paused(engine, "sleep", "1000")
    answer = engine.http.get(f"/containers/{container}/top")
    assert answer.status == 200
    assert any("sleep 1000" in row[-1] for row in answer.json["Processes"])


def test_PAU2e_stats_while_paused(engine: Engine) -> None:
    container = paused(engine)
    seen = engine.http.get(f"/containers/{container}/stats", query={"stream": 0, "one-shot": 1}).json
    assert seen["pids_stats"]["current"] >= 1


def test_PAU2f_logs_while_paused(engine: Engine) -> None:
    container = engine.run("sh", "-c", "echo said; sleep 1000 & wait")
    eventually(lambda: engine.logs(container)[0] == b"said\n")
    assert post(engine, container, "pause").status == 204
    assert engine.logs(container)[0] == b"said\n"


def test_PAU2g_STP7a_stop_while_paused(engine: Engine) -> None:
    container = paused(engine, "sh", "-c", "trap '' TERM; while :; do sleep 3600 & wait $!; done")
    assert post(engine, container, "stop", t=1).status == 204
    state = engine.state(container)
    assert (state["Status"], state["Paused"], state["ExitCode"]) == ("exited", False, 137)


def test_PAU2g_KIL5a_kill_while_paused(engine: Engine) -> None:
    container = paused(engine, "sleep", "1000")
    assert post(engine, container, "kill").status == 204
    state = engine.state(container)
    assert (state["Status"], state["Paused"], state["ExitCode"]) == ("exited", False, 137)


def test_PAU2h_DEL1b_delete_while_paused(engine: Engine) -> None:
    container = paused(engine)
    answer = engine.http.delete(f"/containers/{container}")
    assert (answer.status, answer.message) == (
        409,
        f"You cannot remove a paused container {container}. "
        "Unpause and then stop the container before attempting removal or force remove",
    )
    assert engine.http.delete(f"/containers/{container}?force=1").status == 204


def test_PAU2j_what_else_works_while_paused(engine: Engine) -> None:
    container = paused(engine, "sh", "-c", "echo x > /made; sleep 1000", Tty=True)
    assert post(engine, container, "resize", h=10, w=20).status == 200
    assert engine.http.get(f"/containers/{container}/changes").status == 200
    assert engine.http.get(f"/containers/{container}/archive", query={"path": "/etc/passwd"}).status == 200
    answer = engine.http.post(f"/containers/{container}/update", json={"CpuShares": 512})
    assert answer.status == 200, answer
    assert engine.status(container) == "paused"


def test_PAU2k_restart_while_paused(engine: Engine) -> None:
    container = paused(engine, "sleep", "1000")
    assert post(engine, container, "restart", t=1).status == 204
    state = engine.state(container)
    assert (state["Status"], state["Paused"]) == ("running", False)
