"""What the runtime can be trusted with on this machine, found by trying it once and then remembered.

Two shortcuts make starts fast, and both rest on how crun works inside: a compiled seccomp filter in an annotation, and
a byte written to the container's fifo instead of ``crun start``. They are used only where a container was seen to run,
filtered, in its init and in an exec alike. A runtime that cannot create a container at all is passed over.
"""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import os
import shutil
import tempfile
import time
import uuid
from contextlib import suppress
from pathlib import Path
from typing import Any

from wherry.api.models.containers import HostConfig
from wherry.engine.oci import capabilities, seccomp
from wherry.engine.oci.errors import RuntimeFailure
from wherry.engine.oci.process import spawn, start_time
from wherry.engine.oci.runtime import Runtime
from wherry.engine.oci.spec import OciMount, SpecInput, build_spec

log = logging.getLogger(__name__)

_SECONDS = 10.0


async def probe(runtime: Runtime, *, cache: Path, cgroup_parent: str) -> None:
    """Set the runtime's shortcuts, from memory or by trying (some 100 ms, once).

    ``cache`` is a directory of the data root; the outcome is kept there for this runtime, kernel and profile, as are
    compiled filters. Raises ``RuntimeFailure`` when the runtime creates no container here.
    """
    profile = seccomp.default_profile(capabilities.granted(None, None))
    key = seccomp.digest(runtime, profile, "probe 1")
    record = cache / f"{runtime.name}.json"
    try:
        known = json.loads(record.read_bytes())
        fresh = known["key"] == key
    except (OSError, ValueError, KeyError, TypeError):
        known, fresh = {}, False
    if not fresh:
        with tempfile.TemporaryDirectory(prefix="wherry-probe-") as directory:
            fifo, bpf = await _Trial(runtime, Path(directory), cgroup_parent, profile).outcome()
        known = {"key": key, "fifo_start": fifo, "takes_bpf": bpf is not None}
        with suppress(OSError):
            cache.mkdir(parents=True, exist_ok=True, mode=0o700)
            record.write_text(json.dumps(known))
    else:
        bpf = None
    runtime.fifo_start = bool(known.get("fifo_start"))
    if known.get("takes_bpf"):
        runtime.filters = seccomp.FilterCache(cache, runtime)
        if bpf is not None:
            runtime.filters.keep(profile, bpf)
    log.info("%s %s: %s", runtime.name, runtime.version, known)


class _Trial:
    """Containers of the host's own ``sleep``, bound read-only: no image is needed."""

    def __init__(self, runtime: Runtime, directory: Path, cgroup_parent: str, profile: dict[str, Any]) -> None:
        self._runtime = runtime
        self._profile = profile
        self._directory = directory
        self._cgroup_parent = cgroup_parent
        self._sleep = shutil.which("sleep") or "/bin/sleep"
        (directory / "rootfs").mkdir()

    async def outcome(self) -> tuple[bool, bytes | None]:
        """Whether the fifo releases a container, and the compiled profile where the runtime applies it."""
        data = None
        first = await self._create(self._profile)
        try:
            data = seccomp.compiled(self._runtime, first)
        finally:
            await self._runtime.delete(first)
        if not self._runtime.is_crun:
            return False, None
        try:
            fifo, filtered = await self._shortcuts(base64.b64encode(data).decode() if data else self._profile)
        except (RuntimeFailure, OSError, ValueError) as error:
            log.warning("the shortcuts of %s are not used: %s", self._runtime.name, error)
            return False, None
        return fifo, data if filtered else None

    async def _shortcuts(self, bpf: str | dict[str, Any]) -> tuple[bool, bool]:
        id = await self._create(bpf)
        try:
            pid = int((self._directory / f"{id}.pid").read_bytes())
            before = _executable(pid)
            released = self._runtime.release(id)
            fifo = released and await _until(lambda: _executable(pid) not in ("", before))
            if not released:
                await self._runtime.start(id)
                await _until(lambda: _executable(pid) not in ("", before))
            return fifo, _filtered(pid) and await self._exec_filtered(id)
        finally:
            await self._runtime.delete(id)

    async def _exec_filtered(self, id: str) -> bool:
        pid_file = self._directory / "exec.pid"
        child = spawn(self._runtime.command("exec", "--pid-file", str(pid_file), id, self._sleep, "60"))
        try:
            if not await _until(lambda: _pid(pid_file) > 0):
                return False
            pid = _pid(pid_file)
            # between the file and the exec it is still crun's process
            return await _until(lambda: "sleep" in _command_line(pid)) and _filtered(pid)
        finally:
            child.kill()
            with suppress(ProcessLookupError):
                if _pid(pid_file) > 0 and start_time(_pid(pid_file)):
                    os.kill(_pid(pid_file), 9)
            await child.wait()

    async def _create(self, filter: dict[str, Any] | str) -> str:
        id = "probe-" + uuid.uuid4().hex
        bundle = self._directory / id
        bundle.mkdir()
        mounts = [
            OciMount(path, path, "bind", ("rbind", "ro"))
            for path in ("/usr", "/bin", "/lib", "/lib64", "/lib32", "/libx32", "/sbin", "/nix", "/gnu")
            if os.path.isdir(path)
        ]
        given = SpecInput(
            id=id,
            args=[self._sleep, "60"],
            env=["PATH=" + os.defpath],
            rootfs=self._directory / "rootfs",
            host_config=HostConfig(cap_drop=["ALL"]),
            cgroup_path=f"{self._cgroup_parent}/{id}",
            mounts=mounts,
            seccomp=filter,
        )
        (bundle / "config.json").write_text(json.dumps(build_spec(given)))
        errors = bundle / "stderr"
        # its init keeps our descriptors, so they are a file and never a pipe
        fd = os.open(errors, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            pid_file = self._directory / f"{id}.pid"
            child = spawn(
                self._runtime.command("create", "--bundle", str(bundle), "--pid-file", str(pid_file), id),
                stdout=fd,
                stderr=fd,
            )
        finally:
            os.close(fd)
        try:
            code = await asyncio.wait_for(child.wait(), _SECONDS)
        except TimeoutError:
            code = -1
        if code:
            with suppress(RuntimeFailure):
                await self._runtime.delete(id)
            said = errors.read_text(errors="replace").strip() or f"it ended with {code}"
            raise RuntimeFailure(f"{self._runtime.path} cannot create a container: {said}")
        return id


async def _until(condition: Any) -> bool:
    end = time.monotonic() + _SECONDS
    while not condition():
        if time.monotonic() > end:
            return False
        await asyncio.sleep(0.002)
    return True


def _executable(pid: int) -> str:
    try:
        status = os.stat(f"/proc/{pid}/exe")
    except OSError:
        return ""
    return f"{status.st_dev}:{status.st_ino}"


def _command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text(errors="replace").split("\0")[0]
    except OSError:
        return ""


def _filtered(pid: int) -> bool:
    """Whether the kernel says that a process runs under a seccomp filter."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return False
    return any(line.split() == ["Seccomp:", "2"] for line in lines)


def _pid(path: Path) -> int:
    try:
        return int(path.read_bytes())
    except (OSError, ValueError):
        return 0
