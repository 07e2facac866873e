"""Output: attach throughput beside dockerd, and logs read back.

    python -m benchmarks.streams [--short] [--rounds 3] [--wherry-only]

Attach is timed from the first byte to the end of the container's run; the container writes from memory, in pieces of
8 KiB without a line's end, or lines of 100 bytes in such pieces. Logs are read over HTTP, of a log with such lines.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable

from benchmarks.common import Connection, arguments, engines, pss, verdict
from tests.support.engines import Engine

ZEROS = "dd if=/dev/zero bs=8192 count={count} 2>/dev/null"
# 1 MiB of lines of 100 bytes in the container's memory, then copied as fast as the reader takes them
LINES = "yes {line} | head -c 1048500 >/dev/shm/lines; n=0; while [ $n -lt {count} ]; do cat /dev/shm/lines; n=$((n+1)); done"


def attach(engine: Engine, command: str) -> float:
    """MB/s of payload and frame heads until the container's end."""
    with Connection(engine) as control, Connection(engine) as stream:
        body = {"Image": "busybox", "Cmd": ["sh", "-c", command], "HostConfig": {"NetworkMode": "none"}}
        container = json.loads(control.call("POST", "/containers/create", body))["Id"]
        stream.send(
            "POST",
            f"/containers/{container}/attach?stream=1&stdout=1&stderr=1",
            headers="Connection: Upgrade\r\nUpgrade: tcp\r\n",
        )
        status, _, data = stream.head()
        assert status == 101, status
        control.call("POST", f"/containers/{container}/start")
        total, seconds = stream.rest(len(data))
        control.call("POST", f"/containers/{container}/wait")
        control.call("DELETE", f"/containers/{container}")
    return total / seconds / 1e6


def written_log(engine: Engine, mebibytes: int) -> str:
    """A container that has ended with that much of a log."""
    container = engine.run("sh", "-c", LINES.format(line="x" * 99, count=mebibytes), HostConfig={"NetworkMode": "none"})
    engine.http.post(f"/containers/{container}/wait", timeout=600)
    return container


def read_log(engine: Engine, container: str, query: str) -> float:
    """MB/s of what the answer holds."""
    with Connection(engine) as connection:
        total, seconds = connection.drain(f"/containers/{container}/logs?stdout=1&stderr=1{query}")
    return total / seconds / 1e6


def best(rounds: int, work: dict[str, Callable[[], float]]) -> dict[str, float]:
    """The median of ``rounds`` interleaved rounds each."""
    rates: dict[str, list[float]] = {name: [] for name in work}
    for _ in range(rounds):
        for name, measure in work.items():
            rates[name].append(measure())
    return {name: statistics.median(values) for name, values in rates.items()}


def main() -> None:
    def add(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--rounds", type=int, default=0)

    options = arguments(__doc__, add)
    rounds = options.rounds or (1 if options.short else 3)
    size = 32 if options.short else 128
    with engines(options.engines) as sides:
        for title, command, least in (
            ("8 KiB writes", ZEROS.format(count=size * 128), 1.0),
            ("100-byte lines", LINES.format(line="x" * 99, count=size), 0.7),
        ):
            rates = best(rounds, {e.name: (lambda e=e, c=command: attach(e, c)) for e in sides})
            print(f"attach, {title}: " + "  ".join(f"{name} {rate:.0f} MB/s" for name, rate in rates.items()))
            if "dockerd" in rates:
                verdict("wherry / dockerd", rates["wherry"] / rates["dockerd"], least=least)
        size = 64 if options.short else 256
        wherry = sides[0]
        logs = {e.name: (e, written_log(e, size if e is wherry else size // 4)) for e in sides}
        before = pss(wherry.pid)
        for title, query, bound in (
            ("whole", "", 200),
            ("timestamps", "&timestamps=1", 60),
            ("since", "&since=1000", 60),
            ("tail of 100,000", "&tail=100000", 60),
        ):
            work = {name: (lambda e=e, c=c, q=query: read_log(e, c, q)) for name, (e, c) in logs.items()}
            rates = best(rounds, work)
            print(f"logs read back, {title}: " + "  ".join(f"{name} {rate:.0f} MB/s" for name, rate in rates.items()))
            verdict("wherry", rates["wherry"], least=bound, unit="MB/s")
        print(f"  wherry's memory over the reading: {before / 1024:.1f} → {pss(wherry.pid) / 1024:.1f} MiB PSS")


if __name__ == "__main__":
    main()
