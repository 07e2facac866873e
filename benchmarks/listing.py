"""List and inspect with many containers, beside dockerd.

python -m benchmarks.listing [--short] [--containers 1000] [--wherry-only]
"""

from __future__ import annotations

import argparse
import json
import time

from benchmarks.common import Connection, arguments, engines, interleaved, median_ratio, processor_seconds, verdict
from benchmarks.common import show_times as show
from tests.support.engines import Engine


def fill(engine: Engine, connection: Connection, count: int) -> list[str]:
    """``count`` containers that never run, with what containers mostly have."""
    ids = []
    for number in range(count):
        body = {
            "Image": "busybox",
            "Cmd": ["sh", "-c", "echo hello"],
            "Env": ["A=b", "C=d"],
            "Labels": {"number": str(number), "com.example.project": "bench"},
            "ExposedPorts": {"80/tcp": {}},
            "HostConfig": {"Binds": ["/tmp:/mnt:ro"], "PortBindings": {"80/tcp": [{"HostPort": "8080"}]}},
        }
        ids.append(json.loads(connection.call("POST", f"/containers/create?name=bench-{number}", body))["Id"])
    return ids


def main() -> None:
    def add(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--containers", type=int, default=0)

    options = arguments(__doc__, add)
    count = options.containers or (150 if options.short else 1000)
    calls = 200 if options.short else 2000
    with engines(options.engines) as sides:
        connections = {e.name: Connection(e) for e in sides}
        ids: dict[str, list[str]] = {}
        for engine in sides:
            begin = time.perf_counter()
            ids[engine.name] = fill(engine, connections[engine.name], count)
            each = (time.perf_counter() - begin) / count
            print(f"create, {engine.name}: {each * 1000:.2f} ms a container over {count}")
        lists = {
            name: (lambda c=c: (c.call("GET", "/containers/json?all=1"), None)[1]) for name, c in connections.items()
        }
        times = interleaved(20, lists)
        for name, connection in connections.items():
            found = json.loads(connection.call("GET", "/containers/json?all=1"))
            assert len(found) == count, (name, len(found))
        show(f"list of {count} containers", times)
        if "dockerd" in times:
            verdict("dockerd / wherry", median_ratio(times, "dockerd", "wherry"), least=1)

        def inspect(name: str) -> float:
            connection, own = connections[name], ids[name]
            begin = time.perf_counter()
            for number in range(calls):
                connection.call("GET", f"/containers/{own[number % count]}/json")
            return (time.perf_counter() - begin) / calls

        before = processor_seconds(sides[0].pid)
        times = interleaved(3, {name: (lambda n=name: inspect(n)) for name in connections})
        spent = (processor_seconds(sides[0].pid) - before) / (4 * calls)
        show("inspect, one connection, a call", times)
        print("  " + "  ".join(f"{name} {1 / min(values):.0f} calls/s" for name, values in times.items()))
        print(f"  the engine's processor time {spent * 1e6:.0f} µs a call")
        if "dockerd" in times:
            verdict("dockerd / wherry", median_ratio(times, "dockerd", "wherry"), least=0.5)


if __name__ == "__main__":
    main()
