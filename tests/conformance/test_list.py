"""GET /containers/json."""

from __future__ import annotations

import re
import threading
import time
from typing import Any

import pytest

from tests.support.engines import Engine
from tests.support.http import PATIENCE, eventually


def names(engine: Engine, **query: Any) -> list[str]:
    answer = engine.http.get("/containers/json", query=query)
    assert answer.status == 200, answer
    return [container["Names"][0][1:] for container in answer.json]


def listed(engine: Engine, **query: Any) -> list[str]:
    """The names of what a list gives, in its order."""
    answer = engine.http.get("/containers/json", query=query)
    assert answer.status == 200, answer
    return [container["Names"][0][1:] for container in answer.json]


def filtered(engine: Engine, **filters: Any) -> list[str]:
    return listed(engine, all=1, filters={name.replace("_", "-"): values for name, values in filters.items()})


def refusal(engine: Engine, **filters: Any) -> tuple[int, str]:
    answer = engine.http.get(
        "/containers/json", query={"filters": {k.replace("_", "-"): v for k, v in filters.items()}}
    )
    return answer.status, answer.message


def test_LST1_newest_first_and_running_only(engine: Engine) -> None:
    engine.create("true", name="created")
    engine.run_idle(name="running")
    ended = engine.run("true", name="ended")
    engine.wait(ended)
    assert listed(engine) == ["running"]
    assert listed(engine, all=1) == ["ended", "running", "created"]
    assert listed(engine, limit=1) == ["ended"]
    assert listed(engine, limit=2) == ["ended", "running"]
    assert listed(engine, limit=0) == listed(engine, limit=-1) == ["running"]
    assert listed(engine, filters={"status": ["exited"]}) == ["ended"]


def test_LST2_before_and_since(engine: Engine) -> None:
    for name in ("first", "second", "third"):
        engine.create("true", name=name)
    assert filtered(engine, before=["third"]) == ["second", "first"]
    assert filtered(engine, since=["first"]) == ["third", "second"]
    status, message = refusal(engine, before=["nope"])
    expected = (500, "no such container nope") if engine.is_dockerd else (404, "No such container: nope")
    assert (status, message) == expected


def test_LST3a_the_limit_counts_what_is_shown(engine: Engine) -> None:
    engine.wait(engine.run("true", name="ended"))
    engine.create("true", name="newest")
    assert names(engine, limit=1) == ["newest"]
    assert names(engine, limit=1, filters={"status": ["exited"]}) == ["ended"]
    assert names(engine, limit=1, all=1, filters={"exited": ["0"]}) == ["ended"]


def test_LST4_accepted_keys(engine: Engine) -> None:
    for key in ("ancestor", "exited", "id", "isolation", "label", "name", "status", "health", "volume", "network"):
        values = {"exited": ["0"], "status": ["running"], "health": ["none"]}.get(key, ["x"])
        answer = engine.http.get("/containers/json", query={"filters": {key: values}})
        assert answer.status == 200, (key, answer)
    assert refusal(engine, colour=["red"])[0] == 400


def test_LST5_names_are_regular_expressions(engine: Engine) -> None:
    for name in ("a1", "a12", "ba1"):
        engine.create("true", name=name)
    assert filtered(engine, name=["a1"]) == ["ba1", "a12", "a1"]
    assert filtered(engine, name=["^a1$"]) == filtered(engine, name=["^/a1$"]) == ["a1"]
    assert filtered(engine, name=["A1"]) == []
    assert filtered(engine, name=["(("]) == []


def test_LST5_ids(engine: Engine) -> None:
    container = engine.create("true", name="wanted")
    engine.create("true", name="other")
    assert filtered(engine, id=[container]) == filtered(engine, id=[container[:12]]) == ["wanted"]
    assert filtered(engine, id=[""]) == []
    assert filtered(engine, id=[container[:12]], name=["other"]) == []


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


def test_LST6_labels_all_and_others_any(engine: Engine) -> None:
    engine.create("true", name="both", Labels={"a": "1", "b": "2"})
    engine.create("true", name="single", Labels={"a": "1"})
    engine.run_idle(name="up")
    assert filtered(engine, label=["a"]) == ["single", "both"]
    assert filtered(engine, label=["a=1", "b=2"]) == ["both"]
    assert filtered(engine, label=["a=2"]) == []
    assert filtered(engine, status=["running", "created"]) == ["up", "single", "both"]
    assert filtered(engine, network=["bridge"]) == ["up", "single", "both"]


def test_LST6_ancestor_and_volume(engine: Engine) -> None:
    engine.create("true", name="one", HostConfig={"Binds": ["/tmp:/mnt/here:ro"]})
    image = engine.inspect("one")["Image"]
    assert filtered(engine, ancestor=["busybox"]) == filtered(engine, ancestor=["busybox:latest"]) == ["one"]
    assert filtered(engine, ancestor=[image]) == ["one"]
    assert filtered(engine, ancestor=["nosuch"]) == []
    assert filtered(engine, volume=["/mnt/here"]) == ["one"]
    assert filtered(engine, volume=["/elsewhere"]) == []


def test_LST6f_ancestors_of_ancestors(engine: Engine) -> None:
    made = engine.create("true", name="parent")
    query = {"container": made, "repo": "child", "tag": "v1"}
    assert engine.http.post("/commit", query=query, json={}).status == 201
    try:
        engine.create("true", name="of-child", Image="child:v1")
        assert filtered(engine, ancestor=["child:v1"]) == ["of-child"]
        assert sorted(filtered(engine, ancestor=["busybox"])) == ["of-child", "parent"]
    finally:
        engine.remove_all()
        assert engine.http.delete("/images/child:v1").status == 200


def test_LST7d_health_and_tasks(engine: Engine) -> None:
    engine.create("true", name="plain")
    engine.run_idle(name="checked", Healthcheck={"Test": ["CMD", "true"], "Interval": 3600 * 10**9})
    assert names(engine, all=1, filters={"health": ["starting"]}) == ["checked"]
    assert names(engine, all=1, filters={"health": ["none"]}) == ["plain"]
    assert names(engine, all=1, filters={"is-task": ["true"]}) == []
    assert sorted(names(engine, all=1, filters={"is-task": ["false"]})) == ["checked", "plain"]


def test_LST7_values_are_checked(engine: Engine) -> None:
    invalid = "Invalid" if engine.is_dockerd else "invalid"
    status, message = refusal(engine, status=["bogus"])
    assert (status, message) == (400, f"{invalid} filter 'status=bogus'")
    status, message = refusal(engine, health=["x"])
    # 20.10 words it as the other filters.
    assert (status, "health" in message) == (400, True)
    if not engine.is_dockerd:
        assert message == "unrecognized filter value for health: x"
    status, message = refusal(engine, exited=["x"])
    assert (status == 400, "exited" in message or 'parsing "x"' in message) == (not engine.is_dockerd, True)
    status, message = refusal(engine, is_task=["maybe"])
    assert status == 400
    status, message = refusal(engine, publish=["a:b"])
    assert status == 500


def test_LST7_exited_does_not_imply_all(engine: Engine) -> None:
    for code in (0, 3):
        engine.wait(engine.run("sh", "-c", f"exit {code}", name=f"ended{code}"))
    engine.create("true", name="never")
    assert filtered(engine, exited=["3"]) == ["ended3"]
    assert filtered(engine, exited=["0"]) == ["ended0"]
    assert listed(engine, filters={"exited": ["3"]}) == []


def test_LST7_publish_and_expose(engine: Engine) -> None:
    ports = {
        "ExposedPorts": {"80/tcp": {}, "81/tcp": {}},
        "HostConfig": {"PortBindings": {"80/tcp": [{"HostPort": ""}]}},
    }
    engine.run_idle(name="web", **ports)
    public = int(engine.inspect("web")["NetworkSettings"]["Ports"]["80/tcp"][0]["HostPort"])
    assert filtered(engine, publish=[str(public)]) == filtered(engine, publish=[f"{public}/tcp"]) == ["web"]
    assert filtered(engine, publish=[f"{public - 5}-{public + 5}"]) == ["web"]
    assert filtered(engine, publish=["80"]) == []
    assert filtered(engine, expose=["81"]) == filtered(engine, expose=["75-85/tcp"]) == ["web"]
    assert filtered(engine, expose=["99"]) == []


def test_LST8_command_and_image(engine: Engine) -> None:
    engine.create("sh", "-c", "echo hi", "x", name="one")
    one = engine.http.get("/containers/json", query={"all": 1}).json[0]
    assert (one["Command"], one["Image"]) == ("sh -c 'echo hi' x", "busybox")
    assert one["ImageID"] == engine.inspect("one")["Image"]
    assert one["ImageID"].startswith("sha256:")


def test_LST8_image_shows_its_id_when_the_reference_moved(engine: Engine) -> None:
    engine.load_image("moving:latest", {"Cmd": ["true"], "Labels": {"v": "1"}})
    container = engine.create(Image="moving")
    image = engine.inspect(container)["Image"]
    engine.load_image("moving:latest", {"Cmd": ["true"], "Labels": {"v": "2"}})
    assert engine.http.get("/containers/json", query={"all": 1}).json[0]["Image"] == image


def test_LST9_ports(engine: Engine) -> None:
    published = {"PortBindings": {"80/tcp": [{"HostIp": "127.0.0.1"}]}}
    ports = {"ExposedPorts": {"80/tcp": {}, "81/tcp": {}}, "HostConfig": published}
    container = engine.run_idle(**ports)
    shown = {port["PrivatePort"]: port for port in engine.http.get("/containers/json").json[0]["Ports"]}
    assert shown[81] == {"PrivatePort": 81, "Type": "tcp"}
    assert (shown[80]["IP"], shown[80]["Type"]) == ("127.0.0.1", "tcp")
    binding = engine.inspect(container)["NetworkSettings"]["Ports"]["80/tcp"][0]
    assert binding == {"HostIp": "127.0.0.1", "HostPort": str(shown[80]["PublicPort"])}


def test_LST10bc_status_of_health_and_restarts(engine: Engine) -> None:
    engine.run_idle(name="checked", Healthcheck={"Test": ["CMD", "true"], "Interval": 3600 * 10**9})
    engine.run("sh", "-c", "exit 3", name="again", HostConfig={"RestartPolicy": {"Name": "always"}})
    eventually(lambda: engine.inspect("again")["RestartCount"] >= 3)
    eventually(lambda: engine.status("again") == "restarting")
    shown = {c["Names"][0]: c["Status"] for c in engine.http.get("/containers/json").json}
    assert re.fullmatch(r"Up .+ \(health: starting\)", shown["/checked"])
    assert re.fullmatch(r"Restarting \(3\) .+ ago", shown["/again"])


def test_LST10_status_words(engine: Engine) -> None:
    engine.create("true", name="never")
    engine.run_idle(name="up")
    engine.wait(engine.run("sh", "-c", "exit 3", name="gone"))
    shown = {c["Names"][0]: (c["State"], c["Status"]) for c in engine.http.get("/containers/json?all=1").json}
    assert shown["/never"] == ("created", "Created")
    assert shown["/up"][0] == "running"
    assert re.fullmatch(r"Up (Less than a second|1 second|\d+ seconds)", shown["/up"][1])
    assert shown["/gone"][0] == "exited"
    assert re.fullmatch(r"Exited \(3\) (Less than a second|1 second|\d+ seconds) ago", shown["/gone"][1])


def test_LST11_size(engine: Engine) -> None:
    container = engine.run("sh", "-c", "dd if=/dev/zero of=/file bs=1000 count=50")
    engine.wait(container)
    without = engine.http.get("/containers/json?all=1").json[0]
    assert not {"SizeRw", "SizeRootFs"} & set(without)
    sized = engine.http.get("/containers/json?all=1&size=1").json[0]
    assert 50_000 <= sized["SizeRw"] < 80_000
    assert sized["SizeRootFs"] > 1_000_000 + sized["SizeRw"]


def test_LST12a_a_list_waits_for_nobody(engine: Engine) -> None:
    script = "trap '' TERM; echo ready; while :; do sleep 3600 & wait $!; done"
    container = engine.run("sh", "-c", script, name="patient")
    eventually(lambda: engine.logs(container)[0] == b"ready\n")
    patient = threading.Thread(target=lambda: engine.http.post(f"/containers/{container}/stop?t=60", timeout=90))
    patient.start()
    time.sleep(0.1)
    started = time.monotonic()
    assert names(engine, size=1) == ["patient"]
    assert time.monotonic() - started < 3 * PATIENCE
    engine.http.post(f"/containers/{container}/kill")
    patient.join()


@pytest.mark.parametrize("count", [5])
def test_LST12_fields(engine: Engine, count: int) -> None:
    for _ in range(count):
        engine.create("true", Labels={"x": "y"})
    answer = engine.http.get("/containers/json?all=1").json
    assert len(answer) == count
    expected = {"Id", "Names", "Image", "ImageID", "Command", "Created", "Ports", "Labels", "State", "Status"}
    assert expected | {"HostConfig", "NetworkSettings", "Mounts"} == set(answer[0])
    assert answer[0]["HostConfig"] == {"NetworkMode": "default"}
    assert (answer[0]["Ports"], answer[0]["Mounts"], answer[0]["Labels"]) == ([], [], {"x": "y"})
    assert list(answer[0]["NetworkSettings"]["Networks"]) == ["bridge"]
