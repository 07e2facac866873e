"""The ``changes`` of import and commit: a few Dockerfile instructions applied to a configuration.

CMD, ENTRYPOINT, ENV, EXPOSE, HEALTHCHECK, LABEL, ONBUILD, STOPSIGNAL, USER, VOLUME and WORKDIR.
"""

from __future__ import annotations

from collections.abc import Sequence

from wherry.api.errors import BadRequest
from wherry.api.models.containers import ContainerConfig
from wherry.engine.dockerfile import instructions as i
from wherry.engine.dockerfile.configure import configure, environment, expanded
from wherry.engine.dockerfile.parser import parse

_ALLOWED = frozenset(
    "cmd entrypoint env expose healthcheck label onbuild stopsignal user volume workdir".split(),
)


def apply(config: ContainerConfig, changes: Sequence[str]) -> None:
    """Change ``config`` as the instructions say, in their order. Raises ``BadRequest`` for the first that cannot be."""
    if not any(change.strip() for change in changes):
        return
    file = parse("\n".join(changes).encode("utf-8", "replace"))
    for line in file.lines:
        if line.name not in _ALLOWED:
            raise BadRequest(f"{line.name} is not a valid change command")
    cmd_set = False
    for instruction in [i.instruction(line) for line in file.lines]:
        expanded(instruction, environment(config), file.escape)
        configure(config, instruction, cmd_set=cmd_set)
        cmd_set = cmd_set or isinstance(instruction, i.Cmd)
