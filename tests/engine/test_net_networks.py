"""Containers' networks on a real kernel."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.engine.net_machine import (
    HOST,
    OUTSIDE,
    A,
    B,
    C,
    Engine,
    Server,
    ask,
    bound,
    eventually,
    on_own_host,
    sh,
)
from tests.support.http import PATIENCE
from wherry.api.errors import ApiError, BadRequest, ServerError
from wherry.api.models.networks import EndpointIPAMConfig, EndpointSettings
from wherry.engine.networks import netns
from wherry.engine.networks.bridge import link_names


@on_own_host
async def test_a_container_has_its_address_and_reaches_host_and_outside(tmp_path: Path) -> None:
    engine = Engine(tmp_path)
    networks = await engine.start()
    _, watching = engine.events.subscribe()
    got = await networks.connect(A, None, "default", name="web")
    assert (got.ip_address, got.ip_prefix_len, got.gateway) == ("172.17.0.2", 16, "172.17.0.1")
    assert got.mac_address == "02:42:ac:11:00:02"
    assert networks.gateway == got.gateway
    assert got.sandbox is not None
    shown = sh(f"nsenter --net={got.sandbox} sh -c 'ip -br addr; ip route; cat /proc/sys/net/ipv4/ping_group_range'")
    assert "172.17.0.2/16" in shown
    assert "127.0.0.1/8" in shown
    assert "default via 172.17.0.1 dev eth0" in shown
    assert "2147483647" in shown
    assert "fe80" not in shown
    outside = Server(tmp_path / "outside", 80)
    here = Server(None, 81)
    assert ask(OUTSIDE, 80, got.sandbox) == HOST, "masqueraded"
    assert ask(got.gateway, 81, got.sandbox) == got.ip_address
    await networks.release(A)
    happened = [await watching.get() for _ in range(2)]
    assert [event.action for event in happened if event] == ["connect", "disconnect"]
    assert happened[0]
    assert happened[0].attributes == {"container": A, "name": "bridge", "type": "bridge"}
    outside.close()
    here.close()
    await networks.close(remove=True)


@on_own_host
async def test_bad_wishes_are_clear_errors_and_leave_nothing(tmp_path: Path) -> None:
    engine = Engine(tmp_path)
    networks = await engine.start()
    fixed = EndpointSettings(ipam_config=EndpointIPAMConfig(ipv4_address="172.17.0.9"))
    cases: list[tuple[dict[str, Any], str]] = [
        ({"bindings": {"abc": bound("1")}}, 'invalid port specification: "abc"'),
        ({"bindings": {"80/tcp": bound("99999")}}, 'invalid port specification: "99999"'),
        ({"bindings": {"80/tcp": bound("1", "x; drop")}}, "invalid IP address"),
        ({"bindings": {"80/tcp": bound("1", "::1")}}, "IPv6"),
        ({"asked": EndpointSettings(mac_address="nonsense")}, "invalid MAC address"),
        ({"asked": EndpointSettings(mac_address="ff:ff:ff:ff:ff:ff")}, "invalid MAC address"),
        ({"asked": fixed}, "user specified IP address is supported on user defined networks only"),
    ]
    for wish, text in cases:
        with pytest.raises(BadRequest, match=text):
            await networks.connect(A, None, "bridge", **wish)
    with pytest.raises(ApiError, match="network nonet not found"):
        await networks.connect(A, None, "nonet")
    assert await engine.settled() == {}
    own = await networks.connect(A, None, "bridge", EndpointSettings(mac_address="02:00:00:00:00:01"))
    assert "02:00:00:00:00:01" in sh(f"nsenter --net={own.sandbox} ip link show eth0")
    await networks.close(remove=True)


@on_own_host
async def test_none_and_host(tmp_path: Path) -> None:
    engine = Engine(tmp_path)
    networks = await engine.start()
    none = await networks.connect(A, None, "none", bindings={"80/tcp": bound("8080")})
    assert (none.ip_address, none.ports, none.driver) == ("", {}, "null")
    assert sh(f"nsenter --net={none.sandbox} ip -br link").split()[0:2] == ["lo", "UNKNOWN"]
    host = await networks.connect(B, None, "host")
    assert host.sandbox is None
    assert host.settings().network_id == networks.get("host").id
    assert link_names("wh-") == [], "no bridge for containers that need none"
    assert "wherry" not in sh("nft list ruleset")
    await networks.release(A)
    await networks.release(A)
    await networks.release(B)
    assert await engine.settled() == {}
    await networks.close()


@on_own_host
async def test_a_sandbox_made_before_is_used_and_stays_after_a_failure(tmp_path: Path) -> None:
    engine = Engine(tmp_path)
    networks = await engine.start()
    path = await networks.create_sandbox(A)
    with pytest.raises(ServerError):
        await networks.connect(A, path, "bridge", bindings={"80/tcp": bound("1", "198.51.100.7")})
    assert netns.is_held(path)
    got = await networks.connect(A, path, "bridge")
    assert got.sandbox == path
    server = Server(path, 80)
    assert ask(got.ip_address, 80) == got.gateway
    server.close()
    await networks.release(A)
    assert await engine.settled() == {}
    await networks.close(remove=True)


@on_own_host
async def test_release_leaves_nothing_and_close_takes_the_rest_away(tmp_path: Path) -> None:
    engine = Engine(tmp_path)
    networks = await engine.start()
    ids = [f"{number:064x}" for number in range(12)]

    async def one(container: str) -> None:
        await networks.connect(container, None, "bridge", bindings={"80/tcp": bound(), "81/udp": bound()})
        await networks.release(container)

    await asyncio.gather(*map(one, ids))
    assert await engine.settled() == {}
    await networks.close(remove=True)
    assert link_names("wh-") == []
    assert sh("nft list ruleset") == ""


@on_own_host
async def test_a_cancelled_connect_leaves_nothing(tmp_path: Path) -> None:
    engine = Engine(tmp_path)
    networks = await engine.start()
    await networks.connect(A, None, "bridge")
    await networks.release(A)
    for number in range(12):
        task = asyncio.create_task(networks.connect(B, None, "bridge", bindings={"80/tcp": bound("8080")}))
        await asyncio.sleep(number * 0.0004)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
            await networks.release(B)
        assert networks.endpoints(B) == []
    assert await engine.settled() == {}
    await networks.close(remove=True)


@on_own_host
async def test_a_restarted_container_keeps_its_address_and_answers_at_once(tmp_path: Path) -> None:
    networks = await Engine(tmp_path).start()
    asker = (await networks.connect(B, None, "bridge")).sandbox
    addresses = set()
    for _ in range(6):
        got = await networks.connect(A, None, "bridge")
        server = Server(got.sandbox, 80)
        assert ask(got.ip_address, 80, timeout=0.3)
        assert ask(got.ip_address, 80, asker, timeout=0.3)
        addresses.add(got.ip_address)
        server.close()
        await networks.release(A)
    assert len(addresses) == 1
    await networks.close(remove=True)


@on_own_host
async def test_what_lives_goes_on_through_the_engines_death_and_the_rest_is_removed(tmp_path: Path) -> None:
    first = Engine(tmp_path)
    networks = await first.start()
    got = await networks.connect(A, None, "bridge", bindings={"80/tcp": bound("8080"), "81/tcp": bound("8081")})
    await networks.connect(B, None, "bridge", bindings={"80/tcp": bound("9090")})
    await networks.create_sandbox(C)
    server = Server(got.sandbox, 80)
    await first.die()
    assert ask("127.0.0.1", 8080), "nobody needs the engine for it"
    second = Engine(tmp_path)
    networks = await second.start(A)
    assert networks.endpoints(A) == [got]
    assert ask("127.0.0.1", 8080)
    with pytest.raises(OSError, match="in use"):
        Server(None, 8080)
    with pytest.raises(ServerError, match="already allocated"):
        await networks.connect(B, None, "bridge", bindings={"80/tcp": bound("8080")})
    other = await networks.connect(B, None, "bridge", bindings={"80/tcp": bound("9090")})
    assert other.ip_address not in ("", got.ip_address)
    await networks.release(B)
    assert len(link_names(f"v{second.tag}")) <= 2
    await networks.release(A)
    server.close()
    assert await second.settled() == {}
    await networks.close(remove=True)


@on_own_host
async def test_an_engine_killed_at_any_instant_leaves_nothing_after_recovery(tmp_path: Path) -> None:
    script = f"""
import asyncio, itertools, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from pathlib import Path
from net_machine import Engine, bound
async def main():
    networks = await Engine(Path({str(tmp_path)!r})).start()
    print("ready", flush=True)
    for number in itertools.count():
        container = f"{{number:064x}}"
        await networks.connect(container, None, "bridge", bindings={{"80/tcp": bound()}})
        if number % 3:
            await networks.release(container)
asyncio.run(main())
"""
    for pause in (0.0, 0.013, 0.05, 0.12):
        child = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
        assert child.stdout
        child.stdout.readline()
        time.sleep(pause)
        child.send_signal(signal.SIGKILL)
        child.wait()
        child.stdout.close()
    engine = Engine(tmp_path)
    networks = await engine.start()
    assert {key: value for key, value in engine.leftovers().items() if value} == {}
    await networks.connect(A, None, "bridge")
    await networks.close(remove=True)
    assert sh("nft list ruleset") == ""


@on_own_host
async def test_a_subnet_that_the_machine_uses_is_passed_over(tmp_path: Path) -> None:
    sh("ip addr add 172.17.5.1/24 dev ext; ip route add 172.18.0.0/15 via 192.0.2.9")
    networks = await Engine(tmp_path).start()
    assert networks.gateway == "172.20.0.1"
    sh("ip route add 172.20.0.0/16 via 192.0.2.9")
    got = await networks.connect(A, None, "bridge")
    assert got.ip_address == "172.21.0.2", "taken by others since the engine's start"
    assert networks.inspect("bridge").ipam.config
    await networks.close(remove=True)


@on_own_host
async def test_containers_have_the_mtu_of_the_way_out(tmp_path: Path) -> None:
    sh("ip link set ext mtu 1380")
    networks = await Engine(tmp_path).start()
    for container in (A, B):
        got = await networks.connect(container, None, "bridge")
        assert "mtu 1380" in sh(f"nsenter --net={got.sandbox} ip link show eth0")
        await networks.release(container)
        await eventually(lambda: "master" not in sh("ip link"))
    await networks.close(remove=True)


@on_own_host
async def test_a_bridge_that_was_deleted_is_made_again(tmp_path: Path) -> None:
    networks = await Engine(tmp_path).start()
    await networks.connect(A, None, "bridge")
    for name in link_names("wh-"):
        sh(f"ip link del {name}")
    got = await networks.connect(B, None, "bridge")
    server = Server(got.sandbox, 80)
    assert ask(got.ip_address, 80)
    server.close()
    await networks.close(remove=True)


@on_own_host
async def test_list_and_inspect(tmp_path: Path) -> None:
    networks = await Engine(tmp_path).start()
    got = await networks.connect(A, None, "bridge")
    assert [(n.name, n.driver, n.scope) for n in networks.list()] == [
        ("bridge", "bridge", "local"),
        ("host", "host", "local"),
        ("none", "null", "local"),
    ]
    shown = networks.inspect(networks.get("bridge").id[:12], {A: "web"})
    assert shown.containers
    assert shown.containers[A].name == "web"
    assert shown.containers[A].ipv4_address == "172.17.0.2/16"
    assert shown.containers[A].endpoint_id == got.id
    assert shown.ipam.config
    assert (shown.ipam.config[0].subnet, shown.ipam.config[0].gateway) == ("172.17.0.0/16", "172.17.0.1")
    await networks.close(remove=True)


@on_own_host
async def test_a_setup_takes_milliseconds(tmp_path: Path) -> None:
    networks = await Engine(tmp_path).start()
    times = []
    for number in range(15):
        container = f"{number:064x}"
        before = time.perf_counter()
        await networks.connect(container, None, "bridge", bindings={"80/tcp": bound()})
        times.append(time.perf_counter() - before)
        await networks.release(container)
        await asyncio.sleep(0.02)
    assert statistics.median(times) < 0.03 * PATIENCE, "some 3 ms on an idle machine"
    await networks.close(remove=True)
