"""Sizes of volumes, which take a kernel with project quotas (QFMT_V2): Debian's have them."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Collection, Iterator
from pathlib import Path

import pytest

from tests.support import images as support
from wherry.api.errors import BadRequest


def nobody(name: str) -> Collection[str]:
    return []


@pytest.fixture
def with_quotas(tmp_path: Path) -> Iterator[Path]:
    """An ext4 with project quotas."""
    image, place = tmp_path / "ext4", tmp_path / "mnt"
    place.mkdir()
    image.touch()
    os.truncate(image, 64 << 20)
    subprocess.run(
        ["mkfs.ext4", "-q", "-O", "quota,project", "-E", "quotatype=prjquota", str(image)], check=True, timeout=60
    )
    subprocess.run(["mount", "-o", "loop,prjquota", image, place], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", place], check=True)


def test_a_size_is_held_by_the_filesystem(with_quotas: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "small").mkdir(parents=True)
    (root / "small/file").write_bytes(b"x" * 100_000)
    (root / "large").mkdir()
    (root / "large/file").write_bytes(b"x" * 2_000_000)
    with support.store(with_quotas) as store:
        store.volumes.create("limited", options={"size": "1m"})
        store.volumes.create("free")
        with pytest.raises(BadRequest, match="give the size of a mounted one in 'o='"):
            store.volumes.create("both", options={"size": "1m", "type": "tmpfs", "device": "tmpfs"})
        with pytest.raises(OSError, match="quota"):
            store.volumes.copy_up("limited", root, "/large")
        assert list(store.volumes.path("limited").iterdir()) == []
        assert store.volumes.copy_up("limited", root, "/small")
        store.restart()
        place = store.volumes.path("limited")
        (place / "sub").mkdir()
        # As a container's processes: without the capability that lets root pass its quotas.
        write = ["setpriv", "--bounding-set=-sys_resource", "head", "-c", "2000000", "/dev/zero"]
        with (place / "sub/more").open("wb") as file:
            done = subprocess.run(write, stdout=file, stderr=subprocess.PIPE, text=True)
        assert (done.returncode, "quota" in done.stderr or "No space" in done.stderr) == (1, True)
        assert (place / "sub/more").stat().st_size < 1 << 20
        (store.volumes.path("free") / "file").write_bytes(b"x" * 2_000_000)
        store.volumes.remove("limited", in_use=nobody)
        store.trash.wait(10)
