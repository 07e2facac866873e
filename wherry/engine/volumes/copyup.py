"""An empty volume takes what the image has at its place, with owners, modes, links and attributes (CRE24)."""

from __future__ import annotations

import os
import stat
import subprocess
import uuid
from collections.abc import Callable
from pathlib import Path

from wherry.engine.inroot import open_in_root
from wherry.engine.store.removal import remove_tree
from wherry.engine.store.trash import Trash


def open_source(root: Path, destination: str) -> int | None:
    """A descriptor of the directory ``destination`` below the mounted ``root``; None when there is none."""
    root_fd = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return open_in_root(root_fd, destination, os.O_RDONLY | os.O_DIRECTORY)
    except (FileNotFoundError, NotADirectoryError):
        return None
    finally:
        os.close(root_fd)


def copy_over(
    source: int, target: Path, work: Path, trash: Trash, prepare: Callable[[Path], None], *, limited: bool
) -> None:
    """Put a copy of ``source`` in the place of ``target``, an empty directory, at once. ``prepare`` is given the copy's
    directory while that is empty; ``work`` is on the same filesystem. ``limited``: quotas hold. Raises ``OSError``."""
    copy = work / f"volume-{uuid.uuid4().hex[:16]}"
    try:
        copy.mkdir()
        prepare(copy)
        copy_into(source, copy, limited=limited)
        os.rename(copy, target)
    except BaseException:
        trash.discard(copy)
        raise


def copy_into(source: int, target: Path, *, limited: bool = False) -> None:
    """Copy what is in ``source`` into the empty directory ``target``, and give it the same owner and mode.

    What had arrived when it failed is removed again. Raises ``OSError``.
    """
    try:
        if os.listdir(source):
            _copy(source, target, limited)
        status = os.fstat(source)
        os.chown(target, status.st_uid, status.st_gid)
        target.chmod(stat.S_IMODE(status.st_mode))
    except BaseException:
        _empty(target)
        raise


def _empty(directory: Path) -> None:
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for name in os.listdir(fd):
            remove_tree(fd, name)
    finally:
        os.close(fd)


def _copy(source: int, target: Path, limited: bool) -> None:
    # ext4 does not hold root to its quotas while it has this capability
    prefix = ["setpriv", "--bounding-set=-sys_resource"] if limited else []
    done = subprocess.run(
        [*prefix, "cp", "-a", "--reflink=auto", "--", f"/proc/self/fd/{source}/.", str(target)],
        pass_fds=(source,),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        check=False,
    )
    if done.returncode:
        raise OSError(done.stderr.decode(errors="replace").strip() or f"cp ended with {done.returncode}")
