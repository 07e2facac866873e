"""What an engine has to bear, at full size: its memory must stay, and others must not have to wait.

    python -m benchmarks.soak [--short] [name …]

Each trial says how far the engine's proportional set size rose above rest at its highest (sampled each 100 ms), and
how long ``_ping`` took meanwhile (a process of its own asks each 20 ms). The delay with which the machine itself wakes a
sleeping process is told beside it: what is below that is not the engine's. Needs some 25 GB of disk, and frees it again.
"""

from __future__ import annotations

import argparse
import select
import socket
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.common import arguments, pss
from benchmarks.watch import Watch, at
from tests.support.engines import Engine, prepared
from tests.support.http import eventually
from wherry.wire.frames import FrameDecoder

MIB = 1 << 20
LINE = 100
PEAK_MIB, PING_SECONDS = 64, 0.1
NO_NETWORK = {"NetworkMode": "none"}


@contextmanager
def container(engine: Engine, script: str, **host: object) -> Iterator[str]:
    """A container that runs a shell script; removed at the end."""
    made = engine.create("sh", "-c", script, HostConfig=NO_NETWORK | host)
    try:
        yield made
    finally:
        answer = engine.http.delete(f"/containers/{made}", query={"force": 1, "v": 1}, timeout=300)
        assert answer.status == 204, answer


def lines(count: int) -> str:
    """A script that writes so many lines of 100 bytes."""
    return f"yes {'x' * (LINE - 1)} | head -n {count}"


def open_stream(engine: Engine, method: str, target: str, **options: object) -> socket.socket:
    """Send a request as HTTP/1.0, whose answer has no chunks; the socket behind the answer's head."""
    upgrade = "Connection: Upgrade\r\nUpgrade: tcp\r\n" if options.get("upgrade") else ""
    version = "1.1" if upgrade else "1.0"
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(600)
    sock.connect(engine.socket_path)
    sock.sendall(f"{method} /v1.43{target} HTTP/{version}\r\nHost: docker\r\n{upgrade}\r\n".encode())
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        byte = sock.recv(1)
        assert byte, head
        head += byte
    assert head.split()[1] in (b"200", b"101"), head
    return sock


def payload(sock: socket.socket) -> tuple[int, int]:
    """(bytes, lines) of a multiplexed stream, read to its end."""
    decoder, buffer = FrameDecoder(), bytearray(MIB)
    size = count = 0
    while got := sock.recv_into(buffer):
        for _, data in decoder.feed(bytes(buffer[:got])):
            size += len(data)
            count += data.count(b"\n")
    decoder.finish()
    return size, count


def raw(sock: socket.socket) -> int:
    buffer = bytearray(MIB)
    size = 0
    while got := sock.recv_into(buffer):
        size += got
    return size


def read_log(engine: Engine, name: str) -> tuple[int, int]:
    with open_stream(engine, "GET", f"/containers/{name}/logs?stdout=1") as sock:
        return payload(sock)


def expect(what: str, found: object, wanted: object) -> None:
    if found != wanted:
        raise AssertionError(f"{what}: {found!r} instead of {wanted!r}")


# -- the trials: each gives what it did, in words


def log_of_short_lines(engine: Engine, short: bool) -> str:
    count = 500_000 if short else 100_000_000
    with container(engine, lines(count)) as name:
        begun = time.monotonic()
        engine.start(name)
        _wait(engine, name)
        written = time.monotonic()
        expect("the log", read_log(engine, name), (count * LINE, count))
        read = time.monotonic()
    size = count * LINE / 1e6
    return f"{size / 1000:.2f} GB written at {size / (written - begun):.0f} MB/s, read back at {size / (read - written):.0f}"


def rotated_log(engine: Engine, short: bool) -> str:
    """With a follower that must see every line, though only three files are kept."""
    count = 500_000 if short else 100_000_000
    log = {"Type": "json-file", "Config": {"max-size": "20m" if short else "100m", "max-file": "3"}}
    with container(engine, "sleep 1; " + lines(count), LogConfig=log) as name:
        begun = time.monotonic()
        engine.start(name)
        with open_stream(engine, "GET", f"/containers/{name}/logs?stdout=1&follow=1") as sock:
            expect("what the follower saw", payload(sock), (count * LINE, count))
        size = count * LINE / 1e6
        return (
            f"{size / 1000:.2f} GB through three files, followed whole at {size / (time.monotonic() - begun):.0f} MB/s"
        )


def log_of_one_line(engine: Engine, short: bool) -> str:
    size = (32 if short else 1024) * MIB
    with container(engine, f"head -c {size} /dev/zero | tr '\\0' x; echo") as name:
        engine.start(name)
        _wait(engine, name)
        expect("the line", read_log(engine, name), (size + 1, 1))
    return f"{size // MIB} MiB"


def archive_down(engine: Engine, short: bool) -> str:
    size = (64 if short else 4096) * MIB
    with container(engine, f"dd if=/dev/zero of=/big bs=1M count={size // MIB} && sleep 1000") as name:
        engine.start(name)
        _until_file(engine, name, size)
        begun = time.monotonic()
        with open_stream(engine, "GET", f"/containers/{name}/archive?path=/big") as sock:
            got = raw(sock)
        assert size < got < size + 20480, got
        return f"{size // MIB} MiB at {size / 1e6 / (time.monotonic() - begun):.0f} MB/s"


def archive_up(engine: Engine, short: bool) -> str:
    size = (64 if short else 4096) * MIB
    with container(engine, "sleep 1000") as name:
        engine.start(name)
        begun = time.monotonic()
        header = tarfile.TarInfo("big")
        header.size = size
        head, block = header.tobuf(), bytes(MIB)
        with _upload(engine, name, len(head) + size + 1024) as sock:
            sock.sendall(head)
            for _ in range(size // MIB):
                sock.sendall(block)
            sock.sendall(bytes(1024))
            answer = sock.recv(4096)
        assert answer.startswith(b"HTTP/1.1 200"), answer
        took = time.monotonic() - begun
        _until_file(engine, name, size)
    return f"{size // MIB} MiB at {size / 1e6 / took:.0f} MB/s"


def execs(engine: Engine, short: bool) -> str:
    count = 30 if short else 500
    with container(engine, "sleep 1000") as name:
        engine.start(name)
        begun = time.monotonic()
        for number in range(count):
            expect("exec", engine.exec(name, "echo", str(number)), (0, b"%d\n" % number, b""))
        return f"{count}, {(time.monotonic() - begun) / count * 1000:.0f} ms each"


def attachments(engine: Engine, short: bool) -> str:
    """Half of them read everything, the other half nothing until the container has ended."""
    count = 30_000 if short else 500_000
    number = 20 if short else 100
    with container(engine, lines(count)) as name, ExitStack() as stack:
        opened = [
            stack.enter_context(
                open_stream(engine, "POST", f"/containers/{name}/attach?stream=1&stdout=1", upgrade=True)
            )
            for _ in range(number)
        ]
        engine.start(name)
        eager, lazy = opened[::2], opened[1::2]
        expect("what the readers saw", _read_all(eager), {(count * LINE, count)})
        _wait(engine, name)
        expect("what the late readers saw", _read_all(lazy), {(count * LINE, count)})
    return f"{number} attachments, {count * LINE // 1_000_000} MB each, half of them late"


def never_reading(engine: Engine, short: bool) -> str:
    """Clients that ask and never read, while there is much to say."""
    number, seconds = (5, 4.0) if short else (20, 60.0)
    script = f"dd if=/dev/zero of=/big bs=1M count=64; while :; do {lines(200_000)}; sleep 0.5; done"
    log = {"Type": "json-file", "Config": {"max-size": "50m", "max-file": "3"}}
    with container(engine, script, LogConfig=log) as name, ExitStack() as stack:
        engine.start(name)
        _until_file(engine, name, 64 * MIB)
        for _ in range(number):
            for method, target in (
                ("GET", f"/containers/{name}/logs?stdout=1&follow=1&timestamps=1"),
                ("POST", f"/containers/{name}/attach?stream=1&stdout=1&logs=1"),
                ("GET", "/events?since=1"),
                ("GET", f"/containers/{name}/stats"),
                ("GET", f"/containers/{name}/archive?path=/big"),
                ("GET", f"/containers/{name}/export"),
            ):
                stack.enter_context(open_stream(engine, method, target, upgrade=method == "POST"))
        end = time.monotonic() + seconds
        renames = 0
        while time.monotonic() < end:  # events, for those who do not read them
            answer = engine.http.post(f"/containers/{name}/rename", query={"name": f"soak{renames}"})
            assert answer.status == 204, answer
            renames += 1
            time.sleep(0.005)
    return f"{number} each of logs, attach, events, stats, archive, export, for {seconds:.0f} s; {renames} events"


def stats_streams(engine: Engine, short: bool) -> str:
    number, seconds = (10, 3.5) if short else (50, 30.0)
    with container(engine, "sleep 1000") as name, ExitStack() as stack:
        engine.start(name)
        opened = [stack.enter_context(open_stream(engine, "GET", f"/containers/{name}/stats")) for _ in range(number)]
        samples = dict.fromkeys(opened, 0)
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            for sock in select.select(opened, [], [], left)[0]:
                samples[sock] += sock.recv(65536).count(b"\n")
        assert min(samples.values()) >= 2, samples
    return f"{number} streams for {seconds:.0f} s, {min(samples.values())} to {max(samples.values())} samples each"


def slow_uploads(engine: Engine, short: bool) -> str:
    number, seconds = (10, 3.0) if short else (50, 30.0)
    header = tarfile.TarInfo("slow")
    header.size = 1000 * int(seconds * 10)
    with container(engine, "sleep 1000") as name, ExitStack() as stack:
        engine.start(name)
        length = len(header.tobuf()) + header.size
        opened = [stack.enter_context(_upload(engine, name, length)) for _ in range(number)]
        for sock in opened:
            sock.sendall(header.tobuf())
        for _ in range(int(seconds * 10)):
            for sock in opened:
                sock.sendall(b"s" * 1000)
            time.sleep(0.1)
        for sock in opened:
            answer = sock.recv(4096)
            assert answer.startswith(b"HTTP/1.1 200") or b"unexpected EOF" in answer, answer
    return f"{number} uploads of 10 kB/s for {seconds:.0f} s"


def many_connections(engine: Engine, short: bool) -> str:
    number = 200 if short else 1000
    for _ in range(2 if short else 10):
        opened = []
        for _ in range(number):
            sock = socket.socket(socket.AF_UNIX)
            sock.connect(engine.socket_path)  # without a timeout, so that it waits for a place in the queue
            opened.append(sock)
        for place, sock in enumerate(opened):
            if place % 2:
                sock.sendall(b"GET /v1.43/containers/json HTTP/1.1\r\nHost:")
        for sock in opened:
            sock.close()
        time.sleep(0.5)
    return f"{number} opened and dropped, {2 if short else 10} times"


TRIALS: dict[str, Callable[[Engine, bool], str]] = {
    "log of 100-byte lines": log_of_short_lines,
    "rotated log": rotated_log,
    "log of one line": log_of_one_line,
    "archive down": archive_down,
    "archive up": archive_up,
    "exec in a row": execs,
    "attachments": attachments,
    "clients that never read": never_reading,
    "stats streams": stats_streams,
    "slow uploads": slow_uploads,
    "connections": many_connections,
}


def _wait(engine: Engine, name: str) -> None:
    answer = engine.http.post(f"/containers/{name}/wait", timeout=1800)
    expect("the container's end", (answer.status, answer.json.get("StatusCode")), (200, 0))


def _until_file(engine: Engine, name: str, size: int) -> None:
    eventually(
        lambda: engine.exec(name, "stat", "-c", "%s", "/big")[1].strip() == str(size).encode(),
        within=300,
        what="the file is whole",
    )


@contextmanager
def _upload(engine: Engine, name: str, length: int) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(600)
        sock.connect(engine.socket_path)
        head = (
            f"PUT /v1.43/containers/{name}/archive?path=/ HTTP/1.1\r\nHost: docker\r\nContent-Length: {length}\r\n\r\n"
        )
        sock.sendall(head.encode())
        yield sock


def _read_all(socks: list[socket.socket]) -> set[tuple[int, int]]:
    """(bytes, lines) that each of many streams gave to its end, read in turns; the different ones."""
    sizes = dict.fromkeys(socks, 0)
    counts = dict.fromkeys(socks, 0)
    decoders = {sock: FrameDecoder() for sock in socks}
    left = list(socks)
    while left:
        for sock in select.select(left, [], [], 120)[0]:
            data = sock.recv(1 << 18)
            if not data:
                left.remove(sock)
            for _, piece in decoders[sock].feed(data):
                sizes[sock] += len(piece)
                counts[sock] += piece.count(b"\n")
    return {(sizes[sock], counts[sock]) for sock in socks}


class Result:
    def __init__(self, name: str, did: str, seconds: float, rise: float, watch: Watch) -> None:
        self.name, self.did, self.seconds, self.rise = name, did, seconds, rise
        self.seen = watch.seen

    def row(self) -> str:
        seen = self.seen
        ms = [
            f"{value * 1000:.1f}" for value in (seen.ping(0.5), seen.ping(0.99), max(seen.pings), at(seen.late, 0.99))
        ]
        return (
            f"| {self.name} | {self.did} | {self.seconds:.0f} | {self.rise:.1f} | {' | '.join(ms)} | {seen.load:.1f} |"
        )


HEADER = """\
| trial | what | s | PSS above rest, MiB | ping median, ms | p99 | most | machine's own delay, p99 | load |
|---|---|---|---|---|---|---|---|---|"""


def at_rest(engine: Engine) -> int:
    """The engine's PSS in KiB before the first trial."""
    engine.http.get("/info")
    time.sleep(2)
    return pss(engine.pid)


def run(engine: Engine, name: str, rest: int, *, short: bool) -> Result:
    """One trial, and what was seen of the engine meanwhile. Raises ``AssertionError`` where something was lost."""
    begun = time.monotonic()
    with Watch(engine.socket_path, engine.pid) as watch:
        did = TRIALS[name](engine, short)
    return Result(name, did, time.monotonic() - begun, (max(watch.seen.sizes) - rest) / 1024, watch)


def main() -> None:
    def add(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("trials", nargs="*", help=f"of: {', '.join(TRIALS)}; all by default")

    options = arguments(__doc__, add)
    missed = []
    with prepared("wherry") as engine:
        rest = at_rest(engine)
        print(f"at rest: {rest / 1024:.1f} MiB\n\n{HEADER}", flush=True)
        for name in options.trials or TRIALS:
            result = run(engine, name, rest, short=options.short)
            print(result.row(), flush=True)
            if result.rise > PEAK_MIB:
                missed.append(f"{name}: {result.rise:.1f} MiB above rest, at most {PEAK_MIB} are wanted")
            if result.seen.ping(0.99) > PING_SECONDS:
                missed.append(f"{name}: 1 % of pings took more than {result.seen.ping(0.99) * 1000:.0f} ms")
        if "Traceback" in engine.log:
            missed.append(f"the engine logged an exception:\n{engine.log[-3000:]}")
    for text in missed:
        print(f"MISSED {text}")
    raise SystemExit(1 if missed else 0)


if __name__ == "__main__":
    main()
