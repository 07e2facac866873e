"""The instructions that change nothing but an image's configuration, and what its history says of them."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping, Sequence

from wherry.api.errors import BadRequest
from wherry.api.models.containers import ContainerConfig, HealthConfig
from wherry.engine.dockerfile import instructions as i
from wherry.engine.dockerfile.errors import DockerfileError
from wherry.engine.dockerfile.expand import expand, expand_words
from wherry.engine.durations import format_duration
from wherry.engine.oci.signals import InvalidSignal, parse_signal

DEFAULT_SHELL = ("/bin/sh", "-c")
_PORT = re.compile(r"(?:.*:)?([0-9]{1,5})(?:-([0-9]{1,5}))?(?:/([A-Za-z]+))?", re.ASCII)
_PROTOCOLS = ("tcp", "udp", "sctp")


def environment(config: ContainerConfig) -> dict[str, str]:
    """The variables that a configuration sets."""
    return dict(entry.partition("=")[::2] for entry in config.env or [])


def shell_of(config: ContainerConfig) -> list[str]:
    return list(config.shell or DEFAULT_SHELL)


def expanded(instruction: i.Instruction, env: Mapping[str, str], escape: str = "\\") -> None:
    """Put variables into an instruction that takes them, in place. Raises ``DockerfileError``."""

    def word(text: str) -> str:
        return expand(text, env, escape)

    match instruction:
        case i.Env():
            instruction.pairs = [(word(key), word(value)) for key, value in instruction.pairs]
        case i.Label():
            if not instruction.literal:
                instruction.pairs = [(word(key), word(value)) for key, value in instruction.pairs]
        case i.Arg():
            instruction.pairs = [
                (word(key), None if value is None else word(value)) for key, value in instruction.pairs
            ]
        case i.Copy():
            instruction.chown = word(instruction.chown)
            instruction.sources = [word(source) for source in instruction.sources]
            instruction.target = word(instruction.target)
        case i.Workdir():
            instruction.path = word(instruction.path)
        case i.User():
            instruction.user = word(instruction.user)
        case i.Volume():
            instruction.paths = [word(path) for path in instruction.paths]
        case i.StopSignal():
            instruction.signal = word(instruction.signal)
        case i.Expose():
            instruction.ports = [found for port in instruction.ports for found in expand_words(port, env, escape)]


def configure(config: ContainerConfig, instruction: i.Instruction, *, cmd_set: bool = False) -> str:
    """Change ``config`` as the (expanded) instruction says; returns what the image's history says of it.

    ``cmd_set``: this build has had a CMD, which an ENTRYPOINT then leaves alone. Raises ``BadRequest``.
    """
    match instruction:
        case i.Env():
            _set_variables(config, instruction.pairs)
            return f"ENV {_pairs(instruction.pairs)}"
        case i.Label():
            config.labels = {**(config.labels or {}), **dict(instruction.pairs)}
            return f"LABEL {_pairs(instruction.pairs)}"
        case i.Cmd():
            config.cmd = instruction.resolved(shell_of(config))
            return f"CMD {go_quoted(config.cmd)}"
        case i.Entrypoint():
            config.entrypoint = instruction.resolved(shell_of(config)) or None
            if not cmd_set:
                config.cmd = None
            return f"ENTRYPOINT {go_quoted(config.entrypoint or [])}"
        case i.Healthcheck():
            config.healthcheck = instruction.health
            return f"HEALTHCHECK {_health(instruction.health)}"
        case i.Expose():
            if ports := {**(config.exposed_ports or {}), **{port: {} for port in _ports(instruction.ports)}}:
                config.exposed_ports = ports
            return f"EXPOSE {' '.join(instruction.ports)}"
        case i.User():
            config.user = instruction.user
            return f"USER {instruction.user}"
        case i.Volume():
            if not all(instruction.paths):
                raise DockerfileError("VOLUME specified can not be an empty string")
            config.volumes = {**(config.volumes or {}), **{path: {} for path in instruction.paths}}
            return f"VOLUME [{' '.join(instruction.paths)}]"
        case i.StopSignal():
            try:
                parse_signal(instruction.signal)
            except InvalidSignal as error:
                raise BadRequest(str(error)) from None
            config.stop_signal = instruction.signal
            return f"STOPSIGNAL {instruction.signal}"
        case i.Shell():
            config.shell = list(instruction.shell)
            return f"SHELL [{' '.join(instruction.shell)}]"
        case i.OnBuild():
            config.on_build = [*(config.on_build or []), instruction.trigger]
            return f"ONBUILD {instruction.trigger}"
        case i.Workdir():
            config.working_dir = working_directory(config.working_dir, instruction.path)
            return f"WORKDIR {config.working_dir}"
        case i.Maintainer():
            return f"MAINTAINER {instruction.name}"
    raise AssertionError(instruction)


def working_directory(current: str, path: str) -> str:
    """Raises ``DockerfileError`` for an empty path."""
    if not path:
        raise DockerfileError("cannot normalize nothing")
    if path.startswith("/"):
        return path
    return posixpath.normpath(posixpath.join("/", current, path)).replace("//", "/")


def _set_variables(config: ContainerConfig, pairs: Sequence[tuple[str, str]]) -> None:
    env = list(config.env or [])
    places: dict[str, int] = {}
    for at, old in enumerate(env):
        places.setdefault(old.partition("=")[0], at)
    for key, value in pairs:
        at = places.setdefault(key, len(env))
        env[at : at + 1] = [f"{key}={value}"]
    config.env = env


def _pairs(pairs: Sequence[tuple[str, str]]) -> str:
    return " ".join(f"{key}={value}" for key, value in pairs)


def _ports(texts: Sequence[str]) -> list[str]:
    found = []
    for text in texts:
        match = _PORT.fullmatch(text)
        first = int(match[1]) if match else 0
        last = int(match[2] or first) if match else 0
        if match is None or not 0 < first <= last <= 65535:
            raise DockerfileError(f"Invalid containerPort: {text.partition('/')[0]}")
        protocol = (match[3] or "tcp").lower()
        if protocol not in _PROTOCOLS:
            raise DockerfileError(f"Invalid proto: {match[3]}")
        found += [f"{port}/{protocol}" for port in range(first, last + 1)]
    return found


def _health(health: HealthConfig) -> str:
    """As Go's ``%q`` shows the struct; the number of retries comes out as a character."""
    times = (health.interval or 0, health.timeout or 0, health.start_period or 0)
    parts = [go_quoted(list(health.test or [])), *(f'"{format_duration(time)}"' for time in times)]
    return f"&{{{' '.join(parts)} {_go_character(health.retries or 0)}}}"


def go_quoted(strings: Sequence[str]) -> str:
    """As Go's ``%q`` shows a list of strings."""
    return f"[{' '.join(map(_go_string, strings))}]"


_ESCAPES = {"\a": "\\a", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\v": "\\v", "\\": "\\\\"}


def _go_string(text: str) -> str:
    return '"' + "".join('\\"' if char == '"' else _escaped(char) for char in text) + '"'


def _go_character(number: int) -> str:
    char = chr(number) if 0 <= number < 0x110000 else "\ufffd"
    return f"'{chr(92) + char if char == chr(39) else _escaped(char)}'"


def _escaped(char: str) -> str:
    if char in _ESCAPES:
        return _ESCAPES[char]
    code = ord(char)
    if char.isprintable():
        return char
    if code < 0x80:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
