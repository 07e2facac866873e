"""What a container changed as a layer: written, unpacked over the same image, and found the same again."""

from __future__ import annotations

import asyncio
import io
import os
import stat
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import images as support
from tests.support.images import Store, load, tar
from wherry.engine.containers.difftar import DiffError, write_diff
from wherry.engine.images.content import Slice
from wherry.engine.images.layers import unpack
from wherry.engine.store.rootfs import layer_diff

CONTAINER = "c" * 64
BASE = tar(
    [
        ("gone/", None),
        ("gone/in", b"x"),
        ("opaque/", None),
        ("opaque/old", b"x"),
        ("file", b"before"),
        ("same", b"12345"),
        ("becomes-directory", b"x"),
        ("becomes-file/", None),
        ("becomes-file/in", b"x"),
        ("link", "file"),
        ("kept/", None),
        ("kept/in", b"x"),
    ]
)


@pytest.fixture(params=[True, False], ids=["overlay", "copies"])
def store(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Store]:
    with support.store(tmp_path, overlay=request.param) as made:
        asyncio.run(load(made.images, support.docker_archive([BASE], ["base:1"])))
        made.rootfs.prepare(CONTAINER, made.images.get("base:1").layer_ids)
        yield made


def diff(store: Store) -> bytes:
    out = io.BytesIO()
    write_diff(store.rootfs.paths(CONTAINER), (), out)
    return out.getvalue()


def names(data: bytes) -> list[str]:
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        return archive.getnames()


def test_nothing_changed_is_an_empty_archive(store: Store) -> None:
    store.rootfs.mount(CONTAINER)
    assert diff(store) == bytes(1024)


def tree(root: Path) -> dict[str, tuple[object, ...]]:
    """Everything that an image keeps of each file."""
    found: dict[str, tuple[object, ...]] = {}
    for directory, below, files in os.walk(os.fsencode(root)):
        for name in below + files:
            path = directory + b"/" + name
            status = os.lstat(path)
            content: object = b""
            if stat.S_ISREG(status.st_mode):
                content = Path(os.fsdecode(path)).read_bytes()
            elif stat.S_ISLNK(status.st_mode):
                content = os.readlink(path)
            capability = b""
            if "security.capability" in os.listxattr(path, follow_symlinks=False):
                capability = os.getxattr(path, "security.capability", follow_symlinks=False)
            size = 0 if stat.S_ISDIR(status.st_mode) else status.st_size
            links = 0 if stat.S_ISDIR(status.st_mode) else status.st_nlink
            key = os.fsdecode(path[len(os.fsencode(root)) :])
            owner = (status.st_uid, status.st_gid)
            found[key] = (status.st_mode, owner, size, links, status.st_rdev, content, capability, int(status.st_mtime))
    return found


def change(root: Path) -> None:
    """One of each kind of change."""
    for path in sorted((root / "gone").iterdir()):
        path.unlink()
    (root / "gone").rmdir()
    (root / "opaque/old").unlink()
    (root / "opaque").rmdir()
    (root / "opaque").mkdir(mode=0o711)
    (root / "opaque/new").write_bytes(b"new")
    (root / "file").write_bytes(b"after")
    (root / "becomes-directory").unlink()
    (root / "becomes-directory").mkdir()
    (root / "becomes-directory/in").write_bytes(b"x")
    (root / "becomes-file/in").unlink()
    (root / "becomes-file").rmdir()
    (root / "becomes-file").write_bytes(b"x")
    (root / "link").unlink()
    (root / "link").symlink_to("/etc/passwd")
    (root / "hard").write_bytes(b"linked")
    os.link(root / "hard", root / "harder")
    os.mkfifo(root / "pipe")
    os.mknod(root / "device", stat.S_IFCHR | 0o600, os.makedev(1, 7))
    (root / "big").write_bytes(bytes(range(256)) * 5000)
    (root / ("n" * 200)).write_bytes(b"long name")
    Path(os.fsdecode(os.fsencode(root) + b"/bytes-\xff\xfe")).write_bytes(b"no text")
    (root / "ümlaut").write_bytes(b"text")
    (root / "owned").write_bytes(b"x")
    os.chown(root / "owned", 123456, 2_500_000)
    (root / "owned").chmod(0o4755)
    os.setxattr(root / "big", "security.capability", b"\x01\0\0\x02\0\x20\0\0" + bytes(12))
    (root / "kept/in").chmod(0o640)
    os.utime(root / "kept/in", (0, 0))


def test_every_kind_of_change_comes_back(store: Store) -> None:
    merged = store.rootfs.mount(CONTAINER)
    change(merged)
    os.mknod(merged / "socket", stat.S_IFSOCK | 0o600)
    data = diff(store)
    assert "socket" not in names(data)
    assert data == diff(store)
    archive = store.layout.tmp / "layer.tar"
    archive.write_bytes(data)
    parent = store.images.get("base:1").layer_ids[0]
    source = Slice(archive)
    made = unpack(store.layout, source, parent, layer_diff(store.layout, parent), whiteouts=store.rootfs.overlay)
    source.close()
    layer = layer_diff(store.layout, made.chain_id)
    layer.parent.mkdir(exist_ok=True)
    (made.directory / "diff").rename(layer)
    store.rootfs.prepare("d" * 64, [made.chain_id, parent])
    again = store.rootfs.mount("d" * 64)
    (merged / "socket").unlink()
    wanted, got = tree(merged), tree(again)
    assert wanted.keys() == got.keys()
    made_by_the_engine = {"dev", "etc", "proc", "sys", ".dockerenv"}  # in each root, at its own time
    for path in wanted:
        compared = -1 if path.split("/")[1] in made_by_the_engine else None
        assert wanted[path][:compared] == got[path][:compared], path
    made.discard()


def test_a_change_that_hides_itself_is_one(store: Store) -> None:
    """The same size, the same times: seen wherever there is an overlay."""
    merged = store.rootfs.mount(CONTAINER)
    before = (merged / "same").stat()
    (merged / "same").write_bytes(b"54321")
    os.utime(merged / "same", ns=(before.st_atime_ns, before.st_mtime_ns))
    if store.rootfs.overlay:
        assert names(diff(store)) == ["same"]


def test_the_root_s_own_mode_is_kept(store: Store) -> None:
    merged = store.rootfs.mount(CONTAINER)
    merged.chmod(0o711)
    if store.rootfs.overlay:
        with tarfile.open(fileobj=io.BytesIO(diff(store))) as archive:
            assert [(member.name, member.mode) for member in archive] == [(".", 0o711)]


def test_names_that_stand_for_removed_files_are_refused(store: Store) -> None:
    merged = store.rootfs.mount(CONTAINER)
    (merged / "kept/.wh.in").write_bytes(b"")
    with pytest.raises(DiffError, match=r"/kept/\.wh\.in cannot be part of an image"):
        diff(store)


def test_a_tree_too_deep_for_a_path_is_an_error_not_a_loss(store: Store) -> None:
    merged = store.rootfs.mount(CONTAINER)
    fd = os.open(merged, os.O_RDONLY)
    for _ in range(30):
        os.mkdir("d" * 200, dir_fd=fd)
        inner = os.open("d" * 200, os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = inner
    os.close(fd)
    if store.rootfs.overlay:
        with pytest.raises(DiffError, match="cannot be read"):
            diff(store)
