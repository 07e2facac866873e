"""One session of the docker command line on Wherry and on dockerd, compared step by step.

``session.txt`` is the session (``network-session.txt`` another one, about networks), ``normalise.py`` says what may differ
in any two runs, ``differences.txt`` lists what is left, each with its reason:

    # reason, on one or more lines
    $ the command as it stands in the session
    - a line that dockerd alone has
    + a line that Wherry alone has

A difference that is not listed fails, and so does a listed one that is no more.
"""

from __future__ import annotations

import difflib
import os
import re
import shlex
import socket
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.cli.normalise import normalise
from tests.support.engines import Engine

HERE = Path(__file__).parent
# What docker is told to speak: the API that Wherry implements, and the newest that Debian's dockerd knows.
API_VERSIONS = {"wherry": "1.43", "dockerd": "1.41"}
MODIFIER = re.compile(r"(in|until|json|sort)=(.*)", re.DOTALL)
COMMANDS = (
    "attach commit cp create diff events exec export inspect kill logs ls pause port prune ps rename restart rm run start "
    "stats stop top unpause update wait"
)
Difference = tuple[str, ...]


@dataclass
class Step:
    """One line of the session."""

    line: int
    exit: str
    command: str
    words: list[str]
    modifiers: dict[str, str] = field(default_factory=dict)


def read_session(text: str) -> list[Step]:
    steps = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        exit_code, rest = line.split(None, 1)
        modifiers = {}
        while found := MODIFIER.match(rest.split(None, 1)[0]):
            modifiers[found[1]] = found[2].replace("\\n", "\n")
            rest = rest.split(None, 1)[1]
        steps.append(Step(number, exit_code, rest.strip(), shlex.split(rest), modifiers))
    return steps


def read_differences(text: str) -> dict[str, set[Difference]]:
    """Command → its differences, each the lines of a diff; ValueError for one without a reason."""
    found: dict[str, set[Difference]] = {}
    for block in re.split(r"\n{2,}", text.strip("\n")):
        lines = block.splitlines()
        commands = [line[2:] for line in lines if line.startswith("$ ")]
        if not commands and all(line.startswith("#") for line in lines):
            continue  # the head of the file
        if not lines[0].startswith("# ") or not commands:
            raise ValueError(f"a difference needs a reason and a command:\n{block}")
        for command in commands:
            found.setdefault(command, set()).add(tuple(line for line in lines if line[:1] in "+-"))
    return found


class Session:
    """The session on one engine: a directory of its own, and what each step gave."""

    def __init__(self, engine: Engine, directory: Path) -> None:
        self.directory = directory
        (directory / "tree" / "deep").mkdir(parents=True)
        (directory / "config").mkdir()
        (directory / "tree" / "deep" / "file").write_text("content\n")
        (directory / "given").write_text("from the host\n")
        (directory / "link").symlink_to("given")
        (directory / "env").write_text("FROM_FILE=filed\n")
        (directory / "labels").write_text("from=file\n")
        with socket.socket() as sock:
            sock.bind(("127.0.0.1", 0))
            port = sock.getsockname()[1]
        self.places = {"{dir}": str(directory), "{port}": str(port), "{since}": f"{time.time() - 0.001:.9f}"}
        self.env = {name: value for name, value in os.environ.items() if not name.startswith("DOCKER_")}
        self.env |= {
            "DOCKER_HOST": engine.address,
            "DOCKER_CONFIG": str(directory / "config"),
            "DOCKER_CLI_HINTS": "false",
            "DOCKER_API_VERSION": API_VERSIONS[engine.name],
            "LC_ALL": "C",
        }

    def run(self, steps: list[Step]) -> list[list[str]]:
        return [self.step(step) for step in steps]

    def step(self, step: Step) -> list[str]:
        """The step's transcript: what it wrote and its exit code, normalised."""
        words = step.words[1:] if step.words[0] == "host" else ["docker", *step.words]
        for place, value in (self.places | {"{now}": f"{time.time():.9f}"}).items():
            words = [word.replace(place, value) for word in words]
        deadline = time.monotonic() + 20
        while True:
            try:
                done = subprocess.run(
                    words,
                    env=self.env,
                    input=step.modifiers.get("in", ""),
                    capture_output=True,
                    text=True,
                    errors="replace",
                    timeout=30,
                )
            except subprocess.TimeoutExpired:
                return ["exit: none within 30 seconds"]
            wanted = step.modifiers.get("until")
            if wanted is None or done.stdout.strip() == wanted or time.monotonic() > deadline:
                break
            time.sleep(0.05)
        options = {"as_json": "json" in step.modifiers, "in_any_order": "sort" in step.modifiers}
        transcript = [f"exit: {done.returncode}"]
        for name, text in (("out", done.stdout), ("err", done.stderr)):
            transcript += [f"{name}: {line}" for line in normalise(text, directory=str(self.directory), **options)]
        return transcript


@pytest.mark.timeout(400)
@pytest.mark.parametrize("kind", ["", "network-"])
def test_session(wherry: Engine, dockerd: Engine, tmp_path: Path, kind: str) -> None:
    tmp_path.chmod(0o755)
    steps = read_session((HERE / f"{kind}session.txt").read_text())
    listed = read_differences((HERE / f"{kind}differences.txt").read_text())
    engines = {"dockerd": dockerd, "wherry": wherry}
    transcripts: dict[str, list[list[str]]] = {}
    try:
        with ThreadPoolExecutor() as pool:
            running = {}
            for name, engine in engines.items():
                engine.remove_all()
                running[name] = pool.submit(Session(engine, tmp_path / name).run, steps)
            transcripts = {name: future.result() for name, future in running.items()}
    finally:
        for engine in engines.values():
            leave_nothing(engine)
    problems = []
    used: set[tuple[str, Difference]] = set()
    for step, theirs, ours in zip(steps, transcripts["dockerd"], transcripts["wherry"], strict=True):
        difference = compare(theirs, ours)
        if difference and difference in listed.get(step.command, ()):
            used.add((step.command, difference))
            continue
        if difference:
            problems.append(f"line {step.line}:\n$ {step.command}\n" + "\n".join(difference))
        elif step.exit != "any" and ours[0] != f"exit: {step.exit}":
            problems.append(f"line {step.line}: expected exit {step.exit}\n$ {step.command}\n" + "\n".join(ours))
    for command, differences in listed.items():
        for difference in sorted(differences):
            if (command, difference) not in used:
                problems.append("listed, and no more:\n" + "\n".join([f"$ {command}", *difference]))
    if path := os.environ.get("WHERRY_SESSION_REPORT"):
        Path(path).write_text("\n\n".join(problems) + "\n")
    assert not problems, f"{len(problems)} of {len(steps)} steps (- dockerd, + Wherry):\n\n" + "\n\n".join(problems)


def compare(theirs: list[str], ours: list[str]) -> Difference:
    """The lines that one has and the other has not; empty when they are the same."""
    lines = list(difflib.unified_diff(theirs, ours, lineterm="", n=0))[2:]
    return tuple(f"{line[0]} {line[1:]}" for line in lines if not line.startswith("@@"))


def leave_nothing(engine: Engine) -> None:
    """Remove what a session that was broken off leaves; one that went to its end has done so itself."""
    engine.remove_all()
    for group in Path("/sys/fs/cgroup").glob("*/session"):
        with suppress(OSError):  # the other engine is still in it
            group.rmdir()
    for target in ("/images/session:one", "/images/session:two", "/volumes/session-volume"):
        answer = engine.http.delete(target, query={"force": 1})
        assert answer.status in (200, 204, 404), answer
    for network in engine.http.get("/networks", query={"filters": '{"type":["custom"]}'}).json:
        assert engine.http.delete(f"/networks/{network['Id']}").status == 204


def test_the_session_covers_every_command() -> None:
    words = {word for step in read_session((HERE / "session.txt").read_text()) for word in step.words[:2]}
    assert set(COMMANDS.split()) <= words


# Flags that no step has, each with the reason.
WITHOUT_STEP = {
    "--help": "speaks to no engine",
    "--use-api-socket": "experimental, mounts the command line's own socket: nothing of the API's",
}


def flags_of(command: str) -> dict[str, str]:
    """Each way of writing a flag of ``docker container COMMAND``, and the flag's long name."""
    words = ["events"] if command == "events" else ["container", command]
    text = subprocess.run(["docker", *words, "--help"], capture_output=True, text=True, check=True).stdout
    found = re.findall(r"^ +(?:(-\w), )?(--[\w-]+)", text, re.MULTILINE)
    return {name: long for short, long in found for name in (short, long) if name}


def test_the_session_has_every_flag() -> None:
    used: dict[str, set[str]] = {}
    for step in read_session((HERE / "session.txt").read_text()):
        words = step.words[1:] if step.words[0] == "container" else step.words
        for word in words[1:]:
            if word.startswith("--"):
                used.setdefault(words[0], set()).add(word.partition("=")[0])
            elif re.fullmatch(r"-[a-zA-Z]+", word):
                used.setdefault(words[0], set()).update(f"-{letter}" for letter in word[1:])
    missing = []
    for command in COMMANDS.split():
        # ls and ps are one command, and have their flags between them
        said = used["ls"] | used["ps"] if command in ("ls", "ps") else used.get(command, set())
        names = flags_of(command)
        done = {names[name] for name in said if name in names}
        missing += [f"{command} {long}" for long in sorted({*names.values()} - done - WITHOUT_STEP.keys())]
    assert not missing


def test_a_difference_needs_a_reason() -> None:
    assert read_differences("# why\n$ ps\n- a\n+ b\n") == {"ps": {("- a", "+ b")}}
    with pytest.raises(ValueError, match="reason"):
        read_differences("$ ps\n- a\n")
