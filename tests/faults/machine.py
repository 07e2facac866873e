"""An engine that tests kill and start again, and what it may have left on the machine."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

from scripts.make_images import busybox_archive
from tests.support.engines import REPOSITORY, Engine, end_process, scratch_root, wherry_command
from tests.support.http import eventually
from wherry.engine.store.layout import Layout


class CrashEngine(Engine):
    """Wherry's engine on scratch roots. ``boot`` starts it, ``crash`` is kill -9."""

    def __init__(self, root: Path) -> None:
        self._log = (root / "engine.log").open("ab")
        self.layout = Layout(root / "data", root / "exec")
        super().__init__("wherry", root, self._spawn(root), "1.43", "")
        self._until_ready()

    def _spawn(self, root: Path, *options: str, under: Sequence[str] = ()) -> subprocess.Popen[bytes]:
        command = [*under, *wherry_command(root, *options)]
        return subprocess.Popen(command, stdout=self._log, stderr=self._log, stdin=subprocess.DEVNULL, cwd=REPOSITORY)

    def _until_ready(self) -> None:
        def answers() -> bool:
            assert self.process.poll() is None, self.log[-3000:]
            try:
                return self.http.get("/_ping", timeout=5).status == 200
            except OSError:
                return False

        eventually(answers, within=30, what="the engine answers")

    def crash(self) -> None:
        self.process.kill()
        self.process.wait()

    def boot(self, *options: str, under: Sequence[str] = ()) -> None:
        """``under``: a command that executes the engine's."""
        self.process = self._spawn(self.root, *options, under=under)
        self._until_ready()

    def restart(self) -> None:
        self.crash()
        self.boot()

    def boot_in_vain(self) -> str:
        """Start an engine that refuses; gives its last words."""
        done = subprocess.run(wherry_command(self.root), capture_output=True, text=True, cwd=REPOSITORY, timeout=60)
        assert done.returncode == 1, (done.returncode, done.stderr)
        return done.stderr

    def memory(self) -> int:
        """The engine's proportional set size in bytes."""
        for line in Path(f"/proc/{self.pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
        raise AssertionError("no Pss")

    def descriptors(self) -> list[str]:
        """The engine's open files."""
        return os.listdir(f"/proc/{self.pid}/fd")

    def end(self) -> None:
        """Take everything off the machine, whatever a test has broken."""
        try:
            self.crash()
            self.boot("--stop-containers")
            self.remove_all()
            end_process(self.process)
        finally:
            self.process.kill()
            self.process.wait()
            self._log.close()
            _sweep(self)

    def lines(self, container: str, **query: Any) -> list[int]:
        """The numbers in a container's log."""
        with self.open_logs(container, **query) as exchange:
            body = exchange.read()
        text, place = [], 0
        while place < len(body):
            size = int.from_bytes(body[place + 4 : place + 8], "big")
            text.append(body[place + 8 : place + 8 + size])
            place += 8 + size
        return [int(line) for line in b"".join(text).split()]


@contextmanager
def crash_engine() -> Iterator[CrashEngine]:
    with scratch_root("crash") as root:
        engine = CrashEngine(root)
        try:
            engine.load(busybox_archive())
            yield engine
        finally:
            engine.end()


NUMBERS = """
i=0; over=; trap over=1 TERM
while [ -z "$over" ]; do
  for k in 1 2 3 4 5 6 7 8 9 10; do echo $i; i=$((i+1)); done
  usleep 8000
done
"""
"""Some 1,000 numbered lines a second until SIGTERM."""

IDLE = ("sh", "-c", "trap 'exit 0' TERM; while :; do sleep 3600 & wait $!; done")


def leavings(engine: CrashEngine) -> dict[str, list[str]]:
    """Everything on the machine that belongs to a container of this engine, by kind; empty kinds are left out."""
    layout = engine.layout
    root = str(engine.root)
    found = {
        "mounts": [place for place in _mounts() if place.startswith(root + "/")],
        "namespaces": _names(layout.netns),
        "links": [name for name in os.listdir("/sys/class/net") if name.startswith(f"v{layout.tag}")],
        "processes": _processes(engine),
        "cgroups": [str(path) for path in Path("/sys/fs/cgroup").glob(f"*/wherry-{layout.tag}/*") if path.is_dir()]
        + [str(path) for path in Path("/sys/fs/cgroup").glob(f"wherry-{layout.tag}/*") if path.is_dir()],
        "bundles": _names(layout.bundles),
        "exits": _names(layout.exits),
        "runtime": [str(path) for path in layout.runtime_root.glob("*/*")],
        "directories": _names(layout.containers),
        "roots": _names(layout.rootfs),
        "trash": _names(layout.trash),
        "tmp": _names(layout.tmp),
        "lost": _names(layout.lost_and_found),
        "rows": [f"{kind} {id}" for kind, id in rows(layout) if kind in ("container", "endpoint")],
    }
    return {kind: sorted(items) for kind, items in found.items() if items}


def rows(layout: Layout) -> list[tuple[str, str]]:
    with closing(sqlite3.connect(f"file:{layout.database}?mode=ro", uri=True)) as connection:
        return connection.execute("SELECT kind, id FROM objects").fetchall()


def inconsistencies(engine: CrashEngine) -> list[object]:
    """What belongs to no listed container, or is in the kernel for one that does not run, or is half done."""
    listed = {c["Id"]: c["State"] for c in engine.http.get("/containers/json", query={"all": 1}).json}
    running = {id for id, state in listed.items() if state in ("running", "paused", "restarting")}
    found = leavings(engine)
    wrong: list[object] = []
    for kind, items in found.items():
        if kind in ("links", "trash", "tmp"):
            continue
        owners = listed if kind in ("directories", "roots") else running
        for item in items:
            if kind == "rows" and item.startswith("endpoint"):
                continue
            if not any(owner in item for owner in (listed if kind == "rows" else owners)):
                wrong.append((kind, item))
    namespaces = len(found.get("namespaces", []))
    if len(found.get("links", [])) > namespaces:
        wrong.append(("links", found.get("links"), found.get("namespaces")))
    if sum(row.startswith("endpoint") for row in found.get("rows", [])) != namespaces:
        wrong.append(("endpoints", found.get("rows"), found.get("namespaces")))
    for container, status in listed.items():
        if status not in ("created", "running", "exited"):
            wrong.append((container, status))
        if container not in found.get("roots", []) or container not in found.get("directories", []):
            wrong.append((container, "without directories"))
    return wrong


def _names(directory: Path) -> list[str]:
    return sorted(os.listdir(directory)) if directory.is_dir() else []


def _mounts() -> list[str]:
    return [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]


def _processes(engine: CrashEngine) -> list[str]:
    """Monitors, runtimes, and whatever runs in a control group of the engine's."""
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            command = Path(f"/proc/{name}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            groups = Path(f"/proc/{name}/cgroup").read_text()
        except OSError:
            continue
        ours = str(engine.root) in command and "wherry.cli" not in command
        # one without a command line is dead, and only waits to be reaped
        if command and (ours or f"/wherry-{engine.layout.tag}/" in groups):
            found.append(f"{name} {command} {groups}")
    return found


def _sweep(engine: CrashEngine) -> None:
    """What an engine that works has taken away by itself."""
    for process in _processes(engine):
        with suppress(ProcessLookupError):
            os.kill(int(process.split()[0]), signal.SIGKILL)
    for mount in reversed([place for place in _mounts() if place.startswith(f"{engine.root}/")]):
        subprocess.run(["umount", "--lazy", mount], check=False)
    tag = engine.layout.tag
    for group in [*Path("/sys/fs/cgroup").glob(f"*/wherry-{tag}"), Path(f"/sys/fs/cgroup/wherry-{tag}")]:
        for directory, _, _ in os.walk(group, topdown=False):
            with suppress(OSError):
                os.rmdir(directory)
    for link in os.listdir("/sys/class/net"):
        if link.startswith((f"wh-{tag}", f"v{tag}")):
            subprocess.run(["ip", "link", "delete", link], check=False)
    subprocess.run(["nft", "delete", "table", "ip", f"wherry-{tag}"], check=False, stderr=subprocess.DEVNULL)
