"""Users and groups from the container's own files (STA3, ARC8)."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from wherry.engine.oci.users import UnknownUser, User, resolve_user


@pytest.fixture
def root(tmp_path: Path) -> Path:
    etc = tmp_path / "root/etc"
    etc.mkdir(parents=True)
    (etc / "passwd").write_text(
        "root:x:0:0:root:/root:/bin/sh\n# comment\n\nbroken\nanna:x:1000:1001:Anna:/home/anna:/bin/sh\nbare:x:7:8\n"
    )
    (etc / "group").write_text("root:x:0:\nwheel:x:10:root,anna\nanna:x:1001:\nstaff:x:50:anna\nbad:x:zz:anna\n")
    return tmp_path / "root"


@pytest.mark.parametrize(
    ("text", "user"),
    [
        ("", User(0, 0, [0, 10], "/root", "root")),
        ("root", User(0, 0, [0, 10], "/root", "root")),
        ("anna", User(1000, 1001, [1001, 10, 50], "/home/anna", "anna")),
        ("1000", User(1000, 1001, [1001, 10, 50], "/home/anna", "anna")),
        ("anna:staff", User(1000, 50, [50], "/home/anna", "anna")),
        ("anna:77", User(1000, 77, [77], "/home/anna", "anna")),
        ("4242", User(4242, 0, [0], "/", "")),
        ("4242:4343", User(4242, 4343, [4343], "/", "")),
        ("bare", User(7, 8, [8], "/", "bare")),
    ],
)
def test_users(root: Path, text: str, user: User) -> None:
    assert resolve_user(root, text) == user


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nosuchuser", "unable to find user nosuchuser: no matching entries in passwd file"),
        ("anna:nogroup", "unable to find group nogroup: no matching entries in group file"),
        ("3000000000", "uids and gids must be in range 0-2147483647"),
        ("0:3000000000", "uids and gids must be in range 0-2147483647"),
    ],
)
def test_STA3_unknown_users(root: Path, text: str, message: str) -> None:
    with pytest.raises(UnknownUser) as raised:
        resolve_user(root, text)
    assert str(raised.value) == message


def test_group_add(root: Path) -> None:
    assert resolve_user(root, "4242", ["wheel", "99"]).groups == [0, 10, 99]
    with pytest.raises(UnknownUser, match="Unable to find group nope"):
        resolve_user(root, "", ["nope"])


def test_a_root_by_descriptor_stays_open(root: Path) -> None:
    fd = os.open(root, os.O_PATH)
    try:
        assert resolve_user(fd, "anna").uid == 1000
        os.fstat(fd)
    finally:
        os.close(fd)


def test_hostile_files_are_never_waited_for_nor_followed_out(root: Path) -> None:
    (root / "etc/passwd").unlink()
    os.mkfifo(root / "etc/passwd")
    assert resolve_user(root, "").uid == 0
    (root / "etc/passwd").unlink()
    outside = root.parent / "outside"
    outside.write_text("evil:x:666:666::/evil:/bin/sh\n")
    (root / "etc/passwd").symlink_to(outside)
    with pytest.raises(UnknownUser):
        resolve_user(root, "evil")
    (root / "etc/passwd").unlink()
    (root / "etc/passwd").symlink_to("passwd")
    assert resolve_user(root, "5").uid == 5


def test_links_inside_the_root_are_followed(root: Path) -> None:
    (root / "etc/passwd").rename(root / "real")
    (root / "etc/passwd").symlink_to("/real")
    assert resolve_user(root, "anna").uid == 1000
