"""Two of Wherry's engines and a dockerd on one machine at once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.engines import Engine, scratch_root
from tests.support.http import eventually
from tests.support.shared_host import HOST, SharedHost, shared_host


@pytest.fixture
def host() -> Iterator[SharedHost]:
    with scratch_root("shared") as root, shared_host(root) as host:
        yield host


def publish(engine: Engine, port: int, local: int) -> None:
    """A web server in a network of its own, on a port of every address and on one of 127.0.0.1; and a client there."""
    answer = engine.http.post("/networks/create", json={"Name": "own"})
    assert answer.status == 201, answer
    ports = {"80/tcp": [{"HostPort": str(port)}, {"HostIp": "127.0.0.1", "HostPort": str(local)}]}
    host: dict[str, Any] = {"NetworkMode": "own", "PortBindings": ports}
    page = f"mkdir /www && echo {engine.root.name} > /www/index.html && exec httpd -f -p 80 -h /www"
    engine.run("sh", "-c", page, name="web", StopSignal="SIGKILL", ExposedPorts={"80/tcp": {}}, HostConfig=host)
    engine.run_idle(name="client", HostConfig={"NetworkMode": "own"})
    eventually(
        lambda: engine.exec("client", "wget", "-q", "-O", "-", "http://web/")[0] == 0, what="the server to listen"
    )


def fetch(engine: Engine, address: str) -> str:
    """What the engine's client finds at an address."""
    return engine.exec("client", "timeout", "5", "wget", "-q", "-O", "-", f"http://{address}/")[1].decode().strip()


def tag_of(engine: Engine) -> str:
    """What the engine's kernel objects have in their names."""
    options = engine.http.get("/networks/bridge").json["Options"]
    return str(options["com.docker.network.bridge.name"]).removeprefix("wh-")


def get(host: SharedHost, address: str, port: int, *, outside: bool = False) -> str:
    command = f"curl -s --max-time 3 http://{address}:{port}/ || echo failed $?"
    return host.sh(command, outside=outside).strip()


@pytest.mark.timeout(180)
def test_stopping_one_engine_leaves_the_others_rules_and_traffic_alone(host: SharedHost) -> None:
    docker = host.engine("dockerd", dockerd=True)  # first: it drops what it does not accept if it finds no forwarding
    one, two = host.engine("one"), host.engine("two")
    tag_one, tag_two = tag_of(one), tag_of(two)
    for engine, port in ((one, 8001), (docker, 8002), (two, 8003)):
        publish(engine, port, port + 1000)
    served = {8001: one, 8002: docker, 8003: two}
    assert "policy drop" in host.tables()["ip filter"], "dockerd drops what nobody accepts"

    def check(*ports: int) -> None:
        for port in ports:
            name = served[port].root.name
            for address, outside in ((HOST, True), (HOST, False), ("127.0.0.1", False)):
                assert get(host, address, port, outside=outside) == name
            assert get(host, "127.0.0.1", port + 1000) == name
            assert get(host, HOST, port + 1000, outside=True).startswith("failed"), "asked for on 127.0.0.1 alone"
            # engines' containers meet by the host's ports
            for other in ports:
                assert fetch(served[other], f"{HOST}:{port}") == name, (name, served[other])
            assert fetch(served[port], "web") == name

    check(8001, 8002, 8003)

    before = host.tables()
    assert f"ip wherry-{tag_one}" in before
    assert sum(f'"wherry-{tag_one}"' in line for line in before["ip filter"].splitlines()) == 2, "in and out"
    host.stop(one)
    after = host.tables()
    del before[f"ip wherry-{tag_one}"]
    before["ip filter"] = without(before["ip filter"], tag_one)
    assert after == before
    check(8002, 8003)
    assert get(host, HOST, 8001, outside=True) == "failed 7"

    before = after
    host.stop(docker)
    eventually(lambda: get(host, HOST, 8002, outside=True) == "failed 7", what="dockerd's port to go")
    after = host.tables()
    assert after[f"ip wherry-{tag_two}"] == before[f"ip wherry-{tag_two}"]
    assert [line for line in after["ip filter"].splitlines() if tag_two in line] == [
        line for line in before["ip filter"].splitlines() if tag_two in line
    ]
    check(8003)

    host.stop(two)
    after = host.tables()
    assert not [line for table in after for line in (table, *after[table].splitlines()) if "wherry" in line]
    assert "ip filter" in after, "dockerd's own stay"


def without(table: str, tag: str) -> str:
    return "".join(line for line in table.splitlines(keepends=True) if tag not in line)
