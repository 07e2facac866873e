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

        def tried(*arguments: str, **others: str) -> subprocess.CompletedProcess[str]:
            command = ["make", "-C", str(REPOSITORY), *arguments]
            return subprocess.run(command, env=env | others, capture_output=True, text=True, timeout=100)

        def make(*arguments: str) -> str:
            done = tried(*arguments)
            assert done.returncode == 0, done
            return done.stdout

        def ping() -> bytes:
            return Http(str(root / "w.sock")).get("/_ping").body

        try:
            said = make("run")
            assert len(re.findall(r"^ +\d+\.\d ms  ", said, re.MULTILINE)) == 9
            assert f"export DOCKER_HOST=unix://{root}/w.sock" in said
            assert ping() == b"OK"
            again = make("run")
            assert "already serves" in again
            assert "its log is" in again

            # a second engine on the same roots cannot start; the first stays known, and the log's older lines untold
            failed = tried("run", WHERRY_SOCKET=str(root / "other.sock"))
            assert failed.returncode != 0
            assert "the engine did not start:\n  " in failed.stderr
            assert "another engine uses" in failed.stderr
            assert "wherry serves on" not in failed.stderr

            # an engine of another's is neither ended nor said to have ended, and its log is not known
            known = (root / "exec" / "serve.pid").rename(root / "serve.pid")
            for options, others in (
                ([], {}),
                (["KILL=1"], {}),
                ([], {"WHERRY_SOCKET": str(root / "other.sock")}),
                (["KILL=1"], {"WHERRY_SOCKET": str(root / "other.sock")}),
            ):
                refused = tried("stop", *options, **others)
                assert refused.returncode != 0
                assert "that `make run` did not start" in refused.stderr
                assert "has ended" not in refused.stdout
            assert "its log is" not in make("run")
            assert ping() == b"OK"
            known.rename(root / "exec" / "serve.pid")
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
