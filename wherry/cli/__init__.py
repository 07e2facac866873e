"""The command line: ``wherry serve``, ``wherry doctor``, and everyday commands on Wherry's client."""

from __future__ import annotations


def main() -> None:
    """The console script ``wherry``."""
    from wherry.cli.app import wherry

    wherry(prog_name="wherry")
