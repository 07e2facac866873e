"""ContainerExport: the root filesystem as one tar archive (EXP1, EXP2)."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

from wherry.engine.containers.tarstream import TarStream, tar_arguments


def export(merged: Path) -> AsyncIterator[bytes]:
    """The tree at ``merged``, the mounted root filesystem, in pieces; it must stay mounted until the iterator is done.

    Names have no leading ``/``, and the root itself has no entry. Volumes and ``/proc`` are not in it: they are mounted
    in the container's namespace only. Raises ``OSError``; the iterator does when the archive cannot be completed.
    """
    directory = os.open(merged, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        names = [os.fsencode(name) for name in sorted(os.listdir(directory))]
        return TarStream(directory, tar_arguments(None), names=names)
    except BaseException:
        os.close(directory)
        raise
