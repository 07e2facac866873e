"""Entering control groups is prepared once, and failing to do so harms nothing."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from wherry.engine.oci import warm


@pytest.fixture
def cold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(warm, "_until", 0.0)


def test_one_thread_names_itself_and_calls_at_once_are_one(
    cold: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Group:
        written: list[str] = []  # noqa: RUF012

        def write_text(self, text: str) -> None:
            self.written.append(text)

    monkeypatch.setattr(warm, "_own_group", Group)

    async def main() -> None:
        await asyncio.gather(*(warm.warm_cgroups() for _ in range(5)))

    asyncio.run(main())
    (number,) = Group.written
    assert number.isdecimal()


@pytest.mark.parametrize("there", [True, False])
def test_no_group_or_none_to_write_to(there: bool, cold: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(warm, "_own_group", lambda: tmp_path / "missing" / "tasks" if there else None)
    asyncio.run(warm.warm_cgroups())
