"""Published ports: what is asked for, and the sockets that hold them."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from wherry.api.errors import BadRequest
from wherry.api.models.networks import PortBinding, PortMap
from wherry.engine.networks.ports import HostPorts, PortError, Published, Wish, parse_port, parse_wishes, port_map

FREE = range(20211, 20221)  # below every machine's ephemeral range


def wish(port: int, last: int = 0, ip: str = "127.0.0.1", protocol: str = "tcp") -> Wish:
    return Wish(protocol=protocol, container_port=80, host_ip=ip, first=port, last=last or port)


def test_CRE20_wishes() -> None:
    bindings: PortMap = {
        "443": [PortBinding(host_port="8443"), PortBinding(host_ip="127.0.0.1", host_port="")],
        "53/UDP": [PortBinding(host_port="8000-8010")],
        "82/udp": None,
        "83/tcp": [],
    }
    wishes, exposed = parse_wishes(bindings, ["81/tcp", "443/tcp", "9"])
    assert wishes == [
        Wish(protocol="udp", container_port=53, first=8000, last=8010),
        Wish(protocol="tcp", container_port=443, first=8443, last=8443),
        Wish(protocol="tcp", container_port=443, host_ip="127.0.0.1"),
    ]
    assert exposed == ["9/tcp", "81/tcp"]
    wishes, exposed = parse_wishes({}, ["81/tcp"], publish_all=True)
    assert (wishes, exposed) == ([Wish(protocol="tcp", container_port=81)], [])


@pytest.mark.parametrize("key", ["abc", "", "0", "70000", "-1", "80-90", "80/icmp", "٣", "80 "])
def test_CRE20_a_bad_port_is_refused(key: str) -> None:
    with pytest.raises(BadRequest, match="invalid"):
        parse_port(key)


@pytest.mark.parametrize(
    "binding",
    [{"host_port": "x"}, {"host_port": "9-8"}, {"host_port": "0-5"}, {"host_ip": "a"}, {"host_ip": "fe80::1%eth0"}],
)
def test_CRE20_a_bad_binding_is_refused(binding: dict[str, Any]) -> None:
    with pytest.raises(BadRequest):
        parse_wishes({"80/tcp": [PortBinding(**binding)]})


def test_bindings_on_ipv6() -> None:
    def of(ip: str, **more: Any) -> Wish:
        ((found,), _) = parse_wishes({"80/tcp": [PortBinding(host_ip=ip, host_port="1")]}, **more)
        return found

    assert (of("[::1]").host_ip, of("::").host_ip, of("FD00:0::1").host_ip) == ("::1", "::", "fd00::1")
    assert of("::ffff:192.0.2.1").host_ip == "192.0.2.1"
    assert [of("").both, of("", ipv6=True).both, of("0.0.0.0", ipv6=True).both] == [False, True, False]
    assert not of("", ipv6=True, default_ip="127.0.0.1").both, "moby: only where everywhere is meant"


def test_the_same_port_for_both_families() -> None:
    ports = HostPorts()
    wish = Wish(protocol="tcp", container_port=80, both=True)
    four, six = ports.allocate([wish])
    assert (four.host_ip, six.host_ip) == ("0.0.0.0", "::")
    assert four.host_port == six.host_port
    with socket.socket(socket.AF_INET6) as other:
        other.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        with pytest.raises(OSError, match="in use"):
            other.bind(("::1", six.host_port))
    with pytest.raises(PortError, match=f"Bind for ::1:{six.host_port} failed: port is already allocated"):
        ports.allocate(
            [Wish(protocol="tcp", container_port=80, host_ip="::1", first=six.host_port, last=six.host_port)]
        )
    ports.release([four])
    fixed = Wish(protocol="tcp", container_port=80, both=True, first=four.host_port, last=four.host_port)
    with pytest.raises(PortError, match=f"Bind for :::{six.host_port} failed"):
        ports.allocate([fixed])
    ports.release([six])
    with socket.socket(socket.AF_INET6) as other:
        other.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        other.bind(("::", six.host_port))
        other.listen()
        with pytest.raises(PortError, match=rf"listen tcp6 \[::\]:{six.host_port}: bind: address already in use"):
            ports.allocate([fixed])
    assert len(ports.allocate([fixed])) == 2, "nothing was left of the refused"
    ports.close()


def test_INS5_the_port_map() -> None:
    published = [
        Published(protocol="tcp", container_port=80, host_ip="0.0.0.0", host_port=8080),
        Published(protocol="tcp", container_port=80, host_ip="127.0.0.1", host_port=8081),
    ]
    assert port_map(published, ["81/tcp"]) == {
        "80/tcp": [
            PortBinding(host_ip="0.0.0.0", host_port="8080"),
            PortBinding(host_ip="127.0.0.1", host_port="8081"),
        ],
        "81/tcp": None,
    }
    assert port_map([]) == {}


def test_STA3_a_port_is_held_against_everybody() -> None:
    ports = HostPorts()
    (held,) = ports.allocate([wish(FREE[0])])
    with pytest.raises(PortError, match=rf"^Bind for 127.0.0.1:{FREE[0]} failed: port is already allocated$"):
        ports.allocate([wish(FREE[0])])
    with pytest.raises(PortError, match=rf"^Bind for 0.0.0.0:{FREE[0]} failed: port is already allocated$"):
        ports.allocate([wish(FREE[0], ip="0.0.0.0")])
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with pytest.raises(OSError, match="in use"):
            other.bind(("0.0.0.0", FREE[0]))
    with socket.socket() as client, pytest.raises(ConnectionRefusedError):
        client.connect(("127.0.0.1", FREE[0]))
    ports.allocate([wish(FREE[0], ip="127.0.0.2")])
    ports.release([held, held])
    ports.allocate([wish(FREE[0])])
    ports.close()
    assert len(ports) == 0


def test_a_port_of_another_program_is_refused() -> None:
    ports = HostPorts()
    for kind, protocol in ((socket.SOCK_STREAM, "tcp"), (socket.SOCK_DGRAM, "udp")):
        with socket.socket(socket.AF_INET, kind) as other:
            other.bind(("127.0.0.1", FREE[1]))
            if protocol == "tcp":
                other.listen()
            with pytest.raises(PortError, match=f"listen {protocol}4 .*: bind: address already in use"):
                ports.allocate([wish(FREE[1], protocol=protocol)])
    assert len(ports) == 0


def test_a_port_in_time_wait_is_given() -> None:
    with socket.socket() as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind(("127.0.0.1", FREE[2]))
        server.listen()
        client = socket.create_connection(("127.0.0.1", FREE[2]))
        server.accept()[0].close()
        client.close()
    ports = HostPorts()
    ports.allocate([wish(FREE[2])])
    ports.close()


def test_all_or_none() -> None:
    ports = HostPorts()
    ports.allocate([wish(FREE[3])])
    with pytest.raises(PortError):
        ports.allocate([wish(FREE[4]), wish(FREE[3])])
    assert len(ports) == 1
    ports.close()


def test_ranges_and_ephemeral_ports() -> None:
    ports = HostPorts(ephemeral=(FREE[5], FREE[7]))
    assert [ports.allocate([wish(FREE[8], FREE[9])])[0].host_port for _ in range(2)] == [FREE[8], FREE[9]]
    with pytest.raises(PortError, match="all ports are allocated"):
        ports.allocate([wish(FREE[8], FREE[9])])
    anywhere = Wish(protocol="tcp", container_port=80, host_ip="127.0.0.1")
    # what is named is taken first, so that an ephemeral port never stands in its way
    given = ports.allocate([anywhere, wish(FREE[5]), anywhere])
    assert sorted(port.host_port for port in given) == [FREE[5], FREE[6], FREE[7]]
    ports.release(given[:1])
    ports.release(given[1:2])
    first, second = (ports.allocate([anywhere])[0].host_port for _ in range(2))
    assert first != second
    ports.close()


def test_a_udp_port_swallows_what_comes() -> None:
    ports = HostPorts()
    ports.allocate([wish(FREE[0], protocol="udp")])
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.connect(("127.0.0.1", FREE[0]))
        for _ in range(10):
            client.send(b"x")
    ports.close()
