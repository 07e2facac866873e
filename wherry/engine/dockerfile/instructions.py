"""Lines to instructions: arguments counted, flags read, stages told apart. Refusals have moby's words."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from msgspec import UNSET

from wherry.api.models.containers import HealthConfig
from wherry.engine.dockerfile.errors import DockerfileError, needs_buildkit
from wherry.engine.dockerfile.parser import Dockerfile, Line, parse_line
from wherry.engine.durations import parse_duration

_STAGE_NAME = re.compile(r"[a-z][a-z0-9-_.]*")
_ONBUILD = re.compile(r"^\s*ONBUILD\s*", re.IGNORECASE)
_BUILDKIT_FLAGS = {
    "add": ("chmod", "link", "keep-git-dir", "checksum"),
    "copy": ("chmod", "link"),
    "run": ("mount", "network", "security"),
}
_FLAGS = {
    "add": ("chown",),
    "copy": ("chown", "from"),
    "from": ("platform",),
    "healthcheck": ("interval", "timeout", "start-period", "retries"),
}
_MILLISECOND = 1_000_000

Pairs = list[tuple[str, str]]


@dataclass(slots=True, kw_only=True)
class Instruction:
    """``code`` is what is shown of it."""

    code: str


@dataclass(slots=True, kw_only=True)
class Env(Instruction):
    pairs: Pairs


@dataclass(slots=True, kw_only=True)
class Label(Instruction):
    """``literal``: no variables in it, as it came with the call and not from the file."""

    pairs: Pairs
    literal: bool = False


@dataclass(slots=True, kw_only=True)
class Arg(Instruction):
    """A value of None: the name alone."""

    pairs: list[tuple[str, str | None]]


@dataclass(slots=True, kw_only=True)
class Maintainer(Instruction):
    name: str


@dataclass(slots=True, kw_only=True)
class Copy(Instruction):
    """ADD as well (``add``)."""

    sources: list[str]
    target: str
    chown: str = ""
    source_image: str = ""
    add: bool = False
    refusal: str = ""

    @property
    def name(self) -> str:
        return "ADD" if self.add else "COPY"


@dataclass(slots=True, kw_only=True)
class OnBuild(Instruction):
    trigger: str


@dataclass(slots=True, kw_only=True)
class Workdir(Instruction):
    path: str


@dataclass(slots=True, kw_only=True)
class Shelled(Instruction):
    """A command: a list to execute as it is, or (``shell``) a text for the shell."""

    command: list[str]
    shell: bool

    def resolved(self, shell: Sequence[str]) -> list[str]:
        return [*shell, *self.command] if self.shell else list(self.command)


@dataclass(slots=True, kw_only=True)
class Run(Shelled):
    refusal: str = ""


@dataclass(slots=True, kw_only=True)
class Cmd(Shelled):
    pass


@dataclass(slots=True, kw_only=True)
class Entrypoint(Shelled):
    pass


@dataclass(slots=True, kw_only=True)
class Healthcheck(Instruction):
    health: HealthConfig


@dataclass(slots=True, kw_only=True)
class Expose(Instruction):
    ports: list[str]


@dataclass(slots=True, kw_only=True)
class User(Instruction):
    user: str


@dataclass(slots=True, kw_only=True)
class Volume(Instruction):
    paths: list[str]


@dataclass(slots=True, kw_only=True)
class StopSignal(Instruction):
    signal: str


@dataclass(slots=True, kw_only=True)
class Shell(Instruction):
    shell: list[str]


@dataclass(slots=True, kw_only=True)
class Stage:
    """From a FROM to the next."""

    base: str
    name: str
    code: str
    platform: str = ""
    instructions: list[Instruction] = field(default_factory=list)


def stages(file: Dockerfile) -> tuple[list[Stage], list[Arg]]:
    """The stages of a file, and the ARGs in front of the first. Raises ``DockerfileError``."""
    found: list[Stage] = []
    before: list[Arg] = []
    for line in file.lines:
        try:
            made = _stage(line) if line.name == "from" else instruction(line)
        except DockerfileError as error:
            raise DockerfileError(f"dockerfile parse error on line {line.number}: {error.message}") from None
        if isinstance(made, Stage):
            found.append(made)
        elif found:
            found[-1].instructions.append(made)
        elif isinstance(made, Arg):
            before.append(made)
        else:
            raise DockerfileError("no build stage in current context")
    return found, before


def trigger(text: str, escape: str = "\\") -> Instruction:
    """The instruction of an ONBUILD. Raises ``DockerfileError``."""
    return instruction(parse_line(text, escape))


def instruction(line: Line) -> Instruction:
    """Any but FROM. Raises ``DockerfileError``."""
    read = _READERS.get(line.name)
    if read is None:
        raise DockerfileError(f"unknown instruction: {line.written}")
    return read(line)


def _stage(line: Line) -> Stage:
    args = line.args
    name = ""
    if len(args) == 3 and args[1].lower() == "as":
        name = args[2].lower()
        if not _STAGE_NAME.fullmatch(name):
            raise DockerfileError(
                f'invalid name for build stage: "{args[2]}", name can\'t start with a number or contain symbols'
            )
    elif len(args) != 1:
        raise DockerfileError("FROM requires either one or three arguments")
    return Stage(base=args[0], name=name, code=line.text.strip(), platform=_flags(line).get("platform", ""))


def _flags(line: Line) -> dict[str, str]:
    known = _FLAGS.get(line.name, ())
    later = _BUILDKIT_FLAGS.get(line.name, ())
    found: dict[str, str] = {}
    for flag in line.flags:
        name, equals, value = flag[2:].partition("=")
        if name not in known and name not in later:
            raise DockerfileError(f"Unknown flag: {name}")
        if name in found and name != "mount":
            raise DockerfileError(f"Duplicate flag specified: {name}")
        if not equals and name not in ("link", "keep-git-dir"):
            raise DockerfileError(f"Missing a value on flag: {name}")
        found[name] = value
    return found


def _refusal(line: Line, flags: dict[str, str]) -> str:
    """Why a classic builder cannot do it; said when its turn comes, as moby does."""
    for name in flags:
        if name in _BUILDKIT_FLAGS.get(line.name, ()):
            return needs_buildkit(f"--{name} option")
    return ""


def _none_of_them(line: Line) -> None:
    _flags(line)


def _at_least_one(line: Line) -> None:
    if not line.args:
        raise DockerfileError(f"{line.name.upper()} requires at least one argument")


def _exactly_one(line: Line) -> str:
    if len(line.args) != 1:
        raise DockerfileError(f"{line.name.upper()} requires exactly one argument")
    _none_of_them(line)
    return line.args[0]


def _key_values(line: Line) -> Pairs:
    _none_of_them(line)
    _at_least_one(line)
    pairs = list(zip(line.args[::2], line.args[1::2], strict=True))
    if any(not key for key, _ in pairs):
        raise DockerfileError(f"{line.name.upper()} names can not be blank")
    return pairs


def _env(line: Line) -> Env:
    return Env(code=line.text.strip(), pairs=_key_values(line))


def _label(line: Line) -> Label:
    return Label(code=line.text.strip(), pairs=_key_values(line))


def label(key: str, value: str) -> Label:
    """A label of the call."""
    return Label(code=f"LABEL {key}={value}", pairs=[(key, value)], literal=True)


def _arg(line: Line) -> Arg:
    _at_least_one(line)
    _none_of_them(line)
    pairs: list[tuple[str, str | None]] = []
    for word in line.args:
        key, equals, value = word.partition("=")
        if not key:
            raise DockerfileError("ARG names can not be blank")
        pairs.append((key, value if equals else None))
    return Arg(code=line.text.strip(), pairs=pairs)


def _maintainer(line: Line) -> Maintainer:
    return Maintainer(code=line.text.strip(), name=_exactly_one(line))


def _copy(line: Line) -> Copy:
    name = line.name.upper()
    if len(line.args) < 2:
        raise DockerfileError(
            f"{name} requires at least two arguments, but only one was provided. Destination could not be determined"
        )
    flags = _flags(line)
    *sources, target = line.args
    return Copy(
        code=line.text.strip(),
        sources=sources,
        target=target,
        chown=flags.get("chown", ""),
        source_image=flags.get("from", ""),
        add=line.name == "add",
        refusal=_refusal(line, flags),
    )


def _on_build(line: Line) -> OnBuild:
    _at_least_one(line)
    _none_of_them(line)
    word = line.args[0].strip().upper()
    if word == "ONBUILD":
        raise DockerfileError("Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed")
    if word in ("MAINTAINER", "FROM"):
        raise DockerfileError(f"{word} isn't allowed as an ONBUILD trigger")
    return OnBuild(code=line.text.strip(), trigger=_ONBUILD.sub("", line.text))


def _workdir(line: Line) -> Workdir:
    return Workdir(code=line.text.strip(), path=_exactly_one(line))


def _run(line: Line) -> Run:
    refusal = _refusal(line, _flags(line))
    return Run(code=line.text.strip(), command=_command(line.args, line), shell=not line.is_json, refusal=refusal)


def _cmd(line: Line) -> Cmd:
    _none_of_them(line)
    return Cmd(code=line.text.strip(), command=_command(line.args, line), shell=not line.is_json)


def _entrypoint(line: Line) -> Entrypoint:
    _none_of_them(line)
    command = _command(line.args, line)
    return Entrypoint(code=line.text.strip(), command=command, shell=not line.is_json and bool(command))


def _command(args: Sequence[str], line: Line) -> list[str]:
    if line.is_json or not args:
        return list(args)
    return [" ".join(args)]


def _healthcheck(line: Line) -> Healthcheck:
    _at_least_one(line)
    kind, args = line.args[0].upper(), line.args[1:]
    if kind == "NONE":
        if args:
            raise DockerfileError("HEALTHCHECK NONE takes no arguments")
        return Healthcheck(code=line.text.strip(), health=HealthConfig(test=["NONE"]))
    flags = _flags(line)
    if kind != "CMD":
        raise DockerfileError(f"Unknown type {json.dumps(kind)} in HEALTHCHECK (try CMD)")
    command = _command(args, line)
    if not command:
        raise DockerfileError("Missing command after HEALTHCHECK CMD")
    health = HealthConfig(test=["CMD" if line.is_json else "CMD-SHELL", *command])
    health.interval = _interval("interval", flags) or UNSET
    health.timeout = _interval("timeout", flags) or UNSET
    health.start_period = _interval("start-period", flags) or UNSET
    retries = flags.get("retries", "")
    if retries:
        if not re.fullmatch(r"[+-]?[0-9]{1,9}", retries, re.ASCII):
            raise DockerfileError(f"strconv.ParseInt: parsing {json.dumps(retries)}: invalid syntax")
        if int(retries) < 1:
            raise DockerfileError(f"--retries must be at least 1 (not {int(retries)})")
        health.retries = int(retries)
    return Healthcheck(code=line.text.strip(), health=health)


def _interval(name: str, flags: dict[str, str]) -> int:
    text = flags.get(name, "")
    if not text:
        return 0
    try:
        value = parse_duration(text)
    except ValueError as error:
        raise DockerfileError(str(error)) from None
    if value and value < _MILLISECOND:
        raise DockerfileError(f'Interval "{name}" cannot be less than 1ms')
    return value


def _expose(line: Line) -> Expose:
    _at_least_one(line)
    _none_of_them(line)
    return Expose(code=line.text.strip(), ports=sorted(line.args))


def _user(line: Line) -> User:
    return User(code=line.text.strip(), user=_exactly_one(line))


def _volume(line: Line) -> Volume:
    _at_least_one(line)
    _none_of_them(line)
    paths = [path.strip() for path in line.args]
    if not all(paths):
        raise DockerfileError("VOLUME specified can not be an empty string")
    return Volume(code=line.text.strip(), paths=paths)


def _stop_signal(line: Line) -> StopSignal:
    return StopSignal(code=line.text.strip(), signal=_exactly_one(line))


def _shell(line: Line) -> Shell:
    _none_of_them(line)
    if not line.args:
        raise DockerfileError("SHELL requires at least one argument")
    if not line.is_json:
        raise DockerfileError("SHELL requires the arguments to be in JSON form")
    return Shell(code=line.text.strip(), shell=list(line.args))


_READERS = {
    "add": _copy,
    "arg": _arg,
    "cmd": _cmd,
    "copy": _copy,
    "entrypoint": _entrypoint,
    "env": _env,
    "expose": _expose,
    "healthcheck": _healthcheck,
    "label": _label,
    "maintainer": _maintainer,
    "onbuild": _on_build,
    "run": _run,
    "shell": _shell,
    "stopsignal": _stop_signal,
    "user": _user,
    "volume": _volume,
    "workdir": _workdir,
}
