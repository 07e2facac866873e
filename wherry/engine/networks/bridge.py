"""A bridge on the host, and a container's place on it. Everything here blocks."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Interface
from pathlib import Path

from wherry.engine.networks import netlink, netns
from wherry.engine.networks.ipam import Address, Addresses, Interface, Subnet, choose_subnet
from wherry.engine.networks.netlink import Netlink, NetlinkError

log = logging.getLogger(__name__)

MTU = 1500
_IPV6_MTU = 1280  # on a link with less the kernel ends IPv6
_IPV6 = Path("/proc/sys/net/ipv6")
_LOCK = "/run/wherry-networks.lock"


@dataclass(frozen=True, slots=True)
class Attachment:
    """A container's end of a bridge: it becomes eth<number>. With ``default_route`` the container's way out is here.

    ``isolated``: it reaches the host, but no neighbour on the bridge.
    """

    bridge: str
    veth: str
    address: IPv4Interface
    gateway: IPv4Interface
    mac: str
    number: int = 0
    default_route: bool = True
    isolated: bool = False
    address6: IPv6Interface | None = None
    gateway6: IPv6Interface | None = None
    more: tuple[Interface, ...] = ()


def bridge_mac(tag: str) -> str:
    """A locally administered address that stays the same for 8 hexadecimal digits: an engine's or a network's."""
    return "02:42:" + ":".join(tag[start : start + 2] for start in (0, 2, 4, 6))


def occupied(except_for: str = "") -> list[Subnet]:
    """Every network that this machine has a route to or an address in, but by the link ``except_for``.

    Raises ``OSError``.
    """
    with Netlink() as host:
        own = host.link(except_for) if except_for else None
        found: list[tuple[int, Subnet]] = [(route.interface, route.destination) for route in host.routes()]
        found += [(index, address.network) for index, address in host.addresses()]
    return [net for index, net in found if net.prefixlen and (own is None or index != own.index)]


@contextlib.contextmanager
def _one_engine_at_a_time() -> Iterator[None]:
    """Engines on one machine choose subnets one after the other, or two would choose the same."""
    try:
        fd = os.open(_LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError:  # no /run to write to: then there is no other engine to wait for either
        yield
        return
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def claim(
    name: str,
    mac: str,
    subnet: IPv4Network | None,
    *,
    in_use: bool,
    reserved: Sequence[Subnet] = (),
    gateway6: Interface | None = None,
) -> IPv4Network:
    """Have the bridge up with its subnet, and return that.

    A subnet that something else on this machine came to use is exchanged for the first free pool outside ``reserved``,
    unless containers are in it. Raises ``OSError``, and ``NoAddress`` when no pool is free.
    """
    with _one_engine_at_a_time():
        others = occupied(name)
        if subnet is None or not in_use:
            with Netlink() as host:
                link = host.link(name)
                has = {
                    address.network
                    for index, address in host.addresses()
                    if link and index == link.index and not (address.version == 6 and address.is_link_local)
                }
            if subnet is None or any(subnet.overlaps(other) for other in others):
                subnet = choose_subnet([*others, *reserved])
            if link is not None and has != {subnet, *([gateway6.network] if gateway6 is not None else ())}:
                remove_link(name)
        ensure_bridge(name, mac, Addresses(subnet).gateway, gateway6=gateway6)
    return subnet


def claim_new(
    name: str,
    mac: str,
    subnet: IPv4Network | None,
    gateway: IPv4Address | None,
    *,
    mtu: int = 0,
    reserved: Sequence[Subnet] = (),
    gateway6: Interface | None = None,
) -> IPv4Network:
    """Make a bridge that must not be there yet, with this subnet or the first free pool; returns its subnet.

    Raises ``OSError`` (``EEXIST`` for a link that is there), and ``NoAddress`` when no pool is free.
    """
    with _one_engine_at_a_time():
        with Netlink() as host:
            if host.link(name) is not None:
                raise NetlinkError(errno.EEXIST, f"link {name} exists already")
        subnet = subnet or choose_subnet([*occupied(), *reserved])
        ensure_bridge(name, mac, Addresses(subnet, gateway).gateway, mtu, gateway6)
    return subnet


def outer_mtu() -> int:
    """The MTU for containers: that of the link to the outside, at most 1500."""
    with Netlink() as host:
        mtus = {link.index: link.mtu for link in host.links()}
        outside = [mtus.get(route.interface, MTU) for route in host.routes() if not route.destination.prefixlen]
    return max(576, min([MTU, *outside]))


def ensure_bridge(name: str, mac: str, gateway: Interface, mtu: int = 0, gateway6: Interface | None = None) -> None:
    """Make the bridge, give it the gateways' addresses, and have the machine forward for it; what is there stays.

    Raises ``OSError``.
    """
    if gateway6 is not None and not _IPV6.exists():
        raise NetlinkError(errno.EAFNOSUPPORT, "this machine's kernel has no IPv6: make the network without")
    with Netlink() as host:
        host.send(netlink.new_bridge(name, mac))
        link = host.link(name)
        if link is None:
            raise NetlinkError(errno.ENODEV, f"bridge {name} vanished")
        host.send(
            netlink.set_mtu(link.index, mtu or max(outer_mtu(), 0 if gateway6 is None else _IPV6_MTU)),
            netlink.add_address(link.index, gateway),
        )
        # else a container could send the host router advertisements, and be its way out
        _set(f"ipv6/conf/{name}/accept_ra", "0")
        if gateway6 is not None:
            _set(f"ipv6/conf/{name}/disable_ipv6", "0")
            host.send(netlink.add_address(link.index, gateway6))
        host.send(netlink.link_up(link.index))
    _switch_on(f"ipv4/conf/{name}/route_localnet", "published ports are not reached on 127.0.0.1")
    _switch_on("ipv4/ip_forward", "containers reach nothing beyond this machine")
    if gateway6 is not None:
        _forward_ipv6(name)


def _forward_ipv6(own: str) -> None:
    """A machine that forwards IPv6 no longer listens to router advertisements, and would lose a default route that it has from
    them: where they are listened to now, they are on (``accept_ra`` 2)."""
    if netns.get_sysctl("ipv6/conf/all/forwarding") == "1":
        return
    for link in os.listdir(_IPV6 / "conf"):
        if link not in ("all", "default", own) and netns.get_sysctl(f"ipv6/conf/{link}/accept_ra") == "1":
            _set(f"ipv6/conf/{link}/accept_ra", "2")
    _switch_on("ipv6/conf/all/forwarding", "containers reach nothing beyond this machine by IPv6")


def _set(name: str, value: str) -> None:
    with contextlib.suppress(OSError):  # no IPv6 in the kernel
        netns.set_sysctl(name, value)


def _switch_on(name: str, without: str) -> None:
    if netns.get_sysctl(name) == "1":
        return
    try:
        netns.set_sysctl(name, "1")
        log.info("net.%s is on now", name.replace("/", "."))
    except OSError as error:
        log.warning("net.%s could not be turned on, so %s: %s", name.replace("/", "."), without, error)


def remove_link(name: str) -> bool:
    """Delete a link; whether it was there. Slow, some 30 ms. Raises ``OSError``."""
    with Netlink() as host:
        link = host.link(name)
        if link is None:
            return False
        host.send(netlink.delete_link(link.index))
        return True


def remove_own(name: str, mac: str) -> None:
    """Delete a bridge of the engine's, told by its address; another's of the same name stays. Raises ``OSError``."""
    with Netlink() as host:
        link = host.link(name)
        if link is not None and link.mac == mac:
            host.send(netlink.delete_link(link.index))


def exists(name: str) -> bool:
    """Whether there is a link of this name. Raises ``OSError``."""
    with Netlink() as host:
        return host.link(name) is not None


def link_names(prefix: str) -> list[str]:
    """The host's links whose names begin so. Raises ``OSError``."""
    with Netlink() as host:
        return [link.name for link in host.links() if link.name.startswith(prefix)]


def sweep(namespaces: Path, live: Collection[str], prefix: str, links: Collection[str]) -> None:
    """Drop the namespaces but those named in ``live``, and the links that begin so but those in ``links``.

    Raises ``OSError``.
    """
    for entry in os.scandir(namespaces):
        if entry.name not in live:
            try:
                netns.drop(Path(entry.path))
            except OSError as error:
                log.error("network namespace left over: %s", error)
    # links go with their namespaces, a little later and for free; the rest is deleted one by one
    for pause in (0.02, 0.05, 0.1, 0.2, 0.4):
        if not set(link_names(prefix)) - set(links):
            return
        time.sleep(pause)
    for name in set(link_names(prefix)) - set(links):
        remove_link(name)


def build(sandbox: Path, attachment: Attachment | None) -> None:
    """Make the namespace ``sandbox`` if it is not there, and in it what ``attachment`` says.

    Only for a thread of ``in_own_thread``, which it leaves in the namespace. Takes some 2.5 ms. On failure a namespace
    made here is dropped again, and the veth with it. Raises ``OSError``.
    """
    with contextlib.ExitStack() as stack:
        host = stack.enter_context(Netlink())  # belongs to the host's namespace for good
        fresh = not netns.is_held(sandbox)
        if fresh:
            sandbox.unlink(missing_ok=True)
        namespace = netns.unshare_here(sandbox) if fresh else netns.enter_here(sandbox)
        stack.callback(os.close, namespace)
        try:
            messages = _prepare() if fresh else []
            inner = stack.enter_context(Netlink())
            if attachment is not None:
                messages += _attach(host, inner, namespace, attachment, netlink.CONTAINER_INDEX if fresh else 0)
            if messages:
                inner.send(*messages)
            if attachment is not None:
                _await_carrier(host, attachment)
        except BaseException:
            if fresh:
                netns.drop(sandbox)
            elif attachment is not None:
                with contextlib.suppress(OSError):
                    link = host.link(attachment.veth)
                    if link is not None:
                        host.send(netlink.delete_link(link.index))
            raise


def _prepare() -> list[netlink.Message]:
    """What every fresh namespace gets; moby's defaults let containers use low ports and ping without privilege."""
    for name, value in (("ipv4/ip_unprivileged_port_start", "0"), ("ipv4/ping_group_range", "0 2147483647")):
        with contextlib.suppress(OSError):
            netns.set_sysctl(name, value)
    return [netlink.link_up(netlink.LOOPBACK_INDEX)]


def _attach(host: Netlink, inner: Netlink, namespace: int, attachment: Attachment, index: int) -> list[netlink.Message]:
    """Make the veth, its inner end as link number ``index`` (0: the kernel chooses); returns what is left to be done inside."""
    bridge = host.link(attachment.bridge)
    if bridge is None:
        raise NetlinkError(errno.ENODEV, f"bridge {attachment.bridge} is gone")
    name = f"eth{attachment.number}"
    host.send(netlink.new_veth(attachment.veth, bridge.index, namespace, name, attachment.mac, bridge.mtu, index))
    port = host.link(attachment.veth)
    if port is None:
        raise NetlinkError(errno.ENODEV, f"veth {attachment.veth} vanished")
    host.send(
        netlink.bridge_port(port.index, isolated=attachment.isolated),
        netlink.forward_mac(port.index, attachment.mac),
        netlink.neighbour(bridge.index, attachment.address.ip, attachment.mac),
    )
    six = attachment.address6
    if six is not None:
        host.send(netlink.neighbour(bridge.index, six.ip, attachment.mac))
        _set(f"ipv6/conf/{name}/accept_ra", "0")  # a neighbour is no router
    with_ipv6 = six is not None or any(address.version == 6 for address in attachment.more)
    _set(f"ipv6/conf/{name}/disable_ipv6", "0" if with_ipv6 else "1")
    if not index:
        link = inner.link(name)
        if link is None:
            raise NetlinkError(errno.ENODEV, f"{name} vanished")
        index = link.index
    messages = [netlink.add_address(index, attachment.address)]
    if six is not None:
        messages.append(netlink.add_address(index, six))
    messages += [netlink.add_address(index, address) for address in attachment.more]
    messages.append(netlink.link_up(index))
    if attachment.default_route:
        messages.append(netlink.add_default_route(attachment.gateway.ip))
        if attachment.gateway6 is not None:
            messages.append(netlink.add_default_route(attachment.gateway6.ip))
    return messages


def _await_carrier(host: Netlink, attachment: Attachment) -> None:
    """The kernel notices a little later that a link has a carrier; what is sent before is lost, a connection's first packet
    for a second."""
    for name in (attachment.veth, attachment.bridge):
        for _ in range(50):
            link = host.link(name)
            if link is None or link.running:
                break
            time.sleep(0.001)


def lead_out(sandbox: Path, *gateways: Address) -> None:
    """Make ``gateways``, one of a family, the way out of the namespace ``sandbox``.

    Only for a thread of ``in_own_thread``; raises ``OSError``.
    """
    os.close(netns.enter_here(sandbox))
    with Netlink() as inner:
        inner.send(*map(netlink.add_default_route, gateways))
