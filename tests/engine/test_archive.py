"""Files into and out of a container's root: what needs root, mounts or a walk by tar."""

from __future__ import annotations

import asyncio
import io
import os
import shutil
import stat
import subprocess
import sys
import tarfile
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from wherry.api.errors import ApiError, BadRequest, NotFound, ServerError
from wherry.engine.containers.archive import clean_path, get_archive, put_archive, stat_path
from wherry.engine.containers.container import MountPoint
from wherry.engine.containers.export import export
from wherry.engine.containers.rootview import RootView, running_view, stopped_view
from wherry.engine.store.overlay import mount_overlay, umount_lazily
from wherry.engine.store.rootfs import RootfsPaths
from wherry.wire.pathstat import PathStat

CAPABILITY = bytes.fromhex("0100000200200000000000000000000000000000")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    path = tmp_path / "root"
    for name in ("bin", "etc", "tmp"):
        (path / name).mkdir(parents=True)
    (path / "bin/busybox").write_bytes(b"#!")
    (path / "bin/sh").symlink_to("busybox")
    (path / "l").symlink_to("/bin")
    return path


@pytest.fixture
def view(root: Path) -> Iterator[RootView]:
    with stopped_view(root) as result:
        yield result


def get(view: RootView, path: str) -> tuple[PathStat, dict[str, tarfile.TarInfo]]:
    async def read() -> tuple[PathStat, bytes]:
        found, body = get_archive(view, path, container="c")
        return found, b"".join([data async for data in body])

    found, data = asyncio.run(read())
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        return found, {member.name: member for member in tar}


def put(view: RootView, path: str, data: bytes, **options: Any) -> None:
    async def body() -> AsyncIterator[bytes]:
        for start in range(0, len(data), 5000):
            yield data[start : start + 5000]

    asyncio.run(put_archive(view, path, body(), container="c", **options))


def archive(**members: dict[str, Any]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, fields in members.items():
            info = tarfile.TarInfo(name)
            data = fields.pop("data", b"")
            for key, value in fields.items():
                setattr(info, key, value)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


# paths


def test_ARC1_a_path_must_be_given(view: RootView) -> None:
    with pytest.raises(BadRequest, match="path cannot be empty"):
        stat_path(view, "", container="c")


@pytest.mark.parametrize(
    ("path", "cleaned"),
    [
        ("/", "/"),
        ("bin", "/bin"),
        ("/bin/", "/bin/"),
        ("/bin/.", "/bin/."),
        (".", "/."),
        ("../../etc", "/etc"),
        ("/bin/../etc//x", "/etc/x"),
        ("/bin/..", "/"),
    ],
)
def test_ARC1_ARC2_paths(path: str, cleaned: str) -> None:
    assert clean_path(path) == cleaned


@pytest.mark.parametrize(
    ("path", "name"), [("/", "/"), ("/bin/.", "."), ("/bin/", "bin"), ("/bin", "bin"), ("/l/", "l"), ("/l/.", ".")]
)
def test_ARC2_names(view: RootView, path: str, name: str) -> None:
    found = stat_path(view, path, container="c")
    assert found.name == name
    assert found.mode == 1 << 31 | 0o755


def test_ARC3_the_last_link_is_not_followed(view: RootView, root: Path) -> None:
    (root / "out").symlink_to("../../../etc/nothing/here")
    (root / "circle").symlink_to("circle")
    found = stat_path(view, "/l/sh", container="c")
    assert (found.name, found.link_target, found.mode) == ("sh", "/bin/busybox", 1 << 27 | 0o777)
    assert stat_path(view, "/out", container="c").link_target == "/etc/nothing/here"
    with pytest.raises(ServerError, match="too many links"):
        stat_path(view, "/circle", container="c")


def test_ARC3_errors(view: RootView) -> None:
    with pytest.raises(NotFound, match=r"^Could not find the file /nope in container c$"):
        stat_path(view, "/nope", container="c")
    with pytest.raises(ServerError, match="not a directory"):
        stat_path(view, "/bin/busybox/", container="c")


# out


@pytest.mark.parametrize(
    ("path", "names"),
    [
        ("/bin", {"bin", "bin/busybox", "bin/sh"}),
        ("/bin/", {"bin", "bin/busybox", "bin/sh"}),
        ("/bin/.", {".", "./busybox", "./sh"}),
        ("/l/", {"l", "l/busybox", "l/sh"}),
        ("/", {"", "/bin", "/bin/busybox", "/bin/sh", "/etc", "/tmp", "/l"}),
        ("/bin/sh", {"sh"}),
        ("/l", {"l"}),
        ("/bin/busybox", {"busybox"}),
    ],
)
def test_ARC4_names_in_the_archive(view: RootView, path: str, names: set[str]) -> None:
    assert set(get(view, path)[1]) == names


def test_ARC4_links_owners_times_and_capabilities(view: RootView, root: Path) -> None:
    os.chown(root / "bin/busybox", 1234, 4321)
    os.chmod(root / "bin/busybox", 0o4755)
    os.utime(root / "bin/busybox", ns=(0, 1_500_000_000_700_000_000))
    os.setxattr(root / "bin/busybox", "security.capability", CAPABILITY)
    os.setxattr(root / "bin/busybox", "user.private", b"x")
    os.link(root / "bin/busybox", root / "bin/zz")
    _, members = get(view, "/bin")
    busybox, again = members["bin/busybox"], members["bin/zz"]
    if busybox.islnk():
        busybox, again = again, busybox
    assert (busybox.uid, busybox.gid, busybox.mode, busybox.mtime) == (1234, 4321, 0o4755, 1_500_000_000)
    assert busybox.pax_headers["SCHILY.xattr.security.capability"].encode() == CAPABILITY
    assert "SCHILY.xattr.user.private" not in busybox.pax_headers
    assert (again.type, again.linkname) == (tarfile.LNKTYPE, busybox.name)
    assert members["bin/sh"].linkname == "busybox"


@pytest.mark.parametrize("name", ["-C", "--help", "a,b", "a&b", "a\\b", "a\nb", "*", "[x]", "é", "a b", "@x"])
def test_names_that_mean_something_to_tar(view: RootView, root: Path, name: str) -> None:
    (root / "tmp" / name).mkdir()
    (root / "tmp" / name / name).write_bytes(b"x")
    assert set(get(view, f"/tmp/{name}")[1]) == {name, f"{name}/{name}"}
    assert set(get(view, f"/tmp/{name}/{name}")[1]) == {name}


def test_sockets_and_vanishing_files_do_no_harm(view: RootView, root: Path) -> None:
    import socket

    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(root / "tmp/s"))
        (root / "tmp/f").touch()
        os.mkfifo(root / "tmp/p")
        assert set(get(view, "/tmp")[1]) == {"tmp", "tmp/f", "tmp/p"}


def test_a_client_that_leaves_leaves_nothing_behind(view: RootView, root: Path) -> None:
    with open(root / "tmp/big", "wb") as file:
        file.truncate(100 << 20)

    async def main() -> None:
        before = len(os.listdir("/proc/self/fd"))
        _, body = get_archive(view, "/tmp", container="c")
        assert await anext(body)
        await body.aclose()  # type: ignore[attr-defined]
        _, body = get_archive(view, "/tmp", container="c")
        await body.aclose()  # type: ignore[attr-defined]
        assert len(os.listdir("/proc/self/fd")) == before

    asyncio.run(main())
    assert not subprocess.run(["pgrep", "-P", str(os.getpid()), "tar"], capture_output=True).stdout


def test_EXP1_export(root: Path) -> None:
    (root / ".dockerenv").touch()
    (root / "-x").touch()

    async def main() -> bytes:
        return b"".join([data async for data in export(root)])

    with tarfile.open(fileobj=io.BytesIO(asyncio.run(main()))) as tar:
        assert set(tar.getnames()) == {".dockerenv", "-x", "bin", "bin/busybox", "bin/sh", "etc", "tmp", "l"}


# in


def test_ARC5_the_target_must_be_a_directory(view: RootView) -> None:
    with pytest.raises(ServerError, match=r"^extraction point is not a directory$"):
        put(view, "/bin/busybox", b"")
    with pytest.raises(NotFound, match=r"^Could not find the file /nope in container c$"):
        put(view, "/nope", b"")


def test_ARC5_links_to_the_target_are_followed(view: RootView, root: Path) -> None:
    put(view, "/l", archive(f={"data": b"x"}))
    assert (root / "bin/f").read_bytes() == b"x"


def test_ARC5_read_only_root(root: Path) -> None:
    with (
        stopped_view(root, read_only=True) as view,
        pytest.raises(ServerError, match=r"^container rootfs is marked read-only$"),
    ):
        put(view, "/tmp", b"")


def test_ARC6_errors_of_the_body(view: RootView) -> None:
    put(view, "/tmp", b"")
    with pytest.raises(ServerError, match=r"^unexpected EOF$"):
        put(view, "/tmp", b"garbage")


def test_ARC8_owners(view: RootView, root: Path) -> None:
    put(view, "/tmp", archive(f={"uid": 1234, "gid": 4321}))
    assert (os.stat(root / "tmp/f").st_uid, os.stat(root / "tmp/f").st_gid) == (1234, 4321)
    put(view, "/tmp", archive(f={"uid": 1234, "gid": 4321}), chown=(5, 6))
    assert (os.stat(root / "tmp/f").st_uid, os.stat(root / "tmp/f").st_gid) == (5, 6)


def test_ARC9_devices_and_capabilities(view: RootView, root: Path) -> None:
    header = {"SCHILY.xattr.security.capability": CAPABILITY.decode("utf-8", "surrogateescape")}
    put(
        view,
        "/tmp",
        archive(
            null={"type": tarfile.CHRTYPE, "devmajor": 1, "devminor": 3, "mode": 0o666},
            ping={"mode": 0o2755, "gid": 7, "pax_headers": header},
        ),
    )
    found = os.stat(root / "tmp/null")
    assert (found.st_mode, found.st_rdev) == (stat.S_IFCHR | 0o666, os.makedev(1, 3))
    assert stat.S_IMODE(os.stat(root / "tmp/ping").st_mode) == 0o2755
    assert os.getxattr(root / "tmp/ping", "security.capability") == CAPABILITY


def test_a_body_that_breaks_off(view: RootView, root: Path) -> None:
    data = archive(a={"data": b"x" * 1000}, b={"data": b"y" * 100_000})

    async def body() -> AsyncIterator[bytes]:
        yield data[:20_000]
        raise ConnectionError("gone")

    with pytest.raises(ConnectionError, match="gone"):
        asyncio.run(put_archive(view, "/tmp", body(), container="c"))
    assert (root / "tmp/a").stat().st_size == 1000


def test_a_slow_body_that_is_cancelled(view: RootView) -> None:
    async def body() -> AsyncIterator[bytes]:
        yield bytes(10)
        await asyncio.sleep(100)

    async def main() -> None:
        before = len(os.listdir("/proc/self/fd"))
        task = asyncio.get_running_loop().create_task(put_archive(view, "/tmp", body(), container="c"))
        await asyncio.sleep(0.05)
        task.cancel()
        await asyncio.wait([task], timeout=5)
        assert task.cancelled()
        assert len(os.listdir("/proc/self/fd")) == before

    asyncio.run(main())


def test_out_and_in_again(view: RootView, root: Path) -> None:
    tree = root / "tmp/tree"
    (tree / "d").mkdir(parents=True)
    (tree / "d/f").write_bytes(os.urandom(3_000_000))
    (tree / "d/l").symlink_to("/outside")
    (root / "etc/in").mkdir()

    async def main() -> None:
        _, body = get_archive(view, "/tmp/tree", container="c")
        await put_archive(view, "/etc/in", body, container="c")

    asyncio.run(main())
    assert (root / "etc/in/tree/d/f").read_bytes() == (tree / "d/f").read_bytes()
    assert os.readlink(root / "etc/in/tree/d/l") == "/outside"


# views


def test_ARC10_volumes_are_there_when_stopped(root: Path, tmp_path: Path) -> None:
    volume, fixed, single = tmp_path / "volume", tmp_path / "fixed", tmp_path / "single"
    volume.mkdir()
    fixed.mkdir()
    single.write_text("single")
    (volume / "inside").write_text("volume")
    (fixed / "f").touch()
    mounts = [
        MountPoint(type="volume", destination="/data/v", source=str(volume)),
        MountPoint(type="bind", destination="/fixed", source=str(fixed), rw=False),
        MountPoint(type="bind", destination="/etc/single", source=str(single)),
        MountPoint(type="bind", destination="/gone", source=str(tmp_path / "gone")),
        MountPoint(type="tmpfs", destination="/run"),
    ]
    before = Path("/proc/self/mountinfo").read_text()
    with stopped_view(root, mounts) as view:
        assert set(get(view, "/data/v")[1]) == {"v", "v/inside"}
        assert stat_path(view, "/etc/single", container="c").size == 6
        put(view, "/data/v", archive(new={"data": b"x"}))
        with pytest.raises(ServerError, match=r"^mounted volume is marked read-only$"):
            put(view, "/fixed", b"")
        assert Path("/proc/self/mountinfo").read_text() == before
    assert (volume / "new").read_bytes() == b"x"
    assert not (root / "data/v/new").exists()
    assert not (root / "gone").exists()


@pytest.fixture
def process(root: Path) -> Iterator[int]:
    """A process with ``root`` as its root in a mount namespace of its own, with /proc and a tmpfs."""
    (root / "proc").mkdir()
    script = f"""
import ctypes, os, sys
libc = ctypes.CDLL(None)
libc.unshare(0x20000)
libc.mount(b"none", b"/", None, 0x44000, None)
libc.mount(b"{root}", b"{root}", None, 4096 | 16384, None)
libc.mount(b"proc", b"{root}/proc", b"proc", 0, None)
libc.mount(b"tmpfs", b"{root}/tmp", b"tmpfs", 0, None)
os.chroot("{root}")
os.chdir("/")
open("/tmp/hidden", "w").close()
print("ready", flush=True)
sys.stdin.read()
"""
    child = subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd="/", text=True
    )
    assert child.stdout is not None
    assert child.stdin is not None
    assert child.stdout.readline() == "ready\n"
    yield child.pid
    child.stdin.close()
    child.wait(5)
    child.stdout.close()


def test_ARC10_a_running_container_is_seen_with_its_mounts(process: int, root: Path) -> None:
    with running_view(process) as view:
        assert set(get(view, "/tmp")[1]) == {"tmp", "tmp/hidden"}
        _, members = get(view, "/")
        assert {name for name in members if name.startswith("/proc")} == {"/proc"}
        assert set(get(view, "/proc")[1]) == {"proc"}
        put(view, "/tmp", archive(new={"data": b"x"}))
        assert set(get(view, "/tmp/new")[1]) == {"new"}
    assert not (root / "tmp/new").exists()


def test_magic_links_of_proc_lead_nowhere(process: int) -> None:
    with running_view(process) as view:
        for path in ("/proc/1/root/etc", "/proc/self/root/etc", "/proc/1/cwd/."):
            with pytest.raises(ApiError):
                get(view, path)
            with pytest.raises(ApiError):
                put(view, path, b"")


def test_many_small_files_come_out_fast(view: RootView, root: Path) -> None:
    """A walk in Python takes twenty times as long."""
    for number in range(2000):
        (root / "tmp" / str(number)).write_bytes(b"x" * 100)
    started = time.perf_counter()
    get_count = len(get(view, "/tmp")[1])
    assert get_count == 2001
    assert time.perf_counter() - started < 5


@pytest.fixture
def layered(tmp_path: Path) -> Iterator[tuple[RootfsPaths, Path]]:
    """An overlay of two layers below a container's own files."""
    paths = RootfsPaths(
        (tmp_path / "top", tmp_path / "low"), tmp_path / "upper", tmp_path / "work", tmp_path / "merged"
    )
    for path in (*paths.lower, paths.upper, paths.work, paths.merged):
        assert path is not None
        path.mkdir()
    for name in ("shared", "lower", "again", "hidden"):
        (paths.lower[1] / name / "deep").mkdir(parents=True)
        (paths.lower[1] / name / "deep" / "file").write_text("of the layer")
    (paths.lower[0] / "middle").symlink_to("shared")
    try:
        mount_overlay(paths.merged, paths.lower, paths.upper, paths.work)
    except OSError as error:
        pytest.skip(f"no overlay here: {error}")
    try:
        yield paths, paths.merged
    finally:
        umount_lazily(paths.merged)


def test_what_only_the_container_has_is_read_where_it_lies(layered: tuple[RootfsPaths, Path]) -> None:
    paths, merged = layered
    (merged / "own/below").mkdir(parents=True)
    (merged / "own/below/file").write_text("own")
    (merged / "own/link").symlink_to("below/file")
    os.link(merged / "own/below/file", merged / "own/hard")
    (merged / "own/moved").write_text("x")
    os.rename(merged / "lower/deep/file", merged / "own/from the layer")
    (merged / "shared/new").write_text("beside the layer's")
    shutil.rmtree(merged / "again")
    (merged / "again").mkdir()
    shutil.rmtree(merged / "hidden")
    (merged / "to own").symlink_to("own/below")
    with stopped_view(merged, paths=paths) as view, stopped_view(merged) as plain:

        def lies_there(name: str) -> bool:
            fd = os.open(merged / name, os.O_PATH | os.O_DIRECTORY)
            try:
                own = view.own_directory(fd)
                assert plain.own_directory(fd) is None
                if own is not None:
                    os.close(own)
                return own is not None
            finally:
                os.close(fd)

        alone = {
            name for name in ("own", "own/below", "shared", "shared/deep", "lower", "again", ".") if lies_there(name)
        }
        assert alone == {"own", "own/below"}
        for path in ("/own", "/own/.", "/to own/", "/shared", "/lower", "/again", "/"):
            both = [get(either, path) for either in (view, plain)]
            shown = [
                (found, {n: (m.type, m.mode, m.size, m.mtime, m.linkname, m.uid, m.gid) for n, m in members.items()})
                for found, members in both
            ]
            assert shown[0] == shown[1], path
        assert "own/from the layer" in get(view, "/own")[1]


def test_what_is_mounted_below_a_directory_is_in_its_archive(layered: tuple[RootfsPaths, Path]) -> None:
    paths, merged = layered
    (merged / "own/point").mkdir(parents=True)
    fd = os.open(merged / "own", os.O_PATH | os.O_DIRECTORY)
    root = os.open(merged, os.O_PATH | os.O_DIRECTORY)
    with RootView(root, paths=paths, points=["/", "/own/point"]) as view:
        assert view.own_directory(fd) is None
        below = os.open(merged / "own/point", os.O_PATH | os.O_DIRECTORY)
        own = view.own_directory(below)  # nothing below that one
        assert own is not None
        os.close(own)
        os.close(below)
    os.close(fd)
