"""POST start."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from tests.support.engines import Engine
from tests.support.http import eventually


def test_STA1_a_body_is_refused(engine: Engine) -> None:
    container = engine.create("true")
    words = "starting container with non-empty request body was deprecated since API v1.22 and removed in v1.24"
    answer = engine.http.post(f"/containers/{container}/start", json={"Binds": ["/tmp:/x"]})
    assert (answer.status, answer.message) == (400, words)
    head = f"POST /v{engine.version}/containers/{container}/start HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
    head += "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    assert engine.http.raw(head.encode()).startswith(b"HTTP/1.1 400 ")
    assert engine.status(container) == "created"
    assert engine.http.post(f"/containers/{container}/start", json={}).status == 204


def test_STA2c_a_removed_one_is_not_found(engine: Engine) -> None:
    container = engine.create("true")
    assert engine.http.delete(f"/containers/{container}").status == 204
    answer = engine.http.post(f"/containers/{container}/start")
    assert (answer.status, answer.message) == (404, f"No such container: {container}")


def test_STA2_running_is_not_modified(engine: Engine) -> None:
    container = engine.run_idle()
    assert engine.http.post(f"/containers/{container}/start").status == 304


@pytest.mark.parametrize(
    ("body", "status", "exit_code", "words"),
    [
        ({"Cmd": ["nosuchcommand"]}, 400, 127, 'exec: "nosuchcommand": executable file not found in $PATH'),
        ({"Cmd": ["/no/such/file"]}, 400, 127, "no such file or directory"),
        ({"Cmd": ["/etc/passwd"]}, 400, 126, "permission denied"),
        ({"Cmd": ["/etc"]}, 400, 126, "permission denied"),
        (
            {"Cmd": ["true"], "User": "nosuchuser"},
            500,
            128,
            "unable to find user nosuchuser: no matching entries in passwd file",
        ),
    ],
)
def test_STA3_failures(engine: Engine, body: dict[str, Any], status: int, exit_code: int, words: str) -> None:
    container = engine.create(**body)
    answer = engine.http.post(f"/containers/{container}/start")
    assert (answer.status, words in answer.message) == (status, True), answer
    state = engine.state(container)
    assert (state["Status"], state["ExitCode"]) == ("created", exit_code)
    assert words in state["Error"]


def test_STA3_port_taken(engine: Engine) -> None:
    def with_port(name: str) -> str:
        binding = {"PortBindings": {"80/tcp": [{"HostIp": "0.0.0.0", "HostPort": "18080"}]}}
        command = ("sh", "-c", "trap 'exit 0' TERM; sleep 1000 & wait")
        return engine.create(*command, name=name, ExposedPorts={"80/tcp": {}}, HostConfig=binding)

    holder, second = with_port("holder"), with_port("second")
    engine.start(holder)
    answer = engine.http.post(f"/containers/{second}/start")
    assert answer.status == 500
    assert "driver failed programming external connectivity on endpoint second (" in answer.message
    assert "Bind for 0.0.0.0:18080 failed: port is already allocated" in answer.message
    assert engine.status(second) == "created"
    assert engine.http.post(f"/containers/{holder}/kill").status == 204
    engine.start(second)


def test_STA3_answers_once_the_process_runs(engine: Engine) -> None:
    container = engine.run_idle()
    assert engine.state(container)["Pid"] > 0
    assert engine.status(container) == "running"


def test_STA4_failed_start_removes_an_auto_remove_container(engine: Engine) -> None:
    container = engine.create("nosuchcommand", HostConfig={"AutoRemove": True})
    with engine.http.open("POST", f"/containers/{container}/wait?condition=removed") as removed:
        assert engine.http.post(f"/containers/{container}/start").status == 400
        assert next(removed.json_values())["StatusCode"] == 127
    assert engine.http.get(f"/containers/{container}/json").status == 404


def test_STA4_waits_at_a_failed_start(engine: Engine) -> None:
    container = engine.create("nosuchcommand")
    with engine.http.open("POST", f"/containers/{container}/wait?condition=next-exit") as next_exit:
        assert engine.http.post(f"/containers/{container}/start").status == 400
        assert engine.wait(container) == 127
        assert not next_exit.at_end(within=0.3)


def test_STA5a_a_start_by_hand_resets_the_count(engine: Engine) -> None:
    policy = {"RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": 2}}
    container = engine.run("sh", "-c", "usleep 300000; exit 3", HostConfig=policy)
    eventually(lambda: engine.status(container) == "exited" and engine.inspect(container)["RestartCount"] == 2)
    engine.start(container)
    assert engine.inspect(container)["RestartCount"] == 0


def test_STA5_manual_start_resets_the_restart_count(engine: Engine) -> None:
    policy = {"RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": 1}}
    container = engine.run("false", HostConfig=policy)
    eventually(lambda: engine.status(container) == "exited" and engine.inspect(container)["RestartCount"] == 1)
    engine.start(container)
    assert engine.inspect(container)["RestartCount"] in (0, 1)
    eventually(lambda: engine.status(container) == "exited")
    assert engine.inspect(container)["RestartCount"] == 1


def test_STA6_checkpoints_need_an_experimental_engine(engine: Engine) -> None:
    container = engine.create("true")
    answer = engine.http.post(f"/containers/{container}/start", query={"checkpoint": "one"})
    assert (answer.status, answer.message) == (400, "checkpoint is only supported in experimental mode")


def test_STA7_concurrent_starts(engine: Engine) -> None:
    container = engine.create("sh", "-c", "echo started; sleep 1000 & wait")
    statuses: list[int] = []
    threads = [
        threading.Thread(target=lambda: statuses.append(engine.http.post(f"/containers/{container}/start").status))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(statuses) <= {204, 304}
    assert 204 in statuses
    eventually(lambda: engine.logs(container)[0])
    assert engine.logs(container)[0] == b"started\n"


def test_STA8_started_again(engine: Engine) -> None:
    container = engine.run("sh", "-c", "echo again; exit 4")
    assert engine.wait(container) == 4
    first = engine.state(container)
    engine.start(container)
    assert engine.wait(container) == 4
    second = engine.state(container)
    assert second["StartedAt"] > first["FinishedAt"]
    assert engine.logs(container)[0] == b"again\nagain\n"


def test_INS7_the_last_end_stays_while_it_runs_again(engine: Engine) -> None:
    container = engine.run("sh", "-c", "test -e /again && exec sleep 1000; touch /again")
    engine.wait(container)
    ended = engine.state(container)["FinishedAt"]
    engine.start(container)
    state = engine.state(container)
    assert (state["Running"], state["FinishedAt"]) == (True, ended)
