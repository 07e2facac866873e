"""User-defined networks on a real kernel: bridges, names, isolation, several networks for a container, recovery."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from dnslib import QTYPE, RR, A, DNSRecord

from tests.engine import net_machine as machine
from tests.engine.net_machine import (
    HOST,
    OUTSIDE,
    Engine,
    Server,
    ask,
    bound,
    create,
    eventually,
    fails,
    join,
    look_up,
    on_own_host,
    sh,
    within,
)
from wherry.api.errors import ApiError, BadRequest, Conflict, Forbidden, NotFound, ServerError
from wherry.api.models.networks import IPAM, EndpointIPAMConfig, EndpointSettings, IPAMConfig, NetworkCreateRequest
from wherry.engine.networks.bridge import exists, link_names
from wherry.engine.networks.records import Endpoint

WEB, DB, APP = machine.A, machine.B, machine.C


@on_own_host
async def test_a_network_is_made_and_removed_with_all_that_it_has(tmp_path: Path) -> None:
    engine = Engine(tmp_path)
    networks = await engine.start()
    _, watching = engine.events.subscribe()
    own = await create(networks, "own", labels={"a": "b"}, options={"com.docker.network.driver.mtu": "1400"})
    assert own.subnet == "172.18.0.0/16", "the first was kept for the default bridge"
    assert "172.18.0.1/16" in sh(f"ip addr show {own.bridge}")
    assert "mtu 1400" in sh(f"ip link show {own.bridge}")
    shown = networks.inspect("own")
    assert (shown.labels, shown.options) == ({"a": "b"}, {"com.docker.network.driver.mtu": "1400"})
    with pytest.raises(Conflict, match="network with name own already exists"):
        await create(networks, "own")
    with pytest.raises(Forbidden, match="operation is not permitted on predefined host network"):
        await create(networks, "host")
    with pytest.raises(Forbidden, match="Pool overlaps with other one on this address space"):
        await create(networks, "other", "172.18.4.0/24")
    with pytest.raises(Forbidden, match="bridge is a pre-defined network and cannot be removed"):
        await networks.remove("bridge")
    got = await join(networks, WEB, "own", "web")
    text = f"error while removing network: network own id {own.id} has active endpoints"
    with pytest.raises(Forbidden, match=text):
        await networks.remove("own")
    assert list(networks.inspect("own").containers or {}) == [WEB]
    assert "mtu 1400" in sh(f"nsenter --net={got.sandbox} ip link show eth0")
    await networks.release(WEB)
    await networks.remove(own.id[:12])
    with pytest.raises(NotFound, match="network own not found"):
        networks.get("own")
    assert not exists(own.bridge)
    assert f"wherry-{engine.tag}" not in sh("nft list tables")
    assert await engine.settled() == {}
    happened = [await watching.get() for _ in range(4)]
    assert [event.action for event in happened if event] == ["create", "connect", "disconnect", "destroy"]
    await networks.close()


@on_own_host
async def test_fixed_addresses_ranges_and_gateways(tmp_path: Path) -> None:
    networks = await Engine(tmp_path).start()
    pool = IPAMConfig(
        subnet="10.9.0.0/24", ip_range="10.9.0.128/25", gateway="10.9.0.254", auxiliary_addresses={"nas": "10.9.0.128"}
    )
    await networks.create(NetworkCreateRequest(name="own", ipam=IPAM(config=[pool])))
    await create(networks, "auto")
    got = await join(networks, WEB, "own", "web")
    assert (got.ip_address, got.gateway, got.ip_prefix_len) == ("10.9.0.129", "10.9.0.254", 24)
    assert ask_host(got, "10.9.0.254") == "10.9.0.129"

    def fixed(address: str) -> EndpointSettings:
        return EndpointSettings(ipam_config=EndpointIPAMConfig(ipv4_address=address))

    db = await networks.connect(DB, None, "own", fixed("10.9.0.7"))
    assert db.ip_address == "10.9.0.7"
    for network, address, error, text in (
        ("own", "10.9.0.7", Forbidden, "Address already in use"),
        ("own", "10.9.0.254", Forbidden, "Address already in use"),
        ("own", "10.8.0.7", BadRequest, "It does not belong to any of this network's subnets"),
        ("own", "10.9.0.x", BadRequest, "invalid IPv4 address: 10.9.0.x"),
        ("auto", "172.18.0.9", BadRequest, "only when connecting to networks with user configured subnets"),
        ("bridge", "172.17.0.9", BadRequest, "user specified IP address is supported on user defined networks only"),
    ):
        with pytest.raises(error, match=text):
            await networks.connect(APP, None, network, fixed(address))
    shown = networks.inspect("own").ipam.config
    assert shown
    assert shown[0] == pool
    await networks.close(remove=True)


def ask_host(got: Endpoint, address: str) -> str:
    server = Server(None, 81)
    try:
        return ask(address, 81, got.sandbox)
    finally:
        server.close()


@on_own_host
async def test_names_are_those_of_the_networks_that_are_shared(tmp_path: Path) -> None:
    resolvers(tmp_path)
    engine = Engine(tmp_path)
    networks = await engine.start()
    for name in ("front", "back"):
        await create(networks, name)
    web = await join(networks, WEB, "front", "web", "www", "a" * 12)
    app = await join(networks, APP, "front", "app", "www")
    await join(networks, APP, "back", "app", "api", running=True)
    db = await join(networks, DB, "back", "db", "sql", links={"backend": "app"}, servers=["192.0.2.53"])
    assert (
        look_up(app.sandbox, "web")
        == look_up(app.sandbox, "WEB.")
        == look_up(app.sandbox, "a" * 12)
        == [web.ip_address]
    )
    assert look_up(app.sandbox, "web", tcp=True) == [web.ip_address]
    assert look_up(app.sandbox, "web.front") == [web.ip_address]
    assert look_up(app.sandbox, "db") == look_up(app.sandbox, "sql") == [db.ip_address]
    assert set(look_up(web.sandbox, "www")) == {web.ip_address, app.ip_address}, "shared by two"
    for unknown in ("db", "api", "web.back"):
        assert look_up(web.sandbox, unknown) == "SERVFAIL", "not in its networks, and the host has no resolvers here"
    assert look_up(web.sandbox, "app", "AAAA") == [], "there is such a name, without such an address"
    reverse = ".".join(reversed(web.ip_address.split("."))) + ".in-addr.arpa"
    assert look_up(app.sandbox, reverse, "PTR") == ["web.front."]
    (back,) = (e.ip_address for e in networks.endpoints(APP) if e.network_name == "back")
    assert look_up(db.sandbox, "app") == look_up(db.sandbox, "backend") == [back]
    # changes are seen at once
    await networks.rename(DB, {"back": ["store", "sql"]})
    assert look_up(app.sandbox, "db") == "SERVFAIL"
    assert look_up(app.sandbox, "store") == [db.ip_address]
    await networks.disconnect(APP, "back")
    assert look_up(app.sandbox, "store") == look_up(db.sandbox, "app") == "SERVFAIL"
    await networks.release(WEB)
    assert look_up(app.sandbox, "web") == "SERVFAIL"
    assert look_up(app.sandbox, "www") == [app.ip_address]
    await networks.release(APP)
    await networks.release(DB)
    assert (await networks.prune()).networks_deleted == ["front", "back"]
    assert await engine.settled() == {}
    await networks.close()


def resolvers(tmp_path: Path, *servers: str) -> None:
    """Give the test's host these resolvers and no others."""
    resolv = tmp_path / "resolv.conf"
    resolv.write_text("".join(f"nameserver {server}\n" for server in servers))
    sh(f"mount --bind {resolv} /etc/resolv.conf")


class Upstream:
    """A resolver on the host that knows one address for every name, and remembers what it was asked."""

    def __init__(self, address: str) -> None:
        self.asked: list[str] = []
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind((address, 53))
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            data, client = self.socket.recvfrom(4096)
            record = DNSRecord.parse(data)
            self.asked.append(str(record.q.qname))
            reply = record.reply()
            reply.add_answer(RR(record.q.qname, QTYPE.A, rdata=A("198.51.100.7")))
            self.socket.sendto(bytes(reply.pack()), client)


@on_own_host
async def test_outside_names_go_to_the_hosts_resolvers_or_the_containers(tmp_path: Path) -> None:
    resolvers(tmp_path, "127.0.0.53")
    hosts, own = Upstream("127.0.0.53"), Upstream("127.0.0.54")
    networks = await Engine(tmp_path).start()
    await create(networks, "front")
    await create(networks, "inner", internal=True)
    web = await join(networks, WEB, "front", "web")
    db = await join(networks, DB, "inner", "db")
    app = await join(networks, APP, "front", "app", servers=["127.0.0.54"])
    assert look_up(web.sandbox, "example.org") == ["198.51.100.7"]
    assert look_up(app.sandbox, "example.net") == ["198.51.100.7"]
    assert look_up(db.sandbox, "example.com") == "SERVFAIL", "nothing leaves an internal network"
    assert look_up(db.sandbox, "db") == [db.ip_address]
    assert (hosts.asked, own.asked) == (["example.org."], ["example.net."])
    # what is no question is not answered, and does no harm
    with within(web.sandbox, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as client:
        for hostile in (b"", b"x", b"\0" * 12, os.urandom(300), b"\0\1\1\0\0\1\0\0\0\0\0\0" + b"\xc0\x0c" * 20):
            client.sendto(hostile, ("127.0.0.11", 53))
    assert look_up(web.sandbox, "web") == [web.ip_address]
    await networks.close(remove=True)


@on_own_host
async def test_networks_are_apart(tmp_path: Path) -> None:
    networks = await Engine(tmp_path).start()
    await create(networks, "one")
    await create(networks, "two")
    await create(networks, "quiet", options={"com.docker.network.bridge.enable_icc": "false"})
    await create(networks, "inner", internal=True)
    outside = Server(tmp_path / "outside", 80)
    web = await join(networks, WEB, "one", "web", bindings={"80/tcp": bound("8080")})
    server = Server(web.sandbox, 80)
    app = await join(networks, APP, "two", "app")
    assert fails(web.ip_address, 80, app.sandbox) == "timeout", "another network"
    assert ask(web.gateway, 8080, app.sandbox), "by the host's port it is for everybody"
    assert ask(OUTSIDE, 80, app.sandbox)
    quiet = [await join(networks, number * 64, "quiet", number) for number in "12"]
    alone = Server(quiet[0].sandbox, 80)
    assert fails(quiet[0].ip_address, 80, quiet[1].sandbox) in ("timeout", "EHOSTUNREACH")
    assert ask(quiet[0].ip_address, 80), "the host gets through"
    assert ask(OUTSIDE, 80, quiet[1].sandbox)
    plain = {"com.docker.network.bridge.enable_ip_masquerade": "false"}
    await create(networks, "routed", "10.9.0.0/24", options=plain)
    sh(f"nsenter --net={tmp_path / 'outside'} ip route add 10.9.0.0/24 via {HOST}")
    routed = await join(networks, "5" * 64, "routed", "5")
    assert ask(OUTSIDE, 80, routed.sandbox) == routed.ip_address, "seen as who it is"
    assert ask(OUTSIDE, 80, app.sandbox) == HOST
    inner = [await join(networks, n * 64, "inner", n, bindings={"80/tcp": bound("8081")}) for n in "34"]
    assert inner[0].gateway == ""
    assert inner[0].ports == {"80/tcp": None}, "no ports without a way out"
    inside = Server(inner[0].sandbox, 80)
    assert ask(inner[0].ip_address, 80, inner[1].sandbox) == inner[1].ip_address
    assert fails("127.0.0.1", 8081) == "refused"
    assert fails(OUTSIDE, 80, inner[1].sandbox) == "ENETUNREACH"
    sh(f"nsenter --net={inner[1].sandbox} ip route add default via {networks.get('inner').gateway.ip}")
    assert fails(OUTSIDE, 80, inner[1].sandbox) == "timeout", "also if it makes itself a route"
    assert fails(web.ip_address, 80, inner[1].sandbox) == "timeout"
    for one in (outside, server, alone, inside):
        one.close()
    await networks.close(remove=True)


@on_own_host
async def test_the_way_out_and_the_ports_move_when_their_network_is_left(tmp_path: Path) -> None:
    engine = Engine(tmp_path)
    networks = await engine.start()
    await create(networks, "one")
    await create(networks, "two", options={"com.docker.network.bridge.host_binding_ipv4": "127.0.0.1"})
    await create(networks, "inner", internal=True)
    outside = Server(tmp_path / "outside", 80)
    web = await join(networks, WEB, "two", "web", bindings={"80/tcp": bound("8080")})
    assert web.ports == {"80/tcp": bound("8080", "127.0.0.1")}
    server = Server(web.sandbox, 80)
    for network in ("inner", "one"):
        await join(networks, WEB, network, "web", running=True, bindings={"80/tcp": bound("8080")})
    with pytest.raises(Forbidden, match="endpoint with name web already exists in network one"):
        await join(networks, WEB, "one", "web", running=True)
    routes = f"nsenter --net={web.sandbox} ip route"
    assert f"default via {web.gateway} dev eth0" in sh(routes)
    await networks.disconnect(WEB, "two")
    first = next(e for e in networks.endpoints(WEB) if e.network_name == "one")
    assert f"default via {first.gateway} dev eth2" in sh(routes)
    assert first.ports == {"80/tcp": bound("8080", "127.0.0.1")}
    assert ask("127.0.0.1", 8080)
    assert ask(OUTSIDE, 80, web.sandbox)
    again = await join(networks, WEB, "two", "web", running=True)
    assert "eth0" in sh(routes), "the free number"
    assert again.ports == {}
    await networks.disconnect(WEB, "two")
    await networks.disconnect(WEB, "one")
    assert "default" not in sh(routes)
    assert fails("127.0.0.1", 8080) == "refused"
    with pytest.raises(ServerError, match=f"container {WEB} is not connected to network one"):
        await networks.disconnect(WEB, "one")
    server.close()
    outside.close()
    await networks.release(WEB)
    assert {k: v for k, v in (await engine.settled()).items() if k != "name server"} == {}
    await networks.close(remove=True)
    assert await engine.settled() == {}


@on_own_host
async def test_names_go_on_through_the_engines_death_and_that_of_the_name_server(tmp_path: Path) -> None:
    resolvers(tmp_path)
    engine = Engine(tmp_path)
    networks = await engine.start()
    await create(networks, "own")
    web = await join(networks, WEB, "own", "web")
    db = await join(networks, DB, "own", "db")
    await join(networks, APP, "own", "app")
    (server,) = engine.name_server()
    await engine.die()
    assert look_up(web.sandbox, "db") == [db.ip_address], "without an engine"
    engine = Engine(tmp_path)
    networks = await engine.start(WEB, DB)  # the third ended meanwhile
    assert engine.name_server() == [server], "the same one"
    assert look_up(web.sandbox, "db") == [db.ip_address]
    assert look_up(web.sandbox, "app") == "SERVFAIL"
    assert len(link_names(f"v{engine.tag}")) == 2
    os.kill(server, signal.SIGKILL)
    await eventually(lambda: engine.name_server() not in ([], [server]))
    for _ in range(100):
        if (found := await asyncio.to_thread(look_up_or_not, web.sandbox, "db")) == [db.ip_address]:
            break
        await asyncio.sleep(0.05)
    assert found == [db.ip_address]
    (server,) = engine.name_server()
    os.kill(server, signal.SIGKILL)
    await join(networks, APP, "own", "app"), "a connect right then"
    assert look_up(web.sandbox, "app")
    # both died
    await engine.die()
    for pid in engine.name_server():
        os.kill(pid, signal.SIGKILL)
    engine = Engine(tmp_path)
    networks = await engine.start(WEB)
    assert look_up(web.sandbox, "web") == [web.ip_address]
    await networks.close(remove=True)
    assert await engine.settled() == {}


def look_up_or_not(path: Path | None, name: str) -> list[str] | str:
    try:
        return look_up(path, name, timeout=0.3)
    except OSError:
        return "nobody there"


@on_own_host
async def test_the_name_server_ends_when_nobody_needs_it(tmp_path: Path) -> None:
    engine = Engine(tmp_path)
    networks = await engine.start()
    await create(networks, "own")
    await join(networks, WEB, "own", "web")
    assert engine.name_server()
    await networks.release(WEB)
    assert engine.name_server(), "for the next one"
    await engine.die()
    await eventually(lambda: not engine.name_server())
    engine = Engine(tmp_path)
    networks = await engine.start()
    assert networks.get("own")
    await networks.remove("own")
    assert await engine.settled() == {}
    await networks.close()


_CHURN = """
import asyncio, sys
from pathlib import Path
from tests.engine.net_machine import Engine, bound
from wherry.api.models.networks import NetworkCreateRequest

async def main():
    engine = Engine(Path({root!r}))
    networks = await engine.start()
    print("ready", flush=True)
    for number in range(1000):
        name = "n%d" % number
        await networks.create(NetworkCreateRequest(name=name, enable_ipv6=True))
        await networks.connect("a" * 64, None, name, names=["web"], bindings={{"80/tcp": bound()}})
        await networks.connect("a" * 64, None, "keep", names=["web"], running=True)
        await networks.disconnect("a" * 64, name)
        await networks.release("a" * 64)
        await networks.remove(name)
asyncio.run(main())
"""


@on_own_host
async def test_an_engine_killed_at_any_instant_leaves_nothing_after_recovery(tmp_path: Path) -> None:
    engine = Engine(tmp_path)
    networks = await engine.start()
    await create(networks, "keep")
    await engine.die()
    for pause in (0.005, 0.03, 0.07, 0.15, 0.22, 0.31):
        command = [sys.executable, "-c", _CHURN.format(root=str(tmp_path))]
        with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=Path(__file__).parents[2]) as child:
            assert child.stdout
            assert child.stdout.readline() == b"ready\n"
            time.sleep(pause)
            child.kill()
        alive = {WEB} if pause > 0.1 else set()
        engine = Engine(tmp_path)
        networks = await engine.start(*alive)
        rows = {record.bridge for record in networks._catalog.networks.values()}
        assert set(link_names(f"wh-{engine.tag}")) <= rows, "no bridge without a row"
        assert all(not record.pending for record in networks._catalog.networks.values())
        for endpoint in networks.endpoints(WEB):
            await networks.disconnect(WEB, endpoint.network_name)
        await networks.release(WEB)
        await networks.prune({"label!": ["keep"]}) if pause == 0.31 else None
        left = await engine.settled()
        assert {k: v for k, v in left.items() if k != "name server"} == {}
        await engine.die()
    engine = Engine(tmp_path)
    networks = await engine.start()
    await networks.prune()
    await networks.close(remove=True)
    assert await engine.settled() == {}


@on_own_host
async def test_a_link_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    engine = Engine(tmp_path)
    networks = await engine.start()
    sh("ip link add theirs type bridge")
    with pytest.raises(Forbidden, match="a link of this name exists already"):
        await create(networks, "own", options={"com.docker.network.bridge.name": "theirs"})
    own = await create(networks, "own", options={"com.docker.network.bridge.name": "mine"})
    assert own.bridge == "mine"
    with pytest.raises(Forbidden, match="networks have same bridge name"):
        await create(networks, "more", options={"com.docker.network.bridge.name": "mine"})
    with pytest.raises(ApiError):
        networks.get("more")
    await networks.close(remove=True)
    assert exists("theirs")
    assert not exists("mine")
