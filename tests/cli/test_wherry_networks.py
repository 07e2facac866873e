"""``wherry network``, on Wherry's own engine."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.cli.test_wherry_cli import Wherry
from tests.support.engines import Engine


@pytest.fixture
def cli(wherry: Engine) -> Iterator[Wherry]:
    yield Wherry(wherry)
    wherry.remove_all()
    for network in wherry.http.get("/networks", query={"filters": '{"type":["custom"]}'}).json:
        assert wherry.http.delete(f"/networks/{network['Id']}").status == 204


def test_make_list_show_and_remove(cli: Wherry) -> None:
    plain = cli.ok("network", "create", "plain", "-l", "colour=green").strip()
    assert len(plain) == 64
    made = cli.ok(
        "network", "create", "--ipv6", "--internal", "-o", "com.docker.network.driver.mtu=1400",
        "--subnet", "fd00:77::/64", "--subnet", "10.77.0.0/24", "--gateway", "10.77.0.9", "--gateway", "fd00:77::9",
        "--ip-range", "10.77.0.128/25", "--aux-address", "nas=fd00:77::5", "full",
    )  # fmt: skip
    assert cli.ok("network", "ls", "-q", "--no-trunc", "-f", "name=full") == made
    assert cli.ok("network", "ls", "-q", "-f", "label=colour=green") == f"{plain[:12]}\n"
    title, row = cli.ok("network", "ls", "-f", "name=full").splitlines()
    assert title.split() == ["NETWORK", "ID", "NAME", "DRIVER", "SCOPE", "SUBNETS"]
    assert row.split() == [made[:12], "full", "bridge", "local", "10.77.0.0/24,", "fd00:77::/64"]
    assert {"bridge", "host", "none"} <= set(cli.ok("network", "ls").split())

    done = cli("network", "inspect", "full", "nosuch", "bridge")
    assert (done.returncode, done.stderr) == (1, b"wherry: network nosuch not found\n")
    full, _ = json.loads(done.stdout)
    assert (full["EnableIPv6"], full["Internal"]) == (True, True)
    assert full["Options"] == {"com.docker.network.driver.mtu": "1400"}
    assert full["IPAM"]["Config"] == [
        {"Subnet": "10.77.0.0/24", "IPRange": "10.77.0.128/25", "Gateway": "10.77.0.9"},
        {"Subnet": "fd00:77::/64", "Gateway": "fd00:77::9", "AuxiliaryAddresses": {"nas": "fd00:77::5"}},
    ]
    done = cli("network", "create", "--subnet", "10.78.0.0/24", "--gateway", "10.79.0.1", "more")
    assert done.returncode == 2
    assert "10.79.0.1 is in none of the subnets" in done.stderr.decode()
    done = cli("network", "rm", "bridge", "full")
    assert (done.returncode, done.stdout) == (1, b"full\n")
    assert done.stderr == b"wherry: bridge is a pre-defined network and cannot be removed\n"
    assert cli.ok("network", "prune", "-f", "label=other") == ""
    assert cli.ok("network", "prune") == "plain\n"


def test_connect_and_disconnect(cli: Wherry) -> None:
    cli.ok("network", "create", "--ipv6", "--subnet", "10.77.0.0/24", "--subnet", "fd00:77::/64", "own")
    cli.ok("run", "-d", "--name", "web", "busybox", "sleep", "1000")
    cli.ok("run", "-d", "--name", "app", "--network", "own", "busybox", "sleep", "1000")
    assert cli.ok(
        "network", "connect", "--ip", "10.77.0.7", "--ip6", "fd00:77::7", "--alias", "shop", "--link", "app:store",
        "own", "web",
    ) == ""  # fmt: skip
    assert "10.77.0.7" in cli.ok("exec", "app", "ping", "-4", "-c", "1", "shop")
    assert cli("exec", "web", "ping", "-c", "1", "store").returncode == 0
    (own,) = json.loads(cli.ok("network", "inspect", "own"))
    assert "fd00:77::7/64" in [member["IPv6Address"] for member in own["Containers"].values()]
    assert cli.ok("network", "disconnect", "own", "web") == ""
    done = cli("network", "disconnect", "own", "web")
    assert done.returncode == 1
    assert "is not connected to network own" in done.stderr.decode()
    done = cli("network", "connect", "nosuch", "web")
    assert (done.returncode, done.stderr) == (1, b"wherry: network nosuch not found\n")
