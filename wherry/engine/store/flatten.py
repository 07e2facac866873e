"""Layers without overlay mounts: apply one upon another in a plain directory, and copy whole trees.

Used where the data root cannot hold an overlay. There a layer keeps its whiteouts as the files ``.wh.<name>`` that it
had in its archive; character devices 0:0 are understood too. Trees come from the engine's own extractor, lie in
directories that only root may enter, and nothing runs in them: paths are walked by name, links never followed.
"""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from pathlib import Path

from wherry.engine.store.removal import remove_path

_WHITEOUT = ".wh."
_OPAQUE = ".wh..wh..opq"


def copy(source: Path, target: Path) -> None:
    """Copy a tree with owners, times, attributes, links and devices; reflinked where the filesystem can.

    Raises ``OSError`` with cp's words.
    """
    done = subprocess.run(
        ["cp", "-a", "--reflink=auto", "--no-target-directory", "--", str(source), str(target)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        check=False,
    )
    if done.returncode:
        raise OSError(done.stderr.decode(errors="replace").strip() or f"cp ended with {done.returncode}")


def apply(layer: Path, root: Path) -> None:
    """Lay ``layer`` upon the tree at ``root``: first what it removes, then all that it brings."""
    shutil.copystat(layer, root)
    status = layer.stat()
    os.chown(root, status.st_uid, status.st_gid)
    whiteouts = _clear_way(layer, root)
    copy(layer, root)
    for path in whiteouts:
        target = root / path.relative_to(layer)
        if os.path.lexists(target):
            times = target.parent.stat()
            target.unlink()
            os.utime(target.parent, ns=(times.st_atime_ns, times.st_mtime_ns))  # a directory's time is the layer's


def _clear_way(layer: Path, root: Path) -> list[Path]:
    """Remove from ``root`` what the layer hides or replaces by another type; returns the layer's whiteouts."""
    whiteouts = []
    stack = [layer]
    while stack:
        directory = stack.pop()
        below = root / directory.relative_to(layer)
        for entry in os.scandir(directory):
            path = Path(entry.path)
            status = entry.stat(follow_symlinks=False)
            if entry.name == _OPAQUE:
                whiteouts.append(path)
                for old in list(below.iterdir()) if below.is_dir() and not below.is_symlink() else []:
                    remove_path(old)
            elif entry.name.startswith(_WHITEOUT):
                whiteouts.append(path)
                remove_path(below / entry.name[len(_WHITEOUT) :])
            elif stat.S_ISCHR(status.st_mode) and status.st_rdev == 0:
                whiteouts.append(path)
                remove_path(below / entry.name)
            elif entry.is_dir(follow_symlinks=False):
                if _is_opaque(path) or not stat.S_ISDIR(_mode(below / entry.name)):
                    remove_path(below / entry.name)
                stack.append(path)
            else:
                remove_path(below / entry.name)
    return whiteouts


def _mode(path: Path) -> int:
    """The file type of ``path``; a directory's for one that is not there, as nothing is in the way then."""
    try:
        return path.lstat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return stat.S_IFDIR


def _is_opaque(path: Path) -> bool:
    try:
        return os.getxattr(path, "trusted.overlay.opaque", follow_symlinks=False) == b"y"
    except OSError:
        return False
