"""The engine's memory: at rest, for each running container with its monitor, and after many lives.

    python -m benchmarks.memory [--short] [--running 20] [--lives 1000]

Proportional set sizes. Many lives must leave nothing: no memory that grows with them, no descriptor, no process.
"""

from __future__ import annotations

import argparse
import os
import threading
import time
from pathlib import Path

from benchmarks.common import arguments, engines, pss, verdict
from tests.support.engines import Engine


def descriptors(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def threads(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/task"))


def monitors(root: Path) -> list[int]:
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes()
        except OSError:
            continue
        if b"conmon" in command.split(b"\0")[0] and os.fsencode(root) in command:
            found.append(int(process.name))
    return found


def settled(pid: int) -> int:
    """PSS in KiB once work in the background is done."""
    time.sleep(1.5)
    return pss(pid)


def lives(engine: Engine, count: int) -> None:
    def some(number: int) -> None:
        for _ in range(number):
            container = engine.run("true", HostConfig={"NetworkMode": "none"})
            engine.wait(container)
            assert engine.http.delete(f"/containers/{container}").status == 204

    workers = [threading.Thread(target=some, args=(count // 2,)) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()


def main() -> None:
    def add(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--running", type=int, default=0)
        parser.add_argument("--lives", type=int, default=0)

    options = arguments(__doc__, add)
    running = options.running or (8 if options.short else 20)
    count = options.lives or (60 if options.short else 1000)
    with engines(("wherry",)) as (engine,):
        rest = settled(engine.pid)
        print(
            f"at rest: {rest / 1024:.1f} MiB PSS, {descriptors(engine.pid)} descriptors, {threads(engine.pid)} threads"
        )
        verdict("at rest", rest / 1024, most=25, unit="MiB")
        lives(engine, 20)
        warm = settled(engine.pid)
        made = [engine.run("sleep", "1000", HostConfig={"NetworkMode": "none"}) for _ in range(running)]
        full = settled(engine.pid)
        helpers = sum(pss(pid) for pid in monitors(engine.root))
        each = (full - warm) / running / 1024
        print(f"{running} running: the engine {full / 1024:.1f} MiB, monitors {helpers / 1024:.1f} MiB PSS")
        verdict("a running container: engine and monitor", each + helpers / running / 1024, most=1, unit="MiB")
        for container in made:
            engine.http.delete(f"/containers/{container}", query={"force": 1})
        before, held = settled(engine.pid), descriptors(engine.pid)
        for _ in range(2):
            lives(engine, count // 2)
            after = settled(engine.pid)
            print(
                f"after {count // 2} lives more: {before / 1024:.1f} → {after / 1024:.1f} MiB PSS, descriptors {held} → "
                f"{descriptors(engine.pid)}, monitors {len(monitors(engine.root))}"
            )
            grown = after - before
            before = after
        verdict("growth a life over the second half", grown / (count // 2), most=0.5, unit="KiB")
        verdict("descriptors more than before", descriptors(engine.pid) - held, most=2, unit="")


if __name__ == "__main__":
    main()
