"""Extraction of archives, kind and hostile, as any user (the tree's owner gets everything)."""

from __future__ import annotations

import errno
import io
import os
import stat
import struct
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wherry.engine import inroot
from wherry.engine.store import removal
from wherry.engine.store.compression import CompressionError, decompressed
from wherry.engine.store.tarread import TarError, TarReader
from wherry.engine.store.untar import Extracted, LimitExceeded, UntarError, UntarOptions, extract

OWN = (os.getuid(), os.getgid())
DIRECTORY = {"type": tarfile.DIRTYPE, "mode": 0o755}


def archive(*members: tuple[str, dict[str, Any]], format: int = tarfile.PAX_FORMAT) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=format) as tar:
        for name, fields in members:
            info = tarfile.TarInfo(name)
            data = fields.get("data", b"")
            for key, value in fields.items():
                if key != "data":
                    setattr(info, key, value)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def link(target: str) -> dict[str, Any]:
    return {"type": tarfile.SYMTYPE, "linkname": target}


def hard(target: str) -> dict[str, Any]:
    return {"type": tarfile.LNKTYPE, "linkname": target}


class Root:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.fd = os.open(path, os.O_PATH | os.O_DIRECTORY)

    def put(self, data: bytes, **options: Any) -> Extracted:
        options.setdefault("chown", OWN)
        options.setdefault("base", "/tmp")
        return extract(decompressed(io.BytesIO(data)), self.fd, options=UntarOptions(**options))

    def names(self) -> set[str]:
        return {str(path.relative_to(self.path)) for path in self.path.rglob("*")}


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Root]:
    (tmp_path / "outside").write_text("outside")
    (tmp_path / "root/tmp").mkdir(parents=True)
    (tmp_path / "root/etc").mkdir()
    result = Root(tmp_path / "root")
    yield result
    os.close(result.fd)
    assert (tmp_path / "outside").read_text() == "outside"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["outside", "root"]


def test_files_directories_links_and_their_attributes(root: Root) -> None:
    size = root.put(
        archive(
            ("d", {"type": tarfile.DIRTYPE, "mode": 0o751, "mtime": 1000}),
            ("d/f", {"data": b"hello", "mode": 0o4755, "mtime": 1234.5}),
            ("d/s", link("f")),
            ("d/h", hard("d/f")),
            ("d/p", {"type": tarfile.FIFOTYPE, "mode": 0o622}),
        )
    )
    assert size == Extracted(5, 5)
    d = root.path / "tmp/d"
    assert stat.S_IMODE(d.stat().st_mode) == 0o751
    assert d.stat().st_mtime == 1000
    assert (d / "f").read_bytes() == b"hello"
    assert stat.S_IMODE((d / "f").stat().st_mode) == 0o4755
    assert (d / "f").stat().st_mtime == 1234.5
    assert os.readlink(d / "s") == "f"
    assert (d / "h").stat().st_ino == (d / "f").stat().st_ino
    assert stat.S_ISFIFO((d / "p").stat().st_mode)


def test_ARC7_names_stay_below_the_target(root: Root) -> None:
    root.put(archive(("/../abs/f", {"data": b"1"}), ("a/../b", {"data": b"2"}), ("./c/./d", {"data": b"3"})))
    assert (root.path / "tmp/abs/f").read_bytes() == b"1"
    assert (root.path / "tmp/b").read_bytes() == b"2"
    assert (root.path / "tmp/c/d").read_bytes() == b"3"


@pytest.mark.parametrize("name", ["../esc", "../../esc", "a/../../esc", ".."])
def test_ARC7_names_outside_are_refused(root: Root, name: str) -> None:
    with pytest.raises(UntarError, match=r'" is outside of "/tmp"$'):
        root.put(archive((name, {"data": b"x"})))
    with pytest.raises(UntarError, match=r"^invalid hardlink "):
        root.put(archive(("l", hard(name))))


def test_ARC7_links_are_followed_inside_the_root(root: Root) -> None:
    root.put(
        archive(("l", link("/etc")), ("l/zz", {"data": b"1"}), ("m", link("../../../etc")), ("m/yy", {"data": b"2"}))
    )
    assert (root.path / "etc/zz").read_bytes() == b"1"
    assert (root.path / "etc/yy").read_bytes() == b"2"


def test_a_link_is_replaced_and_not_written_through(root: Root) -> None:
    (root.path / "etc/passwd").write_text("root")
    root.put(archive(("l", link("/etc/passwd")), ("l", {"data": b"new"})))
    assert (root.path / "etc/passwd").read_text() == "root"
    assert (root.path / "tmp/l").read_bytes() == b"new"


def test_links_in_a_circle_are_an_error(root: Root) -> None:
    with pytest.raises(UntarError, match="too many levels of symbolic links"):
        root.put(archive(("a", link("b")), ("b", link("a")), ("a/x", {})))


def test_a_dangling_link_is_an_error(root: Root) -> None:
    with pytest.raises(UntarError, match="no such file or directory"):
        root.put(archive(("a", link("/nowhere")), ("a/x", {})))


def test_hardlinks_do_not_follow_the_last_link(root: Root) -> None:
    (root.path / "etc/passwd").write_text("root")
    root.put(archive(("s", link("/etc/passwd")), ("h", hard("s"))))
    assert (root.path / "tmp/h").is_symlink()


def test_ARC7_existing_things_are_replaced(root: Root) -> None:
    tmp = root.path / "tmp"
    (tmp / "d/sub").mkdir(parents=True)
    (tmp / "d/sub/f").touch()
    root.put(archive(("d", DIRECTORY), ("d/new", {})))
    assert (tmp / "d/sub/f").exists()  # merged
    root.put(archive(("d", {"data": b"file"})))
    assert (tmp / "d").read_bytes() == b"file"
    root.put(archive(("d", DIRECTORY)))
    assert (tmp / "d").is_dir()


def test_ARC7_no_overwrite_dir_non_dir(root: Root) -> None:
    (root.path / "tmp/d").mkdir()
    (root.path / "tmp/f").touch()
    with pytest.raises(UntarError, match=r'^cannot overwrite directory "/tmp/d" with non-directory "/tmp"$'):
        root.put(archive(("d", {})), no_overwrite_dir_non_dir=True)
    with pytest.raises(UntarError, match=r'^cannot overwrite non-directory "/tmp/f" with directory "/tmp"$'):
        root.put(archive(("f", DIRECTORY)), no_overwrite_dir_non_dir=True)


def test_ARC9_missing_parents_are_made(root: Root) -> None:
    root.put(archive(("a/b/c/f", {"data": b"x"})))
    assert stat.S_IMODE((root.path / "tmp/a/b").stat().st_mode) == 0o755


def test_ARC9_unknown_types_are_an_error(root: Root) -> None:
    with pytest.raises(UntarError, match="unhandled tar header type"):
        root.put(archive(("f", {"type": b"Z"})))


@pytest.mark.parametrize("format", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_long_names(root: Root, format: int) -> None:
    name = "/".join(["n" * 100] * 8)
    root.put(archive((name, {"data": b"x"}), ("l", link("t" * 300)), format=format))
    assert (root.path / "tmp" / name).read_bytes() == b"x"
    assert os.readlink(root.path / "tmp/l") == "t" * 300


def test_a_name_that_no_file_system_takes(root: Root) -> None:
    with pytest.raises(UntarError, match="file name too long"):
        root.put(archive(("n" * 300, {})))


def test_names_that_are_no_text(root: Root) -> None:
    data = archive(("XXXX", {"data": b"x"}), format=tarfile.USTAR_FORMAT)
    header = bytearray(data.replace(b"XXXX", b"a\xff\xfe\x80", 1))
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header[:512])
    root.put(bytes(header))
    assert os.fsencode(os.listdir(root.path / "tmp")[0]) == b"a\xff\xfe\x80"


def test_bounds(root: Root) -> None:
    with pytest.raises(LimitExceeded, match="more than 50 entries"):
        root.put(archive(("on/the/way/" * 20 + "f", {})), max_entries=50)
    assert not (root.path / "tmp/on").exists()
    many = archive(*((f"f{number}", {"data": b"x" * 100}) for number in range(10)))
    with pytest.raises(LimitExceeded, match="more than 5 entries"):
        root.put(many, max_entries=5)
    with pytest.raises(LimitExceeded, match="more than 500 bytes"):
        root.put(many, max_bytes=500)
    assert root.put(many, max_bytes=1000, max_entries=10) == Extracted(1000, 10)


def test_whiteouts(root: Root) -> None:
    root.put(
        archive(
            ("gone/.wh.file", {}),
            ("opaque/.wh..wh..opq", {}),
            (".wh..wh.plnk", {}),
            (".wh.both", {}),
            ("both", DIRECTORY),
            ("both/f", {}),
        ),
        whiteouts=True,
        opaque_xattr="user.overlay.opaque",
        base="",
    )
    found = os.lstat(root.path / "gone/file")
    assert stat.S_ISCHR(found.st_mode)
    assert found.st_rdev == 0
    assert os.getxattr(root.path / "opaque", "user.overlay.opaque") == b"y"
    assert os.getxattr(root.path / "both", "user.overlay.opaque") == b"y"
    assert root.names() == {"tmp", "etc", "gone", "gone/file", "opaque", "both", "both/f"}


@pytest.mark.parametrize("name", [".wh.", ".wh..", ".wh...", "a/.wh..."])
def test_hostile_whiteouts(root: Root, name: str) -> None:
    with pytest.raises(UntarError, match="invalid whiteout"):
        root.put(archive((name, {})), whiteouts=True)


def test_overlay_attributes_are_not_the_archives_to_set(root: Root) -> None:
    xattrs = {"SCHILY.xattr.user.fine": "1", "SCHILY.xattr.user.overlay.opaque": "y", "SCHILY.xattr.trusted.x": "y"}
    root.put(archive(("f", {"pax_headers": xattrs})))
    assert os.listxattr(root.path / "tmp/f") == ["user.fine"]


def test_the_targets_own_entry_changes_nothing(root: Root) -> None:
    before = (root.path / "tmp").stat().st_mode
    root.put(archive(("./", {"type": tarfile.DIRTYPE, "mode": 0o700}), ("f", {})))
    assert (root.path / "tmp").stat().st_mode == before


@pytest.mark.parametrize("compression", ["", "gz", "bz2", "xz"])
def test_ARC6_compressed_archives(root: Root, compression: str) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=f"w:{compression}") as tar:  # type: ignore[call-overload]
        info = tarfile.TarInfo("f")
        info.size = 3_000_000
        tar.addfile(info, io.BytesIO(b"0123456789" * 300_000))
    root.put(buffer.getvalue())
    assert (root.path / "tmp/f").stat().st_size == 3_000_000
    if compression:
        with pytest.raises((UntarError, CompressionError)):
            root.put(buffer.getvalue()[:-200])


def test_ARC6_zstd_and_members_one_after_another(root: Root) -> None:
    import gzip

    import zstandard

    data = archive(("f", {"data": b"x" * 10_000}))
    root.put(zstandard.ZstdCompressor().compress(data))
    assert (root.path / "tmp/f").stat().st_size == 10_000
    half = len(data) // 2
    root.put(gzip.compress(data[:half]) + gzip.compress(data[half:]) + bytes(100))
    assert (root.path / "tmp/f").stat().st_size == 10_000


def test_ARC6_nothing_and_garbage(root: Root) -> None:
    assert root.put(b"") == Extracted(0, 0)
    with pytest.raises(UntarError, match="unexpected EOF"):
        root.put(b"garbage")
    with pytest.raises(UntarError, match="invalid tar header"):
        root.put(b"x" * 2000)
    whole = archive(("f", {"data": b"x" * 2000}))
    with pytest.raises(UntarError, match="unexpected EOF"):
        root.put(whole[:1000])


def test_errors_of_the_source_pass_through(root: Root) -> None:
    class Broken:
        def read(self, size: int = -1, /) -> bytes:
            raise ConnectionError("the client is gone")

    with pytest.raises(ConnectionError, match="the client is gone"):
        extract(Broken(), root.fd)


@pytest.mark.parametrize(
    "options",
    [
        ["--format=gnu"],
        ["--format=posix"],
        ["--format=ustar"],
        ["--format=v7"],
        ["--format=gnu", "--sparse"],
        ["--format=posix", "--sparse"],
        ["--format=posix", "--sparse", "--sparse-version=0.1"],
        ["--format=posix", "--sparse", "--sparse-version=0.0"],
    ],
)
def test_archives_of_gnu_tar(root: Root, tmp_path: Path, options: list[str]) -> None:
    source = root.path / "source"
    (source / "d").mkdir(parents=True)
    (source / "d/f").write_bytes(os.urandom(5000))
    (source / "d/l").symlink_to("f")
    os.link(source / "d/f", source / "d/h")
    with open(source / "sparse", "wb") as file:
        for offset in range(0, 60 << 16, 2 << 16):  # more pieces than one header holds
            file.seek(offset)
            file.write(b"x" * 100)
        file.truncate(5 << 20)
    data = subprocess.run(["tar", "-c", *options, "-C", source, "."], check=True, capture_output=True).stdout
    root.put(data)
    for name in ("d/f", "d/l", "sparse"):
        assert (root.path / "tmp" / name).read_bytes() == (source / name).read_bytes()
    assert (root.path / "tmp/d/h").stat().st_nlink == 2
    if "--sparse" in options:
        assert (root.path / "tmp/sparse").stat().st_blocks <= (source / "sparse").stat().st_blocks


def test_a_deep_tree_that_resists_leaves_no_descriptor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fd = os.open(tmp_path, os.O_RDONLY)
    for name in ["tree", *("d" for _ in range(230))]:
        os.mkdir(name, dir_fd=fd)
        deeper = os.open(name, os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = deeper
    os.close(fd)
    before = len(os.listdir("/proc/self/fd"))
    with monkeypatch.context() as patch:

        def refuse(*args: object, **kwargs: object) -> None:
            raise PermissionError(errno.EPERM, "an immutable directory")

        patch.setattr(os, "rename", refuse)
        with pytest.raises(PermissionError):
            removal.remove_path(tmp_path / "tree")
    assert len(os.listdir("/proc/self/fd")) == before
    removal.remove_path(tmp_path / "tree")
    assert not (tmp_path / "tree").exists()


@pytest.mark.skipif(os.getuid() != 0, reason="gives files to other groups")
def test_a_group_that_the_target_gets_between_two_files_is_not_the_second_ones(tmp_path: Path) -> None:
    members = [(name, {"data": b"x", "mode": 0o644}) for name in ("a", "b")]
    members.insert(1, ("./", {**DIRECTORY, "mode": 0o2755, "gid": 4321}))
    fd = os.open(tmp_path, os.O_RDONLY)
    try:
        extract(io.BytesIO(archive(*members)), fd, options=UntarOptions(root_attributes=True))
    finally:
        os.close(fd)
    assert tmp_path.stat().st_gid == 4321
    assert [(tmp_path / name).stat().st_gid for name in ("a", "b")] == [0, 0]


def test_a_deep_tree_is_replaced_with_few_descriptors(root: Root) -> None:
    import resource

    fd = os.open(root.path / "tmp", os.O_RDONLY)
    for _ in range(1200):
        os.mkdir("d", dir_fd=fd)
        deeper = os.open("d", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = deeper
    os.close(fd)
    soft, hard_limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard_limit))
    try:
        root.put(archive(("d", {"data": b"file"})))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard_limit))
    assert (root.path / "tmp/d").read_bytes() == b"file"


@given(st.binary(max_size=3000))
@settings(max_examples=200, deadline=None)
def test_reading_anything_ends_in_entries_or_an_error(data: bytes) -> None:
    try:
        for entry in TarReader(io.BytesIO(data)):
            assert entry.size >= 0
    except TarError:
        pass


@given(st.integers(0, 40 * 512 - 1), st.integers(0, 255), st.sampled_from([tarfile.PAX_FORMAT, tarfile.GNU_FORMAT]))
@settings(max_examples=300, deadline=None)
def test_reading_a_damaged_archive_ends(position: int, value: int, format: int) -> None:
    members: list[tuple[str, dict[str, Any]]] = [
        ("n" * 150, {"data": b"x" * 1000, "pax_headers": {"a": "b"}}),
        ("d", DIRECTORY),
    ]
    data = bytearray(archive(*members, format=format))
    position %= len(data)
    data[position] = value
    block = position // 512 * 512
    header = data[block : block + 512]
    header[148:156] = b" " * 8
    data[block + 148 : block + 156] = b"%06o\0 " % sum(header)
    try:
        for entry in TarReader(io.BytesIO(bytes(data))):
            assert entry.size >= 0
    except TarError:
        pass


@given(st.binary(max_size=2000), st.sampled_from([b"\x1f\x8b\x08", b"BZh9", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd"]))
@settings(max_examples=200, deadline=None)
def test_unpacking_anything_ends(data: bytes, magic: bytes) -> None:
    reader = decompressed(io.BytesIO(magic + data))
    try:
        while reader.read(1 << 16):
            pass
    except CompressionError:
        pass


def test_a_bomb_is_unpacked_piece_by_piece() -> None:
    import bz2
    import gzip
    import lzma

    import zstandard

    zeros = bytes(50 << 20)
    for packed in (gzip.compress(zeros), bz2.compress(zeros), lzma.compress(zeros), zstandard.compress(zeros)):
        reader = decompressed(io.BytesIO(packed))
        total = 0
        while data := reader.read(1 << 16):
            assert len(data) <= 1 << 16
            total += len(data)
        assert total == len(zeros)


@pytest.mark.parametrize(
    ("path", "cleaned"),
    [
        ("a", "a"),
        ("/a//b/", "a/b"),
        ("./a/./b", "a/b"),
        ("a/../b", "b"),
        ("../a", "../a"),
        ("/../a", "a"),
        ("..a/.", "..a"),
        ("/", ""),
    ],
)
def test_clean(path: str, cleaned: str) -> None:
    assert inroot.clean(path.encode()) == cleaned.encode()


def test_remove_tree_leaves_what_links_point_to(tmp_path: Path) -> None:
    (tmp_path / "keep").mkdir()
    (tmp_path / "keep/f").touch()
    (tmp_path / "d").mkdir()
    (tmp_path / "d/l").symlink_to(tmp_path / "keep")
    fd = os.open(tmp_path, os.O_RDONLY)
    removal.remove_tree(fd, "d")
    os.close(fd)
    assert (tmp_path / "keep/f").exists()
    assert not (tmp_path / "d").exists()


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o777, 0])
def test_modes_are_the_archives_whatever_the_umask(root: Root, umask: int) -> None:
    modes = (0o644, 0o755, 0o600, 0o666, 0o400, 0o4755, 0o2755, 0)
    before = os.umask(umask)
    try:
        root.put(archive(*((f"f{mode:o}", {"mode": mode, "data": b"x"}) for mode in modes)))
    finally:
        os.umask(before)
    for mode in modes:
        assert stat.S_IMODE((root.path / "tmp" / f"f{mode:o}").stat().st_mode) == mode, oct(mode)


def test_modes_are_the_archives_also_below_a_default_acl(root: Root) -> None:
    acl = struct.pack("<I", 2) + b"".join(
        struct.pack("<HHI", *entry, 0xFFFFFFFF) for entry in ((1, 6), (4, 4), (32, 0))
    )
    try:
        os.setxattr(root.path / "tmp", "system.posix_acl_default", acl)
    except OSError as error:
        pytest.skip(f"no ACLs here: {error}")
    modes = (0o640, 0o644, 0o640, 0o644)
    root.put(archive(*((f"f{number}", {"mode": mode}) for number, mode in enumerate(modes))))
    for number, mode in enumerate(modes):
        assert stat.S_IMODE((root.path / "tmp" / f"f{number}").stat().st_mode) == mode


@pytest.mark.skipif(os.getuid() != 0, reason="needs root")
def test_owners_are_the_archives_also_below_a_directory_that_gives_its_group(root: Root) -> None:
    os.chown(root.path / "tmp", 0, 77)
    os.chmod(root.path / "tmp", 0o2755)
    members = [("given", {"uid": 0, "gid": 0}), ("same", {"uid": 0, "gid": 77}), ("other", {"uid": 5, "gid": 6})]
    root.put(archive(*members, ("sub/below", {"uid": 0, "gid": 0})), chown=None)
    found = {name: (root.path / "tmp" / name).stat() for name in ("given", "same", "other", "sub/below")}
    assert {name: (status.st_uid, status.st_gid) for name, status in found.items()} == {
        "given": (0, 0),
        "same": (0, 77),
        "other": (5, 6),
        "sub/below": (0, 0),
    }


@pytest.mark.parametrize("cut", [700, 701, 900])
def test_an_archive_may_end_without_the_padding_of_its_last_file(root: Root, cut: int) -> None:
    """As ``docker build -f -`` sends it, and Go reads it."""
    whole = archive(("f", {"data": b"x" * 700}))
    assert root.put(whole[: 512 + cut]) == Extracted(700, 1)
    with pytest.raises(UntarError, match="unexpected EOF"):
        root.put(whole[: 512 + 699])
