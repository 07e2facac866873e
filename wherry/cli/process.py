"""What ``run``, ``create`` and ``exec`` share: a command that runs in a container."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click

# The exit codes of a command that could not be run, as docker's.
ENGINE_FAILED, NOT_EXECUTABLE, NOT_FOUND = 125, 126, 127

ENV = click.option("-e", "--env", multiple=True, metavar="KEY=VALUE", help="Without a value: this process's own.")
ENV_FILE = click.option("--env-file", "env_files", multiple=True, type=click.Path(exists=True, dir_okay=False))


class ProcessCommand(click.Command):
    """What follows the image or container belongs to the process there, whose exit code is the command's.

    A mistake in the options is therefore told by 125, as docker tells it: 2 may be the process's own.
    """

    allow_interspersed_args = False

    def make_context(self, *arguments: Any, **extra: Any) -> click.Context:
        with _usage_errors():
            return super().make_context(*arguments, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        with _usage_errors():
            return super().invoke(ctx)


@contextmanager
def _usage_errors() -> Iterator[None]:
    try:
        yield
    except click.UsageError as error:
        error.exit_code = ENGINE_FAILED  # type: ignore[misc]  # click has it on the class
        raise


def exit_code_of(message: str) -> int:
    """The exit code for the engine's text about a start that failed."""
    lowered = message.lower()
    if "executable file not found" in lowered or "no such file or directory" in lowered:
        return NOT_FOUND
    return NOT_EXECUTABLE if "permission denied" in lowered else ENGINE_FAILED


def env_from(given: dict[str, Any]) -> list[str]:
    """The variables of ``--env-file`` and ``--env``; a name alone is passed on from this process, if it has it."""
    lines: list[str] = []
    for path in given["env_files"]:
        with open(path, encoding="utf-8") as file:
            stripped = (line.strip() for line in file)
            lines += [line for line in stripped if line and not line.startswith("#")]
    env = []
    for entry in [*lines, *given["env"]]:
        if "=" in entry:
            env.append(entry)
        elif entry in os.environ:
            env.append(f"{entry}={os.environ[entry]}")
    return env
