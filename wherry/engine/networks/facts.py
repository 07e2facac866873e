"""What this machine gives to containers' networks, for ``info`` and ``doctor``."""

from __future__ import annotations

import os
from dataclasses import dataclass

from wherry.engine.networks import forward
from wherry.engine.networks.netns import get_sysctl
from wherry.engine.networks.nftables import Nft, NftError


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkFacts:
    """``ip_forward_possible``: it is on, or will be once the first container needs it.

    ``problem`` says why bridges and published ports can't work, and is empty when they can.

    ``forward_dropped_by`` names the chains whose policy drops forwarded traffic (``ip filter FORWARD``); ``accepts_in``
    the one that the engine's accepts belong into, empty where none are needed.
    """

    ip_forward: bool
    ip_forward_possible: bool
    bridge_nf_iptables: bool
    bridge_nf_ip6tables: bool
    problem: str
    forward_dropped_by: tuple[str, ...]
    accepts_in: str
    warnings: tuple[str, ...]


def network_facts(nft: Nft | None = None) -> NetworkFacts:
    """Look at the machine; changes nothing, blocks for a few milliseconds, raises nothing."""
    problem, target = "", ""
    dropped: tuple[str, ...] = ()
    warnings: list[str] = []
    own = nft is None
    nft = nft or Nft()
    try:
        chains = nft.query("list chains")
        dropped = tuple(str(chain) for chain in forward.dropping_chains(chains))
        target = forward.place(chains) or ""
        warnings = forward.warnings(chains)
    except NftError as error:
        problem = str(error)
    finally:
        if own:
            nft.close()
    ip_forward = get_sysctl("ipv4/ip_forward") == "1"
    possible = ip_forward or os.access("/proc/sys/net/ipv4/ip_forward", os.W_OK)
    if not possible:
        warnings.insert(0, "IPv4 forwarding is disabled")
    if problem:
        warnings.insert(0, f"no bridge network and no published ports: {problem}")
    return NetworkFacts(
        ip_forward=ip_forward,
        ip_forward_possible=possible,
        bridge_nf_iptables=get_sysctl("bridge/bridge-nf-call-iptables") == "1",
        bridge_nf_ip6tables=get_sysctl("bridge/bridge-nf-call-ip6tables") == "1",
        problem=problem,
        forward_dropped_by=dropped,
        accepts_in=target,
        warnings=tuple(warnings),
    )
