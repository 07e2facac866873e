"""An engine in mount, pid and network namespaces of its own, and what it may have left there."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from scripts.make_images import busybox_archive
from tests.support.engines import OWN_NAMESPACES, REPOSITORY, Engine, scratch_root, wherry_command
from tests.support.http import eventually
from wherry.engine.store.layout import Layout


class ApartEngine(Engine):
    """Wherry's engine behind ``unshare``; a shell is the first process in there, and reaps what is orphaned."""

    def __init__(self, root: Path) -> None:
        self._log = (root / "engine.log").open("ab")
        self.layout = Layout(root / "data", root / "exec")
        process = subprocess.Popen(
            [*OWN_NAMESPACES, "sh", "-c", 'ip link set lo up; "$@" & wait $!', "sh", *wherry_command(root)],
            stdout=self._log,
            stderr=self._log,
            stdin=subprocess.DEVNULL,
            cwd=REPOSITORY,
        )
        super().__init__("wherry", root, process, "1.43", "")
        eventually(self._answers, within=30, what="the engine answers")
        [self.first] = _children(process.pid)
        self.engine_pid = next(pid for pid in _children(self.first) if b"wherry.cli" in _command(pid))

    def _answers(self) -> bool:
        assert self.process.poll() is None, self.log[-3000:]
        try:
            return self.http.get("/_ping", timeout=5).status == 200
        except OSError:
            return False

    def inside(self, *command: str) -> str:
        """The output of a command run in the engine's namespaces."""
        done = subprocess.run(
            ["nsenter", "-t", str(self.first), "-m", "-n", "-p", *command], capture_output=True, text=True, check=False
        )
        return done.stdout

    def leavings(self) -> dict[str, list[str]]:
        """Everything that is there, by kind; empty kinds are left out."""
        root, layout = str(self.root), self.layout
        mounts = self.inside("cat", "/proc/self/mountinfo").splitlines()
        links = [line.split()[1] for line in self.inside("ip", "-o", "link").splitlines()]
        namespace = os.readlink(f"/proc/{self.first}/ns/pid")
        processes = [
            f"{pid} {_command(pid).decode(errors='replace')[:80]}"
            for pid in map(int, filter(str.isdigit, os.listdir("/proc")))
            if _namespace(pid) == namespace and pid not in (self.first, self.engine_pid) and _command(pid)
        ]
        groups = [
            *Path("/sys/fs/cgroup").glob(f"*/wherry-{layout.tag}/*"),
            *Path("/sys/fs/cgroup").glob(f"wherry-{layout.tag}/*"),
        ]
        found = {
            "mounts": [line.split()[4] for line in mounts if line.split()[4].startswith(root + "/")],
            "links": [name for name in links if name.strip(":") != "lo"],
            "tables": self.inside("nft", "list", "tables").splitlines(),
            "processes": [process for process in processes if "wherry.engine.networks.resolver" not in process],
            "cgroups": [str(path) for path in groups if path.is_dir()],
            **{
                kind: sorted(os.listdir(directory)) if directory.is_dir() else []
                for kind, directory in {
                    "namespaces": layout.netns,
                    "bundles": layout.bundles,
                    "exits": layout.exits,
                    "containers": layout.containers,
                    "roots": layout.rootfs,
                    "trash": layout.trash,
                    "tmp": layout.tmp,
                    "lost": layout.lost_and_found,
                }.items()
            },
        }
        return {kind: sorted(items) for kind, items in found.items() if items}

    def descriptors(self) -> list[str]:
        """The engine's open files: what each is."""
        names = []
        for fd in os.listdir(f"/proc/{self.engine_pid}/fd"):
            try:
                names.append(os.readlink(f"/proc/{self.engine_pid}/fd/{fd}").split(":[")[0])
            except OSError:
                continue
        return sorted(names)

    def end(self) -> None:
        for frozen in Path("/sys/fs/cgroup/freezer").glob(f"wherry-{self.layout.tag}/*/freezer.state"):
            frozen.write_text("THAWED")  # what is frozen by cgroup v1 cannot be killed
        try:
            os.kill(self.first, signal.SIGKILL)  # and with it all that runs in its pid namespace
            self.process.wait(10)
        finally:
            self.process.kill()
            self.process.wait()
            self._log.close()
            for group in [
                *Path("/sys/fs/cgroup").glob(f"*/wherry-{self.layout.tag}"),
                Path(f"/sys/fs/cgroup/wherry-{self.layout.tag}"),
            ]:
                for directory, _, _ in os.walk(group, topdown=False):
                    eventually(lambda place=directory: _removed(place), within=20)


def _removed(directory: str) -> bool:
    try:
        os.rmdir(directory)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ")
    except OSError:
        return b""


def _namespace(pid: int) -> str:
    try:
        return os.readlink(f"/proc/{pid}/ns/pid")
    except OSError:
        return ""


@contextmanager
def apart_engine() -> Iterator[ApartEngine]:
    with scratch_root("apart") as root:
        engine = ApartEngine(root)
        try:
            engine.load(busybox_archive())
            yield engine
        finally:
            engine.end()
