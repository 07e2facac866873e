"""A pytest plugin for runs that take long: what fails is shown at once, and each outcome is a line of JSON on the second
serial port, so that a machine that is cut off has said all that it knew."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

PORT = "/dev/ttyS1"


def tell(what: dict[str, Any]) -> None:
    """A line to the host."""
    with open(PORT, "w", encoding="utf-8") as port:
        port.write(json.dumps(what) + "\n")


def pytest_runtest_logreport(report: Any) -> None:
    """A test has one line for its call, and more where setting up or tearing down failed, or where it was skipped."""
    if report.failed:
        print(f"\n{report.nodeid} ({report.when})\n{report.longreprtext}", flush=True)
    if report.when == "call" or not report.passed:
        tell({"test": report.nodeid, "outcome": report.outcome, "seconds": round(report.duration, 2)})


@dataclass
class Outcome:
    """Of one file of tests."""

    counts: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0


@dataclass
class Told:
    """What a machine told: what it is, and the outcome of each test, the worst where there are several."""

    about: dict[str, Any] = field(default_factory=dict)
    tests: dict[str, str] = field(default_factory=dict)
    seconds: Counter[str] = field(default_factory=Counter)
    complete: bool = False

    @property
    def failed(self) -> list[str]:
        return [name for name, outcome in self.tests.items() if outcome == "failed"]

    def files(self) -> dict[str, Outcome]:
        """The tests counted by file."""
        result: dict[str, Outcome] = {}
        for name, outcome in self.tests.items():
            file = result.setdefault(name.split("::")[0], Outcome())
            file.counts[outcome] += 1
            file.seconds += self.seconds[name]
        return result


def read(path: Path) -> Told:
    """The lines that arrived."""
    told = Told()
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            value = json.loads(line)
        except ValueError:
            continue
        if "test" in value:
            name = value["test"]
            if told.tests.get(name) != "failed":
                told.tests[name] = value["outcome"]
            told.seconds[name] += value["seconds"]
        told.about |= value.get("about", {})
        told.complete |= value.get("complete", False)
    return told
