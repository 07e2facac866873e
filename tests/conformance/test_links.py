"""Links between containers of the default bridge, and what they are in user-defined networks."""

from __future__ import annotations

import json

from tests.support.engines import Engine
from tests.support.http import eventually


def hosts(engine: Engine, container: str) -> list[list[str]]:
    return [line.split() for line in engine.exec(container, "cat", "/etc/hosts")[1].decode().splitlines()]


def names(engine: Engine) -> dict[str, list[str]]:
    return {one["Id"]: one["Names"] for one in engine.http.get("/containers/json", query={"all": 1}).json}


def test_a_link_is_a_line_in_the_hosts_file_and_needs_its_container_to_run(engine: Engine) -> None:
    web = engine.run_idle(name="web", Hostname="server")
    app = engine.run_idle(name="app", HostConfig={"Links": ["web:shop", "web"]})
    address = engine.inspect(web)["NetworkSettings"]["IPAddress"]
    assert [address, "shop", "server", "web"] in hosts(engine, app)
    assert [address, "web", "server"] in hosts(engine, app)
    assert engine.exec(app, "ping", "-c", "1", "-W", "3", "shop")[0] == 0
    assert engine.http.post(f"/containers/{web}/kill").status == 204
    assert engine.http.post(f"/containers/{app}/restart", query={"t": 1}).status == 500
    answer = engine.http.post(f"/containers/{app}/start")
    assert answer.status == 500
    assert "Cannot link to a non running container: /web AS /app/" in answer.message


def test_a_link_leads_to_the_address_that_the_other_has_now(engine: Engine) -> None:
    web = engine.run_idle(name="web")
    app = engine.run_idle(HostConfig={"Links": ["web:shop"]})
    before = engine.inspect(web)["NetworkSettings"]["IPAddress"]
    engine.exec(app, "sh", "-c", "echo '192.0.2.7\tmine' >> /etc/hosts")
    assert engine.http.post(f"/containers/{web}/stop", query={"t": 1}).status == 204
    engine.run_idle() if engine.is_dockerd else engine.run_idle(HostConfig={"NetworkMode": "bridge"})
    engine.start(web)
    after = engine.inspect(web)["NetworkSettings"]["IPAddress"]
    if engine.is_dockerd:
        assert after != before, "its line in the hosts file is the old one until something else writes it"
    else:
        assert [after, "shop", web[:12], "web"] in hosts(engine, app)
        assert ["192.0.2.7", "mine"] in hosts(engine, app), "what the container wrote stays"


def test_the_environment_of_a_link(engine: Engine) -> None:
    ports = {key: {} for key in ("82/tcp", "80/tcp", "81/tcp", "53/udp", "53/tcp", "443/tcp")}
    web = engine.run_idle(name="web", Env=["A=1", "PATH=/bin:/usr/bin", "C=x=y"], ExposedPorts=ports)
    address = engine.inspect(web)["NetworkSettings"]["IPAddress"]
    body = {"Env": ["W_1_PORT=mine"], "HostConfig": {"Links": ["web:w-1"]}}
    app = engine.run("sh", "-c", "sleep 1000", name="app", **body)
    text = engine.exec(app, "cat", "/proc/1/environ")[1].decode()
    env = dict(entry.split("=", 1) for entry in text.split("\0") if entry.startswith("W_1_"))
    expected = {
        "W_1_NAME": "/app/w-1",
        "W_1_PORT": "mine",
        "W_1_ENV_A": "1",
        "W_1_ENV_C": "x=y",
        "W_1_PORT_80_TCP_START": f"tcp://{address}:80",
        "W_1_PORT_80_TCP_PORT_START": "80",
        "W_1_PORT_80_TCP_END": f"tcp://{address}:82",
        "W_1_PORT_80_TCP_PORT_END": "82",
    }
    for port, protocol in ((53, "tcp"), (53, "udp"), (80, "tcp"), (81, "tcp"), (82, "tcp"), (443, "tcp")):
        key = f"W_1_PORT_{port}_{protocol.upper()}"
        expected |= {
            key: f"{protocol}://{address}:{port}",
            f"{key}_ADDR": address,
            f"{key}_PORT": str(port),
            f"{key}_PROTO": protocol,
        }
    assert env == expected
    assert "W_1_ENV_A=1" in engine.exec(app, "env")[1].decode(), "also of an exec"


def test_names_by_links(engine: Engine) -> None:
    web = engine.run_idle(name="web")
    app = engine.run_idle(name="app", HostConfig={"Links": ["web:shop", "web"]})
    assert sorted(engine.inspect(app)["HostConfig"]["Links"]) == ["/web:/app/shop", "/web:/app/web"]
    assert engine.inspect(web)["HostConfig"]["Links"] is None
    assert names(engine) == {app: ["/app"], web: ["/app/shop", "/app/web", "/web"]}
    assert engine.inspect("app/shop")["Id"] == web
    assert engine.http.get("/containers/app/nope/json").status == 404
    listed = engine.http.get("/containers/json", query={"filters": json.dumps({"name": ["shop"]})})
    assert listed.json == [], "a list is filtered by the containers' own names"
    for old, new in (("web", "web2"), ("app", "app2")):
        assert engine.http.post(f"/containers/{old}/rename", query={"name": new}).status == 204
    assert sorted(engine.inspect(app)["HostConfig"]["Links"]) == ["/web2:/app2/shop", "/web2:/app2/web"]
    assert names(engine)[web] == ["/app2/shop", "/app2/web", "/web2"]


def test_DEL5a_a_link_is_removed_alone(engine: Engine) -> None:
    web = engine.run_idle(name="web")
    app = engine.run_idle(name="app", HostConfig={"Links": ["web:shop", "web"]})
    answer = engine.http.delete("/containers/web", query={"link": 1})
    assert (answer.status, answer.message) == (500, "Conflict, cannot remove the default link name of the container")
    assert engine.http.delete("/containers/app/nope", query={"link": 1}).status == 404
    assert engine.http.delete("/containers/app/shop", query={"link": 1}).status == 204
    assert engine.inspect(app)["HostConfig"]["Links"] == ["/web:/app/web"]
    assert names(engine) == {app: ["/app"], web: ["/app/web", "/web"]}
    eventually(lambda: not [line for line in hosts(engine, app) if "shop" in line], what="its line to go")
    assert [line for line in hosts(engine, app) if line[1:2] == ["web"]]


def test_what_cannot_be_linked(engine: Engine) -> None:
    engine.run_idle(name="web")
    engine.run_idle(name="hosty", HostConfig={"NetworkMode": "host"})
    engine.run_idle(name="guest", HostConfig={"NetworkMode": "container:web"})
    for link, status, text in (
        ("nope:x", 400, "could not get container for nope: No such container: nope"),
        ("hosty:x", 400, "conflicting options: host type networking can't be used with links"),
        ("web:a:b", 500, "bad format for links: web:a:b"),
        ("", 500, "empty string specified for links"),
    ):
        answer = engine.try_create("true", HostConfig={"Links": [link]})
        assert answer.status == status, answer
        assert text in answer.message
    app = engine.create("true", name="app", HostConfig={"Links": ["guest:g"]})
    assert engine.inspect(app)["HostConfig"]["Links"] == ["/web:/app/g"], "who shares a network is linked by its owner"


def test_in_a_user_defined_network_links_are_names_of_the_endpoint(engine: Engine) -> None:
    assert engine.http.post("/networks/create", json={"Name": "own"}).status == 201
    web = engine.run_idle(name="web", HostConfig={"NetworkMode": "own"})
    endpoints = {"own": {"Links": ["web:shop"]}}
    app = engine.run_idle(
        HostConfig={"NetworkMode": "own", "Links": ["web:other"]}, NetworkingConfig={"EndpointsConfig": endpoints}
    )
    shown = engine.inspect(app)
    assert shown["HostConfig"]["Links"] is None
    assert shown["NetworkSettings"]["Networks"]["own"]["Links"] == ["web:shop"]
    assert engine.exec(app, "ping", "-c", "1", "-W", "3", "shop")[0] == 0
    assert engine.exec(app, "ping", "-c", "1", "-W", "3", "other")[0] != 0
    assert names(engine)[web] == ["/web"]
    engine.remove_all()
    assert engine.http.delete("/networks/own").status == 204
