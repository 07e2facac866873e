"""Seccomp where it counts, the probe that proves it, and limits that the kernel applies."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest

from tests.engine.oci_machine import PATH, Machine, nothing_left
from tests.support.http import PATIENCE
from wherry.api.models.containers import HostConfig
from wherry.engine.oci import seccomp
from wherry.engine.oci.capabilities import granted
from wherry.engine.oci.cgroups import detect
from wherry.engine.oci.errors import RuntimeFailure
from wherry.engine.oci.exec import ExecProcess
from wherry.engine.oci.probe import probe
from wherry.engine.oci.resources import resources
from wherry.engine.oci.runtime import Runtime
from wherry.engine.oci.spec import build_exec_process


@pytest.mark.parametrize("name", ["crun", "runc"])
def test_init_and_exec_are_filtered_under_both_runtimes(name: str, tmp_path: Path) -> None:
    async def main() -> None:
        machine = Machine(tmp_path, name)
        with nothing_left(machine.tag):
            runtime = await machine.open()
            await probe(runtime, cache=tmp_path / "cache", cgroup_parent=f"/wherry-{machine.tag}")
            assert (runtime.filters is not None) == (name == "crun")
            assert runtime.fifo_start == (name == "crun")
            assert runtime.list() == []
            try:
                for _ in range(2):  # JSON, or the probe's own filter; then surely from the cache
                    await _filtered(machine, HostConfig())
                    await _filtered(machine, HostConfig(cap_add=["SYS_PTRACE"]))
            finally:
                await machine.clean()
            again = await Runtime.find(tmp_path / "runtime", name)
            begin = time.monotonic()
            await probe(again, cache=tmp_path / "cache", cgroup_parent="/wherry-never")
            assert time.monotonic() - begin < 0.1 * PATIENCE
            assert (again.filters is not None) == (name == "crun")

    asyncio.run(main())


async def _filtered(machine: Machine, host: HostConfig) -> None:
    chosen = seccomp.choose(machine.runtime, None, host)
    script = "grep Seccomp: /proc/self/status; unshare -U true; echo done; read line"
    container = await machine.create(machine.spec("sh", "-c", script, host=host, seccomp=chosen), stdin=True)
    await container.start()
    while "done" not in container.out:
        await asyncio.sleep(0.01)
    assert container.out.split()[:2] == ["Seccomp:", "2"]
    assert "Operation not permitted" in container.err
    out = bytearray()
    command = await ExecProcess.start(
        machine.runtime,
        container.id,
        build_exec_process(args=["grep", "Seccomp:", "/proc/self/status"], env=[PATH], granted=granted(None, None)),
        lambda stream, data: out.extend(data),
        directory=machine.base,
    )
    assert await command.wait() == 0
    assert out.split() == [b"Seccomp:", b"2"]
    await container.attachment.send_eof()
    await container.finish()


def test_a_runtime_that_creates_no_container_is_told_from_one_that_does(tmp_path: Path) -> None:
    async def main() -> None:
        fake = tmp_path / "fake"
        fake.write_text('#!/bin/sh\n[ "$1" = --version ] && { echo fake version 1; exit; }\necho broken >&2; exit 1\n')
        fake.chmod(0o755)
        runtime = await Runtime.find(tmp_path / "runtime", str(fake))
        assert (runtime.name, runtime.version) == ("fake", "1")
        with pytest.raises(RuntimeFailure, match="cannot create a container: broken"):
            await probe(runtime, cache=tmp_path / "cache", cgroup_parent="/wherry-none")
        with pytest.raises(RuntimeFailure, match="unknown or invalid runtime name: nosuch"):
            await Runtime.find(tmp_path, "nosuch")

    asyncio.run(main())


@pytest.fixture(params=["crun", "runc"])
def machine(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    machine = Machine(tmp_path, request.param)
    with nothing_left(machine.tag):
        yield machine


def test_limits_pause_stats_and_update(machine: Machine) -> None:
    async def main() -> None:
        await machine.open()
        setup = detect(machine.tag)
        try:
            host = HostConfig(memory=64 << 20, memory_swap=64 << 20, pids_limit=20, cpu_shares=512, nano_cpus=10**9)
            given = machine.spec("sh", "-c", "while :; do echo x; sleep 0.01; done", host=host)
            container = await machine.create(given)
            await container.start()
            await asyncio.sleep(0.2)
            group = setup.container(given.id)
            assert group.exists()
            assert container.pid in group.pids()
            assert setup.list() == [given.id]

            stats = group.stats()
            assert stats.memory.limit == 64 << 20
            assert 0 < (stats.memory.usage or 0) < 64 << 20
            assert stats.pids.limit == 20
            assert (stats.pids.current or 0) >= 1
            assert stats.cpu.cpu_usage.total_usage > 0
            assert stats.cpu.online_cpus

            group.freeze()
            assert group.frozen()
            await asyncio.sleep(0.05)
            before = len(container.out)
            await asyncio.sleep(0.1)
            assert len(container.out) == before
            group.thaw()
            await asyncio.sleep(0.1)
            assert len(container.out) > before

            await machine.runtime.update(given.id, resources(HostConfig(memory=128 << 20, memory_swap=128 << 20)))
            assert group.stats().memory.limit == 128 << 20
            with pytest.raises(RuntimeFailure):
                await machine.runtime.update(given.id, {"memory": {"limit": 128 << 20, "swap": 1 << 20}})
            group.freeze()
            group.kill()  # a frozen group dies too
            assert await container.finish() == 137
        finally:
            await machine.clean()
            assert not setup.container(given.id).exists()
            setup.remove_parent()

    asyncio.run(main())


def test_a_group_that_was_left_can_be_removed(machine: Machine) -> None:
    setup = detect(machine.tag)
    group = setup.container("left")
    for mount in setup.hierarchies:
        Path(f"{mount}{setup.path('left')}").mkdir(parents=True)
    assert setup.list() == ["left"]
    assert group.remove()
    assert not group.exists()
    setup.remove_parent()
    assert not any(Path(f"{mount}{setup.parent}").exists() for mount in setup.hierarchies)
