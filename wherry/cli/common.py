"""What the commands share: the client, errors as one line, sizes and ages for people."""

from __future__ import annotations

import atexit
import errno
import functools
import gc
import os
import re
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import click

if TYPE_CHECKING:
    from wherry.api.models.host import RestartPolicy
    from wherry.client._sync.client import Client

F = TypeVar("F", bound=Callable[..., Any])

DETACH_KEYS = click.option("--detach-keys", metavar="KEYS", help="What leaves it running; ctrl-p,ctrl-q if not given.")


def client_of(ctx: click.Context) -> Client:
    """The client of the engine that ``--host`` or the surroundings name; closed with the command."""
    import wherry

    client = wherry.connect(ctx.find_root().obj)
    ctx.call_on_close(client.close)
    return client


def with_client(command: F) -> F:
    """Give the command a client as its first argument, and print its errors as one line."""

    @click.pass_context
    @functools.wraps(command)
    def call(ctx: click.Context, *arguments: Any, **options: Any) -> Any:
        gc.set_threshold(20_000)  # hardly anything that a command makes is garbage, least of all what it imports,
        atexit.register(gc.freeze)  # nor is it looked for at the end
        from wherry.api.errors import WherryError

        try:
            return command(client_of(ctx), *arguments, **options)
        except (WherryError, ValueError) as error:  # ValueError: for an argument that no engine need be asked about
            fail(error)
        except OSError as error:
            if error.errno == errno.EPIPE:
                raise  # click's: who reads has seen enough
            fail(ValueError(_said(error)))

    return call  # type: ignore[return-value]


def _said(error: OSError) -> str:
    """What failed of this machine's: a file, or this process's output, of which nothing more is tried then."""
    reason = error.strerror or str(error)
    if error.filename is not None:
        return f"{error.filename}: {reason}"
    if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO):
        return reason
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what is left in the buffer would fail again at the end
    return f"write /dev/stdout: {reason.lower()}"


def fail(error: Exception, status: int = 1) -> NoReturn:
    """End with the error's text."""
    click.echo(f"wherry: {text_of(error)}", err=True)
    sys.exit(status)


def text_of(error: Exception) -> str:
    """An error as a sentence; an engine's is its own text."""
    return getattr(error, "message", None) or str(error)


def each(names: Sequence[str], act: Callable[[str], Any], *, show: bool = True, may_be_gone: bool = False) -> None:
    """Do it for each name, and ``show`` the name; an error of one does not keep the others from it.

    ``may_be_gone``: that there is nothing of a name is said, and is no failure.
    """
    from wherry.api.errors import ApiError, NotFound

    failed = False
    for name in names:
        try:
            act(name)
            if show:
                click.echo(name)
        except (ApiError, ValueError) as error:
            click.echo(f"wherry: {text_of(error)}", err=True)
            failed = failed or not (may_be_gone and isinstance(error, NotFound))
    if failed:
        sys.exit(1)


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows under their titles, as wide as they are."""
    widths = [max(len(row[i]) for row in (columns, *rows)) for i in range(len(columns))]
    for row in (columns, *rows):
        click.echo("   ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def size_text(size: float) -> str:
    """
    >>> size_text(1_500_000)
    '1.5MB'
    """
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if size < 1000 or unit == "TB":
            return f"{size:.3g}{unit}"
        size /= 1000
    raise AssertionError


def age_text(seconds_since_epoch: float) -> str:
    """How long ago, in the largest unit that fits."""
    age = max(0, int(time.time() - seconds_since_epoch))
    for size, unit in ((86400, "day"), (3600, "hour"), (60, "minute"), (1, "second")):
        if age >= size or unit == "second":
            count = age // size
            return f"{count} {unit}{'' if count == 1 else 's'} ago"
    raise AssertionError


def parse_size(text: str | None, option: str) -> int | None:
    """
    >>> parse_size("64m", "--memory")
    67108864
    """
    from wherry.client.arguments import size_in_bytes

    try:
        return None if text is None else size_in_bytes(text)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint=option) from None


def parse_policy(text: str) -> RestartPolicy:
    """``on-failure:3`` as the API has it."""
    from wherry.client.arguments import restart_policy_of

    try:
        return restart_policy_of(text)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--restart") from None


_FIELD = re.compile(r"\{\{\s*(json )?\s*\.([\w.]*)\s*\}\}")


def formatted(row: Mapping[str, str], form: str) -> str:
    """A row by docker's templates, as far as they are fields: ``{{.Names}} {{.Status}}``; ``json`` for all of it.

    >>> formatted({"ID": "1", "Names": "web"}, "{{.Names}}: {{.ID}}")
    'web: 1'
    >>> formatted({"ID": "1", "Names": "web"}, "{{json .}}")
    '{"ID": "1", "Names": "web"}'
    """
    import json

    if form == "json":
        return json.dumps(row, ensure_ascii=False)

    def field(found: re.Match[str]) -> str:
        if found[1] and not found[2]:
            return json.dumps(row, ensure_ascii=False)
        if found[2] not in row:
            raise click.BadParameter(f"no field {found[2]!r}; there are {', '.join(row)}", param_hint="--format")
        return json.dumps(row[found[2]], ensure_ascii=False) if found[1] else row[found[2]]

    return _checked(_FIELD.sub(field, form.removeprefix("table ").replace("\\t", "\t")))


def picked(value: Any, form: str) -> str:
    """What a template such as ``{{.State.Status}}`` or ``{{json .Config}}`` picks from a JSON value.

    >>> picked({"State": {"Running": True}}, "runs: {{.State.Running}}")
    'runs: true'
    """
    import json

    def field(found: re.Match[str]) -> str:
        at = value
        for name in filter(None, found[2].split(".")):
            if not isinstance(at, dict) or name not in at:
                raise click.BadParameter(f"nothing at .{found[2]}: no {name!r}", param_hint="--format")
            at = at[name]
        return at if isinstance(at, str) and not found[1] else json.dumps(at, ensure_ascii=False)

    return _checked(_FIELD.sub(field, form))


def _checked(text: str) -> str:
    if "{{" in text:
        raise click.BadParameter(
            "only fields can be picked: {{.Name}}, {{.One.Within}} or {{json .Field}}", param_hint="--format"
        )
    return text


def pairs_from(texts: Sequence[str]) -> dict[str, str]:
    """``KEY=VALUE`` options as a mapping; without a value it is empty."""
    return {key: value for key, _, value in (text.partition("=") for text in texts)}


def filters_from(pairs: Sequence[str]) -> dict[str, list[str]] | None:
    """``--filter key=value`` options as the API's filters."""
    found: dict[str, list[str]] = {}
    for pair in pairs:
        key, separator, value = pair.partition("=")
        if not separator:
            raise click.BadParameter(f"{pair!r} is no filter; write key=value")
        found.setdefault(key, []).append(value)
    return found or None


def show_all(names: Sequence[str], inspect: Callable[[str], object]) -> None:
    """Print what ``inspect`` gives for each name, as the API's JSON, then the error of each name that has none."""
    import json

    from wherry.api.errors import ApiError
    from wherry.api.json import encode

    found: list[Any] = []
    errors: list[Exception] = []
    for name in names:
        try:
            found.append(json.loads(encode(inspect(name))))
        except (ApiError, ValueError) as error:
            errors.append(error)
    click.echo(json.dumps(found, indent=4, ensure_ascii=False))
    for failure in errors[:-1]:
        click.echo(f"wherry: {text_of(failure)}", err=True)
    if errors:
        fail(errors[-1])
