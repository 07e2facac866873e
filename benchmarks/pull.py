"""A pull beside what it is made of: an image of one layer, 200 MB in 20,000 files, from Debian's registry on loopback.

    python -m benchmarks.pull [--short] [--rounds 3]

In turn: the layer unpacked from a file, and pulled into an empty store. A pull also fetches and verifies; on loopback it should
cost little more than the unpacking does. Processor milliseconds (without the registry's) say what the wall clock of a shared
machine does not.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import statistics
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.common import verdict
from benchmarks.unpack import layer
from tests.support.docker_registry import registry
from tests.support.images import Store, import_, store
from tests.support.registry import fetch, send
from wherry.engine.images.content import Slice
from wherry.engine.images.layers import unpack


def by_layer(target: Path, archive: Path) -> None:
    with store(target) as made, closing(Slice(archive)) as source:
        unpack(made.layout, source, "", None).discard()


def by_pull(target: Path, name: str) -> None:
    made: Store
    with store(target) as made:
        asyncio.run(fetch(made, name, tag="1"))
        assert made.images.get(f"{name}:1")


def main() -> None:
    parser = argparse.ArgumentParser(description="A pull beside unpacking alone.")
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    root = Path(tempfile.mkdtemp(prefix="bench-pull-", dir="/var/tmp"))
    try:
        with registry() as place, store(root / "from") as made:
            name = f"{place}/bench"
            asyncio.run(import_(made.images, layer(4_000 if arguments.short else 20_000), repo=name, tag="1"))
            asyncio.run(send(made, f"{name}:1"))
            archive = max((made.layout.blobs / "sha256").iterdir(), key=lambda path: path.stat().st_size)
            wall: dict[str, list[float]] = {"unpacked": [], "pulled": []}
            processor: dict[str, list[float]] = {"unpacked": [], "pulled": []}
            for number in range(arguments.rounds):
                for what in wall:
                    target = root / f"{what}{number}"
                    begun, used = time.perf_counter(), time.process_time()
                    if what == "pulled":
                        by_pull(target, name)
                    else:
                        by_layer(target, archive)
                    wall[what].append((time.perf_counter() - begun) * 1000)
                    processor[what].append((time.process_time() - used) * 1000)
                    shutil.rmtree(target)
        for what in wall:
            times, work = wall[what], statistics.median(processor[what])
            print(
                f"{what:10} median {statistics.median(times):7.0f} ms, min {min(times):7.0f} ms, processor {work:7.0f} ms"
            )
        verdict("a pull / unpacking, minima", min(wall["pulled"]) / min(wall["unpacked"]), most=1.5)
    finally:
        shutil.rmtree(root, ignore_errors=True)


if __name__ == "__main__":
    main()
