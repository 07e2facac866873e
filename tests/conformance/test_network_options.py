"""Options of bridge networks, and the forms of published ports."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.test_networks import HTTPD, fetch, free_port
from tests.conformance.test_user_networks import make, networks_of, on, tidy
from tests.engine.net_machine import within
from tests.support.engines import Engine

__all__ = ["tidy"]
ASK = """
import socket, sys
for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
    with socket.socket(socket.AF_INET, kind) as client:
        client.settimeout(20)
        try:
            client.connect(("127.0.0.1", int(sys.argv[1])))
            client.send(b"x")
            print(client.recv(100).decode().strip())
        except OSError as error:
            print(error)
"""
PREFIX = "com.docker.network."


def on_host(engine: Engine, *command: str) -> str:
    """What a command prints where the engine's bridges are."""
    words = ["nsenter", f"--net={engine.netns}", *command] if engine.netns else list(command)
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout


def test_mtu_and_the_bridges_name(tidy: Engine) -> None:
    engine = tidy
    options = {f"{PREFIX}driver.mtu": "1391", f"{PREFIX}bridge.name": "br-conf0"}
    make(engine, "own", Options=options)
    assert engine.http.get("/networks/own").json["Options"] == options
    container = engine.run_idle(**on("own"))
    assert engine.exec(container, "cat", "/sys/class/net/eth0/mtu")[1] == b"1391\n"
    gateway = networks_of(engine, container)["own"]["Gateway"]
    assert f"inet {gateway}/" in on_host(engine, "ip", "addr", "show", "br-conf0")
    answer = engine.http.post(
        "/networks/create", json={"Name": "more", "Options": {f"{PREFIX}bridge.name": "br-conf0"}}
    )
    assert answer.status == 403
    assert "networks have same bridge name" in answer.message


def test_without_icc_neighbours_do_not_meet(tidy: Engine) -> None:
    engine = tidy
    make(engine, "quiet", Options={f"{PREFIX}bridge.enable_icc": "false"})
    one, two = engine.run_idle(name="one", **on("quiet")), engine.run_idle(name="two", **on("quiet"))
    shown = networks_of(engine, two)["quiet"]
    assert engine.exec(one, "ping", "-c", "1", "-W", "1", shown["IPAddress"])[0] != 0
    assert engine.exec(one, "ping", "-c", "1", "-W", "3", shown["Gateway"])[0] == 0


def test_where_ports_are_published_that_name_no_address(tidy: Engine) -> None:
    engine = tidy
    make(engine, "own", Options={f"{PREFIX}bridge.host_binding_ipv4": "127.0.0.1"})
    body = on("own")
    body["HostConfig"]["PortBindings"] = {"80/tcp": [{"HostPort": ""}, {"HostIp": "0.0.0.0", "HostPort": ""}]}
    web = engine.run(*HTTPD, ExposedPorts={"80/tcp": {}}, **body)
    bindings = engine.inspect(web)["NetworkSettings"]["Ports"]["80/tcp"]
    assert sorted(one["HostIp"] for one in bindings) == ["0.0.0.0", "127.0.0.1"]
    for binding in bindings:
        assert b"It works" in fetch(engine, "127.0.0.1", int(binding["HostPort"]))
    gateway = networks_of(engine, web)["own"]["Gateway"]
    (local,) = (int(one["HostPort"]) for one in bindings if one["HostIp"] == "127.0.0.1")
    with pytest.raises(OSError):
        engine.connect_tcp(gateway, local)


def test_a_network_that_follows_a_configuration(tidy: Engine) -> None:
    engine = tidy
    options, labels = {f"{PREFIX}driver.mtu": "1400"}, {"a": "b"}
    pool = {"Subnet": "10.218.0.0/24"}
    make(engine, "settings", ConfigOnly=True, IPAM={"Config": [pool]}, Labels=labels, Options=options)
    shown = engine.http.get("/networks/settings").json
    assert (shown["ConfigOnly"], shown["Driver"], shown["IPAM"]["Config"]) == (True, "null", [pool])
    make(engine, "own", ConfigFrom={"Network": "settings"}, Internal=True)
    shown = engine.http.get("/networks/own").json
    assert (shown["ConfigFrom"], shown["ConfigOnly"]) == ({"Network": "settings"}, False)
    assert (shown["IPAM"]["Config"], shown["Labels"], shown["Options"]) == ([pool], labels, options)
    assert (shown["Internal"], shown["Driver"]) == (True, "bridge")
    container = engine.run_idle(**on("own"))
    assert engine.exec(container, "cat", "/sys/class/net/eth0/mtu")[1] == b"1400\n"
    answer = engine.http.post("/networks/create", json={"Name": "two", "ConfigFrom": {"Network": "settings"}})
    assert (answer.status, answer.message) == (403, "Pool overlaps with other one on this address space")
    answer = engine.http.post("/networks/settings/connect", json={"Container": engine.run_idle()})
    assert (answer.status, answer.message) == (403, "cannot create endpoint on configuration-only network")
    answer = engine.http.delete("/networks/settings")
    assert answer.status == 403
    assert answer.message == 'error while removing network: configuration network "settings" is in use'
    engine.remove_all()
    assert engine.http.post("/networks/prune").json == {"NetworksDeleted": ["own"]}, "settings hold nothing"
    assert engine.http.delete("/networks/settings").status == 204


def test_udp_and_tcp_of_a_number_are_two_ports(tidy: Engine) -> None:
    engine = tidy
    port = str(free_port())
    bindings = {f"53/{protocol}": [{"HostIp": "127.0.0.1", "HostPort": port}] for protocol in ("udp", "tcp")}
    server = engine.run_idle(ExposedPorts={key: {} for key in bindings}, HostConfig={"PortBindings": bindings})
    assert engine.inspect(server)["NetworkSettings"]["Ports"] == bindings
    listed = engine.http.get("/containers/json").json[0]["Ports"]
    assert sorted((one["Type"], one["IP"], one["PrivatePort"], one["PublicPort"]) for one in listed) == [
        (protocol, "127.0.0.1", 53, int(port)) for protocol in ("tcp", "udp")
    ]

    # the image has no server for UDP: sockets of this process in the container's namespace are one
    sandbox = engine.inspect(server)["NetworkSettings"]["SandboxKey"]
    place = Path(f"/proc/{engine.netns.split('/')[2]}/root{sandbox}" if engine.netns else sandbox)
    with (
        within(place, lambda: listen(socket.SOCK_DGRAM)) as udp,
        within(place, lambda: listen(socket.SOCK_STREAM)) as tcp,
    ):
        asking = subprocess.Popen(
            ["nsenter", f"--net={engine.netns or '/proc/self/ns/net'}", sys.executable, "-c", ASK, port],
            stdout=subprocess.PIPE,
        )
        connection, _ = tcp.accept()
        connection.sendall(b"by-tcp")
        connection.close()
        _, client = udp.recvfrom(100)
        udp.sendto(b"by-udp", client)
        assert asking.communicate(timeout=20)[0] == b"by-tcp\nby-udp\n"


def listen(kind: int) -> socket.socket:
    server = socket.socket(socket.AF_INET, kind)
    server.settimeout(20)
    server.bind(("", 53))
    if kind == socket.SOCK_STREAM:
        server.listen()
    return server


def test_a_range_gives_every_container_its_port_until_none_is_left(tidy: Engine) -> None:
    engine = tidy
    first = free_port()
    body: dict[str, Any] = {
        "ExposedPorts": {"80/tcp": {}},
        "HostConfig": {"PortBindings": {"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": f"{first}-{first + 1}"}]}},
    }
    made = [engine.create("sleep", "100", **body) for _ in range(3)]
    answers = [engine.http.post(f"/containers/{container}/start") for container in made]
    assert [answer.status for answer in answers] == [204, 204, 500]
    assert "all ports are allocated" in answers[2].message or "port is already allocated" in answers[2].message
    ports = {engine.inspect(one)["NetworkSettings"]["Ports"]["80/tcp"][0]["HostPort"] for one in made[:2]}
    assert ports == {str(first), str(first + 1)}
    assert engine.http.post(f"/containers/{made[0]}/kill").status == 204
    engine.wait(made[0])
    engine.start(made[2])


def test_filters_of_the_list(tidy: Engine) -> None:
    engine = tidy
    make(engine, "red", Labels={"colour": "red", "both": ""})
    network = make(engine, "green", Labels={"colour": "green", "both": ""}, Internal=True)
    engine.run_idle(**on("red"))
    mine = {"red", "green"}
    for filters, expected in (
        ({"name": ["gr"]}, {"green"}),
        ({"name": ["^re", "een$"]}, mine),
        ({"id": [network[:6], "zz"]}, {"green"}),
        ({"label": ["both"]}, mine),
        ({"label": ["both", "colour=red"]}, {"red"}),
        ({"driver": ["bridge"], "type": ["custom"]}, mine),
        ({"driver": ["host", "null"]}, {"host", "none"}),
        ({"type": ["builtin"]}, {"bridge", "host", "none"}),
        ({"scope": ["local"], "type": ["custom"]}, mine),
        ({"scope": ["swarm"]}, set[str]()),
        ({"dangling": ["true"]}, {"green"}),
        ({"dangling": ["0"], "type": ["custom"]}, {"red"}),
    ):
        if engine.is_dockerd and "dangling" in filters:
            continue  # 20.10 takes every network of one's own for unused
        answer = engine.http.get("/networks", query={"filters": json.dumps(filters)})
        assert {one["Name"] for one in answer.json} == expected, filters
    for bad in ({"nonsense": ["1"]}, {"type": ["nonsense"]}, {"dangling": ["nonsense"]}):
        answer = engine.http.get("/networks", query={"filters": json.dumps(bad)})
        assert answer.status in (400, 500), bad
