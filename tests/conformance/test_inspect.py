"""GET /containers/{id}/json."""

from __future__ import annotations

import re
from pathlib import Path

from tests.support.engines import Engine
from tests.support.http import eventually
from tests.support.scenes import actions


def test_INS1_size(engine: Engine) -> None:
    container = engine.create("true")
    assert not {"SizeRw", "SizeRootFs"} & set(engine.inspect(container))
    sized = engine.http.get(f"/containers/{container}/json?size=1").json
    assert sized["SizeRootFs"] > 1_000_000
    assert sized["SizeRw"] >= 0


def test_INS1b_aliases_contain_the_short_id(engine: Engine) -> None:
    container = engine.run_idle()
    bridge = engine.inspect(container)["NetworkSettings"]["Networks"]["bridge"]
    assert bridge["Aliases"] in (None, [], [container[:12]])
    assert engine.http.post("/networks/create", json={"Name": "ins1"}).status == 201
    try:
        other = engine.run_idle(
            HostConfig={"NetworkMode": "ins1"}, NetworkingConfig={"EndpointsConfig": {"ins1": {"Aliases": ["mine"]}}}
        )
        assert engine.inspect(other)["NetworkSettings"]["Networks"]["ins1"]["Aliases"] == ["mine", other[:12]]
        engine.http.delete(f"/containers/{other}?force=1")
    finally:
        assert engine.http.delete("/networks/ins1").status == 204


def test_INS2d_states_in_the_back_off(engine: Engine) -> None:
    container = engine.run("sh", "-c", "exit 3", HostConfig={"RestartPolicy": {"Name": "always"}})
    eventually(lambda: engine.inspect(container)["RestartCount"] >= 3)
    state = eventually(lambda: (s := engine.state(container))["Status"] == "restarting" and s)
    assert (state["Running"], state["Restarting"], state["Paused"], state["Pid"]) == (True, True, False, 0)


def test_INS2_states(engine: Engine) -> None:
    container = engine.create("sh", "-c", "sleep 1000 & wait", HostConfig={"RestartPolicy": {"Name": "no"}})
    assert engine.status(container) == "created"
    engine.start(container)
    state = engine.state(container)
    assert (state["Status"], state["Running"], state["Paused"], state["Restarting"]) == ("running", True, False, False)
    assert state["Pid"] > 0
    assert "Health" not in state
    assert engine.http.post(f"/containers/{container}/kill").status == 204
    state = engine.state(container)
    assert (state["Status"], state["Running"], state["ExitCode"], state["Pid"]) == ("exited", False, 137, 0)


def test_INS3b_a_start_clears_the_error(engine: Engine) -> None:
    port = {"PortBindings": {"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": "18090"}]}}
    holder = engine.run_idle(ExposedPorts={"80/tcp": {}}, HostConfig=port)
    second = engine.create("sleep", "1000", ExposedPorts={"80/tcp": {}}, HostConfig=port)
    assert engine.http.post(f"/containers/{second}/start").status == 500
    assert "port is already allocated" in engine.state(second)["Error"]
    assert engine.http.post(f"/containers/{holder}/kill").status == 204
    engine.start(second)
    assert engine.state(second)["Error"] == ""


def test_INS3_error_of_the_last_start(engine: Engine) -> None:
    container = engine.create("nosuchcommand")
    answer = engine.http.post(f"/containers/{container}/start")
    assert answer.status == 400
    state = engine.state(container)
    assert (state["Status"], state["ExitCode"]) == ("created", 127)
    assert "executable file not found" in state["Error"]
    assert state["StartedAt"] == "0001-01-01T00:00:00Z"


def test_INS4_image_command_and_network_mode(engine: Engine) -> None:
    details = engine.inspect(engine.create("echo", "a", "b"))
    assert re.fullmatch(r"sha256:[0-9a-f]{64}", details["Image"])
    assert details["Config"]["Image"] == "busybox"
    assert (details["Path"], details["Args"]) == ("echo", ["a", "b"])
    assert details["HostConfig"]["NetworkMode"] == "default"


def test_INS5_network_settings(engine: Engine) -> None:
    container = engine.run_idle(
        ExposedPorts={"80/tcp": {}, "81/tcp": {}}, HostConfig={"PortBindings": {"80/tcp": [{"HostIp": "127.0.0.1"}]}}
    )
    settings = engine.inspect(container)["NetworkSettings"]
    bridge = settings["Networks"]["bridge"]
    for field in ("IPAddress", "Gateway", "MacAddress", "IPPrefixLen", "EndpointID"):
        assert settings[field] == bridge[field]
        assert bridge[field]
    assert re.fullmatch(r"[0-9a-f]{64}", bridge["NetworkID"])
    assert bridge["NetworkID"] == engine.http.get("/networks/bridge").json["Id"]
    assert settings["SandboxKey"].startswith("/")
    assert settings["Ports"]["81/tcp"] is None
    assert settings["Ports"]["80/tcp"][0]["HostIp"] == "127.0.0.1"
    assert int(settings["Ports"]["80/tcp"][0]["HostPort"]) > 0
    engine.http.post(f"/containers/{container}/kill")
    settings = engine.inspect(container)["NetworkSettings"]
    assert (settings["Ports"], settings["IPAddress"]) == ({}, "")


def test_INS6c_restarts_by_hand_do_not_count(engine: Engine) -> None:
    container = engine.run("sleep", "1000")
    assert engine.http.post(f"/containers/{container}/restart?t=0").status == 204
    assert engine.inspect(container)["RestartCount"] == 0


def test_INS6_exec_ids_and_paths(engine: Engine) -> None:
    container = engine.run_idle()
    body = {"Cmd": ["sleep", "100"]}
    exec_id = engine.http.post(f"/containers/{container}/exec", json=body).json["Id"]
    assert engine.http.post(f"/exec/{exec_id}/start", json={"Detach": True}).status == 200
    details = eventually(lambda: (d := engine.inspect(container))["ExecIDs"] and d)
    assert details["ExecIDs"] == [exec_id]
    assert {"MergedDir", "UpperDir", "WorkDir", "LowerDir"} <= set(details["GraphDriver"]["Data"])
    assert Path(details["LogPath"]).is_file()
    for field in ("HostsPath", "HostnamePath", "ResolvConfPath"):
        assert Path(details[field]).is_file()
    assert (details["Platform"], details["RestartCount"]) == ("linux", 0)


def test_INS7_out_of_memory(engine: Engine) -> None:
    # MemorySwap equal to Memory: no swap. tail keeps the whole of an endless line.
    memory = {"Memory": 8 << 20, "MemorySwap": 8 << 20}
    container = engine.run("sh", "-c", "tail /dev/zero", HostConfig=memory)
    assert engine.wait(container) in (137, 1)
    state = engine.state(container)
    assert (state["OOMKilled"], state["Pid"]) == (True, 0)
    assert state["FinishedAt"] > state["StartedAt"] > "2020"
    assert "oom" in actions(engine, container, "die")


def test_INS8_fields_that_others_forgot(engine: Engine) -> None:
    details = engine.inspect(
        engine.create(
            "true",
            StopSignal="SIGINT",
            StopTimeout=7,
            Healthcheck={"Test": ["CMD", "true"], "Interval": 10**9},
            HostConfig={"CapAdd": ["NET_ADMIN"]},
        )
    )
    config = details["Config"]
    assert (config["StopSignal"], config["StopTimeout"]) == ("SIGINT", 7)
    assert config["Healthcheck"] == {"Test": ["CMD", "true"], "Interval": 10**9}
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z", details["Created"])
    assert details["HostConfig"]["CapAdd"] == ["NET_ADMIN"]  # as given, without a prefix
    assert (details["Path"], details["Args"], details["RestartCount"]) == ("true", [], 0)


def test_NULcd_maps_and_lists_that_are_never_null(engine: Engine) -> None:
    engine.create("true")
    (listed,) = engine.http.get("/containers/json", query={"all": 1}).json
    assert (listed["Ports"], listed["Mounts"], listed["Labels"]) == ([], [], {})
    assert len(listed["Names"]) == 1
