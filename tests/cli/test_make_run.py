"""What a newcomer types: ``make run`` and ``make stop``, on scratch roots."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

from tests.support.engines import REPOSITORY, scratch_root
from tests.support.http import Http, eventually
from tests.support.machine import mark_of


def test_make_run_and_stop() -> None:
    with scratch_root("make") as root:
        env = os.environ | {
            "WHERRY_SOCKET": str(root / "w.sock"),
            "WHERRY_DATA_ROOT": str(root / "data"),
            "WHERRY_EXEC_ROOT": str(root / "exec"),
        }

        def make(*arguments: str) -> str:
            done = subprocess.run(
                ["make", "-C", str(REPOSITORY), *arguments], env=env, capture_output=True, text=True, timeout=100
            )
            assert done.returncode == 0, done
            return done.stdout

        try:
            said = make("run")
            assert len(re.findall(r"^ +\d+\.\d ms  ", said, re.MULTILINE)) == 9
            assert f"export DOCKER_HOST=unix://{root}/w.sock" in said
            assert Http(str(root / "w.sock")).get("/_ping").body == b"OK"
            assert "already serves" in make("run")
        finally:
            assert "the engine has ended" in make("stop", "KILL=1")
        assert "no engine" in make("stop")
        assert not any(str(root) in line for line in Path("/proc/self/mountinfo").read_text().splitlines())
        eventually(lambda: not running_below(root), within=5)
        mark = mark_of(root)
        assert not [link for link in os.listdir("/sys/class/net") if mark in link]
        tables = subprocess.run(["nft", "list", "tables"], capture_output=True, text=True, check=True).stdout
        assert mark not in tables


def running_below(root: Path) -> list[str]:
    """Processes that name the scratch root, apart from this one's."""
    found = []
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = process.read_bytes()
        except OSError:
            continue
        if str(root).encode() in command:
            found.append(command.decode(errors="replace"))
    return found
