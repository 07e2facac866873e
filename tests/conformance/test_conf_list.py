"""What test_list, test_inspect and test_start leave open of semantics sections 2 to 4."""

from __future__ import annotations

import re
import threading
import time
from typing import Any

from tests.support.engines import Engine
from tests.support.http import eventually


def names(engine: Engine, **query: Any) -> list[str]:
    answer = engine.http.get("/containers/json", query=query)
    assert answer.status == 200, answer
    return [container["Names"][0][1:] for container in answer.json]


def test_LST3a_the_limit_counts_what_is_shown(engine: Engine) -> None:
    engine.wait(engine.run("true", name="ended"))
    engine.create("true", name="newest")
    assert names(engine, limit=1) == ["newest"]
    assert names(engine, limit=1, filters={"status": ["exited"]}) == ["ended"]
    assert names(engine, limit=1, all=1, filters={"exited": ["0"]}) == ["ended"]


def test_LST6c_networks_by_name_and_id(engine: Engine) -> None:
    engine.run_idle(name="member")
    engine.run_idle(name="apart", HostConfig={"NetworkMode": "none"})
    network = engine.http.get("/networks/bridge").json["Id"]
    for value in ("bridge", network):
        assert names(engine, filters={"network": [value]}) == ["member"]
    assert names(engine, filters={"network": ["nowhere"]}) == []


def test_LST6d_volumes_by_name_source_and_place(engine: Engine) -> None:
    engine.create("true", name="with", HostConfig={"Binds": ["listed-volume:/place", "/tmp:/bound"]})
    engine.create("true", name="without")
    for value in ("listed-volume", "/place", "/tmp", "/bound"):
        assert names(engine, all=1, filters={"volume": [value]}) == ["with"]
    engine.remove_all()
    assert engine.http.delete("/volumes/listed-volume").status == 204


def test_LST7d_health_and_tasks(engine: Engine) -> None:
    engine.create("true", name="plain")
    engine.run_idle(name="checked", Healthcheck={"Test": ["CMD", "true"], "Interval": 3600 * 10**9})
    assert names(engine, all=1, filters={"health": ["starting"]}) == ["checked"]
    assert names(engine, all=1, filters={"health": ["none"]}) == ["plain"]
    assert names(engine, all=1, filters={"is-task": ["true"]}) == []
    assert sorted(names(engine, all=1, filters={"is-task": ["false"]})) == ["checked", "plain"]


def test_LST10bc_status_of_health_and_restarts(engine: Engine) -> None:
    engine.run_idle(name="checked", Healthcheck={"Test": ["CMD", "true"], "Interval": 3600 * 10**9})
    engine.run("sh", "-c", "exit 3", name="again", HostConfig={"RestartPolicy": {"Name": "always"}})
    eventually(lambda: engine.inspect("again")["RestartCount"] >= 3)
    eventually(lambda: engine.status("again") == "restarting")
    shown = {c["Names"][0]: c["Status"] for c in engine.http.get("/containers/json").json}
    assert re.fullmatch(r"Up .+ \(health: starting\)", shown["/checked"])
    assert re.fullmatch(r"Restarting \(3\) .+ ago", shown["/again"])


def test_LST12a_a_list_waits_for_nobody(engine: Engine) -> None:
    script = "trap '' TERM; echo ready; while :; do sleep 3600 & wait $!; done"
    container = engine.run("sh", "-c", script, name="patient")
    eventually(lambda: engine.logs(container)[0] == b"ready\n")
    patient = threading.Thread(target=lambda: engine.http.post(f"/containers/{container}/stop?t=60", timeout=90))
    patient.start()
    time.sleep(0.1)
    started = time.monotonic()
    assert names(engine, size=1) == ["patient"]
    assert time.monotonic() - started < 3
    engine.http.post(f"/containers/{container}/kill")
    patient.join()


def test_INS2d_states_in_the_back_off(engine: Engine) -> None:
    container = engine.run("sh", "-c", "exit 3", HostConfig={"RestartPolicy": {"Name": "always"}})
    eventually(lambda: engine.inspect(container)["RestartCount"] >= 3)
    state = eventually(lambda: (s := engine.state(container))["Status"] == "restarting" and s)
    assert (state["Running"], state["Restarting"], state["Paused"], state["Pid"]) == (True, True, False, 0)


def test_INS3b_a_start_clears_the_error(engine: Engine) -> None:
    port = {"PortBindings": {"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": "18090"}]}}
    holder = engine.run_idle(ExposedPorts={"80/tcp": {}}, HostConfig=port)
    second = engine.create("sleep", "1000", ExposedPorts={"80/tcp": {}}, HostConfig=port)
    assert engine.http.post(f"/containers/{second}/start").status == 500
    assert "port is already allocated" in engine.state(second)["Error"]
    assert engine.http.post(f"/containers/{holder}/kill").status == 204
    engine.start(second)
    assert engine.state(second)["Error"] == ""


def test_INS6c_restarts_by_hand_do_not_count(engine: Engine) -> None:
    container = engine.run("sleep", "1000")
    assert engine.http.post(f"/containers/{container}/restart?t=0").status == 204
    assert engine.inspect(container)["RestartCount"] == 0


def test_STA5a_a_start_by_hand_resets_the_count(engine: Engine) -> None:
    policy = {"RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": 2}}
    container = engine.run("sh", "-c", "usleep 300000; exit 3", HostConfig=policy)
    eventually(lambda: engine.status(container) == "exited" and engine.inspect(container)["RestartCount"] == 2)
    engine.start(container)
    assert engine.inspect(container)["RestartCount"] == 0


def test_STA2c_a_removed_one_is_not_found(engine: Engine) -> None:
    container = engine.create("true")
    assert engine.http.delete(f"/containers/{container}").status == 204
    answer = engine.http.post(f"/containers/{container}/start")
    assert (answer.status, answer.message) == (404, f"No such container: {container}")
