"""ContainerTop: the processes of a container as ps shows them (TOP1 to TOP4).

``-ef``, ``aux`` and ``-o`` with well-known columns are answered from /proc; for all other options the machine's own ps
is asked. Nothing of the container's is executed or entered.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence

from wherry.api.errors import Conflict, ServerError, in_words
from wherry.api.models.containers import ContainerTopResponse
from wherry.engine.blocking import in_thread
from wherry.engine.containers.container import Container
from wherry.engine.containers.ps import columns_of, rows
from wherry.engine.containers.registry import Containers
from wherry.engine.oci.cgroups import CgroupSetup
from wherry.engine.oci.tool import run

_RENAMED = re.compile(r"\s+(\S*)=\s*(PID\S*)", re.ASCII)
_DEADLINE = 10.0  # seconds


async def top(containers: Containers, reference: str, ps_args: str | None) -> ContainerTopResponse:
    """The processes of the container; pids are the machine's. Announces ``top``, as moby does.

    Raises ``NotFound``, ``Conflict`` when it does not run, ``ServerError`` for options that ps does not know.
    """
    container = containers.find(reference)
    table = await of_container(container, containers.parts.cgroups, ps_args)
    containers.emit(container, "top")
    return table


async def of_container(container: Container, cgroups: CgroupSetup, ps_args: str | None) -> ContainerTopResponse:
    if not container.state.running:
        raise Conflict(f"container {container.id} is not running")
    if container.state.restarting:
        raise Conflict(f"Container {container.id} is restarting, wait until the container is running")
    pids = await in_thread(cgroups.container(container.id, container.host_config.cgroup_parent).pids)
    return await processes(pids or [container.state.pid], ps_args)


async def processes(pids: Sequence[int], ps_args: str | None) -> ContainerTopResponse:
    """The table of these processes. Raises ``ServerError``."""
    text = ps_args or "-ef"
    for name, value in _RENAMED.findall(text):
        if name != "pid":
            raise ServerError(f'specifying "{name}={value}" is not allowed')
    arguments = text.split()
    if "\0" in text:
        raise ServerError("ps: the options contain a NUL byte")
    columns = columns_of(arguments)
    if columns is not None:
        titles = [column.title for column in columns]
        if "PID" not in titles:
            raise ServerError("Couldn't find PID field in ps output")
        return ContainerTopResponse(processes=await in_thread(rows, pids, columns), titles=titles)
    return parse(await _ask_ps(arguments, pids), pids)


async def _ask_ps(arguments: list[str], pids: Sequence[int]) -> str:
    program = shutil.which("ps")
    if program is None:
        raise ServerError('ps: exec: "ps": executable file not found in $PATH')
    env = {"LC_ALL": "C", "COLUMNS": "100000"}
    try:
        result = await run([program, *arguments, f"-q{','.join(map(str, pids))}"], deadline=_DEADLINE, env=env)
        if result.code:
            # some options, such as f, do not go with -q
            result = await run([program, *arguments], deadline=_DEADLINE, env=env)
    except (OSError, TimeoutError, ValueError) as error:
        raise ServerError(f"ps: {in_words(error)}") from error
    if result.code:
        first = result.output.strip().partition("\n")[0]
        raise ServerError(f"ps: {first or f'exit status {result.code}'}")
    return result.output


def parse(output: str, pids: Sequence[int]) -> ContainerTopResponse:
    """ps's table, of the given processes only; rows of threads (``-``) follow their process (TOP3)."""
    lines = output.split("\n")
    titles = _fields(lines[0])
    if "PID" not in titles:
        raise ServerError("Couldn't find PID field in ps output")
    column = titles.index("PID")
    last = len(titles) - 1
    wanted = set(pids)
    table: list[list[str]] = []
    ours = False
    for line in lines[1:]:
        fields = _fields(line)
        if len(fields) <= column:
            continue
        if fields[column] != "-":
            if not fields[column].isdecimal():
                raise ServerError(f"Unexpected pid '{fields[column]}'")
            ours = int(fields[column]) in wanted
        if ours:
            table.append([*fields[:last], " ".join(fields[last:])])
    return ContainerTopResponse(processes=table, titles=titles)


def _fields(line: str) -> list[str]:
    """Split on ASCII white space only."""
    return [field for field in re.split(r"[ \t\n\f\r\v]+", line) if field]
