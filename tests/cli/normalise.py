"""What differs between any two runs of the docker command line, and what it is called when two transcripts are compared.

The one table: every rule is a regular expression and its replacement, applied in this order to each line of output.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

NUMBER = r"\d+(?:\.\d+)?"
AGO = (
    r"(?:Less than a second|About a minute|About an hour|\d+ (?:second|minute|hour)s?|"
    r"(?:Less than a|One|a few) (?:second|minute|hour)s?)"
)

TABLE: tuple[tuple[str, str], ...] = (
    # places
    (r"/tmp/wt-(?:wherry|dockerd)-\w+/", "<root>/"),
    (r"(?:<root>|/var/lib/docker)/data/image/.*", "<image store>"),
    (r"/sys/fs/cgroup/\S+/[0-9a-f]{64}/", "<cgroup>/"),
    # identities
    (r"\b[0-9a-f]{64}\b", "<id>"),
    (r"\b[0-9a-f]{12}\b", "<id>"),
    (r"(?:[0-9a-f]{2}:){5}[0-9a-f]{2}\b", "<mac>"),
    # times
    (r"\b\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:\.\d+)?(?:Z| ?[+-]\d\d:?\d\d(?: [A-Z]+)?)", "<time>"),
    (r"(\"(?:Pid|SandboxPid)\": )[1-9]\d*", r"\1<pid>"),
    (rf"\b{AGO} ago", "<duration> ago"),
    (rf"\bUp {AGO}", "Up <duration>"),
    (rf"\((\d+)\) {AGO} ago", r"(\1) <duration> ago"),
    # addresses
    (r"\b172\.(?:1[6-9]|2\d|3[01])\.\d+\.\d+\b", "<address>"),
    (r"\b127\.0\.0\.1:\d+", "127.0.0.1:<port>"),
    (r"\b0\.0\.0\.0:\d+", "0.0.0.0:<port>"),
    (r"\[?::\]?:\d+->", "[::]:<port>->"),
    (r"(?<=-> )\[::\]:\d+$", "[::]:<port>"),
    (r"(\"HostPort\": )\"\d+\"", r'\1"<port>"'),
    # names and versions
    (r"\bendpoint [a-z]+_[a-z]+\b", "endpoint <name>"),
    (r"daemon API version is 1\.\d+", "daemon API version is <version>"),
    # process ids on the host, in the output of top
    (r"^\d+(?= +sleep$)", "<pid>"),
    # sizes and shares
    (rf"\b{NUMBER} ?(?:[kKMGT]i?B|B)(?![\w-])", "<size>"),
    (rf"\b{NUMBER}%", "<share>"),
    # the widths of columns follow from what was replaced
    (r"[ \t]{2,}(?=\S)", "  "),
    (r"\s+$", ""),
)
# Lines that the command line writes or not, depending on when an engine's refusal reaches it.
LEFT_OUT = re.compile(r"time=\S+ level=error msg=\"Can't (?:add file|close tar writer).*")
RULES = tuple((re.compile(pattern), replacement) for pattern, replacement in TABLE)


def normalise_line(line: str) -> str:
    """One line of output, with what differs in every run replaced."""
    for pattern, replacement in RULES:
        line = pattern.sub(replacement, line)
    return line


def normalise(text: str, *, directory: str, as_json: bool = False, in_any_order: bool = False) -> list[str]:
    """The lines of an output; ``directory`` is the host directory that the session was given.

    JSON is laid out with its keys sorted, because the command line passes on whatever order an engine sends; mounts are
    sorted too, because moby keeps them in a map.
    """
    if as_json and text.startswith(("[", "{")):
        text = "\n".join(json.dumps(ordered(value), indent=1, sort_keys=True) for value in decode_all(text))
    lines = [
        normalise_line(line.replace(directory, "<dir>")) for line in text.splitlines() if not LEFT_OUT.fullmatch(line)
    ]
    return sorted(lines) if in_any_order else lines


def decode_all(text: str) -> Iterator[Any]:
    """Each JSON value of a text that may hold several."""
    decoder = json.JSONDecoder()
    while text := text.lstrip():
        value, end = decoder.raw_decode(text)
        yield value
        text = text[end:]


def ordered(value: Any) -> Any:
    """The value with every list of mounts sorted by where they are mounted."""
    if isinstance(value, list):
        items = [ordered(item) for item in value]
        if all(isinstance(item, dict) and "Destination" in item for item in items):
            items.sort(key=lambda mount: str(mount["Destination"]))
        return items
    if isinstance(value, dict):
        return {key: ordered(item) for key, item in value.items()}
    return value
