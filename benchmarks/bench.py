"""Wherry's engine beside Debian's dockerd and bare crun, interleaved in one run: `make bench`.

A machine's load moves all figures alike, so ratios of one run count, not milliseconds. Every call is raw HTTP over a unix
socket, a connection each, the same for both engines; crun runs the config.json that Wherry wrote for such a container.

    bench.py [--rounds N] [--pause SECONDS] [--markdown]
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from scripts.make_images import busybox_layer
from tests.support.engines import Engine, prepared, scratch_root
from tests.support.http import eventually

STEPS = ("create", "start", "wait", "remove")


@dataclass
class Timings:
    """Milliseconds of one subject in one case; ``steps`` are those of its calls, where it has several."""

    totals: list[float] = field(default_factory=list)
    steps: dict[str, list[float]] = field(default_factory=dict)

    def add(self, steps: dict[str, float]) -> None:
        self.totals.append(sum(steps.values()))
        for name, milliseconds in steps.items():
            self.steps.setdefault(name, []).append(milliseconds)

    @property
    def best(self) -> float:
        return min(self.totals)

    @property
    def median(self) -> float:
        return statistics.median(self.totals)


class Stopwatch:
    """Times of steps after one another, in milliseconds."""

    def __init__(self) -> None:
        self.steps: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, name: str) -> None:
        now = time.perf_counter()
        self.steps[name] = (now - self._last) * 1000
        self._last = now


def life(engine: Engine, network: str) -> dict[str, float]:
    """create + start + wait + remove of ``true``."""
    body = {"Image": "busybox", "Cmd": ["true"], "HostConfig": {"NetworkMode": network}}
    http, watch = engine.http, Stopwatch()
    container = http.post("/containers/create", json=body).json["Id"]
    watch.lap("create")
    started = http.post(f"/containers/{container}/start")
    watch.lap("start")
    ended = http.post(f"/containers/{container}/wait").json["StatusCode"]
    watch.lap("wait")
    removed = http.delete(f"/containers/{container}")
    watch.lap("remove")
    assert (started.status, ended, removed.status) == (204, 0, 204), (started, ended, removed)
    return watch.steps


def one_exec(engine: Engine, container: str) -> dict[str, float]:
    """exec create + start + inspect of ``true`` in a running container."""
    http, watch = engine.http, Stopwatch()
    body = {"Cmd": ["true"], "AttachStdout": True, "AttachStderr": True}
    exec_id = http.post(f"/containers/{container}/exec", json=body).json["Id"]
    watch.lap("create")
    http.post(f"/exec/{exec_id}/start", json={})
    watch.lap("start")
    code = http.get(f"/exec/{exec_id}/json").json["ExitCode"]
    watch.lap("inspect")
    assert code == 0
    return watch.steps


class Crun:
    """Bare ``crun run`` of ``true`` with the configuration that Wherry writes for a container without network."""

    def __init__(self, wherry: Engine, root: Path) -> None:
        self.root = root
        self.bundle = root / "bundle"
        self.rounds = 0
        (self.bundle / "rootfs").mkdir(parents=True)
        subprocess.run(["tar", "-xf", "-", "-C", str(self.bundle / "rootfs")], input=busybox_layer(), check=True)
        config = self._config_of(wherry)
        config["root"]["path"] = str(self.bundle / "rootfs")
        config["process"]["args"] = ["true"]
        config.pop("hooks", None)
        for namespace in config["linux"]["namespaces"]:
            if namespace["type"] == "network":
                namespace.pop("path", None)
        self.config = config

    def _config_of(self, wherry: Engine) -> dict[str, Any]:
        """Wherry's config.json, and copies of the files that it binds into the container."""
        container = wherry.create("sleep", "1000", HostConfig={"NetworkMode": "none"})
        wherry.start(container)
        path = next((wherry.root / "exec").rglob("config.json"))
        config: dict[str, Any] = json.loads(path.read_text())
        for mount in config["mounts"]:
            source = Path(mount.get("source", ""))
            if source.is_file():
                copy = self.root / source.name
                shutil.copy(source, copy)
                mount["source"] = str(copy)
            elif source.is_dir() and source.is_relative_to(wherry.root):
                copy = self.root / source.name
                copy.mkdir(exist_ok=True)
                mount["source"] = str(copy)
        wherry.remove_all()
        return config

    def run(self) -> dict[str, float]:
        self.rounds += 1
        name = f"wherry-bench-{os.getpid()}-{self.rounds}"
        self.config["linux"]["cgroupsPath"] = f"/{name}"
        (self.bundle / "config.json").write_text(json.dumps(self.config))
        watch = Stopwatch()
        subprocess.run(["crun", "--root", str(self.root / "run"), "run", "-b", str(self.bundle), name], check=True)
        watch.lap("run")
        return watch.steps


@contextmanager
def idle_container(engine: Engine) -> Iterator[str]:
    container = engine.run("sleep", "1000", HostConfig={"NetworkMode": "none"})
    try:
        yield container
    finally:
        engine.remove_all()


def interleave(subjects: dict[str, Callable[[], dict[str, float]]], rounds: int, pause: float) -> dict[str, Timings]:
    """Each subject once a round, after one round that does not count."""
    timings = {name: Timings() for name in subjects}
    for number in range(rounds + 1):
        for name, subject in subjects.items():
            time.sleep(pause)
            steps = subject()
            if number:
                timings[name].add(steps)
    return timings


def measure(rounds: int, pause: float) -> dict[str, dict[str, Timings]]:
    """All cases, by title."""
    cases: dict[str, dict[str, Timings]] = {}
    with prepared("wherry") as wherry, prepared("dockerd") as dockerd, scratch_root("bench") as root:
        crun = Crun(wherry, root)
        engines = {"wherry": wherry, "dockerd": dockerd}
        for title, network in (("true, no network", "none"), ("true, bridge network", "bridge")):
            subjects: dict[str, Callable[[], dict[str, float]]] = {
                name: lambda engine=engine, network=network: life(engine, network)  # type: ignore[misc]
                for name, engine in engines.items()
            }
            if network == "none":
                subjects["crun run"] = crun.run
            cases[f"create+start+wait+remove of {title}"] = interleave(subjects, rounds, pause)
        with idle_container(wherry) as ours, idle_container(dockerd) as theirs:
            execs: dict[str, Callable[[], dict[str, float]]] = {
                "wherry": lambda: one_exec(wherry, ours),
                "dockerd": lambda: one_exec(dockerd, theirs),
            }
            cases["exec of true: create+start+inspect"] = interleave(execs, rounds, pause)
        eventually(lambda: not wherry.containers() and not dockerd.containers())
    return cases


def report(cases: dict[str, dict[str, Timings]], markdown: bool) -> None:
    print(
        "| what | subject | median ms | min ms | beside wherry (median) |" if markdown else "",
        end="\n" if markdown else "",
    )
    if markdown:
        print("|---|---|---|---|---|")
    for title, timings in cases.items():
        ours = timings["wherry"]
        if not markdown:
            print(f"\n{title}")
        for name, times in timings.items():
            ratio = "" if name == "wherry" else f"{times.median / ours.median:.2f} ×"
            if markdown:
                print(f"| {title} | {name} | {times.median:.1f} | {times.best:.1f} | {ratio} |")
                continue
            steps = "  ".join(f"{step} {statistics.median(values):.1f}" for step, values in times.steps.items())
            print(f"  {name:9} median {times.median:7.1f} ms   min {times.best:7.1f} ms   {ratio:>9}   ({steps})")
    print()
    verdicts(cases)


def verdicts(cases: dict[str, dict[str, Timings]]) -> None:
    """The two promises of the README, each with its figure."""
    none = next(timings for title, timings in cases.items() if "no network" in title)
    faster = none["dockerd"].median / none["wherry"].median
    slower = none["wherry"].median / none["crun run"].median
    print(f"{faster:.1f} × faster than dockerd (promised: at least 6): {'kept' if faster >= 6 else 'MISSED'}")
    print(f"{slower:.2f} × bare crun run (promised: at most 2): {'kept' if slower <= 2 else 'MISSED'}")
    budgets = {"no network": 8, "bridge network": 8, "exec": 4}  # docs/performance.md
    for words, least in budgets.items():
        times = next(timings for title, timings in cases.items() if words in title)
        for kind, ratio in (
            ("medians", times["dockerd"].median / times["wherry"].median),
            ("minima", times["dockerd"].best / times["wherry"].best),
        ):
            print(f"{words}: {ratio:.1f} × by {kind} (budget {least}): {'met' if ratio >= least else 'MISSED'}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument(
        "--pause", type=float, default=0.2, help="seconds before each measurement (default: %(default)s)"
    )
    parser.add_argument("--markdown", action="store_true", help="a table for the README")
    parser.add_argument("--short", action="store_true", help="5 rounds")
    options = parser.parse_args()
    if options.short:
        options.rounds = 5
    print(f"{os.cpu_count()} cores, kernel {os.uname().release}, load {os.getloadavg()[0]:.1f}", file=sys.stderr)
    report(measure(options.rounds, options.pause), options.markdown)


if __name__ == "__main__":
    main()
