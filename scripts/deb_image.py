"""Images of real services from Debian's own packages: busybox below, above it the packages and the libraries they need.

    deb_image.py PACKAGE,PACKAGE… …      has a layer of each of these sets made, below .setup/debs, where tests find it

No installer runs: packages are unpacked, their scripts are not executed. Needs apt-get and dpkg-deb.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from scripts.make_images import DEFAULT_PATH, busybox_layer, docker_archive

CACHE = Path(__file__).resolve().parents[1] / ".setup/debs"
_FOLLOWED = ("lib", "zlib", "python3.")
_DEPENDS = re.compile(r"^(?:Pre-)?Depends: (.*)$", re.MULTILINE)


def closure(packages: Iterable[str]) -> list[str]:
    """The packages and all libraries that they depend on, sorted; of alternatives the first."""
    found: set[str] = set()
    level = set(packages)
    while level:
        found |= level
        shown = _run("apt-cache", "show", "--no-all-versions", *sorted(level))
        names = {
            re.split(r"[ (:|]", each.strip(), maxsplit=1)[0]
            for line in _DEPENDS.findall(shown)
            for each in line.split(",")
        }
        level = {name for name in names if name.startswith(_FOLLOWED)} - found
    return sorted(found)


def download(packages: Iterable[str], cache: Path = CACHE) -> list[Path]:
    """The archives of the packages' closure, fetched where the cache has none."""
    cache.mkdir(parents=True, exist_ok=True)
    names = closure(packages)
    there = {path.name.partition("_")[0] for path in cache.glob("*.deb")}
    missing = [name for name in names if name not in there]
    if missing:
        # into a directory of its own: an archive that was cut off must not count as one
        with tempfile.TemporaryDirectory(dir=cache) as scratch:
            _run("apt-get", "-qq", "-o", "APT::Sandbox::User=root", "download", *missing, cwd=scratch)
            for path in Path(scratch).glob("*.deb"):
                path.replace(cache / path.name)
    return sorted(path for path in cache.glob("*.deb") if path.name.partition("_")[0] in names)


def layer(packages: Sequence[str], cache: Path = CACHE) -> bytes:
    """A layer with the packages' files, without their documentation; made once."""
    kept = cache / f"{'+'.join(sorted(packages))}.tar"
    if kept.exists():
        return kept.read_bytes()
    with tempfile.TemporaryDirectory(prefix="wherry-debs-") as scratch:
        root = Path(scratch, "root")
        root.mkdir(mode=0o755)
        for archive in download(packages, cache):
            _run("dpkg-deb", "-x", str(archive), str(root))
        made = Path(scratch, "layer.tar")
        unwanted = [f"--exclude=./usr/share/{name}" for name in ("doc", "man", "locale", "lintian", "bug")]
        _run("tar", "--numeric-owner", "--sort=name", "-C", str(root), "-cf", str(made), *unwanted, ".")
        partial = kept.with_suffix(f".{os.getpid()}")
        shutil.copy(made, partial)
        partial.replace(kept)
    return kept.read_bytes()


def image(
    tag: str, packages: Sequence[str], config: Mapping[str, Any], files: Sequence[bytes] = (), cache: Path = CACHE
) -> bytes:
    """An archive for ``docker load``; ``files`` are further layers."""
    layers = [busybox_layer(), layer(packages, cache), *files]
    return docker_archive(layers, {"Env": [DEFAULT_PATH]} | dict(config), [tag])


def _run(*command: str, cwd: str | None = None) -> str:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=300)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


if __name__ == "__main__":
    for names in sys.argv[1:]:
        print(f"{names}: a layer of {len(layer(names.split(','))) >> 20} MiB", file=sys.stderr)
