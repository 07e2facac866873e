"""What the benchmarks share: raw calls on one connection, engines side by side, interleaved rounds, and verdicts.

Peers are measured in one run, a round of each in turn, because this machine's load changes from minute to minute: ratios
count, and of times the median and the minimum are told.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.support.engines import Engine, prepared


class Connection:
    """Calls on one kept connection with as little of our own work as possible: what is timed is the engine."""

    def __init__(self, engine: Engine) -> None:
        self._prefix = f"/v{engine.version}"
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(300)
        self.sock.connect(engine.socket_path)

    def send(self, method: str, target: str, body: Any = None, headers: str = "") -> None:
        data = b"" if body is None else json.dumps(body).encode()
        if body is not None:
            headers += "Content-Type: application/json\r\n"
        head = (
            f"{method} {self._prefix}{target} HTTP/1.1\r\nHost: docker\r\n{headers}Content-Length: {len(data)}\r\n\r\n"
        )
        self.sock.sendall(head.encode() + data)

    def head(self) -> tuple[int, bytes, bytes]:
        """Status, head, and what of the body came with it."""
        seen = b""
        while (end := seen.find(b"\r\n\r\n")) < 0:
            piece = self.sock.recv(65536)
            if not piece:
                raise ConnectionError(f"the engine closed the connection: {seen!r}")
            seen += piece
        return int(seen[9:12]), seen[:end].lower(), seen[end + 4 :]

    def call(self, method: str, target: str, body: Any = None) -> bytes:
        """The body of the answer; an answer that is no success ends the benchmark."""
        self.send(method, target, body)
        status, head, data = self.head()
        if b"chunked" in head:
            pieces = [data]
            while not pieces[-1].endswith(b"0\r\n\r\n"):
                pieces.append(self.sock.recv(1 << 20))
            data = _unchunk(b"".join(pieces))
        elif b"content-length:" in head:
            size = int(head.split(b"content-length:")[1].split(b"\r\n")[0])
            pieces, missing = [data], size - len(data)
            while missing > 0:
                pieces.append(self.sock.recv(1 << 20))
                missing -= len(pieces[-1])
            data = b"".join(pieces)
        if status >= 400:
            raise SystemExit(f"{method} {target}: {status} {data!r}")
        return data

    def drain(self, target: str, headers: str = "", method: str = "GET") -> tuple[int, float]:
        """Read a stream to its end; bytes and seconds from the first byte on. The connection is used up."""
        self.send(method, target, headers=headers or "Connection: close\r\n")
        status, _, data = self.head()
        if status >= 400:
            raise SystemExit(f"{target}: {status} {data!r}")
        return self.rest(len(data))

    def rest(self, total: int = 0) -> tuple[int, float]:
        buffer = bytearray(1 << 20)
        if not total:
            total = self.sock.recv_into(buffer)
        begin = time.perf_counter()
        while count := self.sock.recv_into(buffer):
            total += count
        return total, time.perf_counter() - begin

    def close(self) -> None:
        self.sock.close()

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _unchunk(data: bytes) -> bytes:
    pieces, at = [], 0
    while True:
        end = data.index(b"\r\n", at)
        size = int(data[at:end], 16)
        if not size:
            return b"".join(pieces)
        pieces.append(data[end + 2 : end + 2 + size])
        at = end + 4 + size


@contextmanager
def engines(names: tuple[str, ...] = ("wherry", "dockerd")) -> Iterator[list[Engine]]:
    """The engines on scratch roots of their own, with busybox."""
    with ExitStack() as stack:
        yield [stack.enter_context(prepared(name)) for name in names]


def interleaved(
    rounds: int, work: Mapping[str, Callable[[], float | None]], pause: float = 0.0
) -> dict[str, list[float]]:
    """``rounds`` times each work in turn; a work gives its own seconds, or None to be timed from outside."""
    times: dict[str, list[float]] = {name: [] for name in work}
    for name in work:
        work[name]()  # once to warm up
    for _ in range(rounds):
        for name, run in work.items():
            time.sleep(pause)
            begin = time.perf_counter()
            own = run()
            times[name].append(time.perf_counter() - begin if own is None else own)
    return times


def show_times(title: str, times: Mapping[str, list[float]]) -> None:
    print(title)
    for name, values in times.items():
        median, least = statistics.median(values) * 1000, min(values) * 1000
        print(f"  {name:<22} median {median:9.2f} ms   min {least:9.2f} ms   n {len(values)}")


def median_ratio(times: Mapping[str, list[float]], slow: str, fast: str) -> float:
    """How many times as long ``slow`` takes as ``fast``, by medians."""
    return statistics.median(times[slow]) / statistics.median(times[fast])


def min_ratio(times: Mapping[str, list[float]], slow: str, fast: str) -> float:
    return min(times[slow]) / min(times[fast])


def verdict(what: str, value: float, *, least: float | None = None, most: float | None = None, unit: str = "×") -> bool:
    """Print one budget and whether it is met."""
    met = (least is None or value >= least) and (most is None or value <= most)
    bound = f"≥ {least:g}" if least is not None else f"≤ {most:g}"
    print(f"  {'met   ' if met else 'MISSED'} {what}: {value:.2f} {unit} (budget {bound} {unit})", flush=True)
    return met


def arguments(description: str | None, add: Callable[[argparse.ArgumentParser], None] | None = None) -> Any:
    parser = argparse.ArgumentParser(description=(description or "").splitlines()[0])
    parser.add_argument("--short", action="store_true", help="fewer rounds and smaller sizes, under 20 seconds")
    parser.add_argument("--wherry-only", action="store_true", help="without dockerd beside it")
    if add:
        add(parser)
    options = parser.parse_args()
    options.engines = ("wherry",) if options.wherry_only else ("wherry", "dockerd")
    if os.geteuid():
        raise SystemExit("run me as root: an engine starts containers")
    return options


def pss(pid: int) -> int:
    """Proportional set size of a process, in KiB; 0 when it is gone."""
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return next(int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:"))


def processor_seconds(pid: int) -> float:
    """User and system time of a process so far, its ended children's not counted."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
