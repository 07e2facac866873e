"""``wherry doctor``: what this machine gives an engine, and what to install. It reads and asks, and changes nothing."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import click

from wherry.cli.doctor_checks import (
    Finding,
    Level,
    check_capabilities,
    check_cgroups,
    check_engines,
    check_forward,
    check_ip_forward,
    check_monitor,
    check_nftables,
    check_overlay,
    check_python,
    check_root,
    check_runtimes,
    check_selinux,
    check_space,
    check_tar,
)

MARKS = {Level.GOOD: ("ok", "green"), Level.WARNING: ("--", "yellow"), Level.BAD: ("!!", "red")}


def findings(data_root: Path) -> Iterator[Finding]:
    """All there is to say about this machine, one check at a time; a check that fails says so itself."""
    checks: list[Callable[[], Iterator[Finding]]] = [
        check_python,
        check_root,
        check_capabilities,
        check_runtimes,
        check_monitor,
        check_tar,
        check_cgroups,
        lambda: check_overlay(data_root),
        check_nftables,
        check_forward,
        check_ip_forward,
        check_selinux,
        lambda: check_space(data_root),
        check_engines,
    ]
    for check in checks:
        try:
            yield from check()
        except OSError as error:
            yield Finding(Level.WARNING, getattr(check, "__name__", "check"), f"could not look: {error}")


@click.command("doctor")
@click.option("--data-root", default="/var/lib/wherry", show_default=True, type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def doctor_command(data_root: Path, as_json: bool) -> None:
    """What this machine gives, and what to install. Ends with 1 when an engine could not run here."""
    found = list(findings(data_root))
    if as_json:
        click.echo(json.dumps([finding.as_dict() for finding in found], indent=2))
    else:
        show(found)
    sys.exit(1 if any(finding.level is Level.BAD for finding in found) else 0)


def show(found: list[Finding]) -> None:
    width = max(len(finding.subject) for finding in found)
    for finding in found:
        mark, colour = MARKS[finding.level]
        click.echo(f"{click.style(mark, fg=colour)}  {finding.subject.ljust(width)}  {finding.text}")
        if finding.advice:
            click.echo(f"    {' ' * width}  → {finding.advice}")
    bad = sum(finding.level is Level.BAD for finding in found)
    packages = sorted({package for finding in found for package in finding.packages})
    click.echo()
    if packages and shutil.which("apt-get"):
        click.echo(
            f"Install what is missing: {'' if os.geteuid() == 0 else 'sudo '}apt-get install {' '.join(packages)}"
        )
    if bad:
        click.echo(f"An engine cannot run here yet: {bad} thing{'s' if bad > 1 else ''} above, marked !!.")
    else:
        click.echo("An engine can run here: wherry serve")
