"""Networks with IPv6 on a real kernel."""

from __future__ import annotations

import os
import signal
import socket
from pathlib import Path

import pytest

from tests.engine.net_machine import (
    HOST,
    HOST6,
    OUTSIDE,
    OUTSIDE6,
    A,
    B,
    C,
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
from wherry.api.errors import BadRequest, Forbidden, ServerError
from wherry.api.models.networks import IPAM, EndpointIPAMConfig, EndpointSettings, IPAMConfig
from wherry.engine.networks.bridge import link_names
from wherry.engine.networks.definition import default_pool6
from wherry.engine.networks.networks import Networks
from wherry.engine.networks.records import NetworkRecord


async def create6(networks: Networks, name: str, subnet: str = "fd00:1::/64", **more: object) -> NetworkRecord:
    return await create(networks, name, subnet, enable_ipv6=True, **more)


@on_own_host
async def test_addresses_routes_and_what_inspect_shows(tmp_path: Path) -> None:
    engine = Engine(tmp_path)
    networks = await engine.start()
    own = await create6(networks, "own")
    got = await join(networks, A, "own", "web")
    assert (got.ipv6_address, got.ipv6_prefix_len, got.ipv6_gateway) == ("fd00:1::2", 64, "fd00:1::1")
    shown = got.settings()
    assert (shown.global_ipv6_address, shown.global_ipv6_prefix_len, shown.ipv6_gateway) == (
        "fd00:1::2", 64, "fd00:1::1",
    )  # fmt: skip
    inside = sh(f"nsenter --net={got.sandbox} sh -c 'ip -6 addr show dev eth0; ip -6 route'")
    assert "inet6 fd00:1::2/64 scope global nodad" in inside
    assert "tentative" not in inside.splitlines()[1], "good at once"
    assert "default via fd00:1::1 dev eth0" in inside
    network = networks.inspect("own")
    assert network.enable_ipv6
    assert [pool.subnet for pool in network.ipam.config or ()] == ["172.18.0.0/16", "fd00:1::/64"]
    assert (network.containers or {})[A].ipv6_address == "fd00:1::2/64"
    plain = await networks.connect(B, None, "bridge")
    assert "inet6" not in sh(f"nsenter --net={plain.sandbox} ip addr show dev eth0"), "none where none was asked for"
    # neither the host nor a container takes a neighbour for a router
    assert sh(f"cat /proc/sys/net/ipv6/conf/{own.bridge}/accept_ra") == "0\n"
    assert sh(f"cat /proc/sys/net/ipv6/conf/wh-{engine.tag}/accept_ra") == "0\n"
    assert sh(f"nsenter --net={got.sandbox} cat /proc/sys/net/ipv6/conf/eth0/accept_ra") == "0\n"
    await networks.release(A)
    await networks.remove("own")
    assert "ip6 wherry" not in sh("nft list tables")
    await networks.close(remove=True)


@on_own_host
async def test_ipv6_survives_a_narrow_way_out(tmp_path: Path) -> None:
    sh("ip -6 addr flush dev ext; ip link set ext mtu 1000")
    networks = await Engine(tmp_path).start()
    await create6(networks, "own")
    got = await join(networks, A, "own", "web")
    shown = sh(f"nsenter --net={got.sandbox} ip addr show eth0")
    assert "mtu 1280" in shown
    assert got.ipv6_address in shown
    await networks.close(remove=True)


@on_own_host
async def test_a_subnet_is_chosen_where_none_is_given(tmp_path: Path) -> None:
    networks = await Engine(tmp_path).start()
    own = await create6(networks, "own", "")
    assert own.six
    assert own.six.network.subnet_of(own.six.network.supernet(new_prefix=48))
    assert str(own.six.network).startswith("fd")
    pool = (networks.inspect("own").ipam.config or [])[1]
    assert (pool.subnet, pool.gateway) == (own.six.subnet, str(own.six.gateway.ip))
    got = await join(networks, A, "own", "web")
    assert got.ipv6_address
    with pytest.raises(BadRequest, match="only when connecting to networks with user configured subnets"):
        await networks.connect(B, None, "own", fixed6(str(own.six.network[77])))
    await networks.close(remove=True)


def fixed6(address: str, four: str = "") -> EndpointSettings:
    return EndpointSettings(ipam_config=EndpointIPAMConfig(ipv4_address=four, ipv6_address=address))


@on_own_host
async def test_fixed_addresses_ranges_and_gateways(tmp_path: Path) -> None:
    engine = Engine(tmp_path)
    networks = await engine.start()
    pools = [
        IPAMConfig(subnet="10.9.0.0/24"),
        IPAMConfig(
            subnet="fd00:2::/64",
            gateway="fd00:2::9",
            ip_range="fd00:2::8000/113",
            auxiliary_addresses={"nas": "fd00:2::8000"},
        ),
    ]
    await create(networks, "own", enable_ipv6=True, ipam=IPAM(config=pools))
    await create(networks, "four", "10.8.0.0/24")
    assert networks.inspect("own").ipam.config == pools
    got = await join(networks, A, "own", "web")
    assert (got.ipv6_address, got.ipv6_gateway) == ("fd00:2::8001", "fd00:2::9")
    db = await networks.connect(B, None, "own", fixed6("fd00:2::77", "10.9.0.77"))
    assert (db.ip_address, db.ipv6_address) == ("10.9.0.77", "fd00:2::77")
    server = Server(None, 81, "::")
    assert ask("fd00:2::9", 81, db.sandbox) == "fd00:2::77"
    server.close()
    for network, address, error, text in (
        ("own", "fd00:2::77", Forbidden, "Address already in use"),
        ("own", "fd00:2::9", Forbidden, "Address already in use"),
        ("own", "fd00:3::1", BadRequest, "It does not belong to any of this network's subnets"),
        ("own", "10.9.0.5", BadRequest, "invalid IPv6 address: 10.9.0.5"),
        ("own", "fe80::1%eth0", BadRequest, "invalid IPv6 address"),
        ("four", "fd00:2::78", BadRequest, "network four has no IPv6"),
        ("bridge", "fd00:2::78", BadRequest, "user specified IP address is supported on user defined networks only"),
    ):
        with pytest.raises(error, match=text):
            await networks.connect(C, None, network, fixed6(address))
    free = await networks.connect(C, None, "own", fixed6("", "10.9.0.3"))
    assert free.ip_address == "10.9.0.3", "the refused left their IPv4 address"
    await networks.close(remove=True)


@on_own_host
async def test_published_ports_answer_where_they_say(tmp_path: Path) -> None:
    networks = await Engine(tmp_path).start()
    outside = tmp_path / "outside"
    await create6(networks, "own")
    got = await networks.connect(
        A,
        None,
        "own",
        bindings={
            "80/tcp": [
                *bound("8080"),
                *bound("8081", HOST6),
                *bound("8082", "0.0.0.0"),
                *bound("8083", "::"),
                *bound("8085", "::1"),
            ]
        },
    )
    assert got.ports == {
        "80/tcp": [
            *bound("8080", "0.0.0.0"), *bound("8082", "0.0.0.0"), *bound("8081", HOST6), *bound("8080", "::"),
            *bound("8083", "::"), *bound("8085", "::1"),
        ]
    }  # fmt: skip
    other = await networks.connect(B, None, "own")
    servers = [Server(got.sandbox, 80), Server(got.sandbox, 80, "::"), Server(got.sandbox, 81, "::")]
    assert ask(HOST, 8080, outside) == OUTSIDE
    assert ask(HOST6, 8080, outside) == OUTSIDE6, "who asks from outside is seen as who it is"
    assert ask(HOST6, 8081, outside) == OUTSIDE6
    assert ask(HOST6, 8083, outside) == OUTSIDE6
    assert fails(HOST6, 8082, outside) == "refused"
    assert fails(HOST, 8083, outside) == "refused"
    assert fails("fd00:1::1", 8081) == "refused"
    for asked in ("fd00:1::1", HOST6):
        assert ask(asked, 8080), "from the host"
        assert ask(asked, 8080, got.sandbox), "hairpin: the container itself"
        assert ask(asked, 8080, other.sandbox), "its neighbour"
    assert ask(got.ipv6_address, 81, other.sandbox) == other.ipv6_address, "neighbours talk directly"
    for port in (8080, 8083, 8085):
        assert ask("::1", port) == "fd00:1::1", "also from the host's loopback"
    assert fails("::1", 8081) == "refused"
    assert fails(HOST6, 8085, outside) == "refused", "asked for on ::1 alone"
    assert ask("127.0.0.1", 8080)
    # a machine that routes to the bridge through us gets at published ports only by their host's address
    sh(f"nsenter --net={outside} ip route add fd00:1::/64 via {HOST6}")
    assert fails(got.ipv6_address, 81, outside) == "timeout"
    assert fails(got.ipv6_address, 80, outside) == "timeout"
    with pytest.raises(ServerError, match=r"Bind for :::8083 failed: port is already allocated"):
        await networks.connect(C, None, "own", bindings={"80/tcp": bound("8083", "::")})
    neighbour = await Engine(tmp_path / "two").start()
    await create6(neighbour, "own", "fd00:2::/64")
    for port, ip in (("8083", "::"), ("8085", "::1")):
        with pytest.raises(ServerError, match="bind: address already in use"):
            await neighbour.connect(C, None, "own", bindings={"80/tcp": bound(port, ip)})
    await neighbour.close(remove=True)
    with pytest.raises(BadRequest, match="network bridge has no IPv6"):
        await networks.connect(C, None, "bridge", bindings={"80/tcp": bound("8084", "::")})
    with pytest.raises(BadRequest, match=r"publish on 127\.0\.0\.1"):
        await networks.connect(C, None, "own", bindings={"80/udp": bound("8084", "::1")})
    for server in servers:
        server.close()
    await networks.close(remove=True)


@on_own_host
async def test_udp_and_the_conversations_of_a_container_that_went(tmp_path: Path) -> None:
    networks = await Engine(tmp_path).start()
    await create6(networks, "own")

    def listen() -> socket.socket:
        server = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        server.bind(("::", 53))
        server.settimeout(1)
        return server

    with within(tmp_path / "outside", lambda: socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)) as client:
        client.connect((HOST6, 5353))
        client.send(b"too early")
        for container in (A, B):
            got = await networks.connect(container, None, "own", bindings={"53/udp": bound("5353")})
            client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            with within(got.sandbox, listen) as server:
                client.send(container.encode())
                data, peer = server.recvfrom(100)
                assert data == container.encode()
                assert peer[0] == OUTSIDE6
                with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as local:
                    local.settimeout(1)
                    local.connect(("::1", 5353))
                    local.send(b"here")
                    data, peer = server.recvfrom(100)
                    assert (data, peer[0]) == (b"here", "fd00:1::1")
                    server.sendto(b"answer", peer)
                    assert local.recv(100) == b"answer"
            await networks.release(container)
    await networks.close(remove=True)


@on_own_host
async def test_the_way_out_is_masqueraded_if_it_is_not_said_otherwise(tmp_path: Path) -> None:
    networks = await Engine(tmp_path).start()
    await create6(networks, "own")
    plain = {"com.docker.network.bridge.enable_ip_masquerade": "false"}
    await create6(networks, "routed", "2001:db8:7::/64", options=plain)
    await create6(networks, "inner", "fd00:3::/64", internal=True)
    outside = tmp_path / "outside"
    server = Server(outside, 80, "::")
    sh(f"nsenter --net={outside} ip -6 route add 2001:db8:7::/64 via {HOST6}")
    own = await join(networks, A, "own", "web")
    routed = await join(networks, B, "routed", "db")
    inner = await join(networks, C, "inner", "app")
    assert ask(OUTSIDE6, 80, own.sandbox) == HOST6
    assert ask(OUTSIDE6, 80, routed.sandbox) == routed.ipv6_address
    # networks are apart
    inside = [Server(one.sandbox, 80, "::") for one in (own, routed, inner)]
    assert fails(routed.ipv6_address, 80, own.sandbox) == "timeout"
    assert (inner.ipv6_gateway, inner.ipv6_address) == ("", "fd00:3::2")
    assert fails(OUTSIDE6, 80, inner.sandbox) == "ENETUNREACH"
    sh(f"nsenter --net={inner.sandbox} ip -6 route add default via fd00:3::1")
    assert fails(OUTSIDE6, 80, inner.sandbox) == "timeout", "also if it makes itself a route"
    assert fails(own.ipv6_address, 80, inner.sandbox) == "timeout"
    for one in (server, *inside):
        one.close()
    await networks.close(remove=True)


@on_own_host
async def test_names_have_their_ipv6_addresses(tmp_path: Path) -> None:
    networks = await Engine(tmp_path).start()
    await create6(networks, "own")
    await create(networks, "four")
    web = await join(networks, A, "own", "web", "www")
    db = await join(networks, B, "own", "db")
    await join(networks, C, "four", "app")
    await join(networks, B, "four", "db", running=True)
    assert look_up(db.sandbox, "www", "AAAA") == ["fd00:1::2"]
    assert look_up(db.sandbox, "www") == [web.ip_address]
    assert look_up(db.sandbox, "app", "AAAA") == []
    await networks.release(A)
    assert look_up(db.sandbox, "db", "AAAA") == ["fd00:1::3"]
    assert look_up(db.sandbox, "www", "AAAA") != ["fd00:1::2"]
    await networks.close(remove=True)


@on_own_host
async def test_the_way_out_moves_with_its_addresses_and_ports(tmp_path: Path) -> None:
    engine = Engine(tmp_path)
    networks = await engine.start()
    await create6(networks, "a", "fd00:a::/64")
    await create6(networks, "b", "fd00:b::/64")
    await create(networks, "c")
    got = await join(networks, A, "a", "web", bindings={"80/tcp": bound("8080")})
    for name in "bc":
        await join(networks, A, name, "web", running=True)
    servers = [Server(got.sandbox, 80, "::"), Server(got.sandbox, 80)]
    assert ask(HOST6, 8080, tmp_path / "outside")
    await networks.disconnect(A, "a")
    assert "default via fd00:b::1 dev eth1" in sh(f"nsenter --net={got.sandbox} ip -6 route")
    assert ask(HOST6, 8080, tmp_path / "outside")
    assert ask("::1", 8080) == "fd00:b::1"
    await networks.disconnect(A, "b")
    assert "default" not in sh(f"nsenter --net={got.sandbox} ip -6 route")
    (only,) = networks.endpoints(A)
    assert only.ports == {"80/tcp": bound("8080", "0.0.0.0")}, "no IPv6 there, and none is claimed"
    assert fails(HOST6, 8080, tmp_path / "outside") == "refused"
    assert fails("::1", 8080) == "refused"
    assert ask(HOST, 8080, tmp_path / "outside")
    for server in servers:
        server.close()
    await networks.release(A)
    assert {k: v for k, v in (await engine.settled()).items() if k != "name server"} == {}
    await networks.close(remove=True)


@on_own_host
async def test_what_lives_goes_on_through_the_engines_death(tmp_path: Path) -> None:
    first = Engine(tmp_path)
    networks = await first.start()
    await create6(networks, "own")
    got = await join(networks, A, "own", "web", bindings={"80/tcp": bound("8080")})
    await join(networks, B, "own", "db", bindings={"80/tcp": bound("9090")})
    server = Server(got.sandbox, 80, "::")
    await first.die()
    assert ask(HOST6, 8080, tmp_path / "outside")
    assert ask("::1", 8080)
    sh("nft flush ruleset")
    second = Engine(tmp_path)
    networks = await second.start(A)
    assert networks.endpoints(A) == [got]
    assert ask(HOST6, 8080, tmp_path / "outside")
    assert fails(HOST6, 9090, tmp_path / "outside") == "refused"
    assert ask("::1", 8080)
    assert fails("::1", 9090) == "refused"
    (pid,) = second.name_server()
    os.kill(pid, signal.SIGKILL)
    await eventually(lambda: second.name_server() not in ([], [pid]))
    await eventually(lambda: fails("::1", 8080).startswith("answered"))
    with pytest.raises(OSError, match="in use"):
        Server(None, 8080, "::")
    assert (await networks.connect(C, None, "own")).ipv6_address == "fd00:1::3"
    await networks.release(A)
    assert fails("::1", 8080) == "refused"
    await networks.release(C)
    server.close()
    await networks.close(remove=True)
    assert link_names("wh-") == []
    assert sh("nft list ruleset") == ""


@on_own_host
async def test_the_default_bridge_has_ipv6_if_it_is_told_so(tmp_path: Path) -> None:
    with pytest.raises(BadRequest, match="is no subnet of IPv6"):
        default_pool6("10.0.0.0/8")
    first = Engine(tmp_path, default_pool6=default_pool6("fd00:d::/64"))
    networks = await first.start()
    got = await networks.connect(A, None, "bridge", bindings={"80/tcp": bound("8080")})
    assert (got.ipv6_address, got.ipv6_gateway) == ("fd00:d::2", "fd00:d::1")
    shown = networks.inspect("bridge")
    assert (shown.enable_ipv6, [pool.subnet for pool in shown.ipam.config or ()]) == (
        True, ["172.17.0.0/16", "fd00:d::/64"],
    )  # fmt: skip
    server = Server(got.sandbox, 80, "::")
    assert ask(HOST6, 8080, tmp_path / "outside") == OUTSIDE6
    assert ask("::1", 8080) == "fd00:d::1"
    await first.die()
    second = Engine(tmp_path)  # without, but there is a container that has it
    networks = await second.start(A)
    assert ask(HOST6, 8080, tmp_path / "outside") == OUTSIDE6
    server.close()
    await networks.release(A)
    await second.die()
    third = Engine(tmp_path)
    networks = await third.start()
    assert not networks.inspect("bridge").enable_ipv6
    assert (await networks.connect(A, None, "bridge")).ipv6_address == ""
    assert "fd00:d::" not in sh("ip -6 addr")
    await networks.close(remove=True)


@on_own_host
async def test_accepts_where_ip6_forward_drops(tmp_path: Path) -> None:
    drop = "table %s filter { chain FORWARD { type filter hook forward priority filter; policy drop; }; }"
    sh("nft -f - <<'END'\n" + "\n".join(drop % family for family in ("ip", "ip6")) + "\nEND")
    engine = Engine(tmp_path)
    networks = await engine.start()
    before = sh("nft list ruleset")
    await networks.connect(B, None, "bridge")
    assert f"wherry-{engine.tag}" not in sh("nft list table ip6 filter"), "only for networks with IPv6"
    await create6(networks, "own")
    server = Server(tmp_path / "outside", 80, "::")
    got = await join(networks, A, "own", "web")
    assert ask(OUTSIDE6, 80, got.sandbox) == HOST6
    assert f'comment "wherry-{engine.tag}"' in sh("nft list table ip6 filter")
    server.close()
    await networks.close(remove=True)
    assert sh("nft list ruleset") == before


@on_own_host
async def test_a_host_that_lives_by_router_advertisements_goes_on_listening_to_them(tmp_path: Path) -> None:
    conf = Path("/proc/sys/net/ipv6/conf")
    (conf / "ext/accept_ra").write_text("1")
    (conf / "all/forwarding").write_text("0")
    networks = await Engine(tmp_path).start()
    await create(networks, "four")
    assert (conf / "all/forwarding").read_text() == "0\n", "not for networks without IPv6"
    await create6(networks, "own")
    assert (conf / "all/forwarding").read_text() == "1\n"
    assert (conf / "ext/accept_ra").read_text() == "2\n", "else forwarding would end it"
    await networks.close(remove=True)
