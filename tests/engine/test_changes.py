"""What a container changed, seen through a real overlay mount."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from wherry.engine.containers.changes import changes
from wherry.engine.store import removal
from wherry.engine.store.overlay import mount_overlay, umount_lazily
from wherry.engine.store.rootfs import RootfsPaths

OLD = 1_500_000_000


class Tree:
    """Two layers and an upper directory, mounted."""

    def __init__(self, base: Path) -> None:
        self.top, self.bottom, self.upper, self.work, self.merged = (
            base / name for name in ("top", "bottom", "upper", "work", "merged")
        )
        for path in (self.top, self.bottom, self.upper, self.work, self.merged):
            path.mkdir()
        self.paths = RootfsPaths((self.top, self.bottom), self.upper, self.work, self.merged)

    def mount(self) -> Path:
        for path in [*self.top.rglob("*"), *self.bottom.rglob("*")]:
            os.utime(path, (OLD, OLD), follow_symlinks=False)
        mount_overlay(self.merged, [self.top, self.bottom], self.upper, self.work)
        return self.merged

    def changes(self, *mount_points: str) -> list[tuple[str, int]] | None:
        found = changes(self.paths, mount_points)
        return None if found is None else [(change.path, change.kind) for change in found]


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[Tree]:
    result = Tree(tmp_path)
    (result.bottom / "etc/deep/er").mkdir(parents=True)
    (result.bottom / "etc/passwd").write_text("root")
    (result.bottom / "etc/deep/er/f").write_text("f")
    (result.bottom / "below").mkdir()
    (result.bottom / "below/hidden").touch()
    (result.bottom / "below/gone").touch()
    (result.top / "below").mkdir()
    os.mknod(result.top / "below/gone", 0o020000, os.makedev(0, 0))
    (result.top / "only").write_text("top")
    yield result
    umount_lazily(result.merged)


def test_CHG1_nothing_is_null(tree: Tree) -> None:
    tree.mount()
    assert tree.changes() is None


def test_CHG2_added_modified_deleted(tree: Tree) -> None:
    root = tree.mount()
    (root / "new/sub").mkdir(parents=True)
    (root / "new/sub/f").touch()
    (root / "etc/passwd").write_text("other")
    shutil.rmtree(root / "below")
    (root / "only").unlink()
    assert tree.changes() == [
        ("/below", 2),
        ("/etc", 0),
        ("/etc/passwd", 0),
        ("/new", 1),
        ("/new/sub", 1),
        ("/new/sub/f", 1),
        ("/only", 2),
    ]


def test_CHG2_attributes_count_and_a_mere_copy_does_not(tree: Tree) -> None:
    root = tree.mount()
    with open(root / "etc/passwd", "ab"):
        pass  # copied up, and the same
    assert tree.changes() is None
    (root / "etc/deep/er/f").chmod(0o600)
    os.utime(root / "only")
    os.chown(root / "below", 5, 5)
    assert tree.changes() == [
        ("/below", 0),
        ("/etc", 0),
        ("/etc/deep", 0),
        ("/etc/deep/er", 0),
        ("/etc/deep/er/f", 0),
        ("/only", 0),
    ]


def test_CHG2_a_capability_is_a_change(tree: Tree) -> None:
    root = tree.mount()
    times = os.stat(root / "only")
    os.setxattr(root / "only", "security.capability", bytes.fromhex("0100000200200000000000000000000000000000"))
    os.utime(root / "only", ns=(times.st_atime_ns, times.st_mtime_ns))
    assert tree.changes() == [("/only", 0)]


def test_CHG2_types_that_change(tree: Tree) -> None:
    root = tree.mount()
    (root / "only").unlink()
    (root / "only").mkdir()
    (root / "only/f").touch()
    shutil.rmtree(root / "below")
    (root / "below").write_text("file")
    assert tree.changes() == [("/below", 0), ("/only", 0), ("/only/f", 1)]


def test_CHG2_a_directory_made_anew_is_compared_by_content(tree: Tree) -> None:
    root = tree.mount()
    shutil.rmtree(root / "etc")
    (root / "etc").mkdir()
    (root / "etc/passwd").write_text("root")
    os.utime(root / "etc/passwd", (OLD, OLD))
    (root / "etc/more").touch()
    assert tree.changes() == [("/etc", 0), ("/etc/deep", 2), ("/etc/more", 1)]


def test_what_a_layer_hides_is_not_there(tree: Tree) -> None:
    root = tree.mount()
    (root / "below/gone").touch()
    (root / "below/x").touch()
    (root / "below/x").unlink()
    assert tree.changes() == [("/below", 0), ("/below/gone", 1)]


def test_CHG3_mount_points_are_no_change(tree: Tree) -> None:
    root = tree.mount()
    (root / "data/a/b").mkdir(parents=True)
    (root / "below/v").mkdir()
    (root / "volume").mkdir()
    assert tree.changes("/data/a/b", "/below/v", "/volume") is None
    (root / "data/f").touch()
    assert tree.changes("/data/a/b", "/below/v", "/volume") == [("/data", 1), ("/data/f", 1)]


def test_CHG4_parents_before_children(tree: Tree) -> None:
    root = tree.mount()
    for name in ("a", "a-b", "a.b"):
        (root / name).mkdir()
        (root / name / "f").touch()
    found = tree.changes() or []
    assert found == [("/a", 1), ("/a/f", 1), ("/a-b", 1), ("/a-b/f", 1), ("/a.b", 1), ("/a.b/f", 1)]


def test_links_of_the_container_lead_nowhere(tree: Tree) -> None:
    root = tree.mount()
    (root / "l").symlink_to("/etc")
    (root / "etc/out").symlink_to("../../../..")
    assert tree.changes() == [("/etc", 0), ("/etc/out", 1), ("/l", 1)]


def test_without_overlay_whole_trees_are_compared(tmp_path: Path) -> None:
    flat, merged = tmp_path / "flat", tmp_path / "merged"
    (flat / "d").mkdir(parents=True)
    for name in ("same", "other", "d/gone"):
        (flat / name).write_text("x")
        os.utime(flat / name, (OLD, OLD))
    shutil.copytree(flat, merged)
    (merged / "other").write_text("y")
    (merged / "d/gone").unlink()
    (merged / "new").touch()
    found = changes(RootfsPaths((flat,), None, None, merged)) or []
    assert [(change.path, change.kind) for change in found] == [("/d", 0), ("/d/gone", 2), ("/new", 1), ("/other", 0)]


def test_a_tree_deeper_than_any_path(tree: Tree) -> None:
    root = tree.mount()
    fd = os.open(root, os.O_RDONLY)
    for _ in range(2500):
        os.mkdir("dd", dir_fd=fd)
        deeper = os.open("dd", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = deeper
    os.close(fd)
    assert len(tree.changes() or []) > 1000
    umount_lazily(root)
    base = os.open(tree.upper.parent, os.O_RDONLY)
    removal.remove_tree(base, "upper")
    os.close(base)
