"""What the tests of the OCI parts share: a busybox root, roots of their own, and a container's whole life."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wherry.api.models.containers import HostConfig
from wherry.engine.oci import conmon
from wherry.engine.oci.runtime import Runtime, find_conmon
from wherry.engine.oci.spec import SpecInput, build_spec

PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def make_rootfs(path: Path) -> Path:
    """A root filesystem of busybox alone."""
    for name in ("bin", "dev", "etc", "proc", "sys", "tmp", "root"):
        (path / name).mkdir(parents=True, exist_ok=True)
    shutil.copy(shutil.which("busybox") or "/bin/busybox", path / "bin/busybox")
    applets = subprocess.run([path / "bin/busybox", "--list"], capture_output=True, text=True, check=True).stdout
    for applet in applets.split():
        with suppress(FileExistsError):
            (path / "bin" / applet).symlink_to("busybox")
    (path / "tmp").chmod(0o1777)
    (path / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000::/home/user:/bin/sh\n")
    (path / "etc/group").write_text("root:x:0:\nusers:x:100:user\nuser:x:1000:\n")
    return path


@dataclass
class Machine:
    """The roots of one test, and the runtime it uses."""

    base: Path
    runtime_name: str
    tag: str = field(default_factory=lambda: "t" + uuid.uuid4().hex[:8])
    runtime: Runtime = None  # type: ignore[assignment]
    started: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.rootfs = make_rootfs(self.base / "rootfs")
        self.exits = self.base / "exits"
        self.exits.mkdir()
        self.conmon = find_conmon()

    async def open(self) -> Runtime:
        self.runtime = await Runtime.find(self.base / "runtime", self.runtime_name)
        self.runtime.fifo_start = self.runtime.is_crun
        return self.runtime

    def spec(self, *args: str, host: HostConfig | None = None, **more: Any) -> SpecInput:
        id = uuid.uuid4().hex * 2
        given: dict[str, Any] = {
            "id": id,
            "args": args,
            "env": [PATH],
            "rootfs": self.rootfs,
            "host_config": host or HostConfig(),
            "cgroup_path": f"/wherry-{self.tag}/{id}",
        }
        return SpecInput(**(given | more))

    async def create(self, given: SpecInput, **options: Any) -> Running:
        bundle = self.base / "bundles" / given.id[:12]
        bundle.mkdir(parents=True)
        (bundle / "config.json").write_text(json.dumps(build_spec(given)))
        self.started.append(given.id)
        options.setdefault("log_path", bundle / "log")
        launched = await conmon.launch(
            conmon=self.conmon,
            runtime=self.runtime,
            container_id=given.id,
            name="test",
            bundle=bundle,
            exits=self.exits,
            command=given.args[0],
            tty=given.tty,
            **options,
        )
        if self.runtime.filters:
            self.runtime.filters.learn(given.id, (bundle / "config.json").read_bytes())
        running = Running(self, given.id, bundle, launched)
        await running.attach()
        return running

    async def run(self, *args: str, host: HostConfig | None = None, **more: Any) -> Running:
        """Create, start, wait for the end."""
        running = await self.create(self.spec(*args, host=host, **more))
        await running.start()
        await running.finish()
        return running

    async def clean(self) -> None:
        for id in self.started:
            with suppress(Exception):
                await self.runtime.delete(id)


class Running:
    """A container of a test: its output so far, its end."""

    def __init__(self, machine: Machine, id: str, bundle: Path, launched: conmon.Launched) -> None:
        self.machine = machine
        self.id = id
        self.bundle = bundle
        self.pid = launched.pid
        self.conmon_pid = launched.conmon_pid
        self.streams: dict[int, bytearray] = {1: bytearray(), 2: bytearray()}
        self.ended = asyncio.Event()

    async def attach(self) -> None:
        self.attachment = await conmon.Attachment.connect(
            self.bundle, lambda stream, data: self.streams[stream].extend(data), self.ended.set
        )

    async def start(self) -> None:
        await self.machine.runtime.start(self.id)

    async def finish(self, seconds: float = 20) -> int:
        """The exit code, once all output is there."""
        await asyncio.wait_for(self.ended.wait(), seconds)
        for _ in range(200):
            code = conmon.read_exit(self.machine.exits, self.id)
            if code is not None:
                return code
            await asyncio.sleep(0.01)
        raise AssertionError("no exit file")

    @property
    def out(self) -> str:
        return self.streams[1].decode()

    @property
    def err(self) -> str:
        return self.streams[2].decode()


@contextmanager
def nothing_left(tag: str) -> Iterator[None]:
    """No control group with the tag in its name, and no process in one, is left behind."""
    try:
        yield
    finally:
        left = [
            os.path.join(parent, name)
            for parent, names, _ in os.walk("/sys/fs/cgroup")
            for name in names
            if name == f"wherry-{tag}"
        ]
        full = [path for path in left if any(entry.is_dir() for entry in os.scandir(path))]
        for path in left:
            with suppress(OSError):
                os.rmdir(path)
        assert not full
