"""The texts that go to nftables, and what is read from it and from netlink."""

from __future__ import annotations

import errno
import struct
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wherry.engine.networks import conntrack, forward, netlink, nftables
from wherry.engine.networks.bridge import bridge_mac
from wherry.engine.networks.facts import network_facts
from wherry.engine.networks.firewall import Segment, elements_text, table_text
from wherry.engine.networks.ports import Published
from wherry.engine.networks.watch import Changes, Concern

ANY = Published(protocol="tcp", container_port=80, host_ip="0.0.0.0", host_port=8080)
LOCAL = Published(protocol="udp", container_port=53, host_ip="127.0.0.1", host_port=5353)
WEB = IPv4Address("172.17.0.2")


def test_elements() -> None:
    assert elements_text("add", "t", {ANY: WEB, LOCAL: WEB}) == (
        "add element ip t published { tcp . 8080 : 172.17.0.2 . 80 }\n"
        "add element ip t published_at { 127.0.0.1 . udp . 5353 : 172.17.0.2 . 53 }"
    )
    assert elements_text("delete", "t", {ANY: WEB}) == "delete element ip t published { tcp . 8080 }"


def test_the_table_is_replaced_in_one_transaction() -> None:
    text = table_text("wherry-x", {"wh-x": Segment(IPv4Network("172.17.0.0/16"))}, {ANY: WEB})
    assert text.strip().startswith("add table ip wherry-x\ndelete table ip wherry-x\ntable ip wherry-x {")
    assert 'ip saddr 172.17.0.0/16 oifname != "wh-x" masquerade' in text
    assert '"wh-x" . "wh-x"' in text
    assert "tcp . 8080 : 172.17.0.2 . 80" in text
    assert "elements" not in table_text("t", {}, {})


def test_segments() -> None:
    net = IPv4Network("172.18.0.0/16")
    text = table_text("t", {"a": Segment(net), "b": Segment(net, icc=False), "c": Segment(net, internal=True)}, {})
    assert 'elements = { "a", "b", "c" }' in text
    assert 'elements = { "a" . "a", "c" . "c" }' in text
    assert 'set internal {\n    type ifname\n    elements = { "c" }' in text
    assert 'oifname != "b" masquerade' in text
    assert 'oifname != "c" masquerade' not in text, "nothing leaves it"
    assert 'oifname != "d" masquerade' not in table_text("t", {"d": Segment(net, masquerade=False)}, {})


def chain(name: str, table: str = "filter", family: str = "ip", **more: Any) -> dict[str, Any]:
    return {"chain": {"family": family, "table": table, "name": name, "handle": 1, **more}}


def rule(handle: int, *expr: dict[str, Any], comment: str | None = None) -> dict[str, Any]:
    entry: dict[str, Any] = {"family": "ip", "table": "filter", "chain": "C", "handle": handle, "expr": list(expr)}
    return {"rule": entry if comment is None else {**entry, "comment": comment}}


def match(key: str, name: str) -> dict[str, Any]:
    return {"match": {"op": "==", "left": {"meta": {"key": key}}, "right": name}}


DROP = {"type": "filter", "hook": "forward", "policy": "drop"}
ACCEPT = {**DROP, "policy": "accept"}


def test_where_the_accepts_belong() -> None:
    assert forward.place([]) is None
    assert forward.place([chain("FORWARD", **ACCEPT), chain("DOCKER-USER")]) is None
    assert forward.place([chain("FORWARD", **DROP)]) == "FORWARD"
    assert forward.place([chain("FORWARD", **DROP), chain("DOCKER-USER")]) == "DOCKER-USER"
    assert forward.place([chain("FORWARD", **DROP), chain("DOCKER-USER", table="other")]) == "FORWARD"
    assert forward.place([chain("forward", "filter", "inet", **DROP)]) is None, "not ours to touch"


def test_ipv6_has_a_table_like_ipv4s() -> None:
    six = Published(protocol="tcp", container_port=80, host_ip="::", host_port=8080)
    at = Published(protocol="tcp", container_port=80, host_ip="2001:db8::2", host_port=8080)
    target = IPv6Address("fd00::2")
    assert elements_text("add", "t", {six: target, at: target}) == (
        "add element ip6 t published { tcp . 8080 : fd00::2 . 80 }\n"
        "add element ip6 t published_at { 2001:db8::2 . tcp . 8080 : fd00::2 . 80 }"
    )
    four = Segment(IPv4Network("172.17.0.0/16"))
    both = Segment(IPv4Network("172.18.0.0/16"), subnet6=IPv6Network("fd00::/64"))
    text = table_text("t", {"a": four, "b": both}, {six: target})
    ip, ip6 = text.split("table ip6 t {")
    assert 'ip6 saddr fd00::/64 oifname != "b" masquerade' in ip6
    assert '"a"' not in ip6
    assert 'elements = { "a", "b" }' in ip
    assert "ip6 daddr ::1 return" in ip6
    without = table_text("t", {"a": four}, {})
    assert "delete table ip6 t" in without
    assert "table ip6 t {" not in without
    assert "ip6" not in table_text("t", {"a": four}, {}, ipv6=False)


def test_foreign_drops_are_told() -> None:
    chains = [chain("forward", "filter", "inet", **DROP), chain("FORWARD", **DROP), chain("F", family="ip6", **DROP)]
    (warning,) = (text for text in forward.warnings(chains) if "legacy" not in text)
    assert "inet filter forward" in warning


def test_accepts_go_before_a_closing_return() -> None:
    closing = rule(7, {"counter": {}}, {"return": None})
    text = forward.accepts_text("DOCKER-USER", [rule(3, {"drop": None}), closing], "t", ["wh-t"])
    assert text == (
        'insert rule ip filter DOCKER-USER handle 7 iifname "wh-t" counter accept comment "wherry-t"\n'
        'insert rule ip filter DOCKER-USER handle 7 oifname "wh-t" counter accept comment "wherry-t"'
    )
    assert forward.accepts_text("FORWARD", [], "t", ["wh-t"]).startswith('add rule ip filter FORWARD iifname "wh-t"')


def test_accepts_are_put_once_and_taken_back() -> None:
    mine = [
        rule(4, match("iifname", "wh-t"), {"accept": None}, comment="wherry-t"),
        rule(5, match("oifname", "wh-t"), {"accept": None}, comment="wherry-t"),
    ]
    others = [rule(6, match("iifname", "wh-u"), {"accept": None}, comment="wherry-u")]
    assert forward.accepts_text("C", mine + others, "t", ["wh-t"]) == ""
    assert forward.accepts_text("C", mine + others, "t", []) == (
        "delete rule ip filter C handle 4\ndelete rule ip filter C handle 5"
    )
    assert forward.accepts_text("C", others, "t", []) == ""
    restored = [rule(8, match("iifname", "wh-t"), {"xt": None}, {"accept": None})]
    assert forward.accepts_text("C", restored + others, "t", []) == "delete rule ip filter C handle 8"
    again = forward.accepts_text("C", mine[:1], "t", ["wh-t"])
    assert again.startswith("delete rule ip filter C handle 4\nadd rule")


def generation(*attributes: bytes) -> bytes:
    body = bytes(4) + b"".join(attributes)
    return struct.pack("=IHHII", 16 + len(body), 0x0A0F, 0, 0, 0) + body


def told(kind: int, **attributes: str | bytes) -> bytes:
    """A message of the kernel's: ``a1="filter"`` is its attribute 1."""
    body = bytes((2, 0, 0, 0))
    for name, value in attributes.items():
        data = value.encode() + b"\0" if isinstance(value, str) else value
        body += struct.pack("=HH", 4 + len(data), int(name[1:])) + data + bytes(-len(data) % 4)
    return struct.pack("=IHHII", 16 + len(body), 0x0A00 | kind, 0, 0, 0) + body


def test_whose_change_of_the_rules_concerns_whom() -> None:
    number = struct.pack("=HH", 8, 1) + struct.pack("!I", 9)
    process = struct.pack("=HH", 8, 2) + struct.pack("!I", 4711)
    end = generation(number, process)
    own, docker = told(12, a1="wherry-t"), told(6, a1="filter", a2="DOCKER-USER")

    def concern(*datagrams: bytes, ours: int = 1) -> Concern:
        changes = Changes("wherry-t", {ours}.__contains__)
        found = Concern.NONE
        for datagram in datagrams:
            found |= changes.feed(datagram)
        return found

    assert concern(own + end) == concern(own, end) == Concern.OWN
    assert concern(own + end, ours=4711) == Concern.NONE
    assert concern(own + generation(number), ours=4711) == Concern.OWN, "not told by whom"
    assert concern(own) == Concern.NONE, "not over yet"
    assert concern(docker + own + end) == Concern.OWN | Concern.FORWARD
    assert concern(own + end + docker + generation(number), ours=4711) == Concern.FORWARD
    hook = struct.pack("=HH", 8, 1) + struct.pack("!I", 2) + struct.pack("=HH", 8, 2) + bytes(4)
    for matters in (
        docker,
        told(3, a1="filter", a3="DOCKER-USER"),
        told(5, a1="filter", a3="FORWARD"),
        told(8, a1="filter", a2="FORWARD"),
        told(3, a1="firewalld", a3="filter_FORWARD", a4=hook),
    ):
        assert concern(matters + end) == Concern.FORWARD
    for nothing in (
        told(12, a1="wherry-u", a2="published"),
        told(0, a1="filter"),
        told(2, a1="filter"),
        told(6, a1="filter", a2="DOCKER"),
        told(6, a1="nat", a2="FORWARD"),
        told(3, a1="nat", a3="PREROUTING", a4=hook.replace(b"\x02", b"\0")),
        told(12, a1="wherry-tt"),
        end,
        b"\0" * 64,
        b"",
        told(3, a1="filter", a3="")[:-3],
    ):
        assert concern(nothing + end) == Concern.NONE, nothing


@given(st.binary(max_size=120), st.integers(0, 20))
def test_nothing_the_kernel_tells_breaks_the_watch(data: bytes, kind: int) -> None:
    Changes("wherry-t", {1}.__contains__).feed(data + told(kind, a1=data[:50], a4=data[50:]) + data)


def test_a_machine_without_nftables_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nftables, "_LIBRARY", "libnftables.so.nonesuch")
    with pytest.raises(nftables.NftError, match="install the package nftables"):
        nftables.Nft().run("list tables")
    facts = network_facts()
    assert "install the package nftables" in facts.problem
    assert any(text.startswith("no bridge network and no published ports") for text in facts.warnings)


def nested(kind: int, data: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(data), kind | 0x8000) + data + bytes(-len(data) % 4)


def test_the_target_of_a_conversation() -> None:
    proto = nested(2, nested(1, b"\x11") + nested(2, b"\x12\x34") + nested(3, b"\x14\xe9"))
    assert conntrack.target(nested(1, nested(1, b"") + proto)) == (17, 5353)
    assert conntrack.target(b"") is None
    assert conntrack.target(nested(1, b"\xff\xff")) is None
    conntrack.forget([("tcp", 80)])  # asks nobody


def test_hostile_names_and_addresses_are_refused() -> None:
    for bad in ("", "a" * 16, "ä" * 8):
        with pytest.raises(ValueError, match="not an interface name"):
            netlink.new_bridge(bad, "02:42:00:00:00:01")
    for bad in ("", "02:42", "01:00:00:00:00:00", "02:42:00:00:00:0x", "0242.0000.0001"):
        with pytest.raises(ValueError):
            netlink.mac_bytes(bad)
    assert netlink.mac_bytes("02-42-AC-11-00-02") == bytes.fromhex("0242ac110002")
    assert netlink.mac_bytes(bridge_mac("89abcdef")) == bytes.fromhex("024289abcdef")


def test_netlink_answers_without_privilege() -> None:
    with netlink.Netlink() as kernel:
        assert kernel.link("lo") is not None
        assert kernel.link("wh-nonesuch") is None
        assert any(link.name == "lo" and link.index == 1 for link in kernel.links())
        assert (1, IPv4Interface("127.0.0.1/8")) in kernel.addresses()
        kernel.routes()
        with pytest.raises(netlink.NetlinkError) as raised:
            kernel.send(netlink.link_up(999_999_999))
        assert raised.value.errno in (errno.ENODEV, errno.EPERM)
