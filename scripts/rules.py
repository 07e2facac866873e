"""Which rules of behaviour hold, and where: runs the tests that are named by rules, and writes docs/rules.md.

    rules.py                    run them on Wherry and dockerd, then report
    rules.py --read FILE...     report from the JUnit files of earlier runs

tests/rules.json has the rules, each with its clauses by letter ("read": taken from moby's source, not measured). A test named
``test_ATT6a_…`` holds clause a of ATT6, ``test_ATT6ab_ATT9a_…`` three clauses. A name with a bare id holds the clauses that
rules.json gives for it under "tests", where they stand after the test has been read; without such an entry, none: it is listed
beside the rule.

The last line is the sum. The exit code is 0 when every clause has a test that passed.
"""

from __future__ import annotations

import argparse
import ast
import json
import re
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
RULES = REPOSITORY / "tests/rules.json"
REPORT = REPOSITORY / "docs/rules.md"
RESULTS = REPOSITORY / "build/rules.xml"
DIRECTORIES = ("unit", "engine", "conformance", "faults")
ENGINES = ("wherry", "dockerd")
NAME = re.compile(r"(?:(NUL|[A-Z]{1,3}\d+)([a-z]*))(?:_|$)")

SECTIONS = {
    "G": "Routes, versions, headers",
    "E": "Errors",
    "P": "Parameters and JSON",
    "N": "Names, ids, times",
    "NUL": "Nulls",
    "CRE": "Create",
    "LST": "List",
    "INS": "Inspect",
    "STA": "Start",
    "STP": "Stop and restart",
    "KIL": "Kill",
    "PAU": "Pause and unpause",
    "WAI": "Wait",
    "DEL": "Delete",
    "AUT": "Automatic removal and restart",
    "ATT": "Attach",
    "WS": "Attach over a websocket",
    "LOG": "Logs",
    "STT": "Stats",
    "TOP": "Top",
    "CHG": "Changes",
    "EXP": "Export",
    "ARC": "Archive",
    "REN": "Rename",
    "UPD": "Update",
    "RES": "Resize",
    "PRU": "Prune",
    "EXE": "Exec",
    "HEA": "Health checks",
    "EVT": "Events",
}


@dataclass
class Test:
    """A test function. ``differs``: it treats dockerd apart; ``absent``: it returns early there."""

    node: str
    clauses: tuple[str, ...] = ()
    rules: tuple[str, ...] = ()
    differs: bool = False
    absent: bool = False
    passed: dict[str, bool] = field(default_factory=dict)
    """By engine, whether all its cases passed; without an entry it did not run."""

    @property
    def name(self) -> str:
        return self.node.partition("::")[2]

    def verdict(self, engine: str) -> str:
        if engine == "dockerd" and self.absent:
            return ""
        passed = self.passed.get(engine)
        if passed is None:
            return ""
        if not passed:
            return "fails"
        return "differs" if engine == "dockerd" and self.differs else "holds"


def in_name(name: str) -> tuple[list[str], list[str]]:
    """The clauses and the rules of which the name of a test speaks."""
    clauses, rules, rest = [], [], name.removeprefix("test_")
    while match := NAME.match(rest):
        rules.append(match[1])
        clauses += [match[1] + letter for letter in match[2]]
        rest = rest[match.end() :]
    return clauses, rules


def is_dockerd(node: ast.AST) -> bool:
    return isinstance(node, ast.Attribute) and node.attr == "is_dockerd"


def test_functions() -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    for directory in DIRECTORIES:
        for path in sorted((REPOSITORY / "tests" / directory).glob("test_*.py")):
            for node in ast.parse(path.read_text(encoding="utf-8")).body:
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
                    yield f"{path.relative_to(REPOSITORY)}::{node.name}", node


def collect(listed: dict[str, list[str]]) -> dict[str, Test]:
    """The tests that hold a rule, by node id."""
    tests = {}
    for node_id, function in test_functions():
        clauses, rules = in_name(function.name)
        clauses += listed.get(node_id, [])
        if not rules and not clauses:
            continue
        returns_early = any(
            isinstance(part, ast.If) and is_dockerd(part.test) and isinstance(part.body[-1], ast.Return)
            for part in function.body
        )
        tests[node_id] = Test(
            node_id,
            tuple(dict.fromkeys(clauses)),
            tuple(dict.fromkeys(rules)),
            differs=any(is_dockerd(part) for part in ast.walk(function)),
            absent=returns_early,
        )
    return tests


def check(rules: dict[str, Any], listed: dict[str, list[str]], tests: dict[str, Test]) -> list[str]:
    """What does not fit together."""
    known = {f"{rule}{letter}" for rule, entry in rules.items() for letter in clauses_of(entry) | pending_of(entry)}
    wrong = [f"{RULES.name}: there is no test {node}" for node in listed if node not in tests]
    for test in tests.values():
        wrong += [f"{test.node}: there is no clause {clause}" for clause in test.clauses if clause not in known]
        wrong += [f"{test.node}: there is no rule {rule}" for rule in test.rules if rule not in rules]
    return wrong


def clauses_of(entry: dict[str, Any]) -> dict[str, str]:
    return dict(entry.get("clauses") or {})


def pending_of(entry: dict[str, Any]) -> dict[str, str]:
    return dict(entry.get("pending") or {})


class Chosen:
    """A pytest plug-in that keeps the tests that hold a rule."""

    def __init__(self, nodes: set[str]) -> None:
        self.nodes = nodes

    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        unwanted = [item for item in items if item.nodeid.partition("[")[0] not in self.nodes]
        config.hook.pytest_deselected(items=unwanted)
        items[:] = [item for item in items if item.nodeid.partition("[")[0] in self.nodes]


def read_results(tests: dict[str, Test], files: Sequence[Path]) -> None:
    """Note in each test on which engines it passed. Of several results for a case the last file's counts."""
    cases: dict[tuple[str, str], bool] = {}
    for path in files:
        for case in ElementTree.parse(path).getroot().iter("testcase"):
            module = case.get("classname", "").replace(".", "/")
            name = case.get("name", "")
            ok = not any(case.find(tag) is not None for tag in ("failure", "error", "skipped"))
            cases[f"{module}.py::{name.partition('[')[0]}", name] = ok
    for (node_id, name), ok in cases.items():
        if (test := tests.get(node_id)) is not None:
            parts = name.partition("[")[2].rstrip("]").split("-")
            engine = next((part for part in parts if part in ENGINES), "wherry")
            test.passed[engine] = test.passed.get(engine, True) and ok


def sum_up(verdicts: Sequence[str]) -> str:
    """What several tests say together."""
    return next((verdict for verdict in ("fails", "holds", "differs") if verdict in verdicts), "")


def report(rules: dict[str, Any], tests: dict[str, Test]) -> tuple[str, list[str], list[str], str]:
    """docs/rules.md, the untested clauses, the failing ones, and the sum."""
    holders: dict[str, list[Test]] = defaultdict(list)
    for test in tests.values():
        for name in test.clauses or test.rules:
            holders[name].append(test)
    departures = deliberate()
    lines = list(HEADER)
    untested, failing, clauses, pending = [], [], 0, 0
    section = ""
    for rule, entry in rules.items():
        prefix = rule.rstrip("0123456789")
        if prefix != section:
            section = prefix
            lines += [
                "",
                f"## {SECTIONS[section]}",
                "",
                "| clause | what | Wherry | dockerd 20.10 | tests |",
                "|---|---|---|---|---|",
            ]
        if "n/a" in entry:
            lines.append(f"| {rule} | n/a: {entry['n/a']} | | | |")
        for letter, label in sorted((clauses_of(entry) | pending_of(entry)).items()):
            name = f"{rule}{letter}"
            held = holders[name]
            seen = {engine: sum_up([test.verdict(engine) for test in held]) for engine in ENGINES}
            wherry = seen["wherry"]
            if letter in pending_of(entry):
                pending += 1
                wherry = wherry or "pending"
            else:
                clauses += 1
                if wherry in ("", "fails"):
                    untested.append(name)
                    wherry = wherry or "untested"
            if "fails" in seen.values():
                failing.append(name)
            if wherry == "holds" and rule in departures:
                wherry = "holds*"
            names = "<br>".join(f"`{test.name}`" for test in held)
            marks = "°" if entry.get("read") else ""
            lines.append(f"| {name}{marks} | {label} | {wherry} | {seen['dockerd']} | {names} |")
        if others := holders.get(rule):
            seen = {engine: sum_up([test.verdict(engine) for test in others]) for engine in ENGINES}
            if "fails" in seen.values():
                failing.append(rule)
            names = "<br>".join(f"`{test.name}`" for test in others)
            lines.append(f"| {rule} | more of it | {seen['wherry']} | {seen['dockerd']} | {names} |")
    line = (
        f"rules {len(rules)}, clauses {clauses}, tested {clauses - len(untested)}, pending {pending}, "
        f"failing {len(failing)}, deliberate differences {len(departures)}"
    )
    return "\n".join([*lines, "", line, ""]), untested, failing, line


HEADER = (
    "# Rules and the tests that hold them",
    "",
    "Made by `make rules` from tests/rules.json and the results of the tests: do not edit.",
    "",
    "*holds*: all its tests pass. *holds\\**: docs/differences.md says where Wherry departs from the rule. *differs*: the tests",
    "pass on Debian's dockerd 20.10, and say how it differs from 24.0.9. Nothing: it is not tested there. °: read in moby's",
    "source, not measured.",
)


def deliberate() -> list[str]:
    """The rules of docs/differences.md, one for each line of its table."""
    text = (REPOSITORY / "docs/differences.md").read_text(encoding="utf-8")
    return re.findall(r"^\| ((?:NUL|[A-Z]{1,3}\d+)) \|", text, re.MULTILINE)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--read", nargs="+", type=Path, metavar="FILE", help="JUnit files to report from; no test is run"
    )
    options, arguments = parser.parse_known_args()
    data = json.loads(RULES.read_text(encoding="utf-8"))
    tests = collect(data["tests"])
    if wrong := check(data["rules"], data["tests"], tests):
        print("\n".join(wrong), file=sys.stderr)
    files = options.read
    if files is None:
        RESULTS.parent.mkdir(exist_ok=True)
        files = [RESULTS]
        directories = [f"tests/{directory}" for directory in DIRECTORIES]
        pytest.main([*directories, f"--junitxml={RESULTS}", "-q", *arguments], plugins=[Chosen(set(tests))])
    read_results(tests, files)
    text, untested, failing, line = report(data["rules"], tests)
    REPORT.write_text(text, encoding="utf-8")
    if untested:
        print("not tested, or not passing on Wherry:", " ".join(untested))
    if failing:
        print("failing:", " ".join(failing))
    print(line)
    return 1 if untested or failing else 0


if __name__ == "__main__":
    sys.exit(main())
