"""Watches an engine from processes of their own while something else strains it: ``_ping`` and the memory it holds.

``python -m benchmarks.watch ping SOCKET`` and ``python -m benchmarks.watch pss PID`` measure until their input ends, and
then print what they saw as JSON.
"""

from __future__ import annotations

import json
import os
import select
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[1]
PING_EVERY, LOOK_EVERY = 0.02, 0.1
REQUEST = b"GET /_ping HTTP/1.1\r\nHost: docker\r\n\r\n"


@dataclass
class Seen:
    """Times in seconds, sizes in KiB. ``late`` is how late a process that only sleeps was woken: the machine's own delay."""

    pings: list[float]
    late: list[float]
    sizes: list[int]
    load: float

    def ping(self, share: float) -> float:
        return at(self.pings, share)


def at(values: list[float], share: float) -> float:
    """The value that ``share`` of all values do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


class Watch:
    """Watches from entry to exit; ``seen`` then."""

    def __init__(self, socket_path: str, pid: int) -> None:
        self._asked = (("ping", socket_path), ("pss", str(pid)))
        self._processes: list[subprocess.Popen[str]] = []
        self.seen: Seen

    def __enter__(self) -> Watch:
        for what, where in self._asked:
            self._processes.append(
                subprocess.Popen(
                    [sys.executable, "-m", "benchmarks.watch", what, where],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                    cwd=REPOSITORY,
                )
            )
        for process in self._processes:
            assert process.stdout is not None
            process.stdout.readline()  # it has begun
        return self

    def __exit__(self, *_: object) -> None:
        said: list[Any] = []
        for process in self._processes:
            out, _ = process.communicate("", timeout=60)
            said.append(json.loads(out) if process.returncode == 0 else None)
        if None in said:
            raise RuntimeError("the watch ended early: the engine is gone, or did not answer for a minute")
        self.seen = Seen(said[0]["pings"], said[0]["late"], said[1], os.getloadavg()[0])


def _ended(seconds: float) -> bool:
    return bool(select.select([sys.stdin], [], [], max(0.0, seconds))[0])


def _ping(path: str) -> dict[str, list[float]]:
    """A ping each 20 ms, every tenth on a new connection. One is not begun before the last is answered."""
    pings: list[float] = []
    late: list[float] = []
    sock: socket.socket | None = None
    while True:
        begun = time.perf_counter()
        if sock is None or len(pings) % 10 == 0:
            if sock is not None:
                sock.close()
            sock = socket.socket(socket.AF_UNIX)
            sock.connect(path)  # waits where the queue is full; with a timeout it would fail at once
            sock.settimeout(60)
        sock.sendall(REQUEST)
        answer = sock.recv(65536)
        if b" 200 " not in answer[:16] or not answer.endswith(b"OK"):
            raise SystemExit(f"not a ping's answer: {answer!r}")
        pings.append(time.perf_counter() - begun)
        asleep = time.perf_counter()
        if _ended(PING_EVERY):
            return {"pings": pings, "late": late}
        late.append(time.perf_counter() - asleep - PING_EVERY)


def _pss(pid: str) -> list[int]:
    sizes: list[int] = []
    while True:
        with open(f"/proc/{pid}/smaps_rollup") as file:
            sizes.append(next(int(line.split()[1]) for line in file if line.startswith("Pss:")))
        if _ended(LOOK_EVERY):
            return sizes


if __name__ == "__main__":
    print("begun", flush=True)
    measure: dict[str, Callable[[str], Any]] = {"ping": _ping, "pss": _pss}
    print(json.dumps(measure[sys.argv[1]](sys.argv[2])), flush=True)
