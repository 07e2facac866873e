"""The machine's firewall, and other engines, on a real kernel."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import pytest

from tests.engine.net_machine import (
    HOST,
    OUTSIDE,
    A,
    B,
    Engine,
    Server,
    ask,
    bound,
    create,
    eventually,
    fails,
    on_own_host,
    sh,
)
from wherry.api.errors import ServerError
from wherry.engine.networks.bridge import link_names
from wherry.engine.networks.records import Endpoint
from wherry.engine.networks.watch import Concern


@on_own_host
async def test_two_engines_side_by_side(tmp_path: Path) -> None:
    one, two = Engine(tmp_path / "one"), Engine(tmp_path / "two")
    first, second = await asyncio.gather(one.start(), two.start())
    a, b = await asyncio.gather(
        first.connect(A, None, "bridge", bindings={"80/tcp": bound("8080")}),
        second.connect(A, None, "bridge", bindings={"80/tcp": bound("8090")}),
    )
    assert a.gateway != b.gateway
    servers = [Server(a.sandbox, 80), Server(b.sandbox, 80)]
    assert ask(HOST, 8080, b.sandbox)
    assert ask(HOST, 8090, a.sandbox)
    assert fails(b.ip_address, 80, a.sandbox) == "timeout", "engines' containers meet by published ports only"
    with pytest.raises(ServerError, match="address already in use"):
        await second.connect(B, None, "bridge", bindings={"80/tcp": bound("8080")})
    await first.close(remove=True)
    assert await one.settled() == {}
    assert link_names(f"wh-{one.tag}") == []
    assert ask("127.0.0.1", 8090) == b.gateway
    assert sh("nft list tables").split() == ["table", "ip", f"wherry-{two.tag}"]
    for server in servers:
        server.close()
    await second.close(remove=True)


DOCKERS_RULES = """
table ip filter {
  chain DOCKER-USER { counter return
  }
  chain FORWARD { type filter hook forward priority filter; policy drop; counter jump DOCKER-USER
  }
}
"""


def rules_as_docker_makes_them() -> None:
    if shutil.which("iptables-nft") is None:
        sh(f"nft -f - <<'END'\n{DOCKERS_RULES}\nEND")
        return
    for rule in ("-N DOCKER-USER", "-A DOCKER-USER -j RETURN", "-P FORWARD DROP", "-I FORWARD -j DOCKER-USER"):
        sh(f"iptables-nft {rule}")


@on_own_host
async def test_accepts_go_where_forward_drops_and_leave_with_the_engine(tmp_path: Path) -> None:
    rules_as_docker_makes_them()
    engine = Engine(tmp_path)
    networks = await engine.start()
    got = await networks.connect(A, None, "bridge", bindings={"80/tcp": bound("8080")})
    servers = [Server(got.sandbox, 80), Server(tmp_path / "outside", 80)]
    assert ask(OUTSIDE, 80, got.sandbox) == HOST
    assert ask(HOST, 8080, tmp_path / "outside") == OUTSIDE
    rules = [line.strip() for line in sh("nft list chain ip filter DOCKER-USER").splitlines() if "counter" in line]
    assert rules[0].startswith(f'iifname "wh-{engine.tag}"')
    assert rules[-1].endswith("return")
    if shutil.which("iptables-nft"):
        assert f"-A DOCKER-USER -i wh-{engine.tag} " in sh("iptables-nft -S"), "the iptables command reads on"
    facts = await networks.facts()
    assert facts.accepts_in == "DOCKER-USER"
    assert facts.forward_dropped_by == ("ip filter FORWARD",)
    assert facts.ip_forward
    await networks.close(remove=True)
    assert engine.tag not in sh("nft list ruleset")
    for server in servers:
        server.close()


@on_own_host
async def test_a_firewall_that_comes_later_is_noticed_and_a_flush_is_mended(tmp_path: Path) -> None:
    networks = await Engine(tmp_path).start()
    got = await networks.connect(A, None, "bridge", bindings={"80/tcp": bound("8080")})
    servers = [Server(got.sandbox, 80), Server(tmp_path / "outside", 80)]
    rules_as_docker_makes_them()
    assert fails(OUTSIDE, 80, got.sandbox) == "timeout"
    await eventually(lambda: "wherry-" in sh("nft list table ip filter"))
    assert ask(OUTSIDE, 80, got.sandbox) == HOST
    sh("nft flush ruleset")
    await eventually(lambda: "published" in sh("nft list ruleset"))
    assert ask("127.0.0.1", 8080)
    sh("nft flush ruleset")
    await networks.connect(B, None, "bridge", bindings={"80/tcp": bound("8081")})
    assert ask("127.0.0.1", 8080), "put back by whoever needs it first"
    for server in servers:
        server.close()
    await networks.close(remove=True)


@on_own_host
async def test_changes_that_do_not_matter_are_passed_over_and_the_own_table_is_mended(tmp_path: Path) -> None:
    engine, other = Engine(tmp_path / "one"), Engine(tmp_path / "two")
    networks, neighbours = await engine.start(), await other.start()
    await networks.connect(A, None, "bridge", bindings={"80/tcp": bound("8080")})
    looked = []
    look = networks._rules._recheck

    async def recheck(concern: Concern) -> None:
        looked.append(concern)
        await look(concern)

    networks._rules._recheck = recheck  # type: ignore[method-assign]
    sh(
        "nft add table ip nat; nft 'add chain ip nat DOCKER'; nft add rule ip nat DOCKER counter; nft add table inet f2b"
    )
    await neighbours.connect(B, None, "bridge", bindings={"80/tcp": bound("8090")})
    await neighbours.release(B)
    await asyncio.sleep(0.4)
    assert looked == []
    table = f"wherry-{engine.tag}"
    sh(f"nft delete element ip {table} published {{ tcp . 8080 }}; nft flush chain ip {table} forward")
    await eventually(lambda: "tcp . 8080 :" in sh(f"nft list table ip {table}"))
    assert "into_bridge" in sh(f"nft list chain ip {table} forward")
    assert looked == [Concern.OWN]
    await neighbours.close(remove=True)
    await networks.close(remove=True)


@on_own_host
async def test_rules_that_an_engine_left_when_it_was_killed_are_repaired_and_taken_back(tmp_path: Path) -> None:
    rules_as_docker_makes_them()
    before = sh("nft --stateless list ruleset")
    first = Engine(tmp_path)
    networks = await first.start()
    got = await networks.connect(A, None, "bridge", bindings={"80/tcp": bound("8080", "127.0.0.1")})
    await create(networks, "own", enable_ipv6=True)
    server = Server(got.sandbox, 80)
    await first.die()
    # meanwhile somebody else takes an accept away, and all of the table
    sh("nft flush chain ip filter DOCKER-USER; nft add rule ip filter DOCKER-USER counter return")
    sh(f"nft flush table ip wherry-{first.tag}")
    second = Engine(tmp_path)
    networks = await second.start(A)
    assert ask("127.0.0.1", 8080) == got.gateway
    assert fails(HOST, 8080, tmp_path / "outside") == "refused"
    assert ask_outside(tmp_path, got) == HOST
    mine = accepts(first)
    assert len(mine) == len(set(mine)) == 4, "in and out, of two bridges, once"
    await second.die()
    third = Engine(tmp_path)
    nft, texts = third.networks._rules._nft, []
    run = nft.run

    def record(text: str) -> None:
        texts.append(text)
        run(text)

    nft.run = record  # type: ignore[method-assign]
    networks = await third.start(A)
    (text,) = texts
    assert "127.0.0.1 . tcp . 8080 :" in text, "one transaction, so that what is published is never gone"
    assert accepts(first) == mine, "the same ones, not anew"
    server.close()
    await networks.close(remove=True)
    assert sh("nft --stateless list ruleset") == before


def accepts(engine: Engine) -> list[str]:
    """The engine's accepts, with their handles."""
    lines = sh("nft --stateless --handle list chain ip filter DOCKER-USER").splitlines()
    return [line for line in lines if engine.tag in line]


def ask_outside(tmp_path: Path, got: Endpoint) -> str:
    """How the machine outside sees a container."""
    server = Server(tmp_path / "outside", 80)
    try:
        return ask(OUTSIDE, 80, got.sandbox)
    finally:
        server.close()
