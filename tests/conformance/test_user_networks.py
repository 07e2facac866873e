"""User-defined networks through the API."""

from __future__ import annotations

import ipaddress
import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.engines import Engine
from tests.support.http import eventually


@pytest.fixture
def tidy(engine: Engine) -> Iterator[Engine]:
    """The engine, without networks of the test afterwards."""
    yield engine
    engine.remove_all()
    for network in engine.http.get("/networks", query={"filters": '{"type":["custom"]}'}).json:
        assert engine.http.delete(f"/networks/{network['Id']}").status == 204


def make(engine: Engine, name: str, **body: Any) -> str:
    answer = engine.http.post("/networks/create", json={"Name": name, "CheckDuplicate": True} | body)
    assert answer.status == 201, answer
    assert answer.json["Warning"] == ""
    return str(answer.json["Id"])


def on(network: str, **endpoint: Any) -> dict[str, Any]:
    return {"HostConfig": {"NetworkMode": network}, "NetworkingConfig": {"EndpointsConfig": {network: endpoint}}}


def resolve(engine: Engine, container: str, name: str) -> str:
    """The address that a container finds behind a name, or nothing."""
    code, out, _ = engine.exec(container, "ping", "-c", "1", "-W", "3", name)
    return out.decode().split("(", 1)[1].split(")")[0] if code == 0 else ""


def networks_of(engine: Engine, container: str) -> Any:
    return engine.inspect(container)["NetworkSettings"]["Networks"]


def test_create_list_inspect_delete(tidy: Engine) -> None:
    engine = tidy
    pool = {"Subnet": "10.213.7.0/24", "IPRange": "10.213.7.128/25", "Gateway": "10.213.7.254"}
    body = {
        "Labels": {"a": "b"},
        "Options": {"com.docker.network.driver.mtu": "1400"},
        "Internal": True,
        "IPAM": {"Config": [pool]},
    }
    network = make(engine, "own", **body)
    shown = engine.http.get("/networks/own").json
    assert (shown["Id"], shown["Name"], shown["Driver"], shown["Scope"]) == (network, "own", "bridge", "local")
    assert (shown["Internal"], shown["Attachable"], shown["Labels"], shown["Options"]) == (
        True, False, body["Labels"], body["Options"],
    )  # fmt: skip
    assert shown["IPAM"]["Config"] == [pool]
    assert shown["Containers"] == {}
    for filters in ('{"label":["a=b"]}', '{"name":["ow"]}', f'{{"id":["{network[:8]}"]}}', '{"dangling":["true"]}'):
        assert [one["Name"] for one in engine.http.get("/networks", query={"filters": filters}).json] == ["own"]
    assert engine.http.delete(f"/networks/{network[:10]}").status == 204
    answer = engine.http.get("/networks/own")
    assert (answer.status, answer.message) == (404, "network own not found")
    assert engine.http.delete("/networks/own").status == 404


def test_refusals(tidy: Engine) -> None:
    engine = tidy
    network = make(engine, "own")
    answer = engine.http.post("/networks/create", json={"Name": "own", "CheckDuplicate": True})
    assert (answer.status, answer.message) == (409, "network with name own already exists")
    answer = engine.http.post("/networks/create", json={"Name": "bridge"})
    assert (answer.status, answer.message.strip()) == (403, "operation is not permitted on predefined bridge network")
    answer = engine.http.delete("/networks/host")
    assert (answer.status, answer.message) == (403, "host is a pre-defined network and cannot be removed")
    subnet = engine.http.get("/networks/own").json["IPAM"]["Config"][0]["Subnet"]
    answer = engine.http.post("/networks/create", json={"Name": "two", "IPAM": {"Config": [{"Subnet": subnet}]}})
    assert (answer.status, answer.message) == (403, "Pool overlaps with other one on this address space")
    container = engine.run_idle(**on("own"))
    answer = engine.http.delete("/networks/own")
    assert answer.status == 403
    assert answer.message == f"error while removing network: network own id {network} has active endpoints"
    answer = engine.http.post("/networks/own/connect", json={"Container": container})
    assert answer.status == 403
    assert "already exists in network own" in answer.message
    answer = engine.http.post("/networks/own/connect", json={"Container": "nope"})
    assert (answer.status, answer.message) == (404, "No such container: nope")
    answer = engine.http.post("/networks/nope/connect", json={"Container": container})
    assert (answer.status, answer.message) == (404, "network nope not found")
    answer = engine.http.post("/networks/host/connect", json={"Container": container})
    assert answer.status == 400
    assert answer.message == "container cannot be disconnected from host network or connected to host network"
    lonely = engine.create("true", HostConfig={"NetworkMode": "none"})
    answer = engine.http.post("/networks/own/connect", json={"Container": lonely})
    assert answer.status == 400
    assert "one of the networks in private (none) mode" in answer.message
    sharing = engine.run_idle(HostConfig={"NetworkMode": f"container:{container}"})
    answer = engine.http.post("/networks/own/connect", json={"Container": sharing})
    assert answer.status == 400, answer
    assert "sharing network namespace with another container" in answer.message
    answer = engine.http.post("/networks/bridge/disconnect", json={"Container": container})
    assert answer.status == 500
    assert f"container {container} is not connected to" in answer.message


def test_names_aliases_and_a_rename(tidy: Engine) -> None:
    engine = tidy
    make(engine, "own")
    web = engine.run_idle(name="web", **on("own", Aliases=["www"]))
    app = engine.run_idle(name="app", **on("own", Links=["web:shop"]))
    address = networks_of(engine, web)["own"]["IPAddress"]
    for name in ("web", "www", web[:12], "web.own", "shop"):
        assert resolve(engine, app, name) == address, name
    assert resolve(engine, web, "shop") == ""
    assert "nameserver 127.0.0.11" in engine.exec(app, "cat", "/etc/resolv.conf")[1].decode()
    assert engine.http.post(f"/containers/{web}/rename", query={"name": "shop2"}).status == 204
    assert resolve(engine, app, "shop2") == address
    assert resolve(engine, app, "web") == ""
    assert engine.http.post(f"/containers/{web}/kill").status == 204
    eventually(lambda: resolve(engine, app, "www") == "", what="the name to go")
    assert set(engine.http.get("/networks/own").json["Containers"]) == {app}


def test_connect_and_disconnect_while_running(tidy: Engine) -> None:
    engine = tidy
    make(engine, "one", IPAM={"Config": [{"Subnet": "10.213.8.0/24"}]})
    make(engine, "two")
    other = engine.run_idle(name="other", **on("one"))
    mover = engine.run_idle(name="mover", **on("two"))
    assert resolve(engine, other, "mover") == ""
    body = {
        "Container": "mover",
        "EndpointConfig": {"IPAMConfig": {"IPv4Address": "10.213.8.77"}, "Aliases": ["guest"]},
    }
    answer = engine.http.post("/networks/one/connect", json=body)
    assert answer.status == 200, answer
    assert resolve(engine, other, "mover") == resolve(engine, other, "guest") == "10.213.8.77"
    assert resolve(engine, mover, "other") == networks_of(engine, other)["one"]["IPAddress"]
    shown = networks_of(engine, mover)
    assert set(shown) == {"one", "two"}
    assert shown["one"]["IPAddress"] == "10.213.8.77"
    assert shown["one"]["NetworkID"] == engine.http.get("/networks/one").json["Id"]
    assert {"guest", mover[:12]} <= set(shown["one"]["Aliases"])
    assert "10.213.8.77" in engine.exec(mover, "cat", "/etc/hosts")[1].decode()
    assert engine.http.post("/networks/two/disconnect", json={"Container": mover}).status == 200
    assert set(networks_of(engine, mover)) == {"one"}
    routes = engine.exec(mover, "ip", "route")[1].decode()
    assert "default via 10.213.8.1 " in routes
    assert routes.count("dev eth") == 2
    answer = engine.http.post(
        "/networks/one/connect", json={"Container": engine.create("true"), "EndpointConfig": body["EndpointConfig"]}
    )
    assert answer.status == 200, "an address is taken at start only"


def test_connect_and_disconnect_before_start(tidy: Engine) -> None:
    engine = tidy
    make(engine, "one")
    make(engine, "two")
    container = engine.create("sleep", "100", HostConfig={"NetworkMode": "one"})
    assert engine.http.post("/networks/two/connect", json={"Container": container}).status == 200
    assert set(networks_of(engine, container)) == {"one", "two"}
    engine.start(container)
    shown = networks_of(engine, container)
    assert all(ipaddress.ip_address(shown[name]["IPAddress"]) for name in ("one", "two"))
    assert engine.exec(container, "ip", "addr", "show", "eth1")[0] == 0
    assert engine.http.post(f"/containers/{container}/kill").status == 204
    engine.wait(container)
    assert engine.http.post("/networks/one/disconnect", json={"Container": container}).status == 200
    assert engine.http.delete("/networks/one").status == 204
    engine.start(container)
    assert set(networks_of(engine, container)) == {"two"}


def test_from_the_default_bridge_to_a_network_of_names(tidy: Engine) -> None:
    engine = tidy
    make(engine, "own")
    web = engine.run_idle(name="web", **on("own"))
    container = engine.run_idle()
    assert resolve(engine, container, "web") == ""
    assert engine.http.post("/networks/own/connect", json={"Container": container}).status == 200
    assert resolve(engine, container, "web") == networks_of(engine, web)["own"]["IPAddress"]


def test_events_and_prune(tidy: Engine) -> None:
    engine = tidy
    begin = time.time()
    network = make(engine, "own", Labels={"keep": "1"})
    make(engine, "loose")
    container = engine.run_idle(**on("own"))
    assert engine.http.post("/networks/loose/connect", json={"Container": container}).status == 200
    assert engine.http.post("/networks/prune").json == {"NetworksDeleted": None}
    assert engine.http.post("/networks/loose/disconnect", json={"Container": container}).status == 200
    assert engine.http.post(f"/containers/{container}/kill").status == 204
    engine.wait(container)
    assert engine.http.post("/networks/prune", query={"filters": '{"label!":["keep"]}'}).json["NetworksDeleted"] == [
        "loose"
    ]
    assert engine.http.delete("/networks/own").status == 204
    seen = []
    query = {"since": f"{begin:.6f}", "until": f"{time.time():.6f}", "filters": '{"type":["network"]}'}
    for line in engine.http.get("/events", query=query).body.splitlines():
        event = json.loads(line)
        if event["Actor"]["ID"] == network:
            seen.append(event["Action"])
            assert event["Actor"]["Attributes"]["name"] == "own"
            assert event["Actor"]["Attributes"]["type"] == "bridge"
            if event["Action"] in ("connect", "disconnect"):
                assert event["Actor"]["Attributes"]["container"] == container
    assert seen == ["create", "connect", "disconnect", "destroy"]


def test_published_ports_and_internal_networks(tidy: Engine) -> None:
    engine = tidy
    make(engine, "own")
    make(engine, "inner", Internal=True)
    publish = {"ExposedPorts": {"80/tcp": {}}}
    ports = {"PortBindings": {"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": ""}]}}
    web = engine.run("httpd", "-f", "-p", "80", HostConfig={"NetworkMode": "own"} | ports, **publish)
    port = int(engine.inspect(web)["NetworkSettings"]["Ports"]["80/tcp"][0]["HostPort"])

    def answers() -> bool:
        try:
            engine.connect_tcp("127.0.0.1", port).close()
        except OSError:
            return False
        return True

    eventually(answers, what="the published port")
    inner = engine.run_idle(HostConfig={"NetworkMode": "inner"})
    if not engine.is_dockerd:  # whose later versions have none either
        assert "default" not in engine.exec(inner, "ip", "route")[1].decode()
    assert engine.exec(inner, "ping", "-c", "1", "-W", "1", networks_of(engine, web)["own"]["IPAddress"])[0] != 0


def reaches(engine: Engine, address: str, port: int) -> bool:
    try:
        engine.connect_tcp(address, port).close()
    except OSError:
        return False
    return True


def test_ipv6_networks(tidy: Engine) -> None:
    engine = tidy
    pool = {"Subnet": "fd00:213::/64"}
    make(engine, "six", EnableIPv6=True, IPAM={"Config": [pool]})
    shown = engine.http.get("/networks/six").json
    assert shown["EnableIPv6"]
    assert pool in shown["IPAM"]["Config"]
    body = on("six", Aliases=["www"])
    body["HostConfig"]["PortBindings"] = {"80/tcp": [{"HostIp": "", "HostPort": ""}]}
    web = engine.run("httpd", "-f", "-p", "[::]:80", "-h", "/var/www", ExposedPorts={"80/tcp": {}}, **body)
    fixed = engine.run_idle(name="fixed", **on("six", IPAMConfig={"IPv6Address": "fd00:213::77"}))
    endpoint = networks_of(engine, web)["six"]
    assert (endpoint["GlobalIPv6Address"], endpoint["GlobalIPv6PrefixLen"], endpoint["IPv6Gateway"]) == (
        "fd00:213::2", 64, "fd00:213::1",
    )  # fmt: skip
    assert networks_of(engine, fixed)["six"]["GlobalIPv6Address"] == "fd00:213::77"
    assert networks_of(engine, fixed)["six"]["IPAMConfig"] == {"IPv6Address": "fd00:213::77"}
    assert engine.http.get("/networks/six").json["Containers"][fixed]["IPv6Address"] == "fd00:213::77/64"
    assert "fd00:213::77\t" in engine.exec(fixed, "cat", "/etc/hosts")[1].decode()
    assert engine.exec(fixed, "ping", "-6", "-c", "1", "-W", "3", "www")[0] == 0
    page = eventually(lambda: engine.exec(fixed, "wget", "-q", "-O", "-", "http://[fd00:213::2]/")[1])
    assert b"It works" in page
    bindings = engine.inspect(web)["NetworkSettings"]["Ports"]["80/tcp"]
    assert [one["HostIp"] for one in bindings] == ["0.0.0.0", "::"]
    for binding in bindings[:1] if engine.is_dockerd else bindings:  # dockerd's proxy for IPv6 does not always answer
        address = "127.0.0.1" if binding["HostIp"] == "0.0.0.0" else "fd00:213::1"
        assert eventually(lambda at=(address, int(binding["HostPort"])): reaches(engine, *at), what=f"{binding}")
    inner = engine.create("true", **on("six", IPAMConfig={"IPv6Address": "fd00:213::77"}))
    answer = engine.http.post(f"/containers/{inner}/start")
    assert (answer.status, answer.message) == (403, "Address already in use")
    answer = engine.try_create("true", **on("six", IPAMConfig={"IPv6Address": "10.0.0.1"}))
    assert (answer.status, answer.message) == (400, "invalid IPv6 address: 10.0.0.1")
    answer = engine.http.post(
        "/networks/create",
        json={"Name": "over", "EnableIPv6": True, "IPAM": {"Config": [{"Subnet": "fd00:213::/48"}]}},
    )
    assert (answer.status, answer.message) == (403, "Pool overlaps with other one on this address space")
