"""The texts of hosts, hostname and resolv.conf."""

from __future__ import annotations

from pathlib import Path

import pytest

from wherry.api.errors import BadRequest
from wherry.engine.networks.hosts import (
    hostname_text,
    hosts_text,
    nameservers,
    parse_extra_host,
    read_host_resolv_conf,
    resolv_conf_text,
)

LOCAL = """\
127.0.0.1\tlocalhost
::1\tlocalhost ip6-localhost ip6-loopback
fe00::0\tip6-localnet
ff00::0\tip6-mcastprefix
ff02::1\tip6-allnodes
ff02::2\tip6-allrouters
"""


def test_hosts_of_a_container_on_the_bridge() -> None:
    assert hosts_text("172.17.0.2", "web") == LOCAL + "172.17.0.2\tweb\n"
    assert hosts_text("172.17.0.2", "web", "example.org") == LOCAL + "172.17.0.2\tweb.example.org web\n"
    assert hosts_text("172.17.0.2", "web.example.org") == LOCAL + "172.17.0.2\tweb.example.org web\n"
    assert hosts_text("172.17.0.2", "web", aliases=["web", "w"]) == LOCAL + "172.17.0.2\tweb w\n"


def test_hosts_without_an_address() -> None:
    assert hosts_text("", "web") == LOCAL


def test_hosts_in_the_hosts_network_begin_with_the_hosts_own() -> None:
    text = hosts_text("", "machine", extra_hosts=["a:1.2.3.4"], host_text="127.0.0.1 localhost machine\n10.0.0.1 nas")
    assert text == "127.0.0.1 localhost machine\n10.0.0.1 nas\n1.2.3.4\ta\n"


def test_extra_hosts_and_host_gateway() -> None:
    extra = ["a:1.2.3.4", "b:host-gateway", "c:::1", "d:[fd00::1]"]
    text = hosts_text("172.17.0.2", "web", "", extra, "172.17.0.1")
    assert text == LOCAL + "1.2.3.4\ta\n172.17.0.1\tb\n::1\tc\nfd00::1\td\n172.17.0.2\tweb\n"
    with pytest.raises(BadRequest, match="host-gateway"):
        hosts_text("172.17.0.2", "web", "", ["b:host-gateway"])


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("a", 'bad format for add-host: "a"'),
        (":1.2.3.4", 'bad format for add-host: ":1.2.3.4"'),
        ("a b:1.2.3.4", "bad format for add-host"),
        ("a\n6.6.6.6 bank:1.2.3.4", "bad format for add-host"),
        ("a:1.2.3", 'invalid IP address in add-host: "1.2.3"'),
        ("a:", 'invalid IP address in add-host: ""'),
        ("a:1.2.3.4\n6.6.6.6 bank", "invalid IP address in add-host"),
        ("a:fe80::1%eth0", "invalid IP address in add-host"),
    ],
)
def test_a_bad_extra_host_is_refused(entry: str, message: str) -> None:
    with pytest.raises(BadRequest, match=message):
        parse_extra_host(entry)


def test_hostname() -> None:
    assert hostname_text("web") == "web\n"


def test_loopback_and_ipv6_resolvers_are_left_out() -> None:
    host = "# made by hand\nsearch a.org b.org\nnameserver 127.0.0.1\nnameserver 10.0.0.53 ; mine\nnameserver ::1\n"
    host += "nameserver fd00::53\nnameserver junk\noptions ndots:2 edns0\n"
    assert resolv_conf_text(host) == "search a.org b.org\nnameserver 10.0.0.53\noptions ndots:2 edns0\n"
    assert nameservers(resolv_conf_text(host, ipv6=True)) == ["10.0.0.53", "fd00::53"]


@pytest.mark.parametrize("host", ["", "nameserver 127.0.0.53\n", "nameserver ::1\nnameserver 127.8.8.8\n"])
def test_public_resolvers_step_in_when_none_is_left(host: str) -> None:
    assert resolv_conf_text(host) == "nameserver 8.8.8.8\nnameserver 8.8.4.4\n"


def test_what_the_caller_gives_replaces_the_hosts() -> None:
    host = "search a.org\nnameserver 10.0.0.53\noptions ndots:2\n"
    assert resolv_conf_text(host, ["127.0.0.9"]) == "search a.org\nnameserver 127.0.0.9\noptions ndots:2\n"
    assert resolv_conf_text(host, None, ["x", "y"]) == "search x y\nnameserver 10.0.0.53\noptions ndots:2\n"
    assert resolv_conf_text(host, [], ["."], ["rotate"]) == "nameserver 10.0.0.53\noptions rotate\n"
    assert resolv_conf_text("domain old.org\nnameserver 10.0.0.53") == "search old.org\nnameserver 10.0.0.53\n"


def test_in_the_hosts_network_the_hosts_file_is_good_as_it_is() -> None:
    host = "nameserver 127.0.0.53\noptions trust-ad\n"
    assert resolv_conf_text(host, host_network=True) == host
    assert nameservers(resolv_conf_text(host, None, ["x"], host_network=True)) == ["127.0.0.53"]


@pytest.mark.parametrize(
    "bad", [{"dns": ["x"]}, {"dns": ["1.1.1.1\nnameserver 6.6.6.6"]}, {"search": ["a\nb"]}, {"options": ["a b"]}]
)
def test_a_bad_resolver_value_is_refused(bad: dict[str, list[str]]) -> None:
    with pytest.raises(BadRequest):
        resolv_conf_text("", **bad)  # type: ignore[arg-type]


def test_the_servers_behind_resolveds_stub_are_read(tmp_path: Path) -> None:
    path, upstream = tmp_path / "resolv.conf", tmp_path / "upstream"
    assert read_host_resolv_conf(path=path, upstream=upstream) == ""
    path.write_text("nameserver 127.0.0.53\n")
    assert read_host_resolv_conf(path=path, upstream=upstream) == "nameserver 127.0.0.53\n"
    upstream.write_text("nameserver 10.0.0.1\n")
    assert read_host_resolv_conf(path=path, upstream=upstream) == "nameserver 10.0.0.1\n"
    assert read_host_resolv_conf(True, path=path, upstream=upstream) == "nameserver 127.0.0.53\n"
    path.write_text("nameserver 127.0.0.53\nnameserver 10.9.9.9\n")
    assert nameservers(read_host_resolv_conf(path=path, upstream=upstream)) == ["127.0.0.53", "10.9.9.9"]


def test_more_addresses_and_links() -> None:
    text = hosts_text("10.0.0.2", "web", more_addresses=["10.1.0.2"], links=[("10.0.0.9", ["db", "abc", "db"])])
    assert text.splitlines()[-3:] == ["10.0.0.9\tdb abc", "10.0.0.2\tweb", "10.1.0.2\tweb"]


def test_the_engines_own_name_server() -> None:
    host = "nameserver 192.0.2.1\nsearch example.org\noptions edns0\n"
    text = resolv_conf_text(host, ["192.0.2.9"], name_server="127.0.0.11")
    assert text == "search example.org\nnameserver 127.0.0.11\noptions edns0 ndots:0\n"
    assert "options ndots:2\n" in resolv_conf_text("", options=["ndots:2"], name_server="127.0.0.11")
