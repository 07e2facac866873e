"""The client against its ceilings: raw sockets and bare Python, interleaved in one run. Ratios count.

    python -m benchmarks.client [--short] [--rounds 5] [--engine-us 150] [--socket /run/docker.sock]

Rows: import of ``wherry`` with a sync client over bare Python; inspect calls on one connection and 50 at once; output of
a container demultiplexed from a source at memory speed. The engine is a stand-in process that answers from memory;
``--engine-us`` lets it take as long for each answer as a real engine does (a real one takes 150 to 300 µs). With
``--socket`` the inspect rows are of a real engine, which must have a container named ``bench``.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import select
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path

AT_ONCE = 50
LOG_BYTES = 100  # of a line
LOG_SIZE = 64 << 20


def inspect_answer() -> bytes:
    """An inspect of the size that engines send, 7 KB."""
    from wherry.api import json as api_json
    from wherry.api.models.containers import ContainerInspect, HostConfig

    host = HostConfig(masked_paths=[f"/proc/masked{n}" for n in range(12)], network_mode="default")
    container = ContainerInspect(id="f" * 64, name="/bench", host_config=host, args=["-c", "sleep 1"] * 40)
    container.config.env = [f"VARIABLE_{n}=value {n}" for n in range(90)]
    body = api_json.encode(container) + b"\n"
    head = (
        "HTTP/1.1 200 OK\r\nApi-Version: 1.43\r\nContent-Type: application/json\r\nDocker-Experimental: false\r\n"
        "Ostype: linux\r\nServer: Docker/24.0.9 (linux)\r\nDate: Mon, 23 Nov 2026 12:00:00 GMT\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def log_answer() -> tuple[bytes, bytes]:
    """The head of a logs answer, and a block of it: each line a frame, each frame a chunk, as engines send them."""
    lines = b""
    for number in range(4096):
        stream = 2 if number % 16 == 15 else 1
        frame = struct.pack(">BxxxI", stream, LOG_BYTES) + b"%099d\n" % number
        lines += b"%x\r\n%b\r\n" % (len(frame), frame)
    head = (
        b"HTTP/1.1 200 OK\r\nApi-Version: 1.43\r\nContent-Type: application/vnd.docker.multiplexed-stream\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n"
    )
    return head, lines


def serve(path: str, answer: bytes, busy_us: float) -> None:
    """The stand-in engine."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen(128)
    head, block = log_answer()
    blocks = LOG_SIZE // (4096 * LOG_BYTES)
    poll = select.epoll()
    poll.register(listener.fileno(), select.EPOLLIN)
    connections: dict[int, socket.socket] = {}

    def pour(connection: socket.socket) -> None:
        connection.sendall(head)
        for _ in range(blocks):
            connection.sendall(block)
        connection.sendall(b"0\r\n\r\n")

    while True:
        for number, _ in poll.poll():
            if number == listener.fileno():
                connection, _ = listener.accept()
                connections[connection.fileno()] = connection
                poll.register(connection.fileno(), select.EPOLLIN)
                continue
            connection = connections[number]
            request = connection.recv(65536)
            if not request:
                poll.unregister(number)
                connections.pop(number).close()
            elif b"/logs" in request:
                pour(connection)
            elif b"/_ping" in request:
                connection.sendall(b"HTTP/1.1 200 OK\r\nApi-Version: 1.43\r\nContent-Length: 0\r\n\r\n")
            else:
                if busy_us:
                    until = time.perf_counter() + busy_us / 1e6
                    while time.perf_counter() < until:
                        pass
                connection.sendall(answer)


REQUEST = b"GET /containers/bench/json HTTP/1.1\r\nHost: docker\r\nUser-Agent: raw\r\n\r\n"


def complete(data: bytes) -> bool:
    end = data.find(b"\r\n\r\n")
    if end < 0:
        return False
    at = data.find(b"Content-Length: ") + 16
    if at < 16:
        return data.endswith(b"\r\n0\r\n\r\n")  # chunked
    return len(data) >= end + 4 + int(data[at : data.index(b"\r", at)])


def raw_calls(path: str, count: int, *, decode: bool) -> float:
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(path)
    began = time.perf_counter()
    for _ in range(count):
        connection.sendall(REQUEST)
        data = connection.recv(65536)
        while not complete(data):
            data += connection.recv(65536)
        if decode:
            json.loads(data[data.index(b"{") : data.rindex(b"}") + 1])
    return count / (time.perf_counter() - began)


async def raw_calls_async(path: str, count: int) -> float:
    loop = asyncio.get_running_loop()

    async def one() -> None:
        connection = socket.socket(socket.AF_UNIX)
        connection.setblocking(False)
        await loop.sock_connect(connection, path)
        for _ in range(count // AT_ONCE):
            await loop.sock_sendall(connection, REQUEST)
            data = await loop.sock_recv(connection, 65536)
            while not complete(data):
                data += await loop.sock_recv(connection, 65536)
        connection.close()

    began = time.perf_counter()
    await asyncio.gather(*[one() for _ in range(AT_ONCE)])
    return count / (time.perf_counter() - began)


def sync_calls(path: str, count: int) -> float:
    import wherry

    with wherry.connect(f"unix://{path}") as docker:
        docker.containers.inspect("bench")
        began = time.perf_counter()
        for _ in range(count):
            docker.containers.inspect("bench")
        return count / (time.perf_counter() - began)


async def async_calls(path: str, count: int, at_once: int) -> float:
    import wherry

    async with wherry.connect_async(f"unix://{path}") as docker:
        await docker.containers.inspect("bench")

        async def one() -> None:
            for _ in range(count // at_once):
                await docker.containers.inspect("bench")

        began = time.perf_counter()
        await asyncio.gather(*[one() for _ in range(at_once)])
        return count / (time.perf_counter() - began)


def thread_calls(path: str, count: int) -> float:
    import wherry

    with wherry.connect(f"unix://{path}") as docker:
        docker.containers.inspect("bench")

        def one() -> None:
            for _ in range(count // AT_ONCE):
                docker.containers.inspect("bench")

        threads = [threading.Thread(target=one) for _ in range(AT_ONCE)]
        began = time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return count / (time.perf_counter() - began)


def raw_logs(path: str) -> float:
    """Dechunk and demultiplex by hand, as far as plain Python goes."""
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(path)
    connection.sendall(b"GET /v1.43/containers/bench/logs HTTP/1.1\r\nHost: docker\r\n\r\n")
    began = time.perf_counter()
    data = connection.recv(262144)
    position = data.index(b"\r\n\r\n") + 4
    size = 0
    unpack = struct.Struct(">BxxxI").unpack_from
    while True:
        while True:
            end = data.find(b"\r\n", position)
            if end < 0:
                break
            length = int(data[position:end], 16)
            if not length:
                return size / (time.perf_counter() - began) / 1e6
            if end + 4 + length > len(data):
                break
            _, payload = unpack(data, end + 2)
            size += len(data[end + 10 : end + 10 + payload])
            position = end + 4 + length
        data = data[position:] + connection.recv(262144)
        position = 0


def sync_logs(path: str) -> float:
    import wherry

    with wherry.connect(f"unix://{path}") as docker:
        docker.system.ping()
        began = time.perf_counter()
        size = 0
        for _, data in docker.containers.logs("bench"):
            size += len(data)
        return size / (time.perf_counter() - began) / 1e6


async def async_logs(path: str) -> float:
    import wherry

    async with wherry.connect_async(f"unix://{path}") as docker:
        await docker.system.ping()
        began = time.perf_counter()
        size = 0
        async for _, data in await docker.containers.logs("bench"):
            size += len(data)
        return size / (time.perf_counter() - began) / 1e6


def import_ms(code: str) -> float:
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True)
    return (time.perf_counter() - began) * 1000


SYNC_CLIENT = "import wherry; wherry.connect('unix:///nowhere').containers"


def main() -> None:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--rounds", type=int, default=0, help="5, or 2 with --short")
    arguments.add_argument("--calls", type=int, default=0, help="2,000, or 500 with --short")
    arguments.add_argument("--short", action="store_true")
    arguments.add_argument("--engine-us", type=float, default=150)
    arguments.add_argument("--socket")
    options = arguments.parse_args()
    count = options.calls or (500 if options.short else 2000)
    options.rounds = options.rounds or (2 if options.short else 5)
    with tempfile.TemporaryDirectory() as directory:
        path, quick = str(Path(directory) / "engine"), str(Path(directory) / "quick")
        context = get_context("fork")
        answer = inspect_answer()
        engines = [
            context.Process(target=serve, args=(path, answer, options.engine_us), daemon=True),
            context.Process(target=serve, args=(quick, answer, 0), daemon=True),
        ]
        for engine in engines:
            engine.start()
        while not (os.path.exists(path) and os.path.exists(quick)):
            time.sleep(0.01)
        rows: dict[str, tuple[Callable[[], float], str | None]] = {
            "bare python, ms": (lambda: import_ms("pass"), None),
            "import wherry and sync client, ms": (lambda: import_ms(SYNC_CLIENT), None),
        }
        places = [(f"engine of {options.engine_us:g} µs", path), ("engine of 0 µs", quick)]
        if options.socket:
            places = [("real engine", options.socket)]
        for name, where in places:
            raw, many = f"{name}: raw socket, calls/s", f"{name}: raw sockets, {AT_ONCE} at once"
            rows |= {
                raw: (lambda w=where: raw_calls(w, count, decode=False), None),
                f"{name}: raw socket and json.loads": (lambda w=where: raw_calls(w, count, decode=True), raw),
                f"{name}: sync inspect": (lambda w=where: sync_calls(w, count), raw),
                f"{name}: async inspect": (lambda w=where: asyncio.run(async_calls(w, count, 1)), raw),
                many: (lambda w=where: asyncio.run(raw_calls_async(w, count)), None),
                f"{name}: async inspect, {AT_ONCE} at once": (
                    lambda w=where: asyncio.run(async_calls(w, count, AT_ONCE)),
                    many,
                ),
                f"{name}: sync inspect, {AT_ONCE} threads": (lambda w=where: thread_calls(w, count), many),
            }
        rows |= {
            "logs by hand, MB/s": (lambda: raw_logs(quick), None),
            "sync logs, MB/s": (lambda: sync_logs(quick), "logs by hand, MB/s"),
            "async logs, MB/s": (lambda: asyncio.run(async_logs(quick)), "logs by hand, MB/s"),
        }
        figures: dict[str, list[float]] = {name: [] for name in rows}
        for _ in range(options.rounds):
            for name, (measure, _) in rows.items():
                figures[name].append(measure())
        for engine in engines:
            engine.terminate()
    medians = {name: statistics.median(values) for name, values in figures.items()}
    for name, (_, against) in rows.items():
        ratio = f"{medians[name] / medians[against]:6.2f} ×" if against else ""
        print(f"{name:52} {medians[name]:10.1f}  {ratio}")
    over = medians["import wherry and sync client, ms"] - medians["bare python, ms"]
    print(f"{'import over bare python, ms':52} {over:10.1f}")


if __name__ == "__main__":
    main()
