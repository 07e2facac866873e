"""The thread that keeps entering control groups fast: it ends by itself, and there is one of it."""

from __future__ import annotations

import threading
import time

import pytest

from wherry.engine.oci import warm


def _threads() -> int:
    return sum(thread.name == "wherry-warm" for thread in threading.enumerate())


def _ended() -> None:
    for thread in threading.enumerate():
        if thread.name == "wherry-warm":
            thread.join(10)


def test_one_thread_that_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    _ended()
    monkeypatch.setattr(warm, "KEPT", 0.05)
    for _ in range(20):
        warm.warm_cgroups()
        assert _threads() <= 1
    _ended()
    assert _threads() == 0
    warm.warm_cgroups()
    _ended()
    assert _threads() == 0


def test_what_it_writes_to_may_be_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    _ended()
    monkeypatch.setattr(warm, "_own_group", lambda: None)
    warm.warm_cgroups()
    deadline = time.monotonic() + 10
    while _threads() and time.monotonic() < deadline:
        time.sleep(0.001)
    assert _threads() == 0
