"""Volumes."""

from __future__ import annotations

import asyncio
import os
import stat
import threading
from collections.abc import Collection
from pathlib import Path

import pytest

from tests.support.images import Store
from wherry.api.errors import BadRequest, Conflict, NotFound, ServerError
from wherry.engine.store.overlay import MS_BIND, mount, mounts_below
from wherry.engine.volumes import mounting
from wherry.engine.volumes.options import MountOptions, mount_options, parse_size, resolve


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

    def prune(**filters: list[str]) -> tuple[list[str] | None, int]:
        done = asyncio.run(store.volumes.prune(filters, in_use=used))
        return done.volumes_deleted, done.space_reclaimed

    assert prune() == ([anonymous], 10)
    assert prune(all=["true"], **{"label!": ["which=aa"]}) == ([], 0)
    assert prune(all=["true"]) == (["aa"], 0)
    assert prune() == ([], 0)
    for bad in ({"all": ["maybe"]}, {"all": ["1", "0"]}, {"dangling": ["true"]}):
        with pytest.raises(BadRequest, match="invalid filter"):
            prune(**bad)


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


# options


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"nosuch": "x"}, 'create ab: invalid option: "nosuch"'),
        ({"type": "tmpfs"}, 'create ab: missing required option: "device"'),
        ({"device": "/tmp"}, 'create ab: missing required option: "type"'),
        ({"o": "bind"}, 'create ab: missing required option: "device"'),
        ({"size": "much"}, "create ab: invalid size: 'much'"),
        ({"size": "1m"}, "create ab: quota size requested but no quota support"),
        ({"type": "cifs", "device": "//host:44/share"}, "port not allowed in CIFS device URL"),
    ],
)
def test_options_that_a_volume_cannot_have(
    store: Store, monkeypatch: pytest.MonkeyPatch, options: dict[str, str], reason: str
) -> None:
    monkeypatch.setattr(store.volumes._quota, "_supported", False)
    with pytest.raises(BadRequest) as caught:
        store.volumes.create("ab", options=options)
    assert reason in caught.value.message
    assert not store.volumes.exists("ab")
    assert list(store.layout.volumes.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "size"), [("0", 0), ("10", 10), ("1k", 1 << 10), ("1.5MB", 3 << 19), ("2 GiB", 2 << 30), ("3b", 3)]
)
def test_sizes_are_in_powers_of_1024(text: str, size: int) -> None:
    assert parse_size(text) == size


def test_words_of_mount_are_flags_or_the_filesystems_own() -> None:
    given = {"type": "nfs", "device": ":/x", "o": "addr=10.0.0.1,ro,noexec,exec,defaults,vers=4"}
    assert mount_options(given) == MountOptions(":/x", "nfs", 1, "addr=10.0.0.1,vers=4")
    assert mount_options({"type": "none", "device": "/x", "o": "rbind,rslave"}) == MountOptions(
        "/x", "none", 4096 | 16384 | 1 << 19, ""
    )
    assert mount_options({"size": "1m"}) is None
    assert resolve(MountOptions("//localhost/x", "cifs", 0, "user=a")).device in ("//127.0.0.1/x", "//::1/x")


def test_a_volume_with_options_is_mounted_for_the_first_and_until_the_last(store: Store) -> None:
    store.volumes.create("fast", options={"type": "tmpfs", "device": "tmpfs", "o": "size=1m,mode=750"})
    place = store.volumes.path("fast")

    async def use() -> None:
        await store.volumes.acquire("fast", "one")
        assert place.is_mount()
        assert stat.S_IMODE(place.stat().st_mode) == 0o750
        await store.volumes.acquire("fast", "two")
        async with store.volumes.mounted(["fast", "nosuch"]):
            (place / "file").touch()
        await store.volumes.release("fast", "one")
        assert (place / "file").exists()
        await store.volumes.release("fast", "nobody")
        await store.volumes.release("fast", "two")
        assert not place.is_mount()
        assert list(place.iterdir()) == []

    asyncio.run(use())


def test_many_at_once_never_mount_twice_or_too_early_unmount(store: Store) -> None:
    store.volumes.create("fast", options={"type": "tmpfs", "device": "tmpfs"})
    place = str(store.volumes.path("fast"))

    async def user(number: int) -> None:
        for turn in range(5):
            async with store.volumes.mounted(["fast"]):
                assert mounts_below(store.layout.volumes) == [place]
                if (number + turn) % 2:
                    await asyncio.sleep(0)

    async def use() -> None:
        await asyncio.gather(*(user(number) for number in range(8)))

    asyncio.run(use())
    assert mounts_below(store.layout.volumes) == []


def test_a_killed_engines_successor_keeps_what_is_used_and_unmounts_the_rest(store: Store, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "there/file").touch()
    for name in ("used", "idle", "going", "gone"):
        store.volumes.create(name, options={"type": "none", "device": str(tmp_path / "there"), "o": "bind"})
        asyncio.run(store.volumes.acquire(name, "someone"))
    body = store.database.get("volume", "going")
    assert body
    store.database.put("pending-volume", "going", body)
    for name in ("going", "gone"):
        store.database.delete("volume", name)
    store.restart()
    asyncio.run(store.volumes.adopt({"used": {"someone"}}))
    assert mounts_below(store.layout.data_root) == [str(store.volumes.path("used"))]
    assert [path.name[:12] for path in store.lost] == ["volumes-gone"]
    store.trash.wait(10)
    assert (tmp_path / "there/file").exists()
    asyncio.run(store.volumes.release("used", "someone"))
    assert mounts_below(store.layout.data_root) == []


def test_removing_a_volume_never_reaches_what_it_shows(store: Store, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "there/file").touch()
    store.volumes.create("shown", options={"type": "none", "device": str(tmp_path / "there"), "o": "bind"})
    asyncio.run(store.volumes.acquire("shown", "someone"))
    store.volumes.remove("shown", in_use=nobody)
    asyncio.run(store.volumes.release("shown", "someone"))
    # nor does what somebody else has mounted in one
    store.volumes.create("plain")
    mount(str(tmp_path / "there"), store.volumes.path("plain"), None, MS_BIND)
    store.volumes.remove("plain", in_use=nobody)
    store.trash.wait(10)
    assert (tmp_path / "there/file").exists()


def test_a_mount_that_fails_says_so_without_its_password(store: Store) -> None:
    given = {"type": "cifs", "device": "//127.0.0.1/share", "o": "user=a,password=secret,ro"}
    store.volumes.create("far", options=given)
    with pytest.raises(ServerError) as caught:
        asyncio.run(store.volumes.acquire("far", "one"))
    place = store.volumes.path("far")
    assert caught.value.message.startswith(
        f"error while mounting volume '{place}': failed to mount local volume: mount //127.0.0.1/share:{place}, "
        "flags: 0x1, data: user=a,password=********: "
    )
    store.volumes.remove("far", in_use=nobody)


def test_a_mount_that_does_not_come_is_given_up(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    come = threading.Event()
    real = mounting.mount_volume

    def slow(options: MountOptions, target: Path) -> None:
        come.wait(30)
        real(options, target)

    monkeypatch.setattr(mounting, "mount_volume", slow)
    monkeypatch.setattr(mounting, "DEADLINE", 0.05)
    store.volumes.create("slow", options={"type": "tmpfs", "device": "tmpfs"})
    place = store.volumes.path("slow")

    async def use() -> None:
        with pytest.raises(ServerError, match="did not answer within"):
            await store.volumes.acquire("slow", "one")
        with pytest.raises(ServerError, match="still waits"):
            await store.volumes.acquire("slow", "one")
        come.set()
        monkeypatch.setattr(mounting, "DEADLINE", 30)
        for _ in range(1000):
            try:
                await store.volumes.acquire("slow", "two")
                break
            except ServerError:
                await asyncio.sleep(0.01)
        assert place.is_mount()
        await store.volumes.release("slow", "two")
        assert not place.is_mount(), "the late one went too"

    asyncio.run(use())


def test_CRE24_a_volume_with_options_is_filled_where_it_is_mounted(store: Store, tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "data/sub").mkdir(parents=True)
    os.chown(root / "data", 12, 34)
    store.volumes.create("fast", options={"type": "tmpfs", "device": "tmpfs"})

    async def use() -> None:
        async with store.volumes.mounted(["fast"]):
            assert store.volumes.copy_up("fast", root, "/data")
            assert (store.volumes.path("fast") / "sub").is_dir()
            assert store.volumes.path("fast").stat().st_uid == 12
            assert not store.volumes.copy_up("fast", root, "/data")

    asyncio.run(use())
    assert store.volumes.path("fast").stat().st_uid == 0


def test_CRE24_links_attributes_and_holes_are_copied(store: Store, tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "data").mkdir(parents=True)
    (root / "data/one").write_text("x")
    os.link(root / "data/one", root / "data/two")
    os.setxattr(root / "data/one", "user.colour", b"green")
    os.mkfifo(root / "data/pipe")
    (root / "data/setuid").touch()
    (root / "data/setuid").chmod(0o4755)
    store.volumes.create("data")
    assert store.volumes.copy_up("data", root, "/data")
    copied = store.volumes.path("data")
    assert (copied / "one").stat().st_ino == (copied / "two").stat().st_ino
    assert os.getxattr(copied / "one", "user.colour") == b"green"
    assert stat.S_ISFIFO((copied / "pipe").stat().st_mode)
    assert stat.S_IMODE((copied / "setuid").stat().st_mode) == 0o4755
