"""Formats that are registered with the kernel take what it would not execute by itself (STA3)."""

from __future__ import annotations

from pathlib import Path

import pytest

from wherry.engine.oci.executable import registered

PYTHON = "enabled\ninterpreter /usr/bin/python3.13\nflags: \noffset 0\nmagic f30d0d0a\n"
ARM = (
    "enabled\ninterpreter /usr/libexec/qemu-binfmt/arm-binfmt-P\nflags: POF\noffset 0\n"
    "magic 7f454c4601010100000000000000000002002800\nmask ffffffffffffff00fffffffffffffffffeffffff\n"
)
WINE = "enabled\ninterpreter /usr/bin/wine\nflags: \nextension .exe\n"
ARM_HEAD = bytes.fromhex("7f454c4601010103000000000000000003002800")


@pytest.mark.parametrize(
    ("entry", "head", "command", "taken"),
    [
        (PYTHON, b"garbage\n", "/bad", False),
        (PYTHON, b"\xf3\x0d\x0d\x0a rest", "/good", True),
        (PYTHON.replace("enabled", "disabled", 1), b"\xf3\x0d\x0d\x0a rest", "/good", False),
        (PYTHON.replace("offset 0", "offset 4"), b"1234\xf3\x0d\x0d\x0a", "/good", True),
        (ARM, ARM_HEAD, "/arm", True),
        (ARM, ARM_HEAD[:18] + b"\xb7\0", "/aarch64", False),
        (ARM, b"", "/empty", False),
        (WINE, b"MZ", "/dir/setup.exe", True),
        (WINE, b"MZ", "/dir.exe/setup", False),
        ("enabled\nof another time\n", b"garbage", "/bad", True),
    ],
)
def test_STA3_registered_formats(tmp_path: Path, entry: str, head: bytes, command: str, taken: bool) -> None:
    for name in ("register", "status"):
        (tmp_path / name).write_text("enabled\n")
    assert not registered(head, command, tmp_path)
    (tmp_path / "entry").write_text(entry)
    assert registered(head, command, tmp_path) == taken


def test_STA3_nothing_can_be_registered(tmp_path: Path) -> None:
    assert not registered(b"garbage", "/bad", tmp_path / "none")
