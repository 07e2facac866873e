"""Hostile images and registries: the cases of images.md, refused or contained; nothing of the host is touched."""

from __future__ import annotations

import asyncio
import io
import json
import os
import re
import stat
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.faults.machine import CrashEngine
from tests.support import images as support
from tests.support.images import Store, config_of, digest, docker_archive, load, tar
from tests.support.registry import FakeRegistry, fetch, with_registry
from wherry.api.errors import ApiError

pytestmark = pytest.mark.usefixtures("no_waiting")

A, B, C, D = (tar([(name, name.encode() * 5000)]) for name in "abcd")


class Canary:
    """A place of the host that no image may touch."""

    def __init__(self, place: Path) -> None:
        self.place = place
        place.mkdir()
        self.file = place / "canary"
        self.file.write_text("alive")
        (place / "directory").mkdir()
        self.before = self.look()

    def look(self) -> dict[str, tuple[int, int, bytes, list[str]]]:
        found = {}
        for path in (self.place, *sorted(self.place.rglob("*"))):
            status = path.lstat()
            data = path.read_bytes() if path.is_file() else b""
            found[str(path)] = status.st_mode, status.st_uid, data, os.listxattr(path)
        return found


@pytest.fixture
def canary(tmp_path: Path) -> Iterator[Canary]:
    made = Canary(tmp_path / "outside")
    yield made
    assert made.look() == made.before


# --- layers ---------------------------------------------------------------------------------------------------------


def special(name: str, kind: bytes, link: str = "", **fields: Any) -> tarfile.TarInfo:
    """An entry that is no plain file."""
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    for key, value in fields.items():
        setattr(info, key, value)
    return info


def hard(name: str, target: str) -> tarfile.TarInfo:
    return special(name, tarfile.LNKTYPE, target)


def loaded(store: Store, *layers: bytes, pack: str = "plain", **config: Any) -> str:
    """Load an image; the last message's error, or nothing."""
    messages = asyncio.run(load(store.images, docker_archive(layers, ["hostile:1"], pack=pack, **config)))
    return str(messages[-1].get("error", ""))


def seen(store: Store) -> dict[str, bytes]:
    """The files of a container of the image, without the engine's own."""
    store.rootfs.prepare("c", store.images.get("hostile:1").layer_ids)
    try:
        with store.rootfs.mounted("c") as root:
            own = ("dev", "etc/", ".docker")
            found = {str(path.relative_to(root)): path for path in root.rglob("*") if path.is_file()}
            return {name: path.read_bytes() for name, path in found.items() if not name.startswith(own)}
    finally:
        store.rootfs.remove("c")


Outside = Callable[[str], list[Any]]

REFUSED: dict[str, tuple[Outside, str]] = {
    "a name that climbs": (lambda out: [("../escaped", b"x")], "is outside of"),
    "a name that climbs from below": (lambda out: [("a/b/../../../escaped", b"x")], "is outside of"),
    "a hard link to what is above": (lambda out: [hard("h", "../../../etc/passwd")], "invalid hardlink"),
    "a hard link to the host's file": (lambda out: [hard("h", f"{out}/canary")], "no such file or directory"),
    "a hard link by way of a link": (lambda out: [("d", out), hard("h", "d/canary")], "no such file or directory"),
    "a link in a circle": (lambda out: [("a", "b"), ("b", "a"), ("a/x", b"x")], "too many levels of symbolic links"),
    "a whiteout of its own directory": (lambda out: [("d/.wh..", b"")], "invalid whiteout"),
    "a whiteout of what is above": (lambda out: [("d/.wh...", b"")], "invalid whiteout"),
    "a whiteout of nothing": (lambda out: [(".wh.", b"")], "invalid whiteout"),
    "a name with NUL": (lambda out: [special("x", b"0", pax_headers={"path": "a\0b"})], "invalid tar header"),
    "a name beyond all bounds": (lambda out: [("n" * 300, b"")], "file name too long"),
    "a path beyond all bounds": (lambda out: [("d/" * 5000 + "f", b"")], "file name too long"),
    "the root as a file": (lambda out: [(".", b"x")], "cannot replace the directory"),
    "an unknown kind of entry": (lambda out: [special("f", b"Z")], "unhandled tar header type"),
    "a sparse file without end": (
        lambda out: [special("f", b"0", pax_headers={"GNU.sparse.map": "", "GNU.sparse.size": str(1 << 60)})],
        "unpacks to more than|invalid|sparse",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_layer_is_refused_and_leaves_nothing(store: Store, canary: Canary, what: str) -> None:
    entries, why = REFUSED[what]
    error = loaded(store, A, pax(entries(str(canary.place))))
    assert error, seen(store)
    assert re.search(why, error), error
    assert store.images.all() == []
    assert store.content() == set()


def pax(entries: list[Any]) -> bytes:
    """As ``tar``, in the format that can say anything."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for entry in entries:
            if isinstance(entry, tarfile.TarInfo):
                archive.addfile(entry)
                continue
            name, content = entry
            info = tarfile.TarInfo(name)
            if isinstance(content, str):
                info.type, info.linkname = tarfile.SYMTYPE, content
                archive.addfile(info)
            else:
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
    return out.getvalue()


CONTAINED: dict[str, Callable[[str], list[bytes]]] = {
    "an absolute name": lambda out: [pax([(f"{out}/canary", b"dead")])],
    "a file through a link": lambda out: [
        pax([("here", b""), (out[1:] + "/x", b""), ("d", out), ("d/canary", b"dead")])
    ],
    "a file through a climbing link": lambda out: [
        pax([(out[1:] + "/x", b""), ("d", "../" * 40 + out[1:]), ("d/canary", b"dead")])
    ],
    "a file over a link": lambda out: [pax([("f", f"{out}/canary"), ("f", b"dead")])],
    "a file through a link of the layer below": lambda out: [pax([("d", out)]), pax([("d/canary", b"dead")])],
    "a hard link over a link": lambda out: [pax([("f", b"dead"), ("s", f"{out}/canary"), hard("s", "f")])],
    "a file over a hard link to a link": lambda out: [
        pax([("s", f"{out}/canary"), hard("h", "s"), ("h", b"dead"), ("s", b"dead")])
    ],
    "a directory over a link": lambda out: [
        pax([("d", f"{out}/directory"), special("d", tarfile.DIRTYPE, mode=0o777, uid=12345), ("d/f", b"dead")])
    ],
    "a whiteout through a link": lambda out: [pax([(out[1:] + "/x", b""), ("d", out), ("d/.wh.canary", b"")])],
    "a whiteout through a link of the layer below": lambda out: [pax([("d", out)]), pax([("d/.wh.canary", b"")])],
    "an opaque whiteout through a link": lambda out: [
        pax([(out[1:] + "/directory/x", b""), ("d", f"{out}/directory"), ("d/.wh..wh..opq", b"")])
    ],
    "an opaque whiteout over a link": lambda out: [pax([("d", f"{out}/directory")]), pax([("d/.wh..wh..opq", b"")])],
    "names with newlines and worse": lambda out: [
        pax([("a\nb", b"1"), ("\x1b[2J", b"2"), ("-rf", b"3"), ("$(reboot)", b"4"), (" ", b"5")])
    ],
    "attributes of the file system below": lambda out: [
        pax(
            [special("f", b"0", pax_headers={"SCHILY.xattr.trusted.overlay.redirect": out, "SCHILY.xattr.user.a": "1"})]
        )
    ],
    "links where the engine puts its own": lambda out: [
        pax([(name, target) for name in ("dev", "proc", "sys", "etc") for target in (out,)])
    ],
    "links as the engine's own files": lambda out: [
        pax([(f"etc/{name}", f"{out}/canary") for name in ("hosts", "hostname", "resolv.conf", "mtab")])
    ],
}


@pytest.mark.parametrize("what", CONTAINED)
def test_a_layer_is_contained(store: Store, canary: Canary, what: str) -> None:
    """It unpacks, a container of it shows what it says, and what is outside is as it was."""
    assert loaded(store, *CONTAINED[what](str(canary.place))) == ""
    for path in seen(store):
        assert not path.startswith("..")
    store.images.remove("hostile:1", in_use=lambda id: ())
    assert store.content() == set()


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Store]:
    """A store with 16 MiB to spare, on a file system that has 2,000 files in all."""
    place = tmp_path / "small"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=80m,nr_inodes=2000", "tmpfs", str(place)], check=True)
    try:
        with support.store(place) as made:
            yield made
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


BOMBS: dict[str, tuple[Callable[[], bytes], str]] = {
    "of zeros": (lambda: tar([("zeros", bytes(60 << 20))]), "unpacks to more than"),
    "of many files of zeros": (
        lambda: tar([(f"zeros{number}", bytes(1 << 20)) for number in range(40)]),
        "unpacks to more than",
    ),
    "of empty files": (lambda: tar([(f"f{number}", b"") for number in range(5000)]), "has more than .* entries"),
    "of directories that are only on the way": (
        lambda: pax([(f"{number}/" + "d/" * 1000 + "f", b"") for number in range(5)]),
        "has more than .* entries",
    ),
}


@pytest.mark.parametrize("pack", ["gzip", "zstd", "plain"])
@pytest.mark.parametrize("what", BOMBS)
def test_a_bomb_is_refused_and_what_is_there_stays(small: Store, what: str, pack: str) -> None:
    """One more image fits afterwards: the reserve was not touched, and nothing is left."""
    make, why = BOMBS[what]
    before = small.content()
    layer = make()
    error = loaded(small, A, layer, pack=pack)
    if pack == "plain" and len(layer) > 16 << 20:
        why = "No space left"  # for the archive itself
    assert re.search(why, error), error
    assert small.content() == before
    status = os.statvfs(small.layout.data_root)
    assert status.f_bavail * status.f_frsize > 64 << 20
    assert loaded(small, B) == ""


def test_a_pulled_bomb_is_refused(small: Store) -> None:
    async def work(fake: FakeRegistry) -> None:
        fake.add_image([A, tar([("zeros", bytes(60 << 20))])], "latest", pack="zstd")
        with pytest.raises(ApiError, match="unpacks to more than"):
            await fetch(small, f"{fake.domain}/app", tag="latest")
        assert small.content() == set()
        assert fake.sending == 0

    with_registry(work)


CONFIGS: dict[str, tuple[bytes, str]] = {
    "too large": (config_of([A], comment="x" * (9 << 20)), "too large"),
    "too deep": (b'{"rootfs": ' + b"[" * 200_000 + b"]" * 200_000 + b"}", "invalid image configuration"),
    "without layers": (b'{"os": "linux"}', "no RootFS key"),
    "of other layers": (config_of([B]), 'invalid diffID for layer 0: expected "'),
    "of more layers": (config_of([A, B]), "layers length mismatch"),
    "with a path as a digest": (
        config_of([A]).replace(digest(A).encode(), b"sha256:../../../../etc"),
        "invalid diffID",
    ),
    "of more layers than can be mounted": (
        json.dumps({"rootfs": {"diff_ids": [digest(A)] * 501}}).encode(),
        "more than an image may have",
    ),
    "that is no object": (b"[1]", "invalid image configuration"),
    "that is no text": (b"\xff\xfe", "invalid image configuration"),
}


@pytest.mark.parametrize("what", CONFIGS)
def test_a_configuration_is_refused_and_leaves_nothing(store: Store, what: str) -> None:
    config, why = CONFIGS[what]
    manifest = [{"Config": "c.json", "RepoTags": ["hostile:1"], "Layers": ["l"]}]
    data = tar([("manifest.json", json.dumps(manifest).encode()), ("c.json", config), ("l", A)])
    messages = asyncio.run(load(store.images, data))
    assert why in messages[-1].get("error", "").replace("'c.json' is", "the configuration is"), messages
    assert store.content() == set()


def test_a_layer_that_is_there_many_times_is_unpacked_and_counted_as_it_is(store: Store) -> None:
    assert loaded(store, *[A] * 100) == ""
    image = store.images.get("hostile:1")
    assert len(image.layer_ids) == 100
    assert sum(entry.startswith("blobs/") for entry in store.content()) == 2
    store.images.remove("hostile:1", in_use=lambda id: ())
    assert store.content() == set()


def test_nobody_but_root_reaches_what_images_bring(store: Store) -> None:
    """A setuid program of a layer is no way to root."""
    assert loaded(store, tar([special("su", b"0", mode=0o4755)])) == ""
    (program,) = store.layout.layers.glob("*/diff/su")
    assert stat.S_IMODE(program.stat().st_mode) == 0o4755
    for path in (store.layout.data_root, *store.layout.data_root.parents):
        if path == store.layout.data_root:
            assert not path.stat().st_mode & 0o007


# --- containers of hostile images -----------------------------------------------------------------------------------


def image(engine: CrashEngine, entries: list[Any], **config: Any) -> None:
    """``hostile:1``: a layer over busybox's."""
    from scripts.make_images import DEFAULT_PATH, docker_archive
    from tests.support.engines import busybox_layer_once

    made = docker_archive([busybox_layer_once(), pax(entries)], {"Env": [DEFAULT_PATH], **config}, ["hostile:1"])
    engine.load(made)


@pytest.mark.parametrize(
    "name", ["dev", "proc", "sys", "etc", "etc/hosts", "etc/hostname", "etc/resolv.conf", "etc/mtab", ".dockerenv"]
)
@pytest.mark.parametrize("target", ["canary", "directory", ""])
def test_a_container_whose_own_places_are_links(crashable: CrashEngine, canary: Canary, name: str, target: str) -> None:
    """It runs, or is refused with a word; the engine puts nothing where they lead."""
    parent = name.rpartition("/")[0]
    entries: list[Any] = [special(parent, tarfile.DIRTYPE, mode=0o755)] if parent else []
    image(crashable, [*entries, (name, f"{canary.place}/{target}")])
    container = crashable.create(
        "sh", "-c", "cat /etc/hosts; echo x > /etc/hostname; echo y > /dev/null", Image="hostile:1"
    )
    answer = crashable.http.post(f"/containers/{container}/start")
    if answer.status == 204:
        crashable.wait(container)
        crashable.http.get(f"/containers/{container}/archive", query={"path": "/etc"})
        crashable.http.get(f"/containers/{container}/changes")
    else:
        assert (answer.status in (400, 500), bool(answer.json["message"])) == (True, True)


def test_device_nodes_of_an_image_open_nothing(crashable: CrashEngine) -> None:
    nodes = [
        special("kmem", tarfile.CHRTYPE, devmajor=1, devminor=1, mode=0o666),
        special("disk", tarfile.BLKTYPE, devmajor=8, devminor=0, mode=0o666),
        special("loop", tarfile.BLKTYPE, devmajor=7, devminor=0, mode=0o666),
    ]
    image(crashable, nodes)
    script = "for each in kmem disk loop; do dd if=/$each of=/dev/null bs=1 count=1 2>&1 | head -1; done"
    _, out, _ = crashable.run_to_end("sh", "-c", script, Image="hostile:1")
    assert out.count(b"Operation not permitted") == 3, out


@pytest.mark.parametrize("name", ["etc/passwd", "etc/group"])
@pytest.mark.parametrize("kind", ["fifo", "zero", "link", "large", "garbage"])
def test_a_user_database_that_is_a_trap(crashable: CrashEngine, canary: Canary, name: str, kind: str) -> None:
    """The engine reads it: it does not wait, does not follow, and is not filled."""
    made: dict[str, Any] = {
        "fifo": special(name, tarfile.FIFOTYPE, mode=0o666),
        "zero": special(name, tarfile.CHRTYPE, devmajor=1, devminor=5, mode=0o666),
        "link": (name, f"{canary.place}/canary"),
        "large": (name, b"x" * (20 << 20)),
        "garbage": (name, b"root:x:-1:99999999999999999999:::\n:::::\n\0\xff\n" * 1000),
    }
    image(crashable, [special("etc", tarfile.DIRTYPE, mode=0o755), made[kind]])
    container = crashable.create("id", Image="hostile:1", User="nobody-there:none")
    answer = crashable.http.post(f"/containers/{container}/start")
    assert answer.status in (400, 500), answer
    assert "unable to find" in answer.json["message"] or "no matching entries" in answer.json["message"], answer
    container = crashable.create("true", Image="hostile:1", User="1234:1234")
    started = crashable.http.post(f"/containers/{container}/start")
    assert started.status == 204, started
    # the runtime's init reads it as well, inside the container: it may wait there for ever, and can be killed
    assert crashable.http.delete(f"/containers/{container}", query={"force": 1}).status == 204


@pytest.mark.parametrize(
    "config",
    [
        {"WorkingDir": "/../../../../../../x"},
        {"WorkingDir": "relative/../../.."},
        {"User": "0:0\n0"},
        {"User": "99999999999"},
        {"Volumes": {"/": {}}},
        {"Volumes": {"/proc": {}}},
        {"Volumes": {"/../../../x": {}}},
        {"Volumes": {"": {}}},
        {"Volumes": {"relative": {}}},
        {"ExposedPorts": {"0/none": {}, "99999999/tcp": {}}},
        {"Env": ["", "=", "A", "=B", "PATH=", "A=\n", "LD_PRELOAD=/x.so"]},
        {"Cmd": [""]},
        {"Entrypoint": ["/" + "x" * 5000]},
        {"Labels": {"": "", "io.wherry": "x", "a" * 10_000: "b" * 100_000}},
        {"StopSignal": "SIGNONE"},
        {"Healthcheck": {"Test": ["CMD"], "Interval": -1}},
        {"Shell": []},
        {"Hostname": "../../../x", "Domainname": "\n"},
    ],
    ids=lambda config: f"{next(iter(config))} {str(next(iter(config.values())))[:20]}",
)
def test_a_configuration_s_values_are_refused_or_contained(
    crashable: CrashEngine, canary: Canary, config: dict[str, Any]
) -> None:
    image(crashable, [], **{"Cmd": ["true"], **config})
    answer = crashable.try_create(Image="hostile:1")
    if answer.status == 201:
        container = answer.json["Id"]
        started = crashable.http.post(f"/containers/{container}/start")
        if started.status == 204:
            crashable.wait(container)
        else:
            answer = started
    if answer.status not in (201, 204):
        assert 400 <= answer.status <= 500, answer
        assert answer.json["message"]
        assert "Traceback" not in crashable.log
    assert crashable.http.get("/_ping").status == 200
