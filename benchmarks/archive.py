"""Files out of and into a container by its archive calls, beside dockerd.

    python -m benchmarks.archive [--short] [--rounds 3] [--wherry-only]

Many small files, and one large one; the large file is zeros that the page cache holds, so that the disk is not measured.
"""

from __future__ import annotations

import argparse
import io
import tarfile
import time

from benchmarks.common import Connection, arguments, engines, interleaved, min_ratio, show_times, verdict
from tests.support.engines import Engine
from tests.support.http import eventually

SMALL = "mkdir -p /small && cd /small && n=0; while [ $n -lt {count} ]; do echo $n >f$n; n=$((n+1)); done"
LARGE = "dd if=/dev/zero of=/large bs=1M count={size} 2>/dev/null"


def out(engine: Engine, container: str, path: str) -> float:
    with Connection(engine) as connection:
        begin = time.perf_counter()
        connection.drain(f"/containers/{container}/archive?path={path}")
        return time.perf_counter() - begin


def into(engine: Engine, container: str, archive: bytes) -> float:
    begin = time.perf_counter()
    answer = engine.http.put(
        f"/containers/{container}/archive",
        query={"path": "/tmp"},
        body=archive,
        headers={"Content-Type": "application/x-tar"},
        timeout=300,
    )
    assert answer.status == 200, answer
    return time.perf_counter() - begin


def small_files(count: int) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for number in range(count):
            member = tarfile.TarInfo(f"in/f{number}")
            member.size = 1024
            archive.addfile(member, io.BytesIO(b"x" * 1024))
    return buffer.getvalue()


def main() -> None:
    def add(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--rounds", type=int, default=0)

    options = arguments(__doc__, add)
    rounds = options.rounds or (1 if options.short else 3)
    count, size = (5_000, 128) if options.short else (20_000, 1024)
    with engines(options.engines) as sides:
        made = {}
        for engine in sides:
            command = (
                f"{SMALL.format(count=count)}; mkdir -p /tmp; {LARGE.format(size=size)}; echo done; exec sleep 3600"
            )
            made[engine.name] = container = engine.run("sh", "-c", command, HostConfig={"NetworkMode": "none"})
            eventually(lambda e=engine, c=container: e.logs(c)[0], within=300, what="the files are made")
        work = {e.name: (lambda e=e: out(e, made[e.name], "/small")) for e in sides}
        times = interleaved(rounds, work)
        show_times(f"{count} small files out", times)
        if "dockerd" in times:
            verdict("dockerd / wherry, minima", min_ratio(times, "dockerd", "wherry"), least=3)
        for engine in sides:
            engine.http.post(f"/containers/{made[engine.name]}/kill")
            engine.wait(made[engine.name])
        # its root is mounted for each call then, and nothing of it is in the kernel's caches
        show_times(f"{count} small files out of a stopped container", interleaved(rounds, work))
        work = {e.name: (lambda e=e: out(e, made[e.name], "/large")) for e in sides}
        times = interleaved(rounds, work)
        show_times(f"a file of {size} MiB out", times)
        print("  " + "  ".join(f"{name} {size * 1.048576 / min(values):.0f} MB/s" for name, values in times.items()))
        if "dockerd" in times:
            verdict("dockerd / wherry, minima", min_ratio(times, "dockerd", "wherry"), least=1)
        archive = small_files(count // 10)
        work = {e.name: (lambda e=e: into(e, made[e.name], archive)) for e in sides}
        show_times(f"{count // 10} small files in", interleaved(rounds, work))


if __name__ == "__main__":
    main()
