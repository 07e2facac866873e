"""Unpacking an image's layer beside `tar`: 200 MB in 20,000 files, plain, by gzip and by zstandard.

    python -m benchmarks.unpack [--short] [--rounds 5]

Both read the same file and write below the same directory, in turn. Wherry also computes the digests, and keeps the
archive: of a plain one a copy by zstandard. Processor milliseconds say what the wall clock of a shared machine does not.
"""

from __future__ import annotations

import argparse
import io
import os
import random
import resource
import shutil
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.common import verdict
from wherry.engine.images.content import Slice
from wherry.engine.images.layers import unpack
from wherry.engine.store.compression import decompressed
from wherry.engine.store.layout import Layout
from wherry.engine.store.untar import UntarOptions, extract

SIZE = 10_000
A_DIRECTORY = 50


def layer(count: int) -> bytes:
    """Files of half words, half noise, fifty a directory."""
    chance = random.Random(1)
    words = [chance.randbytes(4).hex().encode() for _ in range(500)]
    text = b" ".join(chance.choice(words) for _ in range(100_000))
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for number in range(count):
            directory = f"usr/lib/part{number // A_DIRECTORY}"
            if number % A_DIRECTORY == 0:
                member = tarfile.TarInfo(directory)
                member.type, member.mode, member.mtime = tarfile.DIRTYPE, 0o755, 1_700_000_000
                archive.addfile(member)
            member = tarfile.TarInfo(f"{directory}/file{number}")
            member.size, member.mode, member.mtime = SIZE, 0o644, 1_700_000_000 + number
            at = number * 37 % 800_000
            content = text[at : at + SIZE // 2] + chance.randbytes(SIZE - SIZE // 2)
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def by_tar(archive: Path, target: Path) -> None:
    subprocess.run(["tar", "--numeric-owner", "-xpf", str(archive), "-C", str(target)], check=True)


def by_walk(archive: Path, target: Path) -> None:
    dir_fd = os.open(target, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with open(archive, "rb", buffering=0) as file:
            extract(decompressed(file), dir_fd, options=UntarOptions(whiteouts=True))
    finally:
        os.close(dir_fd)


def by_layer(archive: Path, target: Path) -> None:
    layout = Layout(target, target / "exec")
    with closing(Slice(archive)) as source:
        unpack(layout, source, "", None)


def processor_time() -> float:
    return sum(
        usage.ru_utime + usage.ru_stime
        for usage in (resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN))
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--short", action="store_true", help="5,000 files, 3 rounds")
    parser.add_argument("--rounds", type=int, default=0)
    options = parser.parse_args()
    count = 5_000 if options.short else 20_000
    rounds = options.rounds or (3 if options.short else 5)
    ways: dict[str, Callable[[Path, Path], None]] = {"tar": by_tar, "the walk alone": by_walk, "a layer": by_layer}
    with tempfile.TemporaryDirectory(prefix="wherry-unpack-") as name:
        root = Path(name)
        plain = root / "layer.tar"
        plain.write_bytes(layer(count))
        archives = {"plain": plain}
        for kind, command in {"gzip": "gzip -1", "zstandard": "zstd -q -3"}.items():
            if shutil.which(command.split()[0]) is None:
                continue
            archives[kind] = root / f"layer.{kind}"
            with open(archives[kind], "wb") as out, open(plain, "rb") as source:
                subprocess.run(command.split(), stdin=source, stdout=out, check=True)
        for kind, archive in archives.items():
            times: dict[str, list[float]] = {way: [] for way in ways}
            costs: dict[str, list[float]] = {way: [] for way in ways}
            for number in range(rounds + 1):
                for way, work in ways.items():
                    target = root / "target"
                    target.mkdir()
                    (target / "tmp").mkdir()
                    begin, before = time.perf_counter(), processor_time()
                    work(archive, target)
                    if number:  # the first is not counted
                        times[way].append(time.perf_counter() - begin)
                        costs[way].append(processor_time() - before)
                    shutil.rmtree(target)
            print(f"{count} files of {SIZE} bytes, {kind} ({archive.stat().st_size / 1e6:.0f} MB)")
            for way in ways:
                median, least, cost = statistics.median(times[way]), min(times[way]), min(costs[way])
                print(
                    f"  {way:<16} median {median * 1000:7.0f} ms   min {least * 1000:7.0f} ms   processor {cost * 1000:6.0f} ms"
                )
            verdict("the walk alone / tar, minima", min(times["the walk alone"]) / min(times["tar"]), most=1.3)
            verdict("a layer / tar, minima", min(times["a layer"]) / min(times["tar"]), most=1.3)


if __name__ == "__main__":
    main()
