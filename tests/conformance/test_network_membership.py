"""A container's places in networks: shared ones, several, and all that an endpoint may ask for."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.conformance.test_user_networks import make, networks_of, on, resolve
from tests.support.engines import Engine
from tests.support.http import Http


@pytest.fixture
def tidy(engine: Engine) -> Iterator[Engine]:
    yield engine
    remove_networks(engine)


def remove_networks(engine: Engine) -> None:
    engine.remove_all()
    for network in engine.http.get("/networks", query={"filters": '{"type":["custom"]}'}).json:
        assert engine.http.delete(f"/networks/{network['Id']}").status == 204


def test_CRE18_the_network_of_another_container(tidy: Engine) -> None:
    engine = tidy
    owner = engine.run("httpd", "-f", "-p", "80", "-h", "/var/www", name="owner", Hostname="named")
    guest = engine.run_idle(HostConfig={"NetworkMode": "container:owner"})
    for file in ("/etc/hosts", "/etc/hostname", "/etc/resolv.conf"):
        assert engine.exec(guest, "cat", file)[1] == engine.exec(owner, "cat", file)[1]
    link = ("readlink", "/proc/self/ns/net")
    assert engine.exec(guest, *link)[1] == engine.exec(owner, *link)[1]
    assert engine.exec(guest, "hostname")[1] == b"named\n"
    assert b"It works" in engine.exec(guest, "wget", "-q", "-O", "-", "http://127.0.0.1/")[1]
    shown = engine.inspect(guest)
    assert shown["NetworkSettings"]["Networks"] == {}
    assert shown["HostConfig"]["NetworkMode"] == f"container:{owner}"
    assert engine.http.post(f"/containers/{owner}/kill").status == 204
    engine.wait(owner)
    assert engine.http.post(f"/containers/{guest}/restart", query={"t": 1}).status in (409, 500)
    assert engine.http.delete("/containers/owner").status == 204


def test_all_that_an_endpoint_may_ask_for(tidy: Engine) -> None:
    engine = tidy
    pools = [{"Subnet": "10.219.0.0/24"}, {"Subnet": "fd00:219::/64"}]
    make(engine, "own", EnableIPv6=True, IPAM={"Config": pools})
    web = engine.run_idle(name="web", **on("own"))
    container = engine.run_idle(name="asker")
    ipam = {"IPv4Address": "10.219.0.77", "IPv6Address": "fd00:219::77", "LinkLocalIPs": ["169.254.7.7", "fe80::77"]}
    endpoint = {
        "IPAMConfig": ipam, "Aliases": ["me"], "Links": ["web:shop"], "DriverOpts": {"a": "b"},
        "MacAddress": "02:00:00:00:00:77",
    }  # fmt: skip
    body = {"Container": container, "EndpointConfig": endpoint}
    assert engine.http.post("/networks/own/connect", json=body).status == 200
    shown = networks_of(engine, container)["own"]
    assert {key: shown[key] for key in ("IPAMConfig", "Links", "DriverOpts")} == {
        key: endpoint[key] for key in ("IPAMConfig", "Links", "DriverOpts")
    }
    assert set(shown["Aliases"]) == {"me", container[:12]}
    assert (shown["IPAddress"], shown["GlobalIPv6Address"]) == ("10.219.0.77", "fd00:219::77")
    addresses = engine.exec(container, "ip", "addr", "show", "eth1")[1].decode()
    for address in ("10.219.0.77/24", "fd00:219::77/64", "169.254.7.7/16", "fe80::77/64"):
        assert f" {address} " in addresses
    assert resolve(engine, container, "shop") in (networks_of(engine, web)["own"]["IPAddress"], "fd00:219::2")
    assert resolve(engine, web, "shop") == ""
    if not engine.is_dockerd:  # which heeds it from 1.44 on
        assert shown["MacAddress"] == "02:00:00:00:00:77"
        assert "02:00:00:00:00:77" in engine.exec(container, "ip", "link", "show", "eth1")[1].decode()
    body["EndpointConfig"] = {"IPAMConfig": {"LinkLocalIPs": ["junk"]}}
    body["Container"] = engine.run_idle()
    answer = engine.http.post("/networks/own/connect", json=body)
    assert answer.status in (400, 500)
    assert "link-local IP address" in answer.message


def test_the_hostname_is_a_name(tidy: Engine) -> None:
    engine = tidy
    make(engine, "own")
    web = engine.run_idle(name="web", Hostname="server", **on("own"))
    app = engine.run_idle(name="app", **on("own"))
    assert resolve(engine, app, "server") == networks_of(engine, web)["own"]["IPAddress"]


def test_CRE19_several_networks_at_create_from_1_44_on(wherry: Engine) -> None:
    newer = Engine("wherry", wherry.root, wherry.process, "1.44", "")
    newer.http = Http(wherry.socket_path, "/v1.44")
    for name in ("one", "two"):
        make(newer, name)
    endpoints: dict[str, Any] = {"one": {"Aliases": ["a"]}, "two": {"MacAddress": "02:00:00:00:00:02"}}
    body = {"HostConfig": {"NetworkMode": "two"}, "NetworkingConfig": {"EndpointsConfig": endpoints}}
    container = newer.run_idle(name="both", **body)
    shown = networks_of(newer, container)
    assert set(shown) == {"one", "two"}
    assert all(shown[name]["IPAddress"] for name in shown)
    assert shown["one"]["DNSNames"] == ["both", "a", container[:12]]
    assert shown["one"]["Aliases"] == ["a", container[:12]]
    assert shown["two"]["MacAddress"] == "02:00:00:00:00:02"
    for name in ("one", "two"):
        neighbour = newer.run_idle(**on(name))
        assert resolve(newer, neighbour, "both") == shown[name]["IPAddress"]
    assert resolve(newer, neighbour, "a") == "", "an alias is its network's"
    remove_networks(wherry)


def test_a_stopped_container_gives_its_address_up_but_not_the_one_it_asked_for(tidy: Engine) -> None:
    engine = tidy
    make(engine, "own", IPAM={"Config": [{"Subnet": "10.219.0.0/29"}]})
    ids = [engine.run_idle(**on("own")) for _ in range(5)]  # .2 to .6
    full = engine.create("true", **on("own"))
    answer = engine.http.post(f"/containers/{full}/start")
    assert answer.status == 500
    assert "no available IPv4 addresses on this network's address pool" in answer.message
    assert engine.http.post(f"/containers/{ids[0]}/kill").status == 204
    engine.wait(ids[0])
    engine.start(full)


def test_events_of_networks(tidy: Engine) -> None:
    engine = tidy
    begin = time.time()
    network = make(engine, "told")
    container = engine.run_idle()
    assert engine.http.post("/networks/told/connect", json={"Container": container}).status == 200
    assert engine.http.post("/networks/told/disconnect", json={"Container": container}).status == 200
    assert engine.http.post("/networks/prune").status == 200
    query = {"since": f"{begin:.6f}", "until": f"{time.time():.6f}", "filters": '{"type":["network"]}'}
    events = [json.loads(line) for line in engine.http.get("/events", query=query).body.splitlines()]
    seen = [(one["Action"], one["Actor"]["Attributes"]) for one in events if one["Actor"]["ID"] in (network, "")]
    if engine.is_dockerd:  # 20.10 tells this one twice
        seen.remove(seen[2])
    told = {"name": "told", "type": "bridge"}
    member = {"container": container, **told}
    expected: list[tuple[str, dict[str, str]]] = [("create", told), ("connect", member), ("disconnect", member)]
    expected += [("destroy", told), ("prune", {"reclaimed": "0"})]
    assert seen == expected
    assert all(one["scope"] == "local" for one in events)
    one = json.dumps({"network": ["told"]})
    events = engine.http.get("/events", query=query | {"filters": one}).body.splitlines()
    assert [json.loads(line)["Action"] for line in events][:2] == ["create", "connect"]


def test_prune_by_age_and_label(tidy: Engine) -> None:
    engine = tidy
    for name in ("red", "green"):
        make(engine, name, Labels={"colour": name})
    for filters, removed in (
        ({"until": ["24h"]}, None),
        ({"label": ["colour=blue"]}, None),
        ({"label!": ["colour"]}, None),
        ({"label": ["colour=red"]}, ["red"]),
        ({"until": [str(int(time.time()) + 5)]}, ["green"]),
    ):
        answer = engine.http.post("/networks/prune", query={"filters": json.dumps(filters)})
        assert (answer.status, answer.json) == (200, {"NetworksDeleted": removed}), filters
    for bad in ({"dangling": ["true"]}, {"until": ["x"]}, {"until": ["1h", "2h"]}):
        answer = engine.http.post("/networks/prune", query={"filters": json.dumps(bad)})
        assert answer.status in (400, 500)
