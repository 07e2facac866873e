"""The command line: ``wherry serve``, ``wherry doctor``, and everyday commands on Wherry's client."""

from __future__ import annotations

import os
import sys


def main() -> None:
    """The console script ``wherry``."""
    _open_closed_streams()
    try:
        from wherry.cli.app import wherry
    except KeyboardInterrupt:
        sys.exit(130)
    wherry(prog_name="wherry")


def _open_closed_streams() -> None:
    """Give a stdin, stdout or stderr that is closed to ``/dev/null``, lest a connection be taken for it."""
    for descriptor, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(descriptor)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)  # the lowest number that is free: this one
            os.set_inheritable(opened, True)
            setattr(sys, name, open(opened, "w" if descriptor else "r", closefd=False))  # noqa: SIM115  # for as long as the process lasts
