"""The name server of user-defined networks: a process of its own, which answers on while the engine is away.

    python -m wherry.engine.networks.resolver SOCKET

A container asks 127.0.0.11 in its own network namespace. The sockets behind that address are opened there by the engine
and handed over here, so a question's socket says whose it is: no address that could be forged or routed wrongly. Names
of the asker's networks are answered from a table; everything else goes on, as it came, to the resolvers of the host (this
process lives in the host's namespace), or of the container if it has its own; not from containers that have no way out.

The engine talks over a SOCK_SEQPACKET socket, one JSON object a packet, each answered by one:

    {"op": "put", "id": …, "networks": [{"id", "name", "addresses", "names", "links"}], "servers": […], "outside": true}
        and two descriptors, UDP and listening TCP, unless they were given before: the container is known so from now on
    {"op": "relay", "id": …, "ports": [{"address", "port"}], "more": false}
        and a descriptor for each: what comes there goes to the container (relay.py), in the place of, or beside, those before
    {"op": "drop", "id": …}   its sockets are closed, its names forgotten
    {"op": "list"}            {"ids": […]}
    {"op": "exit"}

It ends by itself: soon when it serves nobody and no engine is connected, later when it serves nobody. Of Wherry nothing
else is imported here, to stay small.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import random
import secrets
import socket
import struct
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from ipaddress import IPv6Address, ip_address
from typing import Any

from dnslib import AAAA, CLASS, PTR, QTYPE, RCODE, RR, A, DNSBuffer, DNSError, DNSHeader, DNSQuestion, DNSRecord  # type: ignore[import-untyped]

from wherry.engine.networks.relay import Relay, open_relays

TTL = 0  # seconds: an answer may be wrong at once, so nobody is to keep it
ALONE, IDLE = 2.0, 60.0  # seconds without clients until the end, without and with an engine
ASK = 3.0  # seconds that a server gets before the next is asked
TCP_IDLE = 15.0
UNDER_WAY = 1024  # questions to outside at once; and of one container, a quarter of it
CONNECTIONS = 64  # TCP connections of one container at once
PACKET = 1 << 18
DESCRIPTORS = 128  # in one packet
RESOLV_CONF = "/etc/resolv.conf"

Reply = Callable[[bytes], Awaitable[None]]


class Client:
    """A container: its sockets, its networks in the order in which they are searched, and its way out."""

    def __init__(self, id: str) -> None:
        self.id = id
        self.networks: list[dict[str, Any]] = []
        self.servers: list[str] = []
        self.outside = True
        self.asking = 0
        self.connections = 0
        self.udp: asyncio.DatagramTransport | None = None
        self.tcp: asyncio.Server | None = None

    def close(self) -> None:
        if self.udp is not None:
            self.udp.close()
        if self.tcp is not None:
            self.tcp.close()


class Table:
    """Who has which names. Names are kept in lower case; a name may have several owners."""

    def __init__(self) -> None:
        self.clients: dict[str, Client] = {}
        self._names: dict[str, dict[str, set[str]]] = {}  # network → name → containers
        self._addresses: dict[str, dict[str, list[str]]] = {}  # network → container → addresses
        self._owners: dict[str, dict[str, tuple[str, str]]] = {}  # network → address → container, its first name

    def set(self, client: Client, networks: Sequence[dict[str, Any]]) -> None:
        self.forget(client)
        self.clients[client.id] = client
        client.networks = list(networks)
        for network in client.networks:
            key, names = network["id"], [name.lower() for name in network["names"]]
            network["links"] = {alias.lower(): name.lower() for alias, name in network["links"].items()}
            known = self._names.setdefault(key, {})
            for name in names:
                known.setdefault(name, set()).add(client.id)
            self._addresses.setdefault(key, {})[client.id] = network["addresses"]
            for address in network["addresses"]:
                self._owners.setdefault(key, {})[address] = (client.id, names[0] if names else "")

    def forget(self, client: Client) -> None:
        for network in client.networks:
            key = network["id"]
            known = self._names.get(key, {})
            for name in [name for name, owners in known.items() if client.id in owners]:
                known[name].discard(client.id)
                if not known[name]:
                    del known[name]
            self._addresses.get(key, {}).pop(client.id, None)
            for address in network["addresses"]:
                if self._owners.get(key, {}).get(address, ("",))[0] == client.id:
                    del self._owners[key][address]
            if not self._addresses.get(key):
                self._names.pop(key, None)
                self._addresses.pop(key, None)
                self._owners.pop(key, None)
        client.networks = []
        self.clients.pop(client.id, None)

    def addresses(self, client: Client, name: str) -> list[str]:
        """What a name means to this container: of its first network that knows it; ``name.network`` asks one of them."""
        name = name.lower().rstrip(".")
        for network in client.networks:
            if found := self._in(network, name):
                return found
        for network in client.networks:
            if name.endswith(suffix := "." + network["name"].lower()) and (
                found := self._in(network, name.removesuffix(suffix))
            ):
                return found
        return []

    def _in(self, network: dict[str, Any], name: str) -> list[str]:
        addresses = self._addresses.get(network["id"], {})
        name = network["links"].get(name, name)
        owners = list(self._names.get(network["id"], {}).get(name, ()))
        random.shuffle(owners)  # several share the load
        return [address for owner in owners for address in addresses[owner]]

    def owner(self, client: Client, reverse: str) -> str:
        """The name of the container whose address a question like ``2.0.18.172.in-addr.arpa`` is about, or nothing."""
        labels = reverse.lower().rstrip(".").split(".")
        digits = labels[-3::-1]
        if labels[-2:] == ["in-addr", "arpa"] and len(digits) == 4:
            address = ".".join(digits)
        elif labels[-2:] == ["ip6", "arpa"] and len(digits) == 32:
            try:
                address = str(IPv6Address(bytes.fromhex("".join(digits))))
            except ValueError:
                return ""
        else:
            return ""
        for network in client.networks:
            _, name = self._owners.get(network["id"], {}).get(address, ("", ""))
            if name:
                return f"{name}.{network['name']}"
        return ""


class Resolver:
    """Answers questions from the table, or passes them on."""

    def __init__(self, table: Table) -> None:
        self._table = table
        self._under_way = 0
        self._host_servers: list[str] = []
        self._host_stamp: tuple[int, ...] = ()
        self._host_checked = 0.0

    async def answer(self, client: Client, question: bytes, *, tcp: bool) -> bytes:
        """The answer to a question as it came, empty for what is none."""
        try:
            buffer = DNSBuffer(question)
            header = DNSHeader.parse(buffer)
            if header.qr or header.q != 1 or header.opcode:
                return b""
            record = DNSRecord(header, questions=[DNSQuestion.parse(buffer)])  # what follows is not of interest
        except (DNSError, ValueError, struct.error, IndexError):
            return b""
        known = self._known(client, record)
        if known is not None:
            return bytes(known.pack())
        return await self._outside(client, record, question, tcp=tcp)

    def _known(self, client: Client, record: DNSRecord) -> DNSRecord | None:
        name, kind = str(record.q.qname), QTYPE.get(record.q.qtype)
        if record.q.qclass != CLASS.IN:
            return None
        if kind == "PTR":
            owner = self._table.owner(client, name)
            if not owner:
                return None
            reply = record.reply(ra=1, aa=0)
            reply.add_answer(RR(record.q.qname, QTYPE.PTR, ttl=TTL, rdata=PTR(owner)))
            return reply
        addresses = self._table.addresses(client, name)
        if not addresses:
            return None
        # of another kind the name has nothing, which is not the same as that there is no such name
        reply = record.reply(ra=1, aa=0)
        fit = [address for address in addresses if kind in ("AAAA" if ":" in address else "A", "ANY")]
        for address in fit[:25]:
            if ":" in address:
                reply.add_answer(RR(record.q.qname, QTYPE.AAAA, ttl=TTL, rdata=AAAA(address)))
            else:
                reply.add_answer(RR(record.q.qname, QTYPE.A, ttl=TTL, rdata=A(address)))
        return reply

    async def _outside(self, client: Client, record: DNSRecord, question: bytes, *, tcp: bool) -> bytes:
        best = b""
        if client.outside and self._under_way < UNDER_WAY and client.asking < UNDER_WAY // 4:
            self._under_way += 1
            client.asking += 1
            try:
                for server in (client.servers or self._servers())[:3]:
                    try:
                        async with asyncio.timeout(ASK):
                            reply = await (_ask_tcp if tcp else _ask_udp)(server, question)
                    except (OSError, TimeoutError, asyncio.IncompleteReadError):
                        continue
                    if reply[3] & 15 not in (RCODE.SERVFAIL, RCODE.REFUSED):
                        return reply
                    best = best or reply
            finally:
                self._under_way -= 1
                client.asking -= 1
        if best:
            return best
        failed = record.reply(ra=1, aa=0)
        failed.header.rcode = RCODE.SERVFAIL
        return bytes(failed.pack())

    def _servers(self) -> list[str]:
        """The host's, read again when its file has changed."""
        now = time.monotonic()
        if now - self._host_checked > 1:
            self._host_checked = now
            with contextlib.suppress(OSError, ValueError):
                found = os.stat(RESOLV_CONF)
                stamp = (found.st_mtime_ns, found.st_ino, found.st_size)
                if stamp != self._host_stamp:
                    self._host_servers = _read_servers(RESOLV_CONF)
                    self._host_stamp = stamp
        return self._host_servers


def _read_servers(path: str) -> list[str]:
    servers = []
    with open(path, errors="replace") as file:
        for line in file:
            words = line.split()
            if len(words) > 1 and words[0] == "nameserver":
                with contextlib.suppress(ValueError):
                    ip_address(words[1].partition("%")[0])
                    servers.append(words[1])
    return servers


class _Asked(asyncio.DatagramProtocol):
    def __init__(self, question: bytes) -> None:
        self.question = question
        self.reply: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    def datagram_received(self, data: bytes, address: object) -> None:
        if _answers(self.question, data) and not self.reply.done():
            self.reply.set_result(data)

    def error_received(self, error: Exception) -> None:
        if not self.reply.done():
            self.reply.set_exception(error)


def _answers(question: bytes, data: bytes) -> bool:
    """Whether ``data`` is an answer to just this question."""
    end = _question_end(question)
    return len(data) >= 12 and data[:2] == question[:2] and bool(data[2] & 0x80) and _same(data, question, end)


def _same(data: bytes, question: bytes, end: int) -> bool:
    counted = data[4:6] == question[4:6] and data[12:end].lower() == question[12:end].lower()
    return counted or (data[4:6] == b"\0\0" and data[3] & 15 != 0)  # some refuse without repeating what was asked


def _question_end(question: bytes) -> int:
    offset = 12
    while question[offset] and question[offset] < 64:
        offset += question[offset] + 1
    return offset + 5


async def _ask_udp(server: str, question: bytes) -> bytes:
    number = secrets.token_bytes(2)
    transport, asked = await asyncio.get_running_loop().create_datagram_endpoint(
        lambda: _Asked(number + question[2:]), remote_addr=(server, 53)
    )
    try:
        transport.sendto(number + question[2:])
        return question[:2] + (await asked.reply)[2:]
    finally:
        transport.close()


async def _ask_tcp(server: str, question: bytes) -> bytes:
    reader, writer = await asyncio.open_connection(server, 53)
    try:
        writer.write(struct.pack("!H", len(question)) + question)
        reply = await reader.readexactly(int.from_bytes(await reader.readexactly(2), "big"))
        if not _answers(question, reply):
            raise OSError("an answer to something else")
        return reply
    finally:
        writer.close()


class _Questions(asyncio.DatagramProtocol):
    """A container's UDP socket."""

    def __init__(self, service: Service, client: Client) -> None:
        self._service = service
        self._client = client

    def datagram_received(self, data: bytes, address: Any) -> None:
        if self._client.asking < UNDER_WAY // 4:
            self._service.spawn(self._answer(data, address))

    async def _answer(self, data: bytes, address: Any) -> None:
        reply = await self._service.resolver.answer(self._client, data, tcp=False)
        if reply and self._client.udp is not None and not self._client.udp.is_closing():
            self._client.udp.sendto(reply, address)


class Service:
    """The process: the engine's connections on one side, containers' sockets on the other."""

    def __init__(self, listener: socket.socket) -> None:
        self.table = Table()
        self.resolver = Resolver(self.table)
        self._listener = listener
        self._relays: dict[str, list[Relay]] = {}
        self._engines: set[socket.socket] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._over = asyncio.Event()
        self._quiet_since = time.monotonic()

    def spawn(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def run(self) -> None:
        asyncio.get_running_loop().add_reader(self._listener, self._accept)
        while not self._over.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._over.wait(), 1)
            if self.table.clients or self._relays:
                self._quiet_since = time.monotonic()
            elif time.monotonic() - self._quiet_since > (IDLE if self._engines else ALONE):
                return

    def _accept(self) -> None:
        with contextlib.suppress(BlockingIOError, InterruptedError):
            engine, _ = self._listener.accept()
            engine.setblocking(False)
            self._engines.add(engine)
            asyncio.get_running_loop().add_reader(engine, self._readable, engine)

    def _readable(self, engine: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        try:
            data, fds, _, _ = socket.recv_fds(engine, PACKET, DESCRIPTORS)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data, fds = b"", []
        if not data:
            loop.remove_reader(engine)
            self._engines.discard(engine)
            engine.close()
            self._quiet_since = time.monotonic()
            return
        # no more is read until this is answered
        loop.remove_reader(engine)
        self.spawn(self._serve(engine, data, fds))

    async def _serve(self, engine: socket.socket, data: bytes, fds: list[int]) -> None:
        sockets = [socket.socket(fileno=fd) for fd in fds]
        try:
            result = await self._do(json.loads(data), sockets)
        except Exception as error:
            result = {"error": f"{type(error).__name__}: {error}"}
            for unused in sockets:
                unused.close()
        with contextlib.suppress(OSError):
            engine.send(json.dumps(result).encode())
        asyncio.get_running_loop().add_reader(engine, self._readable, engine)

    async def _do(self, order: dict[str, Any], sockets: list[socket.socket]) -> dict[str, Any]:
        verb, id = order["op"], order.get("id", "")
        known = self.table.clients.get(id)
        if verb == "list":
            return {"ids": list({*self.table.clients, *self._relays})}
        if verb == "exit":
            self._over.set()
        elif verb == "drop":
            if known is not None:
                self.table.forget(known)
                known.close()
            self._end_relays(id)
        elif verb == "relay":
            if not order["more"]:
                self._end_relays(id)
            if sockets:
                self._relays.setdefault(id, []).extend(await open_relays(order["ports"], sockets))
        elif verb == "put":
            client = known
            if sockets:
                client = Client(id)
                await self._listen(client, *sockets)
            if client is None:
                return {"error": "no sockets"}
            client.servers, client.outside = order["servers"], order["outside"]
            if known is not None:
                self.table.forget(known)
                if known is not client:
                    known.close()
            self.table.set(client, order["networks"])
        else:
            return {"error": f"no such order: {verb}"}
        return {}

    def _end_relays(self, id: str) -> None:
        for relay in self._relays.pop(id, []):
            relay.close()

    async def _listen(self, client: Client, udp: socket.socket, tcp: socket.socket) -> None:
        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            if client.connections >= CONNECTIONS:
                writer.close()
                return
            client.connections += 1
            try:
                async with asyncio.timeout(TCP_IDLE):
                    while True:
                        size = int.from_bytes(await reader.readexactly(2), "big")
                        reply = await self.resolver.answer(client, await reader.readexactly(size), tcp=True)
                        if not reply:
                            break
                        writer.write(struct.pack("!H", len(reply)) + reply)
                        await writer.drain()
            except (OSError, TimeoutError, asyncio.IncompleteReadError):
                pass
            finally:
                client.connections -= 1
                writer.close()

        loop = asyncio.get_running_loop()
        client.udp, _ = await loop.create_datagram_endpoint(lambda: _Questions(self, client), sock=udp)
        client.tcp = await asyncio.start_server(connected, sock=tcp)


def main(path: str) -> None:
    """Take the place at ``path``, leave the starter's foreground, and serve. The starter reads ``ready`` or an error."""
    if os.fork():  # whoever started this waits for its child; and a socket names the process that listens
        os._exit(0)
    directory, name = os.path.split(path)
    # by descriptor, for a socket's path may have 108 bytes only
    place = os.open(directory, os.O_PATH | os.O_DIRECTORY)
    lock = os.open(path + ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        sys.stdout.write("ready")  # another serves already
        return
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    os.umask(0o077)
    listener.bind(f"/proc/self/fd/{place}/{name}")
    listener.listen(8)
    listener.setblocking(False)
    os.close(place)
    sys.stdout.write("ready")
    sys.stdout.flush()
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    try:
        asyncio.run(_serve(listener))
    finally:
        with contextlib.suppress(OSError):
            os.unlink(path)


async def _serve(listener: socket.socket) -> None:
    await Service(listener).run()


if __name__ == "__main__":
    main(sys.argv[1])
