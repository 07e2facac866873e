"""A container's root filesystem, overlay or copy; mounts and the trash."""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import images as support
from tests.support.images import Store
from wherry.engine.store import overlay
from wherry.engine.store.removal import remove_path
from wherry.engine.store.rootfs import Rootfs
from wherry.engine.store.trash import Trash

LOW, TOP = f"sha256:{'1' * 64}", f"sha256:{'2' * 64}"


@pytest.fixture(params=[None, False], ids=["overlay", "copies"])
def store(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Store]:
    with support.store(tmp_path, overlay=request.param) as made:
        low, top = (made.layout.layers / chain[7:] / "diff" for chain in (LOW, TOP))
        (low / "etc").mkdir(parents=True)
        (low / "etc/hosts").write_text("of the image")
        (low / "etc/resolv.conf").symlink_to("../run/resolv.conf")
        (low / "file").write_text("low")
        (low / "gone").write_text("low")
        top.mkdir(parents=True)
        (top / "file").write_text("top!")
        if made.rootfs.overlay:
            os.mknod(top / "gone", stat.S_IFCHR, 0)
        else:
            (top / ".wh.gone").touch()
        os.chown(top, 12, 34)
        top.chmod(0o751)
        yield made


def test_CHG3_a_container_sees_its_layers_and_the_engines_own_files(store: Store) -> None:
    store.rootfs.prepare("c", [TOP, LOW])
    root = store.rootfs.mount("c")
    assert (root / "file").read_text() == "top!"
    assert not (root / "gone").exists()
    assert sorted(path.name for path in root.iterdir()) == [".dockerenv", "dev", "etc", "file", "proc", "sys"]
    assert sorted(path.name for path in (root / "dev").iterdir()) == ["console", "pts", "shm"]
    assert (root / "etc/hosts").read_text() == ""
    assert stat.S_ISREG((root / "etc/resolv.conf").lstat().st_mode)
    assert os.readlink(root / "etc/mtab") == "/proc/mounts"
    status = root.stat()
    assert (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)) == (12, 34, 0o751)
    assert store.rootfs.size("c") == 0
    (root / "new").write_bytes(b"x" * 1000)
    os.link(root / "new", root / "link")
    (root / "etc/hosts").write_text("12345")
    assert store.rootfs.size("c") == 1005
    store.rootfs.unmount("c")
    store.rootfs.remove("c")


def test_INS6_the_paths_are_those_of_the_driver(store: Store) -> None:
    store.rootfs.prepare("c", [TOP, LOW])
    name, data = store.rootfs.paths("c").graph_driver()
    place = store.layout.rootfs / "c"
    assert data["MergedDir"] == str(place / "merged")
    if name == "overlay2":
        layers = store.layout.layers
        lower = [layers / TOP[7:] / "init", layers / TOP[7:] / "diff", layers / LOW[7:] / "diff"]
        assert data == {
            "LowerDir": ":".join(map(str, lower)),
            "MergedDir": str(place / "merged"),
            "UpperDir": str(place / "upper"),
            "WorkDir": str(place / "work"),
        }


def test_a_mount_lasts_as_long_as_anybody_holds_it(store: Store) -> None:
    rootfs = store.rootfs
    rootfs.prepare("c", [LOW])
    with rootfs.mounted("c") as first:
        root = rootfs.mount("c")
        assert root == first == rootfs.mount("c")
    assert rootfs.is_mounted("c")
    with rootfs.mounted("c"):
        rootfs.unmount("c")
        rootfs.unmount("c")
        assert (root / "file").exists()
        (root / "kept").touch()
    if rootfs.overlay:
        assert not rootfs.is_mounted("c")
        assert list(root.iterdir()) == []
    with rootfs.mounted("c"):
        assert (root / "kept").exists()
    rootfs.unmount("nobody")


def test_many_threads_at_once(store: Store) -> None:
    errors: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for turn in range(5):
                name = f"c{number}-{turn}"
                store.rootfs.prepare(name, [TOP, LOW])
                with store.rootfs.mounted(name) as root, store.rootfs.mounted(name):
                    assert (root / "file").read_text() == "top!"
                store.rootfs.remove(name)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert store.trash.wait(10)
    assert (
        list(store.layout.rootfs.iterdir())
        == list(store.layout.trash.iterdir())
        == list(store.layout.tmp.iterdir())
        == []
    )
    assert overlay.mounts_below(store.layout.data_root) == []


def test_an_image_without_layers(store: Store) -> None:
    store.rootfs.prepare("c", [])
    with store.rootfs.mounted("c") as root:
        assert (root / "etc/hosts").is_file()


def test_what_cannot_be_made_leaves_nothing(store: Store) -> None:
    with pytest.raises(OSError):
        store.rootfs.prepare("c", [f"sha256:{'9' * 64}"])
    with pytest.raises(ValueError, match="not a chain id"):
        store.rootfs.prepare("c", ["../../etc"])
    store.rootfs.prepare("c", [LOW])
    with pytest.raises(FileExistsError):
        store.rootfs.prepare("c", [LOW])
    for call in (store.rootfs.mount, store.rootfs.paths, store.rootfs.size):
        with pytest.raises(FileNotFoundError):
            call("nobody")
    store.trash.wait(10)
    assert [path.name for path in store.layout.rootfs.iterdir()] == ["c"]
    assert list(store.layout.tmp.iterdir()) == []
    assert store.rootfs.layers_in_use() == {LOW}


def test_a_new_engine_adopts_what_is_mounted_and_sets_the_unknown_aside(store: Store) -> None:
    for name in ("running", "stopped", "unknown"):
        store.rootfs.prepare(name, [TOP, LOW])
    store.rootfs.mount("running")
    (store.rootfs.mount("unknown") / "precious").write_text("x")
    store.restart()
    (lost,) = store.rootfs.recover({"running", "stopped"})
    assert (lost / ("upper" if store.rootfs.overlay else "merged") / "precious").read_text() == "x"
    assert store.rootfs.layers("stopped") == (TOP, LOW)
    assert store.rootfs.layers_in_use() == {TOP, LOW}
    if store.rootfs.overlay:
        root = store.layout.rootfs / "running" / "merged"
        with store.rootfs.mounted("running"):
            pass
        assert store.rootfs.is_mounted("running"), "its run still holds it"
        store.rootfs.unmount("running")
        assert not os.path.ismount(root)


def test_a_root_filesystem_in_use_is_removed_all_the_same(store: Store) -> None:
    store.rootfs.prepare("c", [LOW])
    with open(store.rootfs.mount("c") / "file") as held:
        store.rootfs.remove("c")
        assert held.read() == "low"
    assert store.trash.wait(10)
    assert not (store.layout.rootfs / "c").exists()
    assert (store.layout.layers / LOW[7:] / "diff/file").exists()


def test_an_image_whose_etc_is_a_link_leads_nowhere(store: Store, tmp_path: Path) -> None:
    layer = store.layout.layers / ("3" * 64) / "diff"
    layer.mkdir(parents=True)
    (tmp_path / "outside").mkdir()
    (layer / "etc").symlink_to(tmp_path / "outside")
    (layer / "dev").write_text("a file")
    store.rootfs.prepare("c", [f"sha256:{'3' * 64}"])
    with store.rootfs.mounted("c") as root:
        assert (root / "etc/hosts").is_file()
        assert (root / "dev/pts").is_dir()
    assert list((tmp_path / "outside").iterdir()) == []


def test_long_and_strange_paths_are_mounted_by_descriptor(tmp_path: Path) -> None:
    root = tmp_path / ("long" * 50) / "a,b:c"
    lowers = [root / f"lower-{number}" for number in range(40)]
    upper, work, target = (root / name for name in ("upper", "work", "target"))
    for path in (*lowers, upper, work, target):
        path.mkdir(parents=True)
    (lowers[-1] / "deep").touch()
    overlay.mount_overlay(target, lowers, upper, work)
    try:
        assert (target / "deep").exists()
        (target / "new").touch()
        assert (upper / "new").exists()
        assert overlay.mounts_below(root) == [str(target)]
    finally:
        assert overlay.umount_lazily(target)
    assert not overlay.umount_lazily(target)
    with pytest.raises(ValueError, match="more than one overlay mount takes"):
        overlay.mount_overlay(target, lowers * 6)


def test_overlay_is_found_out(tmp_path: Path) -> None:
    assert overlay.supports_overlay(tmp_path)
    below, merged = tmp_path / "below", tmp_path / "merged"
    for path in (below, merged, tmp_path / "upper", tmp_path / "work"):
        path.mkdir()
    overlay.mount_overlay(merged, [below], tmp_path / "upper", tmp_path / "work")
    try:
        assert not overlay.supports_overlay(merged), "an overlay cannot hold an overlay's upper"
        with support.store(merged) as store:
            layer = store.layout.layers / LOW[7:] / "diff"
            layer.mkdir(parents=True)
            (layer / "file").write_text("low")
            store.rootfs.prepare("c", [LOW])
            assert (store.rootfs.mount("c") / "file").read_text() == "low"
    finally:
        overlay.umount_lazily(merged)


def test_the_trash_never_enters_a_mount(tmp_path: Path) -> None:
    precious, tree = tmp_path / "precious", tmp_path / "tree"
    precious.mkdir()
    (precious / "file").touch()
    (tree / "a" / "mount").mkdir(parents=True)
    (tree / "b").touch()
    overlay.mount("tmpfs", tree / "a" / "mount", "tmpfs")
    (tree / "a" / "mount" / "file").touch()
    try:
        with pytest.raises(OSError):
            remove_path(tree)
        assert (tree / "a" / "mount" / "file").exists()
        assert not (tree / "b").exists()
    finally:
        overlay.umount_lazily(tree / "a" / "mount")
    remove_path(tree)
    assert not tree.exists()
    remove_path(tree)


def test_the_trash_follows_no_link_and_takes_deep_trees(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").touch()
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "link").symlink_to(outside)
    fd = os.open(tree, os.O_RDONLY)
    for _ in range(1500):
        os.mkdir("deep", dir_fd=fd)
        inner = os.open("deep", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = inner
    os.close(fd)
    remove_path(tree)
    assert not tree.exists()
    assert (outside / "file").exists()


def test_a_start_empties_tmp_and_trash(tmp_path: Path) -> None:
    with support.store(tmp_path) as store:
        (store.layout.tmp / "half").mkdir()
        (store.layout.tmp / "half" / "file").touch()
        (store.layout.trash / "old").touch()
        trash = Trash(store.layout)
        trash.recover()
        assert trash.wait(10)
        assert list(store.layout.tmp.iterdir()) == list(store.layout.trash.iterdir()) == []
        trash.close()
        assert not trash.discard(store.layout.tmp / "nothing")


def test_a_rootfs_of_its_own_finds_the_layers_of_others(store: Store) -> None:
    store.rootfs.prepare("c", [TOP, LOW])
    assert Rootfs(store.layout, store.trash).layers_in_use() == {TOP, LOW}
