"""An image store on a scratch data root, and archives of images made by hand."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import zstandard

from wherry.engine.events import Event, Events
from wherry.engine.images.store import Images
from wherry.engine.store.database import Database
from wherry.engine.store.layout import Layout
from wherry.engine.store.overlay import mounts_below, umount_lazily
from wherry.engine.store.rootfs import Rootfs
from wherry.engine.store.trash import Trash
from wherry.engine.volumes.volumes import Volumes


class Store:
    """The parts of an engine that keep things; ``restart`` is what a killed engine's successor sees."""

    def __init__(self, root: Path, *, overlay: bool | None = None) -> None:
        self.layout = Layout(root / "data", root / "exec")
        self._overlay = overlay
        self.layout.make()
        self.start()

    def start(self) -> None:
        self.trash = Trash(self.layout)
        self.trash.recover()
        self.database = Database(self.layout.database)
        self.events = Events()
        self.rootfs = Rootfs(self.layout, self.trash, overlay=self._overlay)
        self.images = Images(self.layout, self.database, self.events, self.rootfs, self.trash)
        self.volumes = Volumes(self.layout, self.database, self.events, self.trash)
        self.lost = [*self.images.recover(), *self.volumes.recover()]

    def restart(self) -> None:
        self.database.close()
        self.start()

    def close(self) -> None:
        for point in mounts_below(self.layout.data_root):
            umount_lazily(point)
        self.trash.close()
        self.database.close()

    @property
    def actions(self) -> list[str]:
        """What happened, as ``image tag busybox:latest``."""
        seen: list[Event] = self.events.subscribe()[0]
        return [f"{event.type} {event.action} {event.attributes.get('name', event.id)}" for event in seen]

    def content(self) -> set[str]:
        """Every layer, blob and thing under way on the disk."""
        self.trash.wait(10)
        root = self.layout.data_root
        places = ("layers", "blobs/sha256", "partial", "tmp", "trash")
        return {f"{place}/{path.name}" for place in places for path in (root / place).iterdir()}


@contextmanager
def store(root: Path, *, overlay: bool | None = None) -> Any:
    made = Store(root, overlay=overlay)
    try:
        yield made
    finally:
        made.close()


Entry = tuple[str, Any]


def tar(entries: Iterable[Entry | tarfile.TarInfo]) -> bytes:
    """A tar of (name, content): bytes a file, ``str`` a symbolic link, None a directory."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for entry in entries:
            if isinstance(entry, tarfile.TarInfo):
                archive.addfile(entry)
                continue
            name, content = entry
            info = tarfile.TarInfo(name)
            info.mode = 0o644
            if content is None:
                info.type, info.mode = tarfile.DIRTYPE, 0o755
                archive.addfile(info)
            elif isinstance(content, str):
                info.type, info.linkname = tarfile.SYMTYPE, content
                archive.addfile(info)
            else:
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
    return out.getvalue()


def digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def config_of(layers: Sequence[bytes], **more: Any) -> bytes:
    """The configuration of an image of these (uncompressed) layers, lowest first."""
    content: dict[str, Any] = {
        "architecture": "amd64",
        "os": "linux",
        "created": "2024-02-03T04:05:06.7Z",
        "config": {"Cmd": ["sh"], "Env": ["A=1"], "Labels": {"kind": "test"}},
        "history": [
            {"created": "2024-02-03T04:05:06Z", "created_by": f"step {number}"} for number in range(len(layers))
        ],
        "rootfs": {"type": "layers", "diff_ids": [digest(layer) for layer in layers]},
    }
    return json.dumps({**content, **more}).encode()


def gzipped(data: bytes) -> bytes:
    """The same bytes for the same data, whatever the time."""
    return gzip.compress(data, mtime=0)


PACK: Mapping[str, Any] = {
    "plain": lambda data: data,
    "gzip": gzipped,
    "zstd": lambda data: zstandard.ZstdCompressor().compress(data),
}


def docker_archive(
    layers: Sequence[bytes], names: Sequence[str] = ("test/app:v1",), *, pack: str = "plain", **more: Any
) -> bytes:
    config = config_of(layers, **more)
    stem = hashlib.sha256(config).hexdigest()
    files: list[Entry] = [(f"{stem}.json", config)]
    paths = []
    for number, layer in enumerate(layers):
        paths.append(f"layer{number}/layer.tar")
        files += [(f"layer{number}/", None), (paths[-1], PACK[pack](layer))]
    manifest = [{"Config": f"{stem}.json", "RepoTags": list(names) or None, "Layers": paths}]
    return tar([*files, ("manifest.json", json.dumps(manifest).encode())])


def oci_archive(
    layers: Sequence[bytes], name: str = "test/oci:v1", *, pack: str = "gzip", nested: bool = False
) -> bytes:
    blobs: dict[str, bytes] = {}

    def add(data: bytes, kind: str, **more: Any) -> dict[str, Any]:
        blobs[digest(data)] = data
        return {"mediaType": kind, "digest": digest(data), "size": len(data), **more}

    prefix = "application/vnd.oci.image"
    manifest = {
        "schemaVersion": 2,
        "config": add(config_of(layers), f"{prefix}.config.v1+json"),
        "layers": [add(PACK[pack](layer), f"{prefix}.layer.v1.tar") for layer in layers],
    }
    top = add(json.dumps(manifest).encode(), f"{prefix}.manifest.v1+json")
    if nested:
        from wherry.engine.images.platform import host_platform

        system, architecture, _ = host_platform()
        other = {**top, "digest": f"sha256:{'0' * 64}", "platform": {"os": "linux", "architecture": "s390x"}}
        top["platform"] = {"os": system, "architecture": architecture}
        inner = {"schemaVersion": 2, "manifests": [other, top]}
        top = add(json.dumps(inner).encode(), f"{prefix}.index.v1+json")
    top["annotations"] = {"io.containerd.image.name": f"docker.io/{name}", "org.opencontainers.image.ref.name": "v1"}
    files: list[Entry] = [("oci-layout", b'{"imageLayoutVersion": "1.0.0"}')]
    files += [(f"blobs/sha256/{key[7:]}", data) for key, data in blobs.items()]
    return tar([*files, ("index.json", json.dumps({"schemaVersion": 2, "manifests": [top]}).encode())])


async def body(data: bytes, piece: int = 10_000) -> AsyncIterator[bytes]:
    for start in range(0, len(data), piece):
        yield data[start : start + piece]


async def load(images: Images, data: bytes, *, quiet: bool = True) -> list[dict[str, Any]]:
    return [message async for message in images.load(body(data), quiet=quiet)]


async def save(images: Images, *names: str) -> bytes:
    return b"".join([piece async for piece in images.save(names)])


async def import_(images: Images, data: bytes, **more: Any) -> str:
    """The new image's id."""
    messages = [message async for message in images.import_(body(data), **more)]
    return str(messages[-1]["status"])
