"""tests/faults/images.md: every case is held by a test, and every test of hostile images is of a case."""

from __future__ import annotations

import re
import subprocess
import sys
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LIST = ROOT / "tests/faults/images.md"
CASE = re.compile(r"^\|(.*?)\| ([^|]+) \| `([^`]+)` \|$", re.MULTILINE)
OWN = ("tests/faults/test_images.py", "tests/faults/test_registries.py")


def named() -> set[str]:
    return {match[3].replace("\\|", "|") for match in CASE.finditer(LIST.read_text())}


@cache
def collected() -> frozenset[str]:
    """The ids of all tests in the files that the list names."""
    files = sorted({name.partition("::")[0] for name in named()} | set(OWN))
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "--engines", "wherry", *files, "-o", "addopts="]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return frozenset(line for line in done.stdout.splitlines() if "::" in line)


def test_the_list_is_read_whole() -> None:
    rows = [line for line in LIST.read_text().splitlines() if line.startswith("| ") and not line.startswith("| case ")]
    assert len(rows) == len(CASE.findall(LIST.read_text())) > 60


def test_every_case_names_a_test_that_is_there() -> None:
    whole = collected()
    functions = {name.partition("[")[0] for name in whole}
    assert sorted(name for name in named() if name not in whole and name not in functions) == []


def test_every_test_of_hostile_images_is_on_the_list() -> None:
    listed = {name.partition("[")[0] for name in named()}
    own = {name.partition("[")[0] for name in collected() if name.startswith(OWN)}
    assert sorted(own - listed) == []
