"""The image store: look-up, names, list, removal with its conflicts, and what a crash leaves."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.support import images as support
from tests.support.images import Store, config_of, digest, docker_archive, import_, load, tar
from wherry.api.errors import BadRequest, Conflict, NotFound
from wherry.engine.images.reference import parse
from wherry.engine.images.store import Images

A, B, C = (tar([(name, name.encode() * 100)]) for name in "abc")


@dataclass
class State:
    running: bool = False


@dataclass
class Container:
    id: str
    image: str
    state: State = field(default_factory=State)


class Containers(list[Container]):
    def __call__(self, image: str) -> list[Container]:
        return [container for container in self if container.image == image]


NONE = Containers()


def make(store: Store, layers: list[bytes], *names: str, **more: object) -> str:
    """The id of a loaded image."""
    asyncio.run(load(store.images, docker_archive(layers, names, **more)))  # type: ignore[arg-type]
    return digest(support.config_of(layers, **more))


def shown(records: list[support.Any]) -> list[str]:
    return [f"untagged {item.untagged}" if item.untagged else f"deleted {item.deleted}" for item in records]


def test_E3_images_are_found_by_name_id_and_the_start_of_an_id(store: Store) -> None:
    id = make(store, [A], "app:latest", "app:v2")
    make(store, [B], "other:v1")
    for text in ("app", "app:latest", "docker.io/library/app", id, id[7:], id[7:19], id[:20]):
        assert store.images.get(text).id == id, text
    for text, words in (
        ("nosuch", "No such image: nosuch:latest"),
        ("nosuch:img", "No such image: nosuch:img"),
        ("app:v3", "No such image: app:v3"),
        ("f" * 64, f"No such image: sha256:{'f' * 64}"),
    ):
        with pytest.raises(NotFound) as caught:
            store.images.get(text)
        assert caught.value.message == words
    with pytest.raises(BadRequest, match="invalid reference format"):
        store.images.get("")
    assert store.images.find("BAD") is None


def test_tags_move_and_are_told(store: Store) -> None:
    a, b = make(store, [A], "app:v1"), make(store, [B], "other:v1")
    store.images.tag("app:v1", "me/app")
    store.images.tag("other:v1", "me/app", "latest")
    assert store.images.get("me/app").id == b
    assert store.images.get(a).repo_tags == ["app:v1"]
    assert store.actions[-2:] == ["image tag me/app:latest", "image tag me/app:latest"]
    for repo, tag in (("A", ""), ("a", "b c"), ("", ""), (f"a@sha256:{'0' * 64}", "")):
        with pytest.raises(BadRequest):
            store.images.tag("app:v1", repo, tag)
    with pytest.raises(NotFound):
        store.images.tag("nosuch", "a")


def test_the_list_is_newest_first_and_filtered(store: Store) -> None:
    old = make(store, [A], "app:v1", "app:v2", created="2020-01-01T00:00:00Z")
    new = make(store, [A, B], "me/other:v1", created="2024-01-01T00:00:00Z", config={"Labels": {"x": "1"}})
    bare = make(store, [C], created="2022-01-01T00:00:00Z")
    images = store.images

    def ids(**filters: list[str]) -> list[str]:
        return [summary.id for summary in images.list({key.rstrip("_"): value for key, value in filters.items()})]

    assert ids() == [new, bare, old]
    assert ids(reference=["app"]) == ids(reference=["app:v*"]) == ids(reference=["docker.io/no", "app:v1"]) == [old]
    assert ids(label=["x"]) == ids(label=["x=1"]) == [new]
    assert ids(label=["x=2"]) == []
    assert ids(before=["me/other:v1"]) == [bare, old]
    assert ids(since=["app:v1"]) == [new, bare]
    assert ids(before=["me/other:v1", bare]) == [old]  # all of several count
    assert ids(since=["app:v1", bare]) == [new]
    assert ids(until=["2023-01-01"]) == ids(until=["1672531200"]) == [bare, old]
    assert ids(until=["2023-01-01", "2021-01-01T00:00:00Z"]) == [old]
    assert ids(until=["24h"]) == [new, bare, old]
    assert images.list({"label!": ["x"]})[0].id == bare
    assert ids(dangling=["true"]) == [bare]
    assert ids(dangling=["false"]) == [new, old]
    with pytest.raises(BadRequest, match="failed to parse value as time or duration"):
        images.list({"until": ["soon"]})
    for filters in ({"zzz": ["1"]}, {"dangling": ["maybe"]}):
        with pytest.raises(BadRequest, match="invalid filter"):
            images.list(filters)
    with pytest.raises(NotFound):
        images.list({"before": ["nosuch"]})
    first, second, third = images.list(shared_size=True, in_use=Containers([Container("1", old)]))
    assert (first.repo_tags, second.repo_tags, third.repo_tags) == (["me/other:v1"], [], ["app:v1", "app:v2"])
    assert (first.size, first.shared_size, first.containers, first.virtual_size) == (200, 100, 0, 200)
    assert (third.labels, third.shared_size, third.containers) == ({"kind": "test"}, 100, 1)
    assert images.list(version=(1, 42))[1].repo_tags == ["<none>:<none>"]
    assert not images.list(version=(1, 44))[0].virtual_size


def test_what_only_others_were_made_from_shares_nothing(store: Store) -> None:
    """An image's parent that has lost its name is no reason to call the layers below shared."""
    base = make(store, [A], "base:v1")
    child = asyncio.run(store.images.commit(config_of([A], comment="child"), [], parent=base))
    store.images.name_image(child, parse("child:v1"))
    assert [summary.shared_size for summary in store.images.list(shared_size=True)] == [100, 100]
    store.images.remove("base:v1", in_use=NONE)
    (summary,) = store.images.list(shared_size=True)
    assert (summary.id, summary.shared_size) == (child, 0)


def test_inspect_and_history(store: Store) -> None:
    history = [
        {"created": "2024-01-01T00:00:00Z", "created_by": "ADD a"},
        {"created": "2024-01-02T00:00:00Z", "created_by": "CMD", "empty_layer": True},
        {"created": "2024-01-03T00:00:00Z", "created_by": "ADD b", "comment": "last"},
    ]
    id = make(store, [A, B], "app:v1", history=history)
    image = store.images.inspect("app:v1")
    assert (image.id, image.created, image.architecture, image.comment) == (
        id,
        "2024-02-03T04:05:06.7Z",
        "amd64",
        "last",
    )
    assert image.root_fs.layers == [digest(A), digest(B)]
    assert image.metadata.last_tag_time == "0001-01-01T00:00:00Z"
    assert image.config is not None
    assert image.config.cmd == ["sh"]
    store.images.tag("app:v1", "app", "v2")
    assert store.images.inspect(id).metadata.last_tag_time != "0001-01-01T00:00:00Z"
    steps = store.images.history("app:v1")
    assert [(step.id, step.size, step.created_by) for step in steps] == [
        (id, 100, "ADD b"),
        ("<missing>", 0, "CMD"),
        ("<missing>", 100, "ADD a"),
    ]
    assert steps[0].tags == ["app:v1", "app:v2"]
    assert steps[1].tags is None


def test_a_name_is_taken_away_and_the_last_one_takes_the_image(store: Store) -> None:
    id = make(store, [A, B], "app:v1", "app:v2")
    other = make(store, [A], "base:v1")
    assert shown(store.images.remove("app:v1", in_use=NONE)) == ["untagged app:v1"]
    records = shown(store.images.remove("app:v2", in_use=NONE))
    assert records == ["untagged app:v2", f"deleted {id}", f"deleted {support_chain(A, B)}"]
    assert store.actions[-3:] == [f"image untag {id}", f"image untag {id}", f"image delete {id}"]
    assert store.images.get("base:v1").id == other
    assert shown(store.images.remove(other[7:15], in_use=NONE))[0] == "untagged base:v1"
    assert store.content() == set()


def support_chain(*layers: bytes) -> str:
    from wherry.engine.images.layers import chain_ids

    return chain_ids([digest(layer) for layer in layers])[-1]


def conflict(images: Images, name: str, containers: Containers, *, force: bool = False) -> str:
    with pytest.raises(Conflict) as caught:
        images.remove(name, force=force, in_use=containers)
    assert caught.value.status == 409
    return caught.value.message


def test_what_stands_in_the_way_of_a_removal_is_told_in_mobys_words(store: Store) -> None:
    id = make(store, [A], "app:v1")
    short, user = id[7:19], "c" * 64
    images = store.images
    stopped = Containers([Container(user, id)])
    running = Containers([Container(user, id, State(running=True))])
    using = f"container {user[:12]} is using its referenced image {short}"
    assert conflict(images, "app:v1", stopped) == (
        f'conflict: unable to remove repository reference "app:v1" (must force) - {using}'
    )
    assert conflict(images, id, stopped) == (
        f"conflict: unable to delete {short} (must be forced) - image is being used by stopped container {user[:12]}"
    )
    assert conflict(images, short, running, force=True) == (
        f"conflict: unable to delete {short} (cannot be forced) - image is being used by running container {user[:12]}"
    )
    images.tag("app:v1", "me/app")
    assert conflict(images, id, NONE) == (
        f"conflict: unable to delete {short} (must be forced) - image is referenced in multiple repositories"
    )
    assert shown(images.remove("app:v1", in_use=running)) == ["untagged app:v1"]
    assert shown(images.remove("me/app", force=True, in_use=running)) == ["untagged me/app:latest"]
    assert images.get(id).repo_tags == []
    for name, error in (("nosuch", NotFound), (" ", BadRequest), ("A", BadRequest)):
        with pytest.raises(error):
            images.remove(name, in_use=NONE)


def test_a_forced_removal_leaves_the_layers_of_a_stopped_container(store: Store) -> None:
    id = make(store, [A, B], "app:v1")
    store.rootfs.prepare("c", store.images.get(id).layer_ids)
    assert shown(store.images.remove("app:v1", force=True, in_use=Containers([Container("c", id)])))[1:] == [
        f"deleted {id}"
    ]
    store.restart()
    with store.rootfs.mounted("c") as root:
        assert (root / "a").read_bytes() == b"a" * 100
    assert store.images.collect() == []
    store.rootfs.remove("c")
    store.restart()
    assert store.images.layers == {}
    assert store.content() == set()


def test_layers_in_use_for_a_while_stay(store: Store) -> None:
    id = make(store, [A], "app:v1")
    with store.images.using(store.images.get(id).layer_ids):
        store.images.remove("app:v1", in_use=NONE)
        assert len(store.images.layers) == 1
    assert store.images.collect() == [digest(A)]


def test_prune_takes_what_has_no_name_or_all_that_is_unused(store: Store) -> None:
    bare, named, used = make(store, [A]), make(store, [B], "app:v1", "app:v2"), make(store, [C], "used:v1")
    containers = Containers([Container("c", used)])
    first = store.images.prune(in_use=containers)
    assert shown(first.images_deleted or [])[0] == f"deleted {bare}"
    assert first.space_reclaimed == 100
    assert store.images.prune(in_use=containers).images_deleted is None
    assert store.images.prune({"dangling": ["0"], "until": ["2000-01-01"]}, in_use=containers).images_deleted is None
    assert store.images.prune({"dangling": ["0"], "label!": ["kind"]}, in_use=containers).images_deleted is None
    records = shown(
        store.images.prune({"dangling": ["false"], "label": ["kind=test"]}, in_use=containers).images_deleted or []
    )
    assert records[:3] == ["untagged app:v1", "untagged app:v2", f"deleted {named}"]
    assert [image.id for image in store.images.all()] == [used]
    for filters in ({"foo": ["1"]}, {"until": ["abc"]}, {"until": ["1", "2"]}, {"dangling": ["x"]}):
        with pytest.raises(BadRequest):
            store.images.prune(filters, in_use=NONE)


def test_everything_is_there_after_a_restart(store: Store) -> None:
    id = make(store, [A, B], "app:v1")
    store.images.tag("app:v1", "me/app")
    before = store.images.get(id)
    content = store.content()
    store.restart()
    assert store.images.get(id) == before
    assert store.content() == content
    assert store.lost == []


class Killed(BaseException):
    """The engine dies here."""


@pytest.mark.parametrize("renames", range(3))
def test_an_engine_killed_while_it_commits_leaves_nothing(
    store: Store, monkeypatch: pytest.MonkeyPatch, renames: int
) -> None:
    real, done = os.rename, []

    def rename(*args: object, **more: object) -> None:
        if "/data/tmp/" in str(args[0]) and "/trash/" not in str(args[1]):
            if len(done) == renames:
                raise Killed
            done.append(args)
        real(*args, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "rename", rename)
    with pytest.raises(Killed):
        asyncio.run(import_(store.images, A, repo="app"))
    monkeypatch.undo()
    store.restart()
    assert store.images.all() == []
    assert store.content() == set()
    assert store.lost == []
    assert asyncio.run(import_(store.images, A, repo="app"))


_KILLED = """
import asyncio, os, sys
from pathlib import Path
from tests.support import images as support
point = sys.argv[2]
def die(*args, **more):
    os._exit(9)
store = support.Store(Path(sys.argv[1]))
from wherry.engine.images import import_, store as module
{"unpacked": lambda: setattr(module, "sync_filesystem", die),
 "committed": lambda: setattr(store.images, "name_image", die),
 "spooled": lambda: setattr(import_, "unpack", die)}[point]()
try:
    asyncio.run(support.import_(store.images, support.tar([("a", b"x")]), repo="app"))
except BaseException:
    pass
os._exit(9)
"""


@pytest.mark.parametrize("point", ["spooled", "unpacked", "committed"])
def test_an_engine_killed_at_any_point_of_an_import_recovers(tmp_path: Path, point: str) -> None:
    done = subprocess.run([sys.executable, "-c", _KILLED, str(tmp_path), point], timeout=60, check=False)
    assert done.returncode == 9
    with support.store(tmp_path) as store:
        assert store.lost == []
        assert not [path for path in store.content() if path.startswith(("tmp", "trash"))]
        for image in store.images.all():
            assert (store.layout.layers / image.layer_ids[0][7:] / "diff" / "a").read_bytes() == b"x"
        assert asyncio.run(import_(store.images, A, repo="app"))


def test_an_engine_killed_while_it_removes_leaves_nothing(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    make(store, [A], "app:v1")

    def discard(path: Path) -> bool:
        raise Killed

    monkeypatch.setattr(store.trash, "discard", discard)
    with pytest.raises(Killed):
        store.images.remove("app:v1", in_use=NONE)
    store.restart()
    assert store.images.all() == []
    assert {path for path in store.content() if path.startswith("blobs")} == set() or store.images.collect()
    assert store.lost == []


def test_unknown_content_is_set_aside_and_not_deleted(store: Store) -> None:
    (store.layout.layers / "mine").mkdir()
    (store.layout.layers / "mine" / "file").write_text("precious")
    (store.layout.blobs / "sha256" / ("0" * 64)).write_text("precious")
    store.restart()
    assert len(store.lost) == 2
    assert store.content() == set()
    assert (store.lost[0] / "file").read_text() == "precious"


def test_damaged_content_harms_only_its_image(store: Store) -> None:
    a, b = make(store, [A], "a:v1"), make(store, [B], "b:v1")
    (store.layout.blobs / "sha256" / a[7:]).write_text("{}")
    (store.layout.blobs / "sha256" / store.images.layers[digest(B)].blob[7:]).write_bytes(b"(\xb5/\xfd damaged")
    store.restart()
    assert [image.id for image in store.images.all()] == [b]
    assert store.lost == []
    assert make(store, [A], "a:v1") == a
    assert store.images.get("a:v1").id == a
    store.restart()
    assert store.images.get("a:v1").id == a
    with pytest.raises(Exception, match=r"damaged|invalid|zstd"):
        asyncio.run(support.save(store.images, "b:v1"))


def test_a_layer_shared_by_two_chains_is_stored_once_as_an_archive(store: Store) -> None:
    make(store, [A, B], "one:v1")
    make(store, [B], "two:v1")
    blobs = [path for path in store.content() if path.startswith("blobs")]
    assert len(blobs) == 4  # two configurations, two archives
    store.images.remove("one:v1", in_use=NONE)
    assert asyncio.run(support.save(store.images, "two:v1"))
    assert shutil.disk_usage(store.layout.data_root).free > 0
