"""Published ports on a real kernel."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from tests.engine.net_machine import HOST, OUTSIDE, A, B, Engine, Server, ask, bound, fails, on_own_host, sh, within
from wherry.api.errors import ServerError


@on_own_host
async def test_a_port_on_loopback_is_reached_there_and_nowhere_else(tmp_path: Path) -> None:
    networks = await Engine(tmp_path).start()
    got = await networks.connect(A, None, "bridge", bindings={"80/tcp": bound("8080", "127.0.0.1")})
    server = Server(got.sandbox, 80)
    assert got.ports == {"80/tcp": bound("8080", "127.0.0.1")}
    assert ask("127.0.0.1", 8080) == got.gateway
    assert fails("127.0.0.2", 8080) == "refused"
    assert fails(HOST, 8080) == "refused"
    assert fails(got.gateway, 8080) == "refused"
    assert fails(HOST, 8080, tmp_path / "outside") == "refused"
    server.close()
    await networks.close(remove=True)


@on_own_host
async def test_a_port_on_all_addresses_is_reached_from_everywhere_also_by_hairpin(tmp_path: Path) -> None:
    networks = await Engine(tmp_path).start()
    outside = tmp_path / "outside"
    got = await networks.connect(
        A, None, "bridge", bindings={"80/tcp": bound("8080")}, exposed=["80/tcp", "81/tcp", "82/udp"]
    )
    other = await networks.connect(B, None, "bridge")
    servers = [Server(got.sandbox, 80), Server(got.sandbox, 81)]
    assert got.ports == {"80/tcp": bound("8080", "0.0.0.0"), "81/tcp": None, "82/udp": None}
    assert ask("127.0.0.1", 8080)
    assert ask(HOST, 8080)
    assert ask(HOST, 8080, outside) == OUTSIDE, "who asks from outside is seen as who it is"
    for asked in (got.gateway, HOST):
        assert ask(asked, 8080, got.sandbox), "hairpin: the container itself"
        assert ask(asked, 8080, other.sandbox), "its neighbour"
    assert ask(got.ip_address, 81, other.sandbox) == other.ip_address, "neighbours talk directly"
    # a machine that routes to the bridge through us gets at published ports only by their host's address
    sh(f"nsenter --net={outside} ip route add 172.17.0.0/16 via {HOST}")
    assert fails(got.ip_address, 81, outside) == "timeout"
    assert fails(got.ip_address, 80, outside) == "timeout"
    assert ask(HOST, 8080, outside) == OUTSIDE
    for server in servers:
        server.close()
    await networks.close(remove=True)


@on_own_host
async def test_hairpin_works_with_bridge_netfilter_on_and_off(tmp_path: Path) -> None:
    networks = await Engine(tmp_path).start()
    got = await networks.connect(A, None, "bridge", bindings={"80/tcp": bound("8080")})
    other = await networks.connect(B, None, "bridge")
    server = Server(got.sandbox, 80)
    switch = Path("/proc/sys/net/bridge/bridge-nf-call-iptables")
    for value in ("0", "1") if switch.exists() else ("as is",):
        if value != "as is":
            switch.write_text(value)
        assert ask(HOST, 8080, got.sandbox)
        assert ask(HOST, 8080, other.sandbox)
        assert ask(got.ip_address, 80, other.sandbox)
    server.close()
    await networks.close(remove=True)


@on_own_host
async def test_the_hosts_loopback_is_closed_to_containers_and_neighbours(tmp_path: Path) -> None:
    engine = Engine(tmp_path)
    networks = await engine.start()
    web = await networks.connect(A, None, "bridge", bindings={"80/tcp": bound("8080", "127.0.0.1")})
    server = Server(web.sandbox, 80)
    secret = Server(None, 5555, "127.0.0.1")
    bad = await networks.connect(B, None, "bridge")
    assert bad.sandbox is not None

    def aim(path: Path, device: str, gateway: str) -> None:
        switch = f"/proc/sys/net/ipv4/conf/{device}/route_localnet"
        route = f"ip addr flush dev lo; echo 1 > {switch}; ip route add 127.0.0.0/8 via {gateway}"
        sh(f"nsenter --net={path} sh -c '{route}'")

    aim(bad.sandbox, "eth0", bad.gateway)
    aim(tmp_path / "outside", "ext-peer", HOST)
    assert fails("127.0.0.1", 5555, bad.sandbox) == "timeout"
    assert fails("127.0.0.1", 8080, bad.sandbox) == "timeout"
    assert fails("127.0.0.1", 8080, tmp_path / "outside") == "timeout"
    # without that rule the way would be open: the test aims well
    sh(f"nft flush chain ip wherry-{engine.tag} raw")
    assert ask("127.0.0.1", 5555, bad.sandbox)
    secret.close()
    server.close()
    await networks.close(remove=True)


@on_own_host
async def test_udp_ports_and_sctp_without_the_module(tmp_path: Path) -> None:
    engine = Engine(tmp_path)
    networks = await engine.start()
    got = await networks.connect(A, None, "bridge", bindings={"53/udp": bound("5353"), "9/sctp": bound("9999")})
    assert got.ports == {"53/udp": bound("5353", "0.0.0.0"), "9/sctp": bound("9999", "0.0.0.0")}

    def listen() -> socket.socket:
        server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        server.bind(("", 53))
        server.settimeout(1)
        return server

    with within(got.sandbox, listen) as server, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(1)
        client.sendto(b"who", ("127.0.0.1", 5353))
        data, peer = server.recvfrom(100)
        server.sendto(data + b"?", peer)
        assert client.recvfrom(100) == (b"who?", ("127.0.0.1", 5353))
    with pytest.raises(ServerError, match=r"Bind for 0.0.0.0:9999 failed: port is already allocated"):
        await networks.connect(B, None, "bridge", bindings={"9/sctp": bound("9999")})
    await networks.close(remove=True)


@on_own_host
async def test_a_udp_client_that_never_pauses_finds_the_new_container(tmp_path: Path) -> None:
    networks = await Engine(tmp_path).start()

    def listen() -> socket.socket:
        server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        server.bind(("", 53))
        server.settimeout(1)
        return server

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.connect(("127.0.0.1", 5353))
        client.send(b"too early")
        for container in (A, B):
            got = await networks.connect(container, None, "bridge", bindings={"53/udp": bound("5353")})
            client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)  # that nobody was there
            with within(got.sandbox, listen) as server:
                client.send(container.encode())
                assert server.recv(100) == container.encode()
            await networks.release(container)
            client.send(b"nobody there")
    await networks.close(remove=True)


@on_own_host
async def test_STA3_a_taken_port_gives_mobys_text_and_leaves_nothing(tmp_path: Path) -> None:
    engine = Engine(tmp_path)
    networks = await engine.start()
    await networks.connect(A, None, "bridge", bindings={"80/tcp": bound("8080")})
    with pytest.raises(ServerError) as raised:
        await networks.connect(B, None, "bridge", name="q2", bindings={"80/tcp": bound("8080"), "81/tcp": bound()})
    text = raised.value.message
    assert text.startswith("driver failed programming external connectivity on endpoint q2 (")
    assert text.endswith("): Bind for 0.0.0.0:8080 failed: port is already allocated")
    assert networks.endpoints(B) == []
    other = Server(None, 8081, "127.0.0.1")
    with pytest.raises(ServerError, match=r"listen tcp4 0.0.0.0:8081: bind: address already in use"):
        await networks.connect(B, None, "bridge", bindings={"80/tcp": bound("8081")})
    with pytest.raises(ServerError, match="bind: cannot assign requested address"):
        await networks.connect(B, None, "bridge", bindings={"80/tcp": bound("8081", "198.51.100.7")})
    other.close()
    await networks.release(A)
    assert await engine.settled() == {}
    got = await networks.connect(B, None, "bridge", bindings={"80/tcp": bound("8080")})
    assert got.ports == {"80/tcp": bound("8080", "0.0.0.0")}
    await networks.close(remove=True)


@on_own_host
async def test_a_published_port_is_closed_to_other_programs_while_it_is_published(tmp_path: Path) -> None:
    networks = await Engine(tmp_path).start()
    await networks.connect(A, None, "bridge", bindings={"80/tcp": bound("8080")})
    with pytest.raises(OSError, match="in use"):
        Server(None, 8080, "127.0.0.1")
    await networks.release(A)
    Server(None, 8080, "127.0.0.1").close()
    await networks.close(remove=True)
