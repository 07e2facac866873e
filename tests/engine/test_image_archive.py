"""Images from archives and to archives, with the kernel's own overlay below."""

from __future__ import annotations

import asyncio
import gzip
import io
import json
import os
import stat
import tarfile
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import images as support
from tests.support.images import Store, digest, docker_archive, import_, load, oci_archive, save, tar
from wherry.api.errors import BadRequest, NotFound, ServerError

BASE = tar(
    [("etc/", None), ("etc/hosts", b"of the image"), ("etc/old", b"old"), ("d/", None), ("d/a", b"a"), ("f", b"1")]
)
TOP = tar([("etc/.wh.old", b""), ("d/", None), ("d/.wh..wh..opq", b""), ("d/b", b"b"), ("f", b"22")])


@pytest.fixture(params=[None, False], ids=["overlay", "copies"])
def store(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Store]:
    with support.store(tmp_path, overlay=request.param) as made:
        yield made


def tree(store: Store, name: str) -> dict[str, bytes]:
    """The files of a new container of the image, without the engine's own."""
    store.rootfs.prepare("c", store.images.get(name).layer_ids)
    try:
        with store.rootfs.mounted("c") as root:
            files = {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}
            return {key: value for key, value in files.items() if not key.startswith(("dev", "etc/", ".docker"))}
    finally:
        store.rootfs.remove("c")


EXPECTED = {"d/b": b"b", "f": b"22"}


@pytest.mark.parametrize("pack", ["plain", "gzip", "zstd"])
def test_a_docker_archive_is_loaded_with_layers_of_any_compression(store: Store, pack: str) -> None:
    messages = asyncio.run(load(store.images, docker_archive([BASE, TOP], ["test/app:v1", "app:v2"], pack=pack)))
    assert messages == [{"stream": "Loaded image: test/app:v1\n"}, {"stream": "Loaded image: app:v2\n"}]
    image = store.images.get("test/app:v1")
    assert image.id == digest(support.config_of([BASE, TOP]))
    assert image.repo_tags == ["app:v2", "test/app:v1"]
    assert image.config.cmd == ["sh"]
    assert tree(store, "app:v2") == EXPECTED
    assert store.actions == [f"image load {image.id}"]


@pytest.mark.parametrize("pack", ["plain", "gzip", "zstd"])
@pytest.mark.parametrize("nested", [False, True])
def test_an_OCI_layout_is_loaded(store: Store, pack: str, nested: bool) -> None:
    messages = asyncio.run(load(store.images, oci_archive([BASE, TOP], pack=pack, nested=nested)))
    assert messages == [{"stream": "Loaded image: test/oci:v1\n"}]
    assert tree(store, "test/oci:v1") == EXPECTED


def test_the_archive_itself_may_be_compressed(store: Store) -> None:
    messages = asyncio.run(load(store.images, gzip.compress(docker_archive([BASE]))))
    assert messages == [{"stream": "Loaded image: test/app:v1\n"}]


def test_load_save_load_gives_identical_ids(store: Store, tmp_path: Path) -> None:
    images = store.images
    asyncio.run(load(images, docker_archive([BASE, TOP, BASE], ["app:v1", "app:v2"], pack="gzip")))
    asyncio.run(load(images, oci_archive([BASE])))
    saved = asyncio.run(save(images, "app", "test/oci:v1"))
    with support.store(tmp_path / "other") as other:
        messages = asyncio.run(load(other.images, saved))
        assert [message["stream"] for message in messages] == [
            "Loaded image: app:v1\n",
            "Loaded image: app:v2\n",
            "Loaded image: test/oci:v1\n",
        ]
        for name in ("app:v1", "app:v2", "test/oci:v1"):
            assert other.images.get(name).id == images.get(name).id
            assert other.images.get(name).layer_ids == images.get(name).layer_ids
        assert asyncio.run(save(other.images, "app", "test/oci:v1")) == saved
    with tarfile.open(fileobj=io.BytesIO(saved)) as archive:
        names = archive.getnames()
        manifest = json.load(archive.extractfile("manifest.json"))  # type: ignore[arg-type]
        repositories = json.load(archive.extractfile("repositories"))  # type: ignore[arg-type]
        first = archive.extractfile(manifest[0]["Layers"][0])
        assert first is not None
        assert first.read() == BASE
    assert len(names) == len(set(names))
    assert manifest[0]["RepoTags"] == ["app:v1", "app:v2"]
    assert set(repositories) == {"app", "test/oci"}
    assert store.actions[-2].startswith("image save sha256:")


def test_a_saved_archive_is_an_OCI_layout_as_well(store: Store, tmp_path: Path) -> None:
    """The same blobs for both kinds of readers; ours takes either."""
    images = store.images
    asyncio.run(load(images, docker_archive([BASE, TOP, BASE], ["app:v1", "app:v2"], pack="gzip")))
    saved = asyncio.run(save(images, "app"))
    with tarfile.open(fileobj=io.BytesIO(saved)) as archive:
        files = {
            name: archive.extractfile(name).read() for name in archive.getnames() if archive.getmember(name).isfile()
        }  # type: ignore[union-attr]
    assert json.loads(files["oci-layout"]) == {"imageLayoutVersion": "1.0.0"}
    for name, data in files.items():
        if name.startswith("blobs/"):
            assert name == f"blobs/sha256/{digest(data)[7:]}"
    index = json.loads(files["index.json"])
    assert [entry["annotations"]["io.containerd.image.name"] for entry in index["manifests"]] == [
        "docker.io/library/app:v1",
        "docker.io/library/app:v2",
    ]
    described = index["manifests"][0]
    manifest = files[f"blobs/sha256/{described['digest'][7:]}"]
    assert (described["size"], json.loads(manifest)["config"]["digest"]) == (len(manifest), images.get("app:v1").id)
    del files["manifest.json"], files["repositories"]
    with support.store(tmp_path / "other") as other:
        messages = asyncio.run(load(other.images, tar(list(files.items()))))
        assert [message["stream"] for message in messages] == ["Loaded image: app:v1\n", "Loaded image: app:v2\n"]
        assert other.images.get("app:v2").id == images.get("app:v1").id
        assert tree(other, "app:v1") == tree(store, "app:v1")


def test_saving_what_is_not_there_fails_before_the_first_byte(store: Store) -> None:
    with pytest.raises(NotFound, match="No such image: nosuch:latest"):
        store.images.save(["nosuch"])
    with pytest.raises(NotFound, match="No such image: nosuch:v1"):
        store.images.save(["nosuch:v1"])
    with pytest.raises(BadRequest, match="invalid reference format"):
        store.images.save(["a b"])


def test_an_image_by_id_is_saved_without_names(store: Store) -> None:
    asyncio.run(load(store.images, docker_archive([BASE])))
    saved = asyncio.run(save(store.images, store.images.get("test/app:v1").short_id))
    with tarfile.open(fileobj=io.BytesIO(saved)) as archive:
        assert json.load(archive.extractfile("manifest.json"))[0]["RepoTags"] is None  # type: ignore[arg-type]
        assert "repositories" not in archive.getnames()


def test_an_image_without_a_name_is_told_by_its_id(store: Store) -> None:
    data = docker_archive([BASE], [])
    messages = asyncio.run(load(store.images, data))
    assert messages == [{"stream": f"Loaded image ID: {digest(support.config_of([BASE]))}\n"}]


def test_a_name_that_moves_is_announced(store: Store) -> None:
    asyncio.run(load(store.images, docker_archive([BASE])))
    old = store.images.get("test/app:v1").id
    messages = asyncio.run(load(store.images, docker_archive([BASE, TOP])))
    assert messages[0]["stream"] == (
        f"The image test/app:v1 already exists, renaming the old one with ID {old} to empty string\n"
    )
    assert store.images.get(old).repo_tags == []


def test_progress_is_told_unless_quiet(store: Store) -> None:
    messages = asyncio.run(load(store.images, docker_archive([BASE, TOP]), quiet=False))
    done = [message for message in messages if message.get("status") == "Loading layer"]
    assert {message["id"] for message in done} == {digest(BASE)[7:19], digest(TOP)[7:19]}
    assert done[-1]["progressDetail"] == {"current": len(TOP), "total": len(TOP)}


def _manifest(**item: object) -> bytes:
    return json.dumps([{"Config": "c.json", "RepoTags": ["x:y"], "Layers": ["l"], **item}]).encode()


ESCAPE = tar([("../../escaped", b"x")])
BROKEN = {
    "empty": b"",
    "no archive": b"hello, world" * 100,
    "truncated": docker_archive([BASE])[:-9000],
    "truncated gzip": gzip.compress(docker_archive([BASE]))[:-100],
    "no manifest": tar([("a", b"b")]),
    "manifest null": tar([("manifest.json", b"null")]),
    "manifest garbage": tar([("manifest.json", b"[{]")]),
    "manifest deep": tar([("manifest.json", b"[" * 200_000)]),
    "config missing": tar([("manifest.json", _manifest())]),
    "config outside": tar([("manifest.json", _manifest(Config="../../../../etc/passwd"))]),
    "config link outside": tar([("manifest.json", _manifest()), ("c.json", "/etc/passwd")]),
    "config link loop": tar([("manifest.json", _manifest()), ("c.json", "d.json"), ("d.json", "c.json")]),
    "config garbage": tar([("manifest.json", _manifest()), ("c.json", b"{"), ("l", BASE)]),
    "too few layers": tar([("manifest.json", _manifest(Layers=[])), ("c.json", support.config_of([BASE]))]),
    "another layer": tar([("manifest.json", _manifest()), ("c.json", support.config_of([BASE])), ("l", TOP)]),
    "escaping layer": tar([("manifest.json", _manifest()), ("c.json", support.config_of([ESCAPE])), ("l", ESCAPE)]),
    "bad name": docker_archive([BASE], ["A b"]),
    "name without tag": docker_archive([BASE], ["app"]),
    "windows": docker_archive([BASE], os="windows"),
    "blob of another digest": oci_archive([BASE]).replace(
        b"application/vnd.oci.image.layer", b"application/vnd.oci.image.LAYER"
    ),
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_broken_archive_is_an_error_in_the_stream_and_leaves_nothing(store: Store, what: str, tmp_path: Path) -> None:
    messages = asyncio.run(load(store.images, BROKEN[what]))
    assert messages[-1]["error"] == messages[-1]["errorDetail"]["message"] != ""
    assert store.images.all() == []
    assert store.content() == set()
    assert not list(tmp_path.rglob("escaped"))


def test_an_import_has_its_changes_and_its_files(store: Store) -> None:
    id = asyncio.run(
        import_(
            store.images, gzip.compress(BASE), repo="me/base", tag="v1", message="made", changes=['CMD ["a"]', "USER 1"]
        )
    )
    image = store.images.get("me/base:v1")
    assert image.id == id
    assert (image.config.cmd, image.config.user) == (["a"], "1")
    shown = store.images.inspect("me/base:v1")
    assert (shown.comment, shown.os, shown.repo_tags) == ("made", "linux", ["me/base:v1"])
    assert shown.size == image.size == len(b"of the imageolda1")
    assert tree(store, id) == {"d/a": b"a", "f": b"1"}
    assert store.actions == ["image tag me/base:v1", f"image import {id}"]


@pytest.mark.parametrize(
    ("more", "error"),
    [
        ({"repo": "A"}, BadRequest),
        ({"repo": f"a@sha256:{'0' * 64}"}, BadRequest),
        ({"repo": "a", "tag": "-"}, BadRequest),
        ({"changes": ["RUN x"]}, BadRequest),
        ({"platform": "windows/amd64"}, BadRequest),
        ({"data": b"no archive at all" * 100}, ServerError),
        ({"data": tar([("../x", b"")])}, ServerError),
    ],
)
def test_an_import_that_cannot_be_leaves_nothing(store: Store, more: dict[str, Any], error: type[Exception]) -> None:
    more = {"data": BASE, **more}
    with pytest.raises(error):
        asyncio.run(import_(store.images, **more))
    assert store.images.all() == []
    assert store.content() == set()


def test_hostile_entries_stay_inside_their_layer(store: Store, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    device = tarfile.TarInfo("null")
    device.type, device.devmajor, device.devminor, device.mode = tarfile.CHRTYPE, 1, 3, 0o666
    up = "../" * 30 + str(outside)[1:]
    inside = f"{str(outside)[1:]}/"
    layer = tar([(inside, None), ("out", up), ("out/file", b"x"), ("etc", str(outside)), ("dev", up), device])
    id = asyncio.run(import_(store.images, layer, repo="hostile"))
    store.rootfs.prepare("c", store.images.get(id).layer_ids)
    with store.rootfs.mounted("c") as root:
        assert stat.S_ISCHR((root / "null").lstat().st_mode)
        assert (root / "etc/hosts").is_file()
        assert not (root / "etc").is_symlink()
        assert (root / inside / "file").read_bytes() == b"x"
    assert list(outside.iterdir()) == []


def test_a_client_that_goes_leaves_nothing(store: Store) -> None:
    async def half() -> AsyncIterator[bytes]:
        yield docker_archive([BASE])[:5000]
        raise ConnectionError

    async def gone() -> None:
        async for _ in store.images.load(half()):
            pass

    with pytest.raises(ConnectionError):
        asyncio.run(gone())
    assert store.content() == set()


def test_a_client_that_goes_in_the_middle_of_a_layer_leaves_nothing(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wherry.engine.images.load._PROGRESS_EVERY", 0.001)
    big = tar([(f"f{number}", os.urandom(50_000)) for number in range(400)])

    async def gone() -> None:
        messages = store.images.load(support.body(docker_archive([big]), 1 << 20), quiet=False)
        async for message in messages:
            assert message["progressDetail"]["current"] < len(big)
            break
        await messages.aclose()  # type: ignore[attr-defined]
        deadline = time.monotonic() + 10
        while store.content() and time.monotonic() < deadline:
            await asyncio.sleep(0.01)

    asyncio.run(gone())
    assert store.content() == set()


def test_two_loads_of_the_same_at_once(store: Store) -> None:
    async def both() -> None:
        data = docker_archive([BASE, TOP], pack="gzip")
        results = await asyncio.gather(*(load(store.images, data) for _ in range(4)))
        assert all(result == [{"stream": "Loaded image: test/app:v1\n"}] for result in results)

    asyncio.run(both())
    assert tree(store, "test/app:v1") == EXPECTED
    assert not [path for path in store.content() if path.startswith("tmp/")]


def test_128_layers(store: Store) -> None:
    layers = [tar([(f"f{number}", b"x"), ("same", b"%d" % number)]) for number in range(128)]
    asyncio.run(load(store.images, docker_archive(layers)))
    files = tree(store, "test/app:v1")
    assert len(files) == 129
    assert files["same"] == b"127"
