"""The engine's part in the machine's firewall: its own table, its accepts in FORWARD, and an eye on others' changes."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Iterable, Mapping

from wherry.engine.blocking import in_thread
from wherry.engine.networks import conntrack, forward
from wherry.engine.networks.facts import NetworkFacts, network_facts
from wherry.engine.networks.firewall import Firewall, Segment
from wherry.engine.networks.ipam import Address
from wherry.engine.networks.nftables import Nft, NftError
from wherry.engine.networks.ports import Published, is_ipv6
from wherry.engine.networks.watch import Concern, RulesetWatch

log = logging.getLogger(__name__)


class Rules:
    """Coroutines are for the engine's loop; ``publish`` and ``unpublish`` block and are for any thread."""

    def __init__(self, tag: str) -> None:
        self._tag = tag
        self._nft = Nft()
        self._firewall = Firewall(self._nft, tag)
        self._bridges: dict[str, Segment] = {}
        self._lock = asyncio.Lock()
        self._watch: RulesetWatch | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.warnings: list[str] = []  # what else on this machine drops containers' traffic

    async def restore(self, bridges: Mapping[str, Segment], ports: Mapping[Published, Address] | None = None) -> None:
        """Serve these bridges and published ports (None: those of now), and no others. Raises ``NftError``."""
        async with self._lock:
            self._bridges = dict(bridges)
            await in_thread(self._firewall.restore, bridges, ports)
            self.warnings = await in_thread(forward.ensure, self._nft, self._tag, self._names())
        if self._watch is None:
            try:
                self._watch = RulesetWatch(self._changed, self._firewall.table, self._nft.used_by)
            except OSError as error:
                log.warning("changes of the machine's firewall will not be noticed: %s", error)

    def publish(self, ports: Mapping[Published, Address]) -> None:
        """Lead host ports to addresses, all or none. Raises ``NftError``."""
        self._firewall.publish(ports)
        _forget(ports)

    def unpublish(self, ports: Iterable[Published]) -> None:
        """Stop leading host ports; those that aren't led are passed over. Raises ``NftError``."""
        ports = list(ports)
        self._firewall.unpublish(ports)
        _forget(ports)

    async def facts(self) -> NetworkFacts:
        return await in_thread(network_facts, self._nft)

    async def remove(self) -> None:
        """Take the table and the accepts away. Raises ``NftError``."""
        async with self._lock:
            self._bridges = {}
            await in_thread(forward.ensure, self._nft, self._tag, {})
            await in_thread(self._firewall.remove)

    async def close(self) -> None:
        """Stop watching, and free the library's memory; the rules stay."""
        if self._watch is not None:
            self._watch.close()
            self._watch = None
        while self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)
        await in_thread(self._nft.close)

    def _names(self) -> dict[str, list[str]]:
        """The bridges with addresses of a family."""
        return {
            family: [name for name, segment in self._bridges.items() if segment.within(family) is not None]
            for family in ("ip", "ip6")
        }

    def _changed(self, concern: Concern) -> None:
        task = asyncio.get_running_loop().create_task(self._recheck(concern))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _recheck(self, concern: Concern) -> None:
        async with self._lock:
            if not self._bridges:
                return
            try:
                if Concern.OWN in concern:
                    await in_thread(self._firewall.mend)
                    log.warning("somebody changed the nftables table %s: it is as it was", self._firewall.table)
                self.warnings = await in_thread(forward.ensure, self._nft, self._tag, self._names())
            except NftError as error:
                log.error("nftables rules could not be checked: %s", error)


def _forget(ports: Iterable[Published]) -> None:
    ports = list(ports)
    families = {socket.AF_INET6 if is_ipv6(port.host_ip) else socket.AF_INET for port in ports}
    try:
        conntrack.forget({(port.protocol, port.host_port) for port in ports}, families)
    except OSError as error:
        log.warning("old conversations with published ports may go on as they were: %s", error)
