"""The networks none, host and bridge, and published ports."""

from __future__ import annotations

import ipaddress
import os
import socket
from typing import Any

import pytest

from tests.support.engines import Engine
from tests.support.http import eventually

HTTPD = ("httpd", "-f", "-p", "80", "-h", "/var/www")


def fetch(engine: Engine, address: str, port: int) -> bytes:
    """A page over HTTP, asked for until the server listens."""

    def ask() -> bytes:
        try:
            with engine.connect_tcp(address, port) as sock:
                sock.sendall(b"GET / HTTP/1.0\r\n\r\n")
                answer = b""
                while data := sock.recv(65536):
                    answer += data
                return answer
        except OSError:
            return b""

    return bytes(eventually(ask, what=f"{address}:{port} answers"))


def publish(port: str, ip: str = "127.0.0.1") -> dict[str, Any]:
    return {
        "ExposedPorts": {"80/tcp": {}},
        "HostConfig": {"PortBindings": {"80/tcp": [{"HostIp": ip, "HostPort": port}]}},
    }


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def test_none(engine: Engine) -> None:
    code, out, _ = engine.run_to_end("ip", "-o", "addr", HostConfig={"NetworkMode": "none"})
    assert code == 0
    assert {line.split()[1] for line in out.decode().splitlines()} == {"lo"}
    assert b"127.0.0.1/8" in out
    settings = engine.inspect(engine.containers()[0])["NetworkSettings"]
    assert list(settings["Networks"]) == ["none"]


def test_host(engine: Engine) -> None:
    container = engine.run("readlink", "/proc/self/ns/net", HostConfig={"NetworkMode": "host"})
    engine.wait(container)
    expected = os.readlink(engine.netns or "/proc/self/ns/net")
    assert engine.logs(container)[0].decode().strip() == expected
    assert list(engine.inspect(container)["NetworkSettings"]["Networks"]) == ["host"]
    assert engine.run_to_end("hostname", HostConfig={"NetworkMode": "host"})[1].decode().strip() == socket.gethostname()


def test_bridge_address(engine: Engine) -> None:
    container = engine.run_idle(Hostname="named")
    bridge = engine.inspect(container)["NetworkSettings"]["Networks"]["bridge"]
    address = ipaddress.ip_interface(f"{bridge['IPAddress']}/{bridge['IPPrefixLen']}")
    assert ipaddress.ip_address(bridge["Gateway"]) in address.network
    shown = engine.exec(container, "ip", "-o", "-4", "addr", "show", "eth0")[1].decode()
    assert str(address) in shown
    assert engine.exec(container, "cat", "/sys/class/net/eth0/address")[1].decode().strip() == bridge["MacAddress"]
    routes = engine.exec(container, "ip", "route")[1].decode()
    assert f"default via {bridge['Gateway']} dev eth0" in routes
    hosts = engine.exec(container, "cat", "/etc/hosts")[1].decode()
    assert any(line.split() == [bridge["IPAddress"], "named"] for line in hosts.splitlines())
    assert "127.0.0.1\tlocalhost" in hosts


def test_bridge_reaches_the_gateway_and_the_neighbour(engine: Engine) -> None:
    one, two = engine.run_idle(), engine.run_idle()
    bridge = engine.inspect(two)["NetworkSettings"]["Networks"]["bridge"]
    for target in (bridge["Gateway"], bridge["IPAddress"]):
        assert engine.exec(one, "ping", "-c", "1", "-W", "5", target)[0] == 0
    assert engine.inspect(one)["NetworkSettings"]["IPAddress"] != bridge["IPAddress"]


def test_names_are_resolved_by_the_hosts_servers(engine: Engine) -> None:
    with open("/etc/resolv.conf", encoding="utf-8") as file:
        servers = [line.split()[1] for line in file if line.startswith("nameserver")]
    resolv = engine.run_to_end("cat", "/etc/resolv.conf")[1].decode()
    for server in servers:
        if not server.startswith("127."):
            assert f"nameserver {server}" in resolv
    host = {
        "Dns": ["192.0.2.53"],
        "DnsSearch": ["example.org"],
        "DnsOptions": ["ndots:2"],
        "ExtraHosts": ["other:192.0.2.9"],
    }
    resolv = engine.run_to_end("cat", "/etc/resolv.conf", "/etc/hosts", HostConfig=host)[1].decode()
    assert {"nameserver 192.0.2.53", "search example.org", "options ndots:2", "192.0.2.9\tother"} <= set(
        resolv.splitlines()
    )


def test_published_port(engine: Engine) -> None:
    port = free_port()
    container = engine.run(*HTTPD, **publish(str(port)))
    assert b"It works" in fetch(engine, "127.0.0.1", port)
    assert engine.inspect(container)["NetworkSettings"]["Ports"]["80/tcp"] == [
        {"HostIp": "127.0.0.1", "HostPort": str(port)}
    ]
    assert engine.http.post(f"/containers/{container}/kill").status == 204
    with pytest.raises(OSError):
        engine.connect_tcp("127.0.0.1", port)


def test_published_port_of_any(engine: Engine) -> None:
    container = engine.run(*HTTPD, **publish("", ip=""))
    bindings = engine.inspect(container)["NetworkSettings"]["Ports"]["80/tcp"]
    port = int(bindings[0]["HostPort"])
    assert port >= 1024
    assert bindings[0]["HostIp"] == "0.0.0.0"
    assert b"It works" in fetch(engine, "127.0.0.1", port)


def test_published_port_is_reached_from_the_bridge(engine: Engine) -> None:
    container = engine.run(*HTTPD, **publish("", ip="0.0.0.0"))
    settings = engine.inspect(container)["NetworkSettings"]
    port = settings["Ports"]["80/tcp"][0]["HostPort"]
    assert b"It works" in fetch(engine, settings["Gateway"], int(port))
    other = engine.run_idle()
    page = eventually(lambda: engine.exec(other, "wget", "-q", "-O", "-", f"http://{settings['Gateway']}:{port}/")[1])
    assert b"It works" in page
    # a container that asks for its own published port
    assert b"It works" in engine.exec(container, "wget", "-q", "-O", "-", f"http://{settings['Gateway']}:{port}/")[1]


def test_publish_all(engine: Engine) -> None:
    container = engine.run(*HTTPD, ExposedPorts={"80/tcp": {}}, HostConfig={"PublishAllPorts": True})
    port = int(engine.inspect(container)["NetworkSettings"]["Ports"]["80/tcp"][0]["HostPort"])
    assert b"It works" in fetch(engine, "127.0.0.1", port)


def test_a_foreign_process_holds_the_port(engine: Engine) -> None:
    if engine.is_dockerd:
        return  # the process would have to be in its namespace
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        container = engine.create("true", **publish(str(port)))
        answer = engine.http.post(f"/containers/{container}/start")
        assert answer.status == 500
        assert f"127.0.0.1:{port}" in answer.message
    engine.start(container)


def test_port_range(engine: Engine) -> None:
    first = free_port()
    chosen = set()
    for _ in range(2):
        container = engine.run_idle(**publish(f"{first}-{first + 20}"))
        chosen.add(int(engine.inspect(container)["NetworkSettings"]["Ports"]["80/tcp"][0]["HostPort"]))
    assert len(chosen) == 2
    assert chosen <= set(range(first, first + 21))


def test_network_list_and_inspect(engine: Engine) -> None:
    networks = {network["Name"]: network for network in engine.http.get("/networks").json}
    assert {"bridge", "host", "none"} <= set(networks)
    assert {name: networks[name]["Driver"] for name in ("bridge", "host", "none")} == {
        "bridge": "bridge",
        "host": "host",
        "none": "null",
    }
    container = engine.run_idle(name="member")
    bridge = engine.http.get("/networks/bridge").json
    assert bridge["Containers"][container]["Name"] == "member"
    assert bridge["IPAM"]["Config"][0]["Subnet"]
    assert engine.http.get(f"/networks/{bridge['Id'][:12]}").json["Id"] == bridge["Id"]
    answer = engine.http.get("/networks/nope")
    assert (answer.status, answer.message) == (404, "network nope not found")


def test_addresses_come_back(engine: Engine) -> None:
    seen = []
    for _ in range(3):
        container = engine.run_idle()
        seen.append(engine.inspect(container)["NetworkSettings"]["IPAddress"])
        assert engine.http.delete(f"/containers/{container}?force=1").status == 204
    assert all(seen)
