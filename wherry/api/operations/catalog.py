"""All operations of the API that Wherry speaks."""

from __future__ import annotations

from wherry.api.operation import Operation
from wherry.api.operations import build, containers, distribution, exec, images, networks, system, volumes
from wherry.api.operations.outlines import OUTLINES

ALL: tuple[Operation, ...] = (
    *containers.ALL,
    *exec.ALL,
    *images.ALL,
    *build.ALL,
    *networks.ALL,
    *volumes.ALL,
    *system.ALL,
    *distribution.ALL,
)
"""The operations with all of their parameters and bodies."""

BY_ID: dict[str, Operation] = {operation.id: operation for operation in ALL}

__all__ = ["ALL", "BY_ID", "OUTLINES"]
