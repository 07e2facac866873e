"""Who else rules what this machine forwards, and the accepts that let containers' traffic pass there.

An accept in one's own table can't override a drop in another. Where FORWARD's policy is DROP (dockerd or ufw set it),
two accepts a bridge go into ``DOCKER-USER`` if that is there, else into FORWARD: behind the rules that the machine's
owner put there, in words that the iptables command can read, marked with the engine's comment. They may be broad
because the engine's own table lets nothing unasked into a bridge. No other foreign chain is ever touched.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wherry.engine.networks.nftables import Nft

CHAINS = ("DOCKER-USER", "FORWARD")  # of the tables named filter, where accepts may go


@dataclass(frozen=True, slots=True)
class Chain:
    """A chain that drops what nobody accepted in it. ``family`` is ip, ip6 or inet."""

    family: str
    table: str
    name: str

    def __str__(self) -> str:
        return f"{self.family} {self.table} {self.name}"


def comment(tag: str) -> str:
    return f"wherry-{tag}"


def dropping_chains(objects: Iterable[dict[str, Any]], families: Collection[str] = ("ip", "inet")) -> list[Chain]:
    """The chains on the way of forwarded packets, IPv4's if not said otherwise, whose policy is drop, of ``list chains``'
    objects."""
    return [
        Chain(chain["family"], chain["table"], chain["name"])
        for chain in (entry.get("chain") for entry in objects)
        if chain
        and chain.get("hook") == "forward"
        and chain.get("policy") == "drop"
        and chain.get("family") in families
    ]


def place(objects: Sequence[dict[str, Any]], family: str = "ip") -> str | None:
    """The chain of ``ip filter``, or ``ip6 filter``, where the accepts belong; None where none are needed."""
    if Chain(family, "filter", "FORWARD") not in dropping_chains(objects, (family,)):
        return None
    names = {
        chain["name"]
        for chain in (entry.get("chain") for entry in objects)
        if chain and chain["family"] == family and chain["table"] == "filter"
    }
    return next(name for name in CHAINS if name in names)


def present(objects: Iterable[dict[str, Any]], tag: str) -> list[dict[str, Any]]:
    """This engine's rules among a chain's objects: by their comment, which a save and restore by iptables hides, or by
    the bridge that they name."""
    return [
        rule
        for rule in (entry.get("rule") for entry in objects)
        if rule and (rule.get("comment") == comment(tag) or f'"wh-{tag}' in _interface(rule))
    ]


def accepts_text(
    chain: str, objects: Sequence[dict[str, Any]], tag: str, bridges: Iterable[str], family: str = "ip"
) -> str:
    """The transaction that makes a chain hold exactly the accepts of these bridges; empty if it does.

    They go before a closing ``return``, which DOCKER-USER has, else to the end.
    """
    mine = present(objects, tag)
    wanted = [f'{direction} "{bridge}"' for bridge in bridges for direction in ("iifname", "oifname")]
    if sorted(wanted) == sorted(_interface(rule) for rule in mine):
        return ""
    lines = [f"delete rule {family} filter {chain} handle {rule['handle']}" for rule in mine]
    theirs = [entry["rule"] for entry in objects if "rule" in entry and entry["rule"] not in mine]
    closing = theirs[-1] if theirs and "return" in (theirs[-1]["expr"] or [{}])[-1] else None
    at = f"rule {family} filter {chain}"
    where = f"insert {at} handle {closing['handle']}" if closing else f"add {at}"
    lines += [f'{where} {match} counter accept comment "{comment(tag)}"' for match in wanted]
    return "\n".join(lines)


def _interface(rule: dict[str, Any]) -> str:
    expressions = rule["expr"] or [{}]
    match = expressions[0].get("match", {})
    return f'{match.get("left", {}).get("meta", {}).get("key")} "{match.get("right")}"'


def ensure(nft: Nft, tag: str, bridges: Mapping[str, Sequence[str]]) -> list[str]:
    """Put the accepts of ``bridges``, by family, where they are needed, and take them from where they are not.

    Returns warnings: what else drops forwarded traffic, for the machine's owner to see to. Raises ``NftError``.
    """
    objects = nft.query("list chains")
    for chain in (entry["chain"] for entry in objects if "chain" in entry):
        family, name = chain["family"], chain["name"]
        if family not in ("ip", "ip6") or chain["table"] != "filter" or name not in CHAINS:
            continue
        rules = nft.query(f"list chain {family} filter {name}")
        wanted = bridges.get(family, ()) if name == place(objects, family) else ()
        commands = accepts_text(name, rules, tag, wanted, family)
        if commands:
            nft.run(commands)
    return warnings(objects, ("ip", "inet", "ip6") if bridges.get("ip6") else ("ip", "inet"))


def warnings(objects: Iterable[dict[str, Any]], families: Collection[str] = ("ip", "inet")) -> list[str]:
    """What keeps containers from the network that the engine does not touch, one sentence each."""
    found = [
        f"the nftables chain {chain} drops forwarded traffic: accept that of the engine's bridges there"
        for chain in dropping_chains(objects, families)
        if (chain.table, chain.name) != ("filter", "FORWARD") or chain.family == "inet"
    ]
    if legacy_filter():
        found.append(
            "iptables-legacy rules are loaded: if their FORWARD policy is DROP, accept the engine's bridges there"
        )
    return found


def legacy_filter() -> bool:
    """Whether the old iptables, which nftables does not see, has a filter table here."""
    try:
        return "filter" in Path("/proc/net/ip_tables_names").read_text().split()
    except OSError:
        return False
