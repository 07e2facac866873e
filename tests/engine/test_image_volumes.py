"""Volumes."""

from __future__ import annotations

import os
import stat
from collections.abc import Collection, Iterator
from pathlib import Path

import pytest

from tests.support import images as support
from tests.support.images import Store
from wherry.api.errors import BadRequest, Conflict, NotFound, NotImplementedYet


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with support.store(tmp_path) as made:
        yield made


def nobody(name: str) -> Collection[str]:
    return []


def test_CRE24_an_anonymous_volume_has_a_long_name_and_a_label(store: Store) -> None:
    volume = store.volumes.create()
    assert len(volume.name) == 64
    assert volume.labels == {"com.docker.volume.anonymous": ""}
    assert store.volumes.is_anonymous(volume.name)
    assert Path(volume.mountpoint).is_dir()
    assert store.actions == [f"volume create {volume.name}"]


def test_a_named_volume_is_made_once_and_outlives_the_engine(store: Store) -> None:
    made = store.volumes.create("data", labels={"a": "b"})
    assert store.volumes.create("data", labels={"x": "y"}) == made
    (store.volumes.path("data") / "file").touch()
    store.restart()
    assert store.volumes.get("data") == made
    assert (made.driver, made.scope, made.labels, made.options) == ("local", "local", {"a": "b"}, None)
    assert (store.volumes.path("data") / "file").exists()
    assert not store.volumes.is_anonymous("data")


@pytest.mark.parametrize("name", ["a", "../x", "a/b", "-a", "a b", "ä" * 3, "a" * 300, ".", "a\n"])
def test_CRE21_bad_names_are_refused(store: Store, name: str) -> None:
    with pytest.raises(BadRequest, match=r"invalid characters for a local volume name|too short"):
        store.volumes.create(name)
    assert list(store.layout.volumes.iterdir()) == []


def test_what_is_not_there_is_said(store: Store) -> None:
    with pytest.raises(NotFound, match="get nosuch: no such volume"):
        store.volumes.get("nosuch")
    with pytest.raises(NotFound, match="get nosuch: no such volume"):
        store.volumes.remove("nosuch", in_use=nobody)
    store.volumes.remove("nosuch", force=True, in_use=nobody)
    with pytest.raises(NotFound, match='plugin "nfs" not found'):
        store.volumes.create("ab", driver="nfs")
    with pytest.raises(NotImplementedYet):
        store.volumes.create("ab", options={"type": "tmpfs"})


def test_a_volume_in_use_stays(store: Store) -> None:
    store.volumes.create("data")
    with pytest.raises(Conflict) as caught:
        store.volumes.remove("data", force=True, in_use=lambda name: ["c1", "c2"])
    assert caught.value.message == "remove data: volume is in use - [c1, c2]"
    store.volumes.remove("data", in_use=nobody)
    assert not store.volumes.exists("data")
    assert store.actions[-1] == "volume destroy data"
    assert list(store.layout.volumes.iterdir()) == []


def test_list_and_prune(store: Store) -> None:
    for name in ("aa", "bb"):
        store.volumes.create(name, labels={"which": name})
    anonymous = store.volumes.create().name
    (store.volumes.path(anonymous) / "file").write_bytes(b"x" * 10)

    def used(name: str) -> Collection[str]:
        return ["c"] if name == "bb" else []

    def names(**filters: list[str]) -> list[str]:
        return [volume.name for volume in store.volumes.list(filters, in_use=used).volumes or []]

    assert names() == sorted(["aa", "bb", anonymous])
    assert names(dangling=["false"]) == names(label=["which=bb"]) == names(name=["b"], label=["which"]) == ["bb"]
    assert names(driver=["nfs"]) == []
    assert set(names(dangling=["true"])) == {"aa", anonymous}
    with pytest.raises(BadRequest):
        names(zzz=["1"])
    pruned = store.volumes.prune(in_use=used)
    assert (pruned.volumes_deleted, pruned.space_reclaimed) == ([anonymous], 10)
    assert store.volumes.prune({"all": ["true"]}, in_use=used).volumes_deleted == ["aa"]
    assert store.volumes.prune(in_use=used).volumes_deleted is None


def test_CRE24_an_empty_volume_gets_what_the_image_has(store: Store, tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "data" / "sub").mkdir(parents=True)
    (root / "data" / "file").write_text("of the image")
    (root / "data" / "link").symlink_to("/etc/passwd")
    os.chown(root / "data", 12, 34)
    (root / "data").chmod(0o1770)
    (root / "leads").symlink_to("/data")
    (root / "out").symlink_to("../../../../../../../../../etc")
    store.volumes.create("data")
    assert store.volumes.copy_up("data", root, "/leads")
    copied = store.volumes.path("data")
    assert (copied / "file").read_text() == "of the image"
    assert os.readlink(copied / "link") == "/etc/passwd"
    status = copied.stat()
    assert (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)) == (12, 34, 0o1770)
    assert not store.volumes.copy_up("data", root, "/data"), "it is not empty any more"
    store.volumes.create("other")
    for place in ("/out", "/nothing", "/data/file"):
        assert not store.volumes.copy_up("other", root, place)
    assert list(store.volumes.path("other").iterdir()) == list(store.layout.tmp.iterdir()) == []


def test_unknown_directories_are_set_aside_and_unfinished_ones_removed(store: Store) -> None:
    store.volumes.create("kept")
    (store.layout.volumes / "unknown").mkdir()
    (store.layout.volumes / "half").mkdir()
    store.database.put("pending-volume", "half", b"")
    store.restart()
    assert [path.name.startswith("volumes-unknown") for path in store.lost] == [True]
    assert [path.name for path in store.layout.volumes.iterdir()] == ["kept"]
