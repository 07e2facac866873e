"""Run Wherry's tests in a virtual machine with systemd and cgroup v2, and make a table of the results: ``make vm-test``.

    python -m scripts.vm.run [--suite bookworm|trixie] [--accel kvm|tcg] [--docs] [what to give to pytest]

Without arguments for pytest: everything that needs no network and no dockerd. With ``--docs`` the table goes to docs/vm.md.
"""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from scripts.vm import machine, report
from scripts.vm.image import CACHE, REPOSITORY, SUITES, image
from tests.support.description import DESCRIPTION

PAGE = REPOSITORY / "docs/vm.md"
GROUPS = [["tests/vm"], ["tests/engine"], ["tests/conformance"], ["tests/faults"], ["tests/cli"], ["tests/dockerpy"]]
SECONDS = 3600.0  # for the whole, under KVM


def main() -> int:
    parser = argparse.ArgumentParser(prog="make vm-test", description=__doc__.split("\n", 1)[0])
    parser.add_argument("--suite", choices=SUITES, default=SUITES[0], help="the Debian release (default: %(default)s)")
    parser.add_argument("--accel", choices=("kvm", "tcg"), help="do not find out which works")
    parser.add_argument("--docs", action="store_true", help=f"put the table into {PAGE.relative_to(REPOSITORY)}")
    parser.add_argument("--results", help="the directory for what comes out, in place of one below .setup/vm")
    options, arguments = parser.parse_known_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # takes the machine with it

    made = image(options.suite)
    if options.accel == "tcg":
        accelerator = machine.translation()
    elif options.accel == "kvm":
        accelerator = machine.Accelerator("KVM", ("-accel", "kvm", "-cpu", "host"), 1.0)
    else:
        accelerator = machine.choose(made)
    kept = Path(options.results or CACHE / f"results-{options.suite}")
    kept.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="wherry-vm-") as scratch:
        source = Path(scratch, "source.tar")
        _pack(source, {"groups": [arguments] if arguments else GROUPS, "patience": accelerator.patience})
        seconds = machine.run(
            made,
            accelerator,
            disk=source,
            console=kept / "console.log",
            told=kept / "told.jsonl",
            seconds=SECONDS * accelerator.patience,
        )
    told = report.read(kept / "told.jsonl")
    if not told.tests:
        print(f"vm: no results; what the machine wrote is in {kept / 'console.log'}", file=sys.stderr)
        return 1
    told.about |= {"accelerator": accelerator.name, "minutes": round(seconds / 60)}
    table = _table(told)
    print(f"\n{table}")
    (kept / "table.md").write_text(table)
    print("".join(f"failed: {name}\n" for name in told.failed), end="")
    if not told.complete:
        print("vm: the machine did not run all tests to their end: results are missing", file=sys.stderr)
    if options.docs:
        _into_page(options.suite, table)
    return 1 if told.failed or not told.complete else 0


def _pack(target: Path, plan: dict[str, Any]) -> None:
    """The project as git knows it, changes included, with the plan."""
    listed = subprocess.run(
        ["git", "-c", "safe.directory=*", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=REPOSITORY,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    with tempfile.NamedTemporaryFile("w") as file, tarfile.open(target, "w") as tar:
        for name in filter(None, listed.split("\0")):
            if (REPOSITORY / name).exists():
                tar.add(REPOSITORY / name, name, filter=_roots_own)
        json.dump(plan, file)
        file.flush()
        tar.add(file.name, ".vm/plan.json", filter=_roots_own)
        docker = shutil.which("docker")
        for path, name in ((docker, "docker"), (DESCRIPTION, DESCRIPTION.name)):
            if path and Path(path).exists():
                tar.add(Path(path).resolve(), f".vm/{name}", filter=_roots_own)


def _roots_own(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = ""
    return entry


def _table(told: report.Told) -> str:
    about = told.about
    lines = [
        f"{about['system']}, Linux {about['kernel']}, {about['systemd']}, control groups: {about['cgroups']}, {about['crun']}, "
        f"{about['conmon']}, {about['nftables']}, Python {about['Python']}, {about['docker command']}; "
        f"{about['processors']} processors under QEMU with {about['accelerator']}, {about['minutes']} minutes; "
        f"{time.strftime('%Y-%m-%d')}.",
        "",
        "| tests | passed | failed | skipped | seconds |",
        "|---|---:|---:|---:|---:|",
    ]
    total: Counter[str] = Counter()
    files = told.files()
    for name, outcome in files.items():
        total += outcome.counts
        lines.append(_row(name, outcome.counts, outcome.seconds))
    lines.append(_row("all", total, sum(outcome.seconds for outcome in files.values())))
    return "\n".join(lines) + "\n"


def _row(name: str, counts: Counter[str], seconds: float) -> str:
    return f"| {name} | {counts['passed']} | {counts['failed']} | {counts['skipped']} | {seconds:.0f} |"


def _into_page(suite: str, table: str) -> None:
    """Replace the release's table on the page, between its marks."""
    begin, end = f"<!-- {suite} -->\n", f"<!-- end of {suite} -->\n"
    text = PAGE.read_text()
    before, _, rest = text.partition(begin)
    after = rest.partition(end)[2]
    PAGE.write_text(f"{before}{begin}\n{table}\n{end}{after}")


if __name__ == "__main__":
    sys.exit(main())
