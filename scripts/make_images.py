"""Make image archives from what Debian gives: busybox from busybox-static, debian from debootstrap.

    make_images.py busybox OUT.tar          busybox:latest
    make_images.py debian OUT.tar           debian:bookworm (needs root and debootstrap)

The archives have the layout of ``docker save``, so that any engine loads them. The busybox one is the same byte for byte
on every run with the same busybox.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import os
import platform
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

BUSYBOX = "/bin/busybox"
CREATED = "2024-01-01T00:00:00Z"
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "riscv64": "riscv64", "ppc64le": "ppc64le"}

DIRECTORIES = {
    "bin": 0o755,
    "dev": 0o755,
    "etc": 0o755,
    "home": 0o755,
    "home/user": 0o755,
    "lib": 0o755,
    "proc": 0o755,
    "root": 0o700,
    "sbin": 0o755,
    "sys": 0o755,
    "tmp": 0o1777,
    "usr": 0o755,
    "usr/bin": 0o755,
    "usr/sbin": 0o755,
    "var": 0o755,
    "var/www": 0o755,
}
FILES = {
    "etc/passwd": b"root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000:user:/home/user:/bin/sh\n"
    b"nobody:x:65534:65534:nobody:/:/bin/false\n",
    "etc/group": b"root:x:0:\nuser:x:1000:\nstaff:x:50:user\nnogroup:x:65534:\n",
    "etc/shells": b"/bin/sh\n",
    "var/www/index.html": b"<h1>It works</h1>\n",
}


def architecture() -> str:
    """This machine's architecture in the words of images."""
    return ARCHITECTURES.get(platform.machine(), platform.machine())


def busybox_applets(busybox: str = BUSYBOX) -> Iterator[tuple[str, str]]:
    """Each applet's path in the image and what its link points to."""
    listed = subprocess.run([busybox, "--list"], check=True, capture_output=True, text=True).stdout.split()
    for applet in sorted(set(listed) - {"busybox"}):
        yield f"bin/{applet}", "busybox"


def busybox_layer(busybox: str = BUSYBOX) -> bytes:
    """The layer of busybox:latest, an uncompressed tar."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for name, mode in DIRECTORIES.items():
            entry = _entry(name, mode)
            entry.type = tarfile.DIRTYPE
            if name == "home/user":
                entry.uid = entry.gid = 1000
            tar.addfile(entry)
        for name, data in FILES.items():
            _add_file(tar, name, data, 0o644)
        _add_file(tar, "bin/busybox", Path(busybox).read_bytes(), 0o755)
        for name, target in busybox_applets(busybox):
            entry = _entry(name, 0o777)
            entry.type, entry.linkname = tarfile.SYMTYPE, target
            tar.addfile(entry)
    return out.getvalue()


def small_layer(files: Mapping[str, bytes | None]) -> bytes:
    """A layer of a few files; None makes a directory."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for name, data in files.items():
            if data is None:
                entry = _entry(name, 0o755)
                entry.type = tarfile.DIRTYPE
                tar.addfile(entry)
            else:
                _add_file(tar, name, data, 0o644)
    return out.getvalue()


def image_config(layer_digests: Sequence[str], config: Mapping[str, Any]) -> bytes:
    """The image's config file over the SHA-256 hex digests of its uncompressed layers."""
    return json.dumps(
        {
            "architecture": architecture(),
            "os": "linux",
            "created": CREATED,
            "config": dict(config),
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}" for digest in layer_digests]},
            "history": [{"created": CREATED, "created_by": "make_images.py"} for _ in layer_digests],
        },
        sort_keys=True,
    ).encode()


def docker_archive(layers: Sequence[bytes], config: Mapping[str, Any], tags: Sequence[str]) -> bytes:
    """An image as ``docker save`` writes it; ``config`` is its Config (Cmd, Env, …), ``tags`` like ``busybox:latest``."""
    out = io.BytesIO()
    write_archive(out, [io.BytesIO(layer) for layer in layers], config, tags)
    return out.getvalue()


def write_archive(out: BinaryIO, layers: Sequence[BinaryIO], config: Mapping[str, Any], tags: Sequence[str]) -> None:
    """The same from and to files, for layers too large for memory."""
    digests = [_digest(layer) for layer in layers]
    image = image_config(digests, config)
    image_name = f"{hashlib.sha256(image).hexdigest()}.json"
    with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for layer, digest in zip(layers, digests, strict=True):
            directory = _entry(digest, 0o755)
            directory.type = tarfile.DIRTYPE
            tar.addfile(directory)
            entry = _entry(f"{digest}/layer.tar", 0o644)
            entry.size = layer.seek(0, os.SEEK_END)
            layer.seek(0)
            tar.addfile(entry, layer)
        _add_file(tar, image_name, image, 0o644)
        manifest = [{"Config": image_name, "RepoTags": list(tags), "Layers": [f"{d}/layer.tar" for d in digests]}]
        _add_file(tar, "manifest.json", json.dumps(manifest).encode(), 0o644)


def busybox_archive(tag: str = "busybox:latest", busybox: str = BUSYBOX) -> bytes:
    """busybox:latest with ``CMD ["sh"]``."""
    return docker_archive([busybox_layer(busybox)], {"Cmd": ["sh"], "Env": [DEFAULT_PATH]}, [tag])


DEFAULT_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def make_debian(out: BinaryIO, suite: str = "bookworm") -> None:
    """debian:<suite> by debootstrap's smallest variant."""
    with tempfile.TemporaryDirectory(prefix="wherry-debian-") as scratch, tempfile.TemporaryFile() as layer:
        root = Path(scratch, "root")
        subprocess.run(
            ["debootstrap", "--variant=minbase", suite, str(root)], check=True, stdout=subprocess.DEVNULL, timeout=1800
        )
        for cached in (root / "var/cache/apt/archives").glob("*.deb"):
            cached.unlink()
        command = ["tar", "--numeric-owner", "--xattrs", "--one-file-system", "-C", str(root), "-cf", "-"]
        excluded = ["--exclude=./dev/*", "--exclude=./proc/*", "--exclude=./sys/*", "--exclude=./var/lib/apt/lists/*"]
        subprocess.run([*command, *excluded, "."], check=True, stdout=layer)
        layer.seek(0)
        write_archive(out, [layer], {"Cmd": ["bash"], "Env": [DEFAULT_PATH]}, [f"debian:{suite}"])


def _digest(file: BinaryIO) -> str:
    file.seek(0)
    digest = hashlib.sha256()
    while block := file.read(1 << 20):
        digest.update(block)
    return digest.hexdigest()


def _entry(name: str, mode: int) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.mode, entry.mtime = mode, 1_704_067_200
    return entry


def _add_file(tar: tarfile.TarFile, name: str, data: bytes, mode: int) -> None:
    entry = _entry(name, mode)
    entry.size = len(data)
    tar.addfile(entry, io.BytesIO(data))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("image", choices=["busybox", "debian"])
    parser.add_argument("out", type=Path)
    options = parser.parse_args()
    partial = options.out.with_suffix(".partial")
    with partial.open("wb") as out:
        if options.image == "busybox":
            out.write(busybox_archive())
        else:
            make_debian(out)
    partial.replace(options.out)
    print(f"{options.out}: {options.out.stat().st_size / 1e6:.1f} MB", file=sys.stderr)


if __name__ == "__main__":
    main()
