"""The ``changes`` of import and commit: a few Dockerfile instructions applied to a configuration.

CMD, ENTRYPOINT, ENV, EXPOSE, HEALTHCHECK, LABEL, ONBUILD, STOPSIGNAL, USER, VOLUME and WORKDIR.
"""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Callable, Mapping, Sequence

from wherry.api.errors import BadRequest
from wherry.api.models.containers import ContainerConfig, HealthConfig

_SHELL = ["/bin/sh", "-c"]
_VARIABLE = re.compile(
    r"\\(?P<escaped>.)|\$(?:(?P<name>\w+)|\{(?P<inner>\w+)(?::(?P<how>[-+])(?P<word>[^}]*))?\})", re.ASCII
)
_PORT = re.compile(
    r"(?P<first>\d{1,5})(?:-(?P<last>\d{1,5}))?(?:/(?P<protocol>tcp|udp|sctp))?", re.ASCII | re.IGNORECASE
)
_DURATION = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|ms|s|m|h)")
_UNITS = {"ns": 1, "us": 10**3, "µs": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}


def apply(config: ContainerConfig, changes: Sequence[str]) -> None:
    """Change ``config`` as the instructions say, in their order. Raises ``BadRequest`` for the first that cannot be."""
    for line in _lines(changes):
        name, _, rest = line.partition(" ")
        word = name.lower()
        instruction = _INSTRUCTIONS.get(word)
        if instruction is None:
            raise BadRequest(f"{word} is not a valid change command")
        rest = rest.strip()
        if not rest:
            raise BadRequest(f"{word.upper()} requires at least one argument")
        instruction(config, rest)


def _lines(changes: Sequence[str]) -> list[str]:
    """One instruction a line, with continuations joined, comments and empty lines left out."""
    text = "\n".join(changes)
    joined = re.sub(r"\\[ \t]*\n", "", text)
    lines = (re.sub(r"^(\S+)\s+", r"\1 ", line.strip()) for line in joined.split("\n"))
    return [line for line in lines if line and not line.startswith("#")]


def _list_or_shell(text: str) -> list[str]:
    """A JSON list of strings is a command; anything else is for the shell."""
    strings = _json_list(text)
    return [*_SHELL, text] if strings is None else strings


def _json_list(text: str) -> list[str] | None:
    if not text.startswith("["):
        return None
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, list) and all(isinstance(item, str) for item in value) else None


def words(text: str) -> list[str]:
    """Split at blanks outside quotes; quotes and escapes stay in the words."""
    found: list[str] = []
    word, quote, escaped = "", "", False
    for char in text:
        if escaped:
            escaped = False
        elif char == "\\" and quote != "'":
            escaped = True
        elif quote:
            quote = "" if char == quote else quote
        elif char in "\"'":
            quote = char
        elif char.isspace():
            if word:
                found.append(word)
            word = ""
            continue
        word += char
    return [*found, word] if word else found


def expand(text: str, env: Mapping[str, str]) -> str:
    """Take the quotes away and put variables in, as a shell would."""
    out = []
    position = 0
    quote = ""
    while position < len(text):
        char = text[position]
        if quote != "'" and (match := _VARIABLE.match(text, position)):
            position = match.end()
            out.append(_value(match, env))
            continue
        position += 1
        if char in "\"'" and quote in ("", char):
            quote = "" if quote else char
        else:
            out.append(char)
    return "".join(out)


def _value(match: re.Match[str], env: Mapping[str, str]) -> str:
    if match["escaped"]:
        return match["escaped"]
    value = env.get(match["name"] or match["inner"], "")
    if match["how"] == "-":
        return value or match["word"]
    if match["how"] == "+":
        return match["word"] if value else ""
    return value


def _env(config: ContainerConfig) -> dict[str, str]:
    return dict(entry.partition("=")[::2] for entry in config.env or [])


def _pairs(text: str, env: Mapping[str, str], name: str) -> list[tuple[str, str]]:
    """``k=v k2="v 2"``, or the old form ``k the rest``."""
    parts = words(text)
    if "=" not in parts[0]:
        key, _, value = text.partition(" ")
        if not value.strip():
            raise BadRequest(f"{name} must have two arguments")
        return [(expand(key, env), expand(value.strip(), env))]
    pairs = []
    for part in parts:
        key, equals, value = part.partition("=")
        if not equals:
            raise BadRequest(f"Syntax error - can't find = in {json.dumps(part)}. Must be of the form: name=value")
        if not key:
            raise BadRequest(f"{name} names can not be blank")
        pairs.append((expand(key, env), expand(value, env)))
    return pairs


def _set_env(config: ContainerConfig, text: str) -> None:
    values = _env(config)
    values.update(_pairs(text, values, "ENV"))
    config.env = [f"{key}={value}" for key, value in values.items()]


def _set_label(config: ContainerConfig, text: str) -> None:
    config.labels = {**(config.labels or {}), **dict(_pairs(text, _env(config), "LABEL"))}


def _set_cmd(config: ContainerConfig, text: str) -> None:
    config.cmd = _list_or_shell(text)


def _set_entrypoint(config: ContainerConfig, text: str) -> None:
    config.entrypoint = _list_or_shell(text)


def _set_expose(config: ContainerConfig, text: str) -> None:
    ports = dict(config.exposed_ports or {})
    for word in words(text):
        port = expand(word, _env(config))
        match = _PORT.fullmatch(port)
        first = int(match["first"]) if match else 0
        last = int(match["last"] or first) if match else 0
        if match is None or not 0 < first <= last <= 65535:
            raise BadRequest(f"Invalid containerPort: {port}")
        protocol = (match["protocol"] or "tcp").lower()
        ports.update({f"{number}/{protocol}": {} for number in range(first, last + 1)})
    config.exposed_ports = ports


def _set_volume(config: ContainerConfig, text: str) -> None:
    paths = _json_list(text)
    if paths is None:
        paths = words(text)
    volumes = dict(config.volumes or {})
    for path in paths:
        path = expand(path, _env(config)).strip()
        if not path:
            raise BadRequest("VOLUME specified can not be an empty string")
        volumes[path] = {}
    config.volumes = volumes


def _set_user(config: ContainerConfig, text: str) -> None:
    parts = words(text)
    if len(parts) != 1:
        raise BadRequest("USER requires exactly one argument")
    config.user = expand(parts[0], _env(config))


def _set_workdir(config: ContainerConfig, text: str) -> None:
    path = expand(text, _env(config))
    config.working_dir = posixpath.normpath(posixpath.join("/", config.working_dir, path)).replace("//", "/")


def _set_stop_signal(config: ContainerConfig, text: str) -> None:
    config.stop_signal = expand(text, _env(config))


def _set_on_build(config: ContainerConfig, text: str) -> None:
    trigger = text.split()[0].upper()
    if trigger == "ONBUILD":
        raise BadRequest("Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed")
    if trigger in ("MAINTAINER", "FROM"):
        raise BadRequest(f"{trigger} isn't allowed as an ONBUILD trigger")
    config.on_build = [*(config.on_build or []), text]


def _set_healthcheck(config: ContainerConfig, text: str) -> None:
    if text.upper() == "NONE":
        config.healthcheck = HealthConfig(test=["NONE"])
        return
    check = HealthConfig()
    while match := re.match(r"--([a-z-]+)=(\S+)\s+", text):
        flag, value = match.groups()
        text = text[match.end() :]
        if flag == "retries":
            if not value.isdecimal() or not int(value):
                raise BadRequest(f"--retries must be at least 1 (not {value})")
            check.retries = int(value)
        elif flag in ("interval", "timeout", "start-period"):
            setattr(check, flag.replace("-", "_"), _duration(value))
        else:
            raise BadRequest(f"Unknown flag: {flag}")
    kind, _, command = text.partition(" ")
    if kind.upper() != "CMD":
        raise BadRequest(f"Unknown type {json.dumps(kind.upper())} in HEALTHCHECK (try CMD)")
    command = command.strip()
    if not command:
        raise BadRequest("Missing command after HEALTHCHECK CMD")
    exact = _json_list(command)
    check.test = ["CMD-SHELL", command] if exact is None else ["CMD", *exact]
    config.healthcheck = check


def _duration(text: str) -> int:
    """A Go duration, in nanoseconds."""
    if not text or _DURATION.sub("", text):
        raise BadRequest(f"time: invalid duration {json.dumps(text)}")
    return int(sum(float(number) * _UNITS[unit] for number, unit in _DURATION.findall(text)))


_INSTRUCTIONS: dict[str, Callable[[ContainerConfig, str], None]] = {
    "cmd": _set_cmd,
    "entrypoint": _set_entrypoint,
    "env": _set_env,
    "expose": _set_expose,
    "healthcheck": _set_healthcheck,
    "label": _set_label,
    "onbuild": _set_on_build,
    "stopsignal": _set_stop_signal,
    "user": _set_user,
    "volume": _set_volume,
    "workdir": _set_workdir,
}
