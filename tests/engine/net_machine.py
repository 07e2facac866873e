"""A host of its own for each test of containers' networks: a network namespace, with a machine outside.

Containers are bare namespaces here; servers and clients are sockets opened in them.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import functools
import inspect
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar

from dnslib import RCODE, DNSRecord

from wherry.api.models.networks import IPAM, IPAMConfig, NetworkCreateRequest, PortBinding
from wherry.engine.events import Events
from wherry.engine.networks import netns
from wherry.engine.networks.bridge import link_names
from wherry.engine.networks.networks import Networks
from wherry.engine.networks.records import Endpoint, NetworkRecord
from wherry.engine.store.database import Database
from wherry.engine.store.layout import Layout

T = TypeVar("T")
HOST, OUTSIDE = "192.0.2.2", "192.0.2.9"
HOST6, OUTSIDE6 = "2001:db8::2", "2001:db8::9"
A, B, C = "a" * 64, "b" * 64, "c" * 64


TestFunction = Callable[[Path], Coroutine[Any, Any, None]]


def on_own_host(test: TestFunction) -> Callable[[Path], None]:
    """Run an async test in a process with its own network and mount namespaces, where it may do as it likes."""

    @functools.wraps(test)
    def run(tmp_path: Path) -> None:
        if os.environ.get("WHERRY_TEST_OWN_HOST"):
            with _outside_machine(tmp_path):
                asyncio.run(test(tmp_path))
            return
        where = f"{inspect.getfile(test)}::{test.__name__}"
        command = ["unshare", "--net", "--mount", sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
        done = subprocess.run(
            [*command, where, f"--basetemp={tmp_path}/own"],
            # the plugins that happen to be installed cost more time than the test
            env={**os.environ, "WHERRY_TEST_OWN_HOST": "1", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
            cwd=Path(__file__).parents[2],
            capture_output=True,
            text=True,
            timeout=100,
        )
        assert done.returncode == 0, done.stdout + done.stderr

    return run


@contextlib.contextmanager
def _outside_machine(tmp_path: Path) -> Iterator[None]:
    outside = tmp_path / "outside"
    outside.touch()
    sh("ip link set lo up")
    sh(f"unshare --net={outside} true")
    sh("ip link add ext type veth peer name ext-peer")
    sh(f"ip link set ext-peer netns {outside}")
    sh(f"ip addr add {HOST}/24 dev ext; ip link set ext up; ip route add default via {OUTSIDE}")
    sh(f"nsenter --net={outside} sh -c 'ip addr add {OUTSIDE}/24 dev ext-peer; ip link set ext-peer up'")
    sh(f"ip addr add {HOST6}/64 dev ext nodad; ip -6 route add default via {OUTSIDE6} dev ext")
    sh(f"nsenter --net={outside} ip addr add {OUTSIDE6}/64 dev ext-peer nodad")
    yield
    netns.drop(outside)


def sh(command: str) -> str:
    done = subprocess.run(command, shell=True, capture_output=True, text=True)
    assert done.returncode == 0, f"{command}: {done.stderr}"
    return done.stdout


def within(path: Path | None, function: Callable[[], T]) -> T:
    """Call ``function`` in the network namespace at ``path``, on a thread of its own; None: right here."""
    if path is None:
        return function()
    result: list[T | BaseException] = []

    def run() -> None:
        try:
            os.close(netns.enter_here(path))
            result.append(function())
        except BaseException as error:
            result.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if isinstance(result[0], BaseException):
        raise result[0]
    return result[0]


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


class Server:
    """A TCP server on a thread, in a namespace, that answers with the client's address."""

    def __init__(self, path: Path | None, port: int, host: str = "") -> None:
        def listen() -> socket.socket:
            server = socket.socket(_family(host))
            if server.family == socket.AF_INET6:
                server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            server.bind((host, port))
            server.listen()
            return server

        self.socket = within(path, listen)
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, address = self.socket.accept()
                connection.sendall(address[0].encode())
                connection.close()

    def close(self) -> None:
        self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()


def ask(host: str, port: int, path: Path | None = None, timeout: float = 1.0) -> str:
    """The answer of a ``Server``: the address from which it was asked. Raises ``OSError``."""

    def connect() -> socket.socket:
        client = socket.socket(_family(host))
        client.settimeout(timeout)
        try:
            client.connect((host, port))
        except BaseException:
            client.close()
            raise
        return client

    with within(path, connect) as client:
        return client.recv(100).decode()


def fails(host: str, port: int, path: Path | None = None) -> str:
    """How asking fails: refused, timeout, or unreachable."""
    try:
        answer = ask(host, port, path, timeout=0.5)
    except ConnectionRefusedError:
        return "refused"
    except TimeoutError:
        return "timeout"
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, "?")
    return f"answered {answer}"


class Engine:
    def __init__(self, root: Path, **options: Any) -> None:
        self.layout = Layout(root / "data", root / "exec")
        self.layout.make()
        self.database = Database(self.layout.database)
        self.events = Events()
        self.networks = Networks(self.layout, self.database, self.events, **options)

    @property
    def tag(self) -> str:
        return self.layout.tag

    async def start(self, *live: str) -> Networks:
        await self.networks.start()
        await self.networks.recover(set(live))
        return self.networks

    async def die(self) -> None:
        """End as a killed process does: sockets close, everything else stays."""
        self.networks._ports.close()
        await self.networks._names.close()
        await self.networks._rules.close()
        self.database.close()

    def leftovers(self) -> dict[str, object]:
        """What the kernel and the database hold for this engine."""
        show = f"nft list table ip wherry-{self.tag}; nft list table ip6 wherry-{self.tag}"
        table = subprocess.run(show, shell=True, capture_output=True, text=True)
        return {
            "links": link_names(f"v{self.tag}"),
            "mounts": [
                line for line in Path("/proc/self/mounts").read_text().splitlines() if str(self.layout.netns) in line
            ],
            "files": os.listdir(self.layout.netns),
            "elements": [line for line in table.stdout.splitlines() if " : 172." in line or " : fd" in line],
            "rows": self.database.all("endpoint"),
            "ports": len(self.networks._ports),
            "name server": self.name_server(),
        }

    def name_server(self) -> list[int]:
        """The process ids of this engine's name server."""
        found = []
        for entry in Path("/proc").iterdir():
            with contextlib.suppress(OSError, ValueError):
                if str(self.layout.exec_root / "names.sock") in (entry / "cmdline").read_text().split("\0"):
                    found.append(int(entry.name))
        return found

    async def settled(self, seconds: float = 5) -> dict[str, object]:
        """``leftovers`` that are not empty, once the kernel has had time to do its part."""
        deadline = time.monotonic() + seconds
        while (left := {k: v for k, v in self.leftovers().items() if v}) and time.monotonic() < deadline:
            await asyncio.sleep(0.05)
        return left


def bound(port: str = "", ip: str = "") -> list[PortBinding]:
    return [PortBinding(host_ip=ip, host_port=port)]


async def create(networks: Networks, name: str, subnet: str = "", **more: object) -> NetworkRecord:
    ipam = IPAM(config=[IPAMConfig(subnet=subnet)]) if subnet else None
    return await networks.create(NetworkCreateRequest(**{"name": name, "ipam": ipam, **more}))  # type: ignore[arg-type]


async def join(networks: Networks, container: str, network: str, *names: str, **more: object) -> Endpoint:
    return await networks.connect(container, None, network, name=names[0], names=names, **more)  # type: ignore[arg-type]


def look_up(path: Path | None, name: str, kind: str = "A", *, tcp: bool = False, timeout: float = 5) -> list[str] | str:
    """What a container is told when it asks for a name: answers, or the name of a failure."""
    question = bytes(DNSRecord.question(name, kind).pack())
    asking = socket.SOCK_STREAM if tcp else socket.SOCK_DGRAM

    def connect() -> socket.socket:
        client = socket.socket(socket.AF_INET, asking)
        client.settimeout(timeout)
        client.connect(("127.0.0.11", 53))
        return client

    with within(path, connect) as client:
        if tcp:
            client.sendall(len(question).to_bytes(2, "big") + question)
            answer = client.recv(4096)[2:]
        else:
            client.send(question)
            answer = client.recv(4096)
    record = DNSRecord.parse(answer)
    assert record.header.id == DNSRecord.parse(question).header.id
    return [str(one.rdata) for one in record.rr] if not record.header.rcode else str(RCODE[record.header.rcode])


async def eventually(condition: Callable[[], bool], seconds: float = 5) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)
