"""Watches of a directory's files; all of a loop share one kernel instance."""

from __future__ import annotations

import asyncio
import os
import shutil
from pathlib import Path

import pytest

from wherry.engine.oci import inotify
from wherry.engine.oci.inotify import Inotify


async def _until(condition: object, *wanted: object) -> None:
    assert isinstance(condition, list)
    async with asyncio.timeout(10):
        while list(wanted) != condition:
            await asyncio.sleep(0.001)


def _instances() -> int:
    links = []
    for fd in os.listdir("/proc/self/fd"):
        try:
            links.append(os.readlink(f"/proc/self/fd/{fd}"))
        except OSError:
            continue
    return links.count("anon_inode:inotify")


def test_each_watch_hears_of_its_own_directory(tmp_path: Path) -> None:
    async def main() -> None:
        before = _instances()
        heard: dict[str, list[str | None]] = {"a": [], "b": [], "again": []}
        for name in ("a", "b"):
            (tmp_path / name).mkdir()
        watches = [Inotify(tmp_path / name[0], heard[name].append) for name in heard]
        assert _instances() == before + 1
        (tmp_path / "a" / "one").write_text("x")
        (tmp_path / "b" / "two.tmp").touch()
        os.rename(tmp_path / "b" / "two.tmp", tmp_path / "b" / "two")
        await _until(heard["again"], "one")
        await _until(heard["a"], "one")
        await _until(heard["b"], "two.tmp", "two")
        watches[2].close()  # the other of the same directory goes on
        (tmp_path / "a" / "three").touch()
        await _until(heard["a"], "one", "three")
        assert heard["again"] == ["one"]
        for watch in watches:
            watch.close()
        assert _instances() == before
        assert not inotify._instances

    asyncio.run(main())


def test_a_watch_outlives_its_directory_and_others_do_not_mind(tmp_path: Path) -> None:
    async def main() -> None:
        heard: list[str | None] = []
        kept = Inotify(tmp_path, heard.append)
        (tmp_path / "gone").mkdir()
        gone = Inotify(tmp_path / "gone", heard.append)
        shutil.rmtree(tmp_path / "gone")
        (tmp_path / "file").touch()
        await _until(heard, "file")
        gone.close()
        kept.close()
        assert not inotify._instances

    asyncio.run(main())


def test_a_watch_closed_by_its_callback_hears_nothing_more(tmp_path: Path) -> None:
    async def main() -> None:
        heard: list[str | None] = []

        def once(name: str | None) -> None:
            heard.append(name)
            watch.close()

        watch = Inotify(tmp_path, once)
        for name in ("one", "two"):
            (tmp_path / name).touch()
        await _until(heard, "one")
        assert not inotify._instances

    asyncio.run(main())


def test_no_such_directory(tmp_path: Path) -> None:
    async def main() -> None:
        with pytest.raises(FileNotFoundError):
            Inotify(tmp_path / "missing", lambda name: None)
        assert not inotify._instances

    asyncio.run(main())
