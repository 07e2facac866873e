"""The name server's answers, without its sockets."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from dnslib import DNSRecord
from hypothesis import given
from hypothesis import strategies as st

from wherry.engine.networks.resolver import Client, Resolver, Table, _answers, _read_servers

FRONT, BACK = {"id": "f", "name": "front"}, {"id": "b", "name": "back"}


def place(network: dict[str, str], addresses: str, *names: str, **links: str) -> dict[str, Any]:
    return {**network, "addresses": addresses.split(), "names": list(names), "links": links}


@pytest.fixture
def table() -> Table:
    table = Table()
    table.set(Client("web"), [place(FRONT, "10.0.0.2", "web", "www")])
    table.set(Client("app"), [place(FRONT, "10.0.0.3", "app", "www"), place(BACK, "10.1.0.3", "app", "api")])
    table.set(Client("db"), [place(BACK, "10.1.0.2", "db", "sql.local", shop="app")])
    return table


def test_names_of_shared_networks(table: Table) -> None:
    web, app, db = (table.clients[name] for name in ("web", "app", "db"))
    assert table.addresses(web, "App.") == ["10.0.0.3"]
    assert sorted(table.addresses(web, "www")) == ["10.0.0.2", "10.0.0.3"]
    assert table.addresses(web, "db") == table.addresses(web, "api") == table.addresses(web, "app.back") == []
    assert table.addresses(app, "app") == ["10.0.0.3"], "of the first network that knows it"
    assert table.addresses(app, "app.BACK") == ["10.1.0.3"]
    assert table.addresses(db, "sql.local") == ["10.1.0.2"]
    assert table.addresses(db, "shop") == ["10.1.0.3"]
    assert table.addresses(app, "shop") == []
    assert table.owner(app, "2.0.1.10.in-addr.arpa.") == "db.back"
    assert table.owner(web, "2.0.1.10.in-addr.arpa.") == ""


def test_what_is_forgotten_is_forgotten_at_once(table: Table) -> None:
    app = table.clients["app"]
    table.set(app, [place(BACK, "10.1.0.3", "renamed")])
    assert table.addresses(table.clients["web"], "app") == []
    assert table.addresses(table.clients["db"], "renamed") == ["10.1.0.3"]
    for name in ("web", "app", "db"):
        table.forget(table.clients[name])
    assert (table.clients, table._names, table._addresses, table._owners) == ({}, {}, {}, {})


def ask(table: Table, client: str, name: str, kind: str = "A") -> DNSRecord:
    table.clients[client].outside = False
    question = bytes(DNSRecord.question(name, kind).pack())
    return DNSRecord.parse(asyncio.run(Resolver(table).answer(table.clients[client], question, tcp=False)))


def test_answers(table: Table) -> None:
    answer = ask(table, "db", "app")
    assert [(str(one.rdata), one.ttl) for one in answer.rr] == [("10.1.0.3", 0)]
    assert (answer.header.qr, answer.header.ra) == (1, 1)
    for kind in ("AAAA", "MX", "HTTPS"):
        answer = ask(table, "db", "app", kind)
        assert (answer.header.rcode, answer.rr) == (0, []), "the name is there"
    assert ask(table, "db", "nowhere").header.rcode == 2
    assert str(ask(table, "db", "3.0.1.10.in-addr.arpa", "PTR").rr[0].rdata) == "app.back."


def test_answers_of_both_families(table: Table) -> None:
    table.set(Client("six"), [place(BACK, "10.1.0.6 fd00::6", "six", "api")])
    for kind, found in (("A", ["10.1.0.6"]), ("AAAA", ["fd00::6"]), ("ANY", ["10.1.0.6", "fd00::6"])):
        assert [str(one.rdata) for one in ask(table, "db", "six", kind).rr] == found
    assert [str(one.rdata) for one in ask(table, "db", "api", "AAAA").rr] == ["fd00::6"], "of two owners one has it"
    reverse = ".".join(reversed("fd00000000000000000000000000000" + "6")) + ".ip6.arpa"
    assert str(ask(table, "db", reverse, "PTR").rr[0].rdata) == "six.back."
    for bad in (reverse.replace("d", "g"), reverse[2:], "ip6.arpa"):
        assert ask(table, "db", bad, "PTR").header.rcode == 2
    table.forget(table.clients["six"])
    assert ask(table, "db", reverse, "PTR").header.rcode == 2


@given(st.binary(max_size=200))
def test_nothing_that_is_sent_breaks_it(data: bytes) -> None:
    table = Table()
    client = Client("x")
    client.outside = False
    table.set(client, [place(FRONT, "10.0.0.2", "x")])
    for question in (data, b"\0\1\1\0\0\1\0\0\0\0\0\0" + data):
        reply = asyncio.run(Resolver(table).answer(client, question, tcp=False))
        assert not reply or reply[:2] == question[:2]


def test_only_an_answer_to_the_question_counts() -> None:
    question = DNSRecord.question("example.org")
    sent = bytes(question.pack())
    reply = bytes(question.reply().pack())
    assert _answers(sent, reply)
    assert not _answers(sent, sent)
    assert not _answers(sent, b"xx" + reply[2:])
    other = DNSRecord.question("example.net").reply()
    other.header.id = question.header.id
    assert not _answers(sent, bytes(other.pack()))


def test_the_hosts_resolvers(tmp_path: Any) -> None:
    path = tmp_path / "resolv.conf"
    path.write_text("# nameserver 1.1.1.1\nnameserver 127.0.0.53\nnameserver x\nnameserver\nnameserver fe80::1%eth0\n")
    assert _read_servers(str(path)) == ["127.0.0.53", "fe80::1%eth0"]
