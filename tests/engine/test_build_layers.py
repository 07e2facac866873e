"""Trees of builds: an upper directory that becomes a layer is what its archive would unpack to; none outlives an engine."""

from __future__ import annotations

import asyncio
import hashlib
import io
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tests.engine.test_commit_layer import BASE, change, tree
from tests.support import images as support
from tests.support.images import Store, load
from wherry.engine.containers.commit import stage_changes
from wherry.engine.containers.difftar import write_diff
from wherry.engine.images.content import Slice
from wherry.engine.images.layers import StagedLayer, unpack
from wherry.engine.store.rootfs import BUILD, layer_diff

NAME = BUILD + "0" * 32


@pytest.fixture(params=[True, False], ids=["overlay", "copies"])
def store(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Store]:
    with support.store(tmp_path, overlay=request.param) as made:
        asyncio.run(load(made.images, support.docker_archive([BASE], ["base:1"])))
        made.rootfs.prepare(NAME, made.images.get("base:1").layer_ids)
        yield made


def stage(store: Store, *, take: bool) -> list[StagedLayer]:
    containers = SimpleNamespace(
        layout=store.layout, parts=SimpleNamespace(images=store.images, rootfs=store.images.rootfs)
    )
    return asyncio.run(stage_changes(cast(Any, containers), NAME, (), take=take))


def test_a_tree_of_a_build_has_nothing_of_the_engines(store: Store) -> None:
    merged = store.rootfs.mount(NAME)
    assert not {"dev", "etc", "proc", "sys", ".dockerenv"} & set(os.listdir(merged))
    store.rootfs.unmount(NAME)
    assert stage(store, take=True) == []


def test_a_tree_upon_nothing(store: Store) -> None:
    store.rootfs.prepare(BUILD + "1", ())
    merged = store.rootfs.mount(BUILD + "1")
    assert os.listdir(merged) == []
    (merged / "a").write_text("a")
    store.rootfs.remove(BUILD + "1")


def test_a_tree_that_is_taken_is_what_its_archive_unpacks_to(store: Store) -> None:
    merged = store.rootfs.mount(NAME)
    change(merged)
    os.mknod(merged / "socket", stat.S_IFSOCK | 0o600)
    os.setxattr(merged / "big", "user.note", b"no archive carries it")
    os.utime(merged / "opaque", (1_000_000_000, 1_000_000_000))
    out = io.BytesIO()
    write_diff(store.rootfs.paths(NAME), (), out)
    (store.layout.tmp / "copy.tar").write_bytes(out.getvalue())
    parent = store.images.get("base:1").layer_ids[0]
    source = Slice(store.layout.tmp / "copy.tar")
    unpacked = unpack(store.layout, source, parent, layer_diff(store.layout, parent), whiteouts=store.rootfs.overlay)
    source.close()
    wanted = tree(merged)
    del wanted["/socket"]

    store.rootfs.unmount(NAME)
    (taken,) = stage(store, take=True)
    assert taken.row.diff_id == f"sha256:{hashlib.sha256(out.getvalue()).hexdigest()}"
    for field in ("diff_id", "parent", "size", "tar_size", "received"):
        assert getattr(taken.row, field) == getattr(unpacked.row, field), field
    if store.rootfs.overlay:
        assert os.listdir(store.rootfs.paths(NAME).upper or "") == []
        ours, theirs = tree(taken.directory / "diff"), tree(unpacked.directory / "diff")
        # one whiteout may stand for many, as hard links
        assert ours.pop("/gone")[0] == theirs.pop("/gone")[0] == stat.S_IFCHR
        assert ours == theirs
        assert "user.note" not in os.listxattr(taken.directory / "diff" / "big")
    layer = layer_diff(store.layout, taken.chain_id)
    layer.parent.mkdir()
    (taken.directory / "diff").rename(layer)
    store.rootfs.prepare(BUILD + "2", [taken.chain_id, parent])
    assert tree(store.rootfs.mount(BUILD + "2")) == wanted
    store.rootfs.remove(BUILD + "2")
    for left in (taken, unpacked):
        left.discard()


def test_a_mounted_tree_is_left_as_it_is(store: Store) -> None:
    merged = store.rootfs.mount(NAME)
    (merged / "new").write_text("x")
    with pytest.raises(OSError, match="in use"):
        store.rootfs.take_changes(NAME, store.layout.tmp / "taken")
    (staged,) = stage(store, take=True)
    assert (merged / "new").read_text() == "x"
    staged.discard()


def test_trees_of_builds_go_when_the_engine_starts(store: Store) -> None:
    store.rootfs.mount(NAME)
    store.images.rootfs._entries.clear()  # as a new engine knows nothing
    assert store.rootfs.recover(()) == []
    assert not (store.layout.rootfs / NAME).exists()
    assert not store.layout.lost_and_found.exists()
